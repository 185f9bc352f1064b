"""The yardstick: the ingest function in a plain process pool, writing the same objects to a folder.

No Temporal, no S3, no Redis, no catalog, no index, no isolation of parsers: what is left is
the work itself.
"""

import hashlib
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bench.workload import Workload
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.prepare import prepare_document, warm_up
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.domain.keys import artifact_key, raw_key
from ingather.models.content import PrepareRequest
from ingather.models.errors import DocumentError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for

_embedder: WordLlamaEmbedder | None = None


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


def _warm_up(all_ready: Barrier) -> None:
    """Load model and parsers once a process, as a worker's parser processes do before their first document."""
    global _embedder  # noqa: PLW0603  # one model a process is the point

    _embedder = WordLlamaEmbedder()
    warm_up(_embedder)
    all_ready.wait()


def _ingest(path: Path, target: Path, ordinal: int, batch_id: str) -> bool:

    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    _write(target / raw_key(DEFAULT_TENANT_ID, file_id_for(batch_id, ordinal), sha256), content)
    request = PrepareRequest(
        content=content, filename=path.name, chunk_size=1_000, chunk_overlap=200, quality_threshold=0.0
    )
    try:
        prepared = prepare_document(request, _embedder, ParseLimits(), lambda _stage: None)
    except DocumentError:
        return False
    _write(target / artifact_key(DEFAULT_TENANT_ID, sha256, "0" * 16), prepared.artifact)
    return True


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def run_pool(workload: Workload, target: Path, processes: int) -> PoolResult:
    """Ingest every document once; process start and model load are not counted."""
    batch_id = str(uuid.uuid4())
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _warm_up, (spawn.Barrier(processes),)) as pool:
        list(pool.map(abs, range(processes)))
        began = time.perf_counter()
        futures = [pool.submit(_ingest, path, target, ordinal, batch_id) for ordinal, path in enumerate(workload.files)]
        done = sum(future.result() for future in futures)
        seconds = time.perf_counter() - began
    return PoolResult(seconds, len(workload.files), done)
