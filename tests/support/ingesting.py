"""A workshop for activity tests: ports in memory, the real preparer, batches whose manifest is written already."""

import asyncio
import dataclasses
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from temporalio.testing import ActivityEnvironment

from activities.accounting import AccountingActivities
from activities.byte_budget import DEFAULT_BUDGET_BYTES, ByteBudget
from activities.fetching import Fetcher
from activities.handoff import HandoffActivities
from activities.index import IndexActivities
from activities.ingest import IngestActivities
from activities.keyed_locks import KeyedLocks
from activities.manifest import ManifestReader
from activities.open_sources import OpenSources
from activities.pack import PackActivities
from activities.records import RecordActivities
from activities.texts import TextActivities
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.memory.chunk_index import InMemoryChunkIndex
from ingather.adapters.memory.handoff_queue import InMemoryHandoffQueue
from ingather.domain.bitmap import encode_bitmap
from ingather.domain.fingerprint import pipeline_fingerprint
from ingather.domain.keys import artifact_key, manifest_key, upload_key
from ingather.domain.manifest_pages import encode_page
from ingather.domain.source_names import name_in_source
from ingather.models.audit import AuditEvent
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, BatchSummary, Counts, ProcessingOptions
from ingather.models.content import BlobRef, PreparedDocument, PrepareRequest, Stage
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentRef
from ingather.models.errors import DocumentError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for, workflow_id_for
from ingather.models.messages import (
    IndexDocumentsInput,
    IndexDocumentsOutput,
    IngestDocumentInput,
    IngestDocumentOutput,
    IngestPackInput,
    IngestPackOutput,
    PackHeartbeat,
)
from ingather.models.source import SourceRef
from ingather.ports.blob_store import BlobStat, BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.chunk_index import ChunkIndex
from ingather.ports.document_preparer import DocumentPreparer
from tests.support.catalog_records import NOON
from tests.support.sources import SourcesStandIn
from tests.support.texts import TextsStandIn

Answer = TypeVar("Answer")

TENANT = DEFAULT_TENANT_ID
MAX_FILE_BYTES = 20 * 1024 * 1024
PLAIN = ProcessingOptions()


class WatchedPreparer:
    """A preparer that keeps a list of what it was asked to parse, and can be told to fail or to wait."""

    def __init__(self, inner: DocumentPreparer) -> None:
        self._inner = inner
        self.parsed: list[str] = []
        self.error: Exception | None = None
        self.pack_error: DocumentError | None = None
        """What becomes of every document that is not alone."""
        self.kills: list[int] = []
        """How many lives each of them had cost already."""
        self.given: list[float] = []
        """Seconds that each of them might take."""
        self.patience: set[float | None] = set()
        """Seconds that those behind documents of a pack might be kept waiting."""
        self.gate: asyncio.Event | None = None
        self.open_for = 0
        """Documents of a pack that pass a closed gate."""
        self.stopped: list[list[str]] = []
        """Packs whose parser was told to stop at the gate."""

    @property
    def description(self) -> dict[str, str]:
        return self._inner.description

    async def prepare(self, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        self.parsed.append(request.filename)
        self.kills.append(request.kills)
        self.given.append(request.timeout_seconds)
        on_stage(Stage.PARSING)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return await self._inner.prepare(request, on_stage)

    async def prepare_many(
        self,
        requests: Sequence[PrepareRequest],
        on_stage: Callable[[int, Stage], None],
        on_outcome: Callable[[int, PreparedDocument | DocumentError], None] | None = None,
    ) -> list[PreparedDocument | DocumentError]:
        self.parsed += [request.filename for request in requests]
        self.patience |= {request.patience_seconds for request in requests}
        if self.gate is not None:
            first = await self._inner.prepare_many(requests[: self.open_for], on_stage, on_outcome)
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.stopped.append([request.filename for request in requests])
                raise
            rest = requests[len(first) :]
            return first + await self._inner.prepare_many(
                rest, *(_shifted(len(first), f) for f in (on_stage, on_outcome))
            )
        if self.error is not None and not isinstance(self.error, DocumentError):
            raise self.error
        error = self.error or self.pack_error
        if error is None:
            return await self._inner.prepare_many(requests, on_stage, on_outcome)
        for position in range(len(requests)):
            if on_outcome is not None:
                on_outcome(position, error)
        return [error for _ in requests]

    def restore(self, artifact: bytes) -> PreparedDocument:
        return self._inner.restore(artifact)

    async def embed(self, artifact: bytes) -> bytes:
        return await self._inner.embed(artifact)

    async def close(self) -> None:
        await self._inner.close()


def _shifted(by: int, told: Callable[[int, Any], None] | None) -> Callable[[int, Any], None]:
    return lambda position, value: told(position + by, value) if told else None


class FaultyBlobStore(InMemoryBlobStore):
    """Raises what it is told to, for keys that start with a prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[tuple[str, str], Exception] = {}
        """Errors by operation (``put``, ``get``, ``stat``) and key prefix."""

    def _check(self, operation: str, key: str) -> None:
        for (broken, prefix), error in self.faults.items():
            if broken == operation and key.startswith(prefix):
                raise error

    async def put(self, key: str, content: bytes) -> None:
        self._check("put", key)
        await super().put(key, content)

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        self._check("get", key)
        return await super().get(key, offset=offset, size=size)

    async def stat(self, key: str) -> BlobStat | None:
        self._check("stat", key)
        return await super().stat(key)


class FaultyCatalog(InMemoryCatalog):
    """Raises what it is told to, by method; a write takes a moment, as it does anywhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, Exception] = {}
        self._frozen: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}

    def freeze(self, method: str) -> tuple[asyncio.Event, asyncio.Event]:
        """The next call of a method sets the first event and goes on with the second."""
        self._frozen[method] = asyncio.Event(), asyncio.Event()
        return self._frozen[method]

    async def _stand_still(self, method: str) -> None:
        reached, thaw = self._frozen.pop(method, (None, None))
        if reached is not None and thaw is not None:
            reached.set()
            await thaw.wait()

    async def mark_cancelled(self, batch_id: str, ordinals: Sequence[int], at: datetime) -> None:
        await self._stand_still("mark_cancelled")
        await super().mark_cancelled(batch_id, ordinals, at)

    async def finish_batch(self, summary: BatchSummary, events: Sequence[AuditEvent] = ()) -> None:
        await self._stand_still("finish_batch")
        await super().finish_batch(summary, events)

    async def save_outcome(self, record: DocumentRecord, events: Sequence[AuditEvent] = ()) -> None:
        await self._stand_still("save_outcome")
        await asyncio.sleep(0.005)
        if error := self.faults.get("save_outcome"):
            raise error
        await super().save_outcome(record, events)

    async def find_ingested(self, tenant_id: str, sha256: str, fingerprint: str) -> list[DocumentRecord]:
        if error := self.faults.get("find_ingested"):
            raise error
        return await super().find_ingested(tenant_id, sha256, fingerprint)


