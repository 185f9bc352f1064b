"""The yardstick: the ingest function in a plain process pool, writing the same objects to a folder, or to the same S3 server.

No Temporal, no Redis, no catalog, no index, no isolation of parsers: what is left is the work itself, and in
S3 that of keeping it where any worker may read it.
"""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench.workload import Workload
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.prepare import prepare_document, warm_up
from ingather.adapters.s3.blob_store import S3BlobStore
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.domain.keys import artifact_key, raw_key
from ingather.models.content import PrepareRequest
from ingather.models.errors import DocumentError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for

Write = Callable[[str, bytes], None]

_embedder: WordLlamaEmbedder | None = None
_write: Write | None = None


@dataclass(frozen=True)
class PoolResult:
    """How long it took, and what came of it."""

    seconds: float
    documents: int
    done: int

    @property
    def rate(self) -> float:
        """Documents a second."""
        return self.documents / self.seconds


def _warm_up(target: Path | dict[str, str], all_ready: Barrier) -> None:
    """Load model and parsers once a process, as a worker's parser processes do before their first document."""
    global _embedder, _write  # noqa: PLW0603  # one model and one client a process are the point

    _embedder = WordLlamaEmbedder()
    warm_up(_embedder)
    _write = _into_folder(target) if isinstance(target, Path) else _into_s3(target)
    all_ready.wait()


def _into_folder(folder: Path) -> Write:
    def write(key: str, content: bytes) -> None:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return write


def _into_s3(facts: dict[str, str]) -> Write:
    """By the product's own client, which costs a fraction of what boto3 does."""
    runner, store = asyncio.Runner(), S3BlobStore(**facts)

    def write(key: str, content: bytes) -> None:
        runner.run(store.put(key, content))

    return write


def _ingest(path: Path, ordinal: int, batch_id: str) -> bool:
    assert _write is not None
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    _write(raw_key(DEFAULT_TENANT_ID, file_id_for(batch_id, ordinal), sha256), content)
    request = PrepareRequest(
        content=content, filename=path.name, chunk_size=1_000, chunk_overlap=200, quality_threshold=0.0
    )
    try:
        prepared = prepare_document(request, _embedder, ParseLimits(), lambda _stage: None)
    except DocumentError:
        return False
    _write(artifact_key(DEFAULT_TENANT_ID, sha256, "0" * 16), prepared.artifact)
    return True


def run_pool(workload: Workload, target: Path | dict[str, str], processes: int) -> PoolResult:
    """Ingest every document once, into a folder or the S3 server of a stack, as it describes it.

    Process start and model load are not counted.
    """
    batch_id = str(uuid.uuid4())
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _warm_up, (target, spawn.Barrier(processes))) as pool:
        list(pool.map(abs, range(processes)))
        began = time.perf_counter()
        futures = [pool.submit(_ingest, path, ordinal, batch_id) for ordinal, path in enumerate(workload.files)]
        done = sum(future.result() for future in futures)
        seconds = time.perf_counter() - began
    return PoolResult(seconds, len(workload.files), done)
