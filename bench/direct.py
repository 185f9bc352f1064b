"""The same activities called directly: all of Ingather's work for a document, with nothing to survive a crash.

Parser processes, artifacts, catalog and index are the product's own; a folder takes the place of
S3, and a loop that of Temporal, Redis and HTTP. What Ingather adds to this is what durability
costs.
"""

import asyncio
import hashlib
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from temporalio.testing import ActivityEnvironment

from activities.index import IndexActivities
from activities.ingest import IngestActivities
from activities.manifest import ManifestActivities, ManifestReader
from bench.pool import PoolResult
from bench.workload import Workload
from ingather.adapters.cached_blob_store import CachedBlobStore
from ingather.adapters.folder import FolderBlobStore
from ingather.adapters.lancedb_index import LanceDbChunkIndex
from ingather.adapters.parser_processes import SupervisedPreparer
from ingather.adapters.sql import SqlCatalog, migrate
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.domain.bitmap import encode_bitmap
from ingather.domain.keys import submission_key, upload_key
from ingather.models.archive import ArchiveLimits
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, Counts, ProcessingOptions
from ingather.models.content import BlobRef
from ingather.models.document import DocumentStatus, Submitted
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import BuildManifestInput, IndexDocumentsInput, IngestDocumentInput
from ingather.settings import MIB

CONCURRENT_DOCUMENTS = 12
INDEX_BATCH_SIZE = 100


class DirectRun:
    """One workload through the product's activities."""

    def __init__(self, folder: Path, processes: int) -> None:
        database = f"sqlite:///{folder / 'catalog.db'}"
        migrate(database)
        self._batch_id = str(uuid.uuid4())
        self._embedder = WordLlamaEmbedder()
        self._blobs = CachedBlobStore(FolderBlobStore(folder / "blobs"), max_bytes=128 * MIB)
        self._catalog = SqlCatalog(database)
        self._index = LanceDbChunkIndex(str(folder / "index"), dimensions=self._embedder.dimensions)
        self._preparer = SupervisedPreparer(processes=processes, embedder=self._embedder)

    async def run(self, workload: Workload) -> PoolResult:
        """Ingest and index every document; starting processes and taking the files in are not counted."""
        await self._preparer.start()
        await self._take_in(workload)
        began = time.perf_counter()
        done = await self._ingest(len(workload.files))
        seconds = time.perf_counter() - began
        for port in (self._preparer, self._index, self._catalog, self._blobs):
            await port.close()
        return PoolResult(seconds, len(workload.files), done)

    async def _take_in(self, workload: Workload) -> None:
        lines: list[str] = []
        for number, path in enumerate(workload.files):
            content = path.read_bytes()
            key = upload_key(DEFAULT_TENANT_ID, self._batch_id, f"file-{number:05d}")
            await self._blobs.put(key, content)
            blob = BlobRef(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            lines.append(Submitted(filename=path.name, blob=blob).model_dump_json() + "\n")
        await self._blobs.put(submission_key(DEFAULT_TENANT_ID, self._batch_id), "".join(lines).encode())
        await self._catalog.add_batch(_record(self._batch_id, len(lines)))
        manifest = ManifestActivities(self._blobs, self._catalog, ZipArchiveReader(), ArchiveLimits())
        request = BuildManifestInput(
            tenant_id=DEFAULT_TENANT_ID, batch_id=self._batch_id, collection="bench", max_documents=len(lines)
        )
        await ActivityEnvironment().run(manifest.build_manifest, request)

    async def _ingest(self, count: int) -> int:
        ingest = IngestActivities(self._blobs, self._catalog, self._preparer, ManifestReader(self._blobs))
        room = asyncio.Semaphore(CONCURRENT_DOCUMENTS)
        unindexed: list[int] = []
        indexing: list[asyncio.Task[None]] = []

        async def one(ordinal: int) -> bool:
            request = IngestDocumentInput(
                tenant_id=DEFAULT_TENANT_ID,
                batch_id=self._batch_id,
                ordinal=ordinal,
                collection="bench",
                options=ProcessingOptions(skip_existing=False),
            )
            async with room:
                output = await ActivityEnvironment().run(ingest.ingest_document, request)
            if output.status is DocumentStatus.DONE:
                unindexed.append(ordinal)
                if len(unindexed) >= INDEX_BATCH_SIZE:
                    indexing.append(asyncio.create_task(self._index_some(unindexed[:])))
                    unindexed.clear()
            return output.status is DocumentStatus.DONE

        done = sum(await asyncio.gather(*(one(ordinal) for ordinal in range(count))))
        await asyncio.gather(*indexing, self._index_some(unindexed))
        return done

    async def _index_some(self, ordinals: list[int]) -> None:
        activities = IndexActivities(self._blobs, self._catalog, self._index)
        request = IndexDocumentsInput(
            tenant_id=DEFAULT_TENANT_ID,
            batch_id=self._batch_id,
            collection="bench",
            ordinals=encode_bitmap(ordinals),
        )
        await ActivityEnvironment().run(activities.index_documents, request)


def _record(batch_id: str, count: int) -> BatchRecord:
    spec = BatchSpec(
        batch_id=batch_id, tenant_id=DEFAULT_TENANT_ID, name="bench", collection="bench", submitted_count=count
    )
    return BatchRecord(
        batch_id=batch_id,
        tenant_id=DEFAULT_TENANT_ID,
        spec=spec,
        state=BatchState.RUNNING,
        counts=Counts(total=count, pending=count),
        name=spec.name,
        created_at=datetime.now(UTC),
    )


def run_direct(workload: Workload, folder: Path, processes: int) -> PoolResult:
    """Run a workload through the activities, in this process and its parser processes."""
    folder.mkdir(parents=True)
    return asyncio.run(DirectRun(folder, processes).run(workload))