class Workshop:
    """Activities around one set of ports."""

    def __init__(
        self,
        preparer: DocumentPreparer,
        *,
        blobs: BlobStore | None = None,
        catalog: Catalog | None = None,
        index: ChunkIndex | None = None,
    ) -> None:
        self.preparer = preparer
        self.blobs = blobs or FaultyBlobStore()
        self.catalog = catalog or FaultyCatalog()
        self.index = index or InMemoryChunkIndex()
        manifest, same_content = ManifestReader(self.blobs, cache_bytes=0), KeyedLocks()
        self.budget = ByteBudget(DEFAULT_BUDGET_BYTES)
        ports = (self.blobs, self.catalog, preparer, manifest)
        self.sources = SourcesStandIn()
        opened = OpenSources(self.catalog.connections, self.sources, trusted_seconds=0)
        self.fetcher = Fetcher(self.blobs, opened, self.budget, MAX_FILE_BYTES)
        self.ingest_activities = IngestActivities(
            *ports, budget=self.budget, same_content=same_content, fetcher=self.fetcher
        )
        self.pack_activities = PackActivities(*ports, budget=self.budget, same_content=same_content)
        self.accounting_activities = AccountingActivities(self.catalog, manifest)
        self.queue = InMemoryHandoffQueue()
        self.handoff_activities = HandoffActivities(
            self.blobs, self.catalog, self.queue, manifest, fetcher=self.fetcher
        )
        self.index_activities = IndexActivities(self.blobs, self.catalog, self.index)
        self.record_activities = RecordActivities(self.blobs, self.catalog)
        self.text_processor = TextsStandIn()
        self.text_activities = TextActivities(self.blobs, self.catalog, self.text_processor, manifest)

    # --- Batches ------------------------------------------------------------------------------

    async def batch(
        self,
        *contents: bytes,
        collection: str = "default",
        names: Sequence[str] = (),
        options: ProcessingOptions = PLAIN,
    ) -> str:
        """A batch of these contents as it stands after its manifest was made; answers its id."""
        batch_id = str(uuid.uuid4())
        refs = []
        for ordinal, content in enumerate(contents):
            key = upload_key(TENANT, batch_id, f"file-{ordinal:05d}")
            await self.blobs.put(key, content)
            blob = BlobRef(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            name = names[ordinal] if names else f"document-{ordinal}.txt"
            refs.append(DocumentRef(ordinal=ordinal, filename=name, blob=blob, metadata={"number": ordinal}))
        await self.add_manifest(batch_id, refs, collection, options)
        return batch_id

    async def batch_of_sources(self, *refs: SourceRef) -> str:
        """A batch of files in connected sources, one after the other; answers its id."""
        batch_id = str(uuid.uuid4())
        names = [name_in_source(ref.source_type, ref.file_id) for ref in refs]
        documents = [DocumentRef(ordinal=n, filename=name, source=refs[n]) for n, name in enumerate(names)]
        await self.add_manifest(batch_id, documents, "default")
        return batch_id

    async def refused_batch(self, failure: DocumentFailure) -> str:
        """A batch of one document that was refused before it could run."""
        batch_id = str(uuid.uuid4())
        await self.add_manifest(batch_id, [DocumentRef(ordinal=0, filename="bad.txt", refused=failure)], "default")
        return batch_id

    async def add_manifest(
        self, batch_id: str, refs: Sequence[DocumentRef], collection: str, options: ProcessingOptions = PLAIN
    ) -> None:
        spec = BatchSpec(
            batch_id=batch_id, tenant_id=TENANT, name="b", collection=collection, submitted_count=len(refs),
            options=options,
        )  # fmt: skip
        await self.blobs.put(manifest_key(TENANT, batch_id, 0), encode_page(refs))
        await self.catalog.add_batch(
            BatchRecord(
                batch_id=batch_id, tenant_id=TENANT, spec=spec, state=BatchState.RUNNING, counts=Counts(), name="b",
                created_at=NOON,
            )
        )  # fmt: skip
        await self.catalog.add_documents(
            [
                DocumentRecord(
                    file_id=file_id_for(batch_id, ref.ordinal), tenant_id=TENANT, batch_id=batch_id,
                    ordinal=ref.ordinal, filename=ref.filename, collection=collection,
                )
                for ref in refs
            ]
        )  # fmt: skip

    # --- Activities ---------------------------------------------------------------------------

    async def ingest(
        self, batch_id: str, ordinal: int = 0, *, attempt: int = 1, **changes: Any
    ) -> IngestDocumentOutput:
        """Run the activity of one document once."""
        return await run_activity(
            self.ingest_activities.ingest_document, await self.request(batch_id, ordinal, **changes), attempt=attempt
        )

    async def ingest_pack(
        self, batch_id: str, *ordinals: int, attempt: int = 1, beat: PackHeartbeat | None = None, **changes: Any
    ) -> IngestPackOutput:
        """Run the activity of several documents once; ``beat`` is the last one of the attempt before."""
        environment = activity_environment(attempt)
        details = [beat.model_dump(mode="json")] if beat else []
        environment.info = dataclasses.replace(environment.info, heartbeat_details=details)
        request = await self.pack_request(batch_id, *ordinals, **changes)
        return await environment.run(self.pack_activities.ingest_pack, request)

    async def pack_request(self, batch_id: str, *ordinals: int, **changes: Any) -> IngestPackInput:
        batch = await self.catalog.get_batch(batch_id)
        assert batch is not None
        given = {"collection": batch.spec.collection, "options": batch.spec.options} | changes
        return IngestPackInput(tenant_id=TENANT, batch_id=batch_id, ordinals=encode_bitmap(ordinals), **given)

    async def request(self, batch_id: str, ordinal: int = 0, **changes: Any) -> IngestDocumentInput:
        batch = await self.catalog.get_batch(batch_id)
        assert batch is not None
        given = {"collection": batch.spec.collection, "options": batch.spec.options} | changes
        return IngestDocumentInput(tenant_id=TENANT, batch_id=batch_id, ordinal=ordinal, **given)

    async def make_searchable(self, batch_id: str, *ordinals: int) -> IndexDocumentsOutput:
        batch = await self.catalog.get_batch(batch_id)
        assert batch is not None
        request = IndexDocumentsInput(
            tenant_id=TENANT,
            batch_id=batch_id,
            collection=batch.spec.collection,
            ordinals=encode_bitmap(ordinals or (0,)),
        )
        return await run_activity(self.index_activities.index_documents, request)

    # --- What is left -------------------------------------------------------------------------

    async def row(self, batch_id: str, ordinal: int = 0) -> DocumentRecord:
        [record] = await self.catalog.get_documents(batch_id, [ordinal])
        return record

    async def rows(self, batch_id: str) -> list[DocumentRecord]:
        return [record async for record in self.catalog.iterate_documents(batch_id)]

    def artifact_key(self, content: bytes, options: ProcessingOptions = PLAIN) -> str:
        """Where the result of this content lies."""
        fingerprint = pipeline_fingerprint(self.preparer.description, options)
        return artifact_key(TENANT, hashlib.sha256(content).hexdigest(), fingerprint)


async def run_activity(
    method: Callable[[Any], Awaitable[Answer]],
    request: Any,
    *,
    attempt: int = 1,
    on_heartbeat: Callable[..., None] | None = None,
) -> Answer:
    """Run an activity as a worker would, in one of its attempts."""
    environment = activity_environment(attempt)
    if batch_id := getattr(request, "batch_id", None):
        environment.info = dataclasses.replace(environment.info, workflow_id=workflow_id_for(batch_id))
    if on_heartbeat is not None:
        environment.on_heartbeat = on_heartbeat
    return await environment.run(method, request)


def activity_environment(attempt: int = 1) -> ActivityEnvironment:
    environment = ActivityEnvironment()
    now = datetime.now(UTC)
    environment.info = dataclasses.replace(
        environment.info, attempt=attempt, activity_type="tested_activity", scheduled_time=now, started_time=now
    )
    return environment
