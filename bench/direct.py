"""The same activities called directly: all of Ingather's work for a document, with nothing to survive a crash.

Parser processes, artifacts, catalog and index are the product's own; a folder takes the place of
S3, and a loop that of Temporal, Redis and HTTP. What Ingather adds to this is what durability
costs.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.index import IndexActivities
from activities.ingest import IngestActivities
from activities.manifest import ManifestActivities, ManifestReader
from activities.pack import PackActivities
from activities.packing import Packer
from bench.pool import PoolResult
from bench.workload import Workload
from ingather.adapters.cached_blob_store import CachedBlobStore
from ingather.adapters.folder import FolderBlobStore
from ingather.adapters.lancedb_index import LanceDbChunkIndex
from ingather.adapters.parser_processes import SupervisedPreparer
from ingather.adapters.sql import SqlCatalog, migrate
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.adapters.zip_archive import ZipArchiveReader
from ingather.domain.bitmap import decode_bitmap, encode_bitmap
from ingather.domain.keys import submission_part_key, upload_key
from ingather.models.archive import ArchiveLimits
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, Counts, ProcessingOptions, SubmissionPart
from ingather.models.content import SMALL_UPLOAD_BYTES
from ingather.models.document import DocumentStatus, Submitted
from ingather.models.engine import PACK_DOCUMENTS
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import (
    BuildManifestInput,
    IndexDocumentsInput,
    IngestDocumentInput,
    IngestPackInput,
    ReadManifestInput,
)
from ingather.settings import MIB
from worker import leave_out_what_stays

CONCURRENT_ACTIVITIES = 12
INDEX_BATCH_SIZE = 100
PACKED_INDEX_BATCH_SIZE = 500


class DirectRun:
    """One workload through the product's activities.

    Args:
        folder: where everything is kept.
        processes: parsers.
        packed: let small documents share an activity.
    """

    def __init__(self, folder: Path, processes: int, *, packed: bool) -> None:
        database = f"sqlite:///{folder / 'catalog.db'}"
        migrate(database)
        self._packed = packed
        self._batch_id = str(uuid.uuid4())
        self._embedder = WordLlamaEmbedder()
        self._blobs = CachedBlobStore(FolderBlobStore(folder / "blobs"), max_bytes=128 * MIB)
        self._catalog = SqlCatalog(database)
        self._index = LanceDbChunkIndex(str(folder / "index"), dimensions=self._embedder.dimensions)
        self._preparer = SupervisedPreparer(processes=processes, embedder=self._embedder)
        manifest = ManifestReader(self._blobs)
        self._manifests = ManifestActivities(self._blobs, self._catalog, ZipArchiveReader(), ArchiveLimits())
        self._documents = IngestActivities(self._blobs, self._catalog, self._preparer, manifest)
        self._packs = PackActivities(self._blobs, self._catalog, self._preparer, manifest)
        self._indexing = IndexActivities(self._blobs, self._catalog, self._index)
        self._unindexed: list[int] = []

    async def run(self, workload: Workload) -> PoolResult:
        """Ingest and index every document; starting processes and taking the files in are not counted."""
        await self._preparer.start()
        await self._index.count(DEFAULT_TENANT_ID)  # loads its library
        await self._take_in(workload)
        leave_out_what_stays()
        began = time.perf_counter()
        done = await self._ingest(len(workload.files))
        seconds = time.perf_counter() - began
        for port in (self._preparer, self._index, self._catalog, self._blobs):
            await port.close()
        return PoolResult(seconds, len(workload.files), done)

    async def _take_in(self, workload: Workload) -> None:
        lines: list[str] = []
        packer = Packer(self._blobs, lambda part: upload_key(DEFAULT_TENANT_ID, self._batch_id, part))
        for path in workload.files:
            content = path.read_bytes()
            small = len(content) <= SMALL_UPLOAD_BYTES
            blob = await packer.add(content) if small else await packer.add_stream(_one_piece(content))
            lines.append(Submitted(filename=path.name, blob=blob).model_dump_json() + "\n")
        await packer.flush()
        part = SubmissionPart(
            batch_id=self._batch_id,
            part_id="bench",
            key=submission_part_key(DEFAULT_TENANT_ID, self._batch_id, "bench"),
            document_count=len(lines),
            created_at=datetime.now(UTC),
        )
        await self._blobs.put(part.key, "".join(lines).encode())
        await self._catalog.add_batch(_record(self._batch_id, len(lines)), part)
        request = BuildManifestInput(
            tenant_id=DEFAULT_TENANT_ID, batch_id=self._batch_id, collection="bench", max_documents=len(lines)
        )
        await _environment().run(self._manifests.build_manifest, request)

    async def _ingest(self, count: int) -> int:
        room = asyncio.Semaphore(CONCURRENT_ACTIVITIES)
        indexing: list[asyncio.Task[None]] = []

        async def one(ordinals: Sequence[int]) -> int:
            async with room:
                done = await (self._pack(ordinals) if len(ordinals) > 1 else self._document(ordinals[0]))
            self._unindexed += done
            size = PACKED_INDEX_BATCH_SIZE if self._packed else INDEX_BATCH_SIZE
            while len(self._unindexed) >= size:
                indexing.append(asyncio.create_task(self._index_some(self._unindexed[:size])))
                del self._unindexed[:size]
            return len(done)

        counts = await asyncio.gather(*(one(ordinals) for ordinals in await self._activities(count)))
        if self._unindexed:
            await self._index_some(self._unindexed)
        await asyncio.gather(*indexing)
        return sum(counts)

    async def _activities(self, count: int) -> list[list[int]]:
        """Which documents share one."""
        ordinals = list(range(count))
        packable: list[int] = []
        if self._packed:
            request = ReadManifestInput(
                tenant_id=DEFAULT_TENANT_ID, batch_id=self._batch_id, ordinals=encode_bitmap(ordinals)
            )
            packable = list(decode_bitmap((await _environment().run(self._manifests.read_manifest, request)).packable))
        packs = [packable[start : start + PACK_DOCUMENTS] for start in range(0, len(packable), PACK_DOCUMENTS)]
        alone = set(ordinals) - set(packable)
        return sorted([*packs, *([ordinal] for ordinal in alone)])

    async def _document(self, ordinal: int) -> list[int]:
        request = IngestDocumentInput(ordinal=ordinal, **self._shared())
        output = await _environment().run(self._documents.ingest_document, request)
        return [ordinal] if output.status is DocumentStatus.DONE else []

    async def _pack(self, ordinals: Sequence[int]) -> list[int]:
        request = IngestPackInput(ordinals=encode_bitmap(ordinals), **self._shared())
        output = await _environment().run(self._packs.ingest_pack, request)
        return [ordinal for ordinal, letter in zip(ordinals, output.statuses, strict=True) if letter == "d"]

    def _shared(self) -> dict[str, Any]:
        return {
            "tenant_id": DEFAULT_TENANT_ID,
            "batch_id": self._batch_id,
            "collection": "bench",
            "options": ProcessingOptions(skip_existing=False),
        }

    async def _index_some(self, ordinals: Sequence[int]) -> None:
        request = IndexDocumentsInput(
            tenant_id=DEFAULT_TENANT_ID,
            batch_id=self._batch_id,
            collection="bench",
            ordinals=encode_bitmap(ordinals),
        )
        await _environment().run(self._indexing.index_documents, request)


def _environment() -> ActivityEnvironment:
    return ActivityEnvironment()


async def _one_piece(content: bytes) -> AsyncIterator[bytes]:
    yield content


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


def run_direct(workload: Workload, folder: Path, processes: int, *, packed: bool = False) -> PoolResult:
    """Run a workload through the activities, in this process and its parser processes."""
    folder.mkdir(parents=True)
    return asyncio.run(DirectRun(folder, processes, packed=packed).run(workload))
