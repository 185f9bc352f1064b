"""The yardstick does the product's own work, and counts what came of it."""

from bench.pool import PoolResult, run_pool
from bench.workload import Workload, small_texts
from ingather.domain.artifact import decode


def test_the_pool_writes_the_same_objects(tmp_path):
    """Raw bytes and an artifact with vectors for each readable document; a broken one is not counted as done."""
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.7 broken")
    texts = small_texts(tmp_path / "texts", 3, seed=1)

    result = run_pool(Workload("mixed", (*texts.files, broken)), tmp_path / "out", processes=1)

    assert (result.documents, result.done) == (4, 3)
    assert len([path for path in (tmp_path / "out" / "raw").rglob("*") if path.is_file()]) == 4
    artifacts = list((tmp_path / "out" / "derived").rglob("chunks.arrow"))
    assert len(artifacts) == 3
    assert all(decode(path.read_bytes()).embedded for path in artifacts)


def test_a_rate_is_documents_a_second():
    """Those that failed took their time too."""
    assert PoolResult(seconds=2.0, documents=500, done=480).rate == 250.0
