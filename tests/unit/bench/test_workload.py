"""What the bench ingests: the same for the same seed, and never the same twice otherwise."""

from bench.workload import corpus, small_texts


def test_a_seed_makes_the_same_texts_again(tmp_path):
    """Two runs measure the same work."""
    first = small_texts(tmp_path / "a", 3, seed=1)
    again = small_texts(tmp_path / "b", 3, seed=1)

    assert [path.read_bytes() for path in first.files] == [path.read_bytes() for path in again.files]


def test_no_two_texts_are_alike(tmp_path):
    """Identical ones would be ingested once, and flatter the figures."""
    texts = [path.read_bytes() for seed in (1, 2) for path in small_texts(tmp_path / str(seed), 20, seed=seed).files]
    assert len(set(texts)) == 40


def test_a_text_has_about_the_size_asked_for(tmp_path):
    """And a workload tells how much it is."""
    workload = small_texts(tmp_path, 5, seed=1, size_bytes=4_000)

    assert all(4_000 <= path.stat().st_size <= 4_300 for path in workload.files)
    assert workload.total_bytes == sum(path.stat().st_size for path in workload.files)


def test_a_corpus_is_every_file_but_archives(tmp_path):
    """In a fixed order; without a corpus there is nothing to measure, and no error."""
    (tmp_path / "files" / "folder").mkdir(parents=True)
    for name in ("b.pdf", "a.txt", "c.zip"):
        (tmp_path / "files" / name).write_text("x")

    workload = corpus(tmp_path)

    assert workload is not None
    assert [path.name for path in workload.files] == ["a.txt", "b.pdf"]
    assert corpus(tmp_path / "nowhere") is None
