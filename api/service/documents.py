"""Reading documents: their records, what is live about them, their bytes, their text, the report."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from api.engine import BatchEngine
from api.resources import BatchSnapshot
from api.service.batches import BatchService
from api.service.search import SearchService
from ingather.domain.stored import artifact_of, raw_of
from ingather.models.batch import BatchRecord
from ingather.models.content import Chunk, Stage
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import (
    BlobNotFoundError,
    DocumentNotFoundError,
    EngineUnavailableError,
    PageNotDrawableError,
)
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog, DocumentFilter
from ingather.ports.page_images import DRAWN_TYPES, LARGEST_DRAWN_BYTES, PageImages

MOST_INTERVALS = 90
INTERVALS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1_800, 3_600, 10_800, 21_600, 86_400)
"""Seconds; the shortest with which a batch takes no more than ``MOST_INTERVALS``."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Documents that ended, by interval."""

    since: datetime | None
    """None where the batch has not begun."""
    interval_seconds: int
    documents: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LiveDocument:
    """A record, with the stage it is in while a worker has it."""

    record: DocumentRecord
    stage: Stage | None = None


class DocumentService:
    """Documents of one batch at a time."""

    def __init__(
        self,
        catalog: Catalog,
        blobs: BlobStore,
        engine: BatchEngine,
        batches: BatchService,
        search: SearchService,
        *,
        page_images: PageImages,
    ) -> None:
        self._page_images = page_images
        self._catalog = catalog
        self._blobs = blobs
        self._engine = engine
        self._batches = batches
        self._search = search

    async def page(self, tenant_id: str, where: DocumentFilter, limit: int) -> tuple[list[LiveDocument], bool, int]:
        """Documents in ordinal order, whether there are more, and the ordinal to go on after."""
        snapshot = await self._batches.snapshot(tenant_id, where.batch_id)
        if where.status is DocumentStatus.IN_FLIGHT:
            records = await self._in_flight(snapshot, where)
        else:
            records = await self._catalog.list_documents(where, limit + 1)
        live = await self._overlaid(snapshot, records[:limit])
        if where.status is DocumentStatus.PENDING:
            live = [document for document in live if document.record.status is DocumentStatus.PENDING]
        last = records[:limit][-1].ordinal if records else where.after_ordinal
        return live, len(records) > limit, last

    async def first(self, snapshot: BatchSnapshot, limit: int) -> list[LiveDocument]:
        """A batch's first documents, and those in flight beyond them, in ordinal order."""
        batch_id = snapshot.record.batch_id
        records = await self._catalog.list_documents(DocumentFilter(batch_id), limit)
        last = records[-1].ordinal if records else -1
        beyond = [] if snapshot.is_final else [number for number in snapshot.progress.in_flight if number > last]
        if beyond and len(records) == limit:
            records = [*records, *await self._catalog.get_documents(batch_id, beyond)]
        return await self._overlaid(snapshot, records)

    async def one(self, tenant_id: str, batch_id: str, file_id: str) -> LiveDocument:
        """One document. Raises ``DocumentNotFoundError``."""
        snapshot = await self._batches.snapshot(tenant_id, batch_id)
        [document] = await self._overlaid(snapshot, [await self._record(tenant_id, batch_id, file_id)])
        return document

    async def raw(self, tenant_id: str, batch_id: str, file_id: str) -> tuple[DocumentRecord, AsyncIterator[bytes]]:
        """The document's own bytes, as a stream."""
        record = await self._record(tenant_id, batch_id, file_id)
        stored = raw_of(record)
        if stored is None or await self._blobs.stat(stored.key) is None:
            raise DocumentNotFoundError(
                "No bytes of this document are stored (yet).", action="Read its status: it may wait, or be refused."
            )
        return record, self._blobs.stream(stored.key, offset=stored.offset, size=stored.size_bytes)

    async def text(self, tenant_id: str, batch_id: str, file_id: str) -> tuple[DocumentRecord, str]:
        """The document's whole text, as its chunks quote it."""
        record = await self._record(tenant_id, batch_id, file_id)
        return record, await self._search.read_text(await self._artifact(record))

    async def chunks(
        self, tenant_id: str, batch_id: str, file_id: str, *, first: int, limit: int, page: int | None
    ) -> tuple[list[Chunk], bool]:
        """The document's chunks from an ordinal on, those that begin on a page or all, and whether there are more."""
        record = await self._record(tenant_id, batch_id, file_id)
        return await self._search.read_chunks(await self._artifact(record), first=first, limit=limit, page=page)

    async def page_image(
        self, tenant_id: str, batch_id: str, file_id: str, *, page: int, width: int
    ) -> tuple[DocumentRecord, bytes]:
        """A page as a PNG. Raises ``PageNotDrawableError``, and the ``DocumentError`` of one that cannot be read."""
        record = await self._record(tenant_id, batch_id, file_id)
        stored = raw_of(record)
        if record.media_type not in DRAWN_TYPES or stored is None:
            raise PageNotDrawableError("Pages of PDFs and images are drawn, once they were taken in.")
        if (stored.size_bytes or record.size_bytes or 0) > LARGEST_DRAWN_BYTES:
            raise PageNotDrawableError(f"Pages of documents over {LARGEST_DRAWN_BYTES:,} bytes are not drawn.")
        try:
            content = await self._blobs.get(stored.key, offset=stored.offset, size=stored.size_bytes)
        except BlobNotFoundError as error:
            raise PageNotDrawableError("The document's bytes are not stored any more.") from error
        return record, await self._page_images.draw(content, page=page, width=width)

    async def _artifact(self, record: DocumentRecord) -> bytes:
        missing = DocumentNotFoundError(
            "This document has no text (yet).", action="Read its status: it may wait, or have failed."
        )
        stored = artifact_of(record)
        if stored is None:
            raise missing
        try:
            return await self._blobs.get(stored.key, offset=stored.offset, size=stored.size_bytes)
        except BlobNotFoundError as error:
            raise missing from error

    async def throughput(self, tenant_id: str, batch_id: str) -> Throughput:
        """How many documents ended in each interval since the batch's latest beginning, as the catalog has heard."""
        snapshot = await self._batches.snapshot(tenant_id, batch_id)
        since, until = snapshot.progress.started_at, snapshot.progress.ended_at or datetime.now(UTC)
        if since is None:
            return Throughput(None, INTERVALS[0], ())
        seconds = max((until - since).total_seconds(), 0.0)
        interval = next((each for each in INTERVALS if seconds / each <= MOST_INTERVALS), INTERVALS[-1])
        ends = await self._catalog.count_ends(batch_id, since.replace(microsecond=0), interval)
        count = min(max(int(seconds // interval), max(ends, default=0)) + 1, 10 * MOST_INTERVALS)
        return Throughput(since, interval, tuple(ends.get(number, 0) for number in range(count)))

    async def report(self, tenant_id: str, batch_id: str) -> tuple[BatchRecord, AsyncIterator[bytes]]:
        """One JSON line a document: the stored report of an ended batch, else the catalog as it stands."""
        snapshot = await self._batches.snapshot(tenant_id, batch_id)
        record = snapshot.record
        if snapshot.is_final and record.report_key and await self._blobs.stat(record.report_key):
            return record, self._blobs.stream(record.report_key)
        return record, self._lines(batch_id)

    async def _lines(self, batch_id: str) -> AsyncIterator[bytes]:
        async for document in self._catalog.iterate_documents(batch_id):
            yield document.model_dump_json().encode() + b"\n"

    async def _record(self, tenant_id: str, batch_id: str, file_id: str) -> DocumentRecord:
        record = await self._catalog.get_document(file_id, tenant_id)
        if record is None or record.batch_id != batch_id:
            await self._batches.record(tenant_id, batch_id)
            raise DocumentNotFoundError("No document of this batch has this id.")
        return record

    async def _in_flight(self, snapshot: BatchSnapshot, where: DocumentFilter) -> list[DocumentRecord]:
        ordinals = sorted(number for number in snapshot.progress.in_flight if number > where.after_ordinal)
        if snapshot.is_final or not ordinals or where.error_code is not None:
            return []
        return await self._catalog.get_documents(where.batch_id, ordinals)

    async def _overlaid(self, snapshot: BatchSnapshot, records: Sequence[DocumentRecord]) -> list[LiveDocument]:
        """Mark what a worker has in its hands; the catalog learns of a document at its end."""
        flying = set(snapshot.progress.in_flight) if not snapshot.is_final else set()
        held = {r.ordinal for r in records if r.ordinal in flying and r.status is DocumentStatus.PENDING}
        if not held:
            return [LiveDocument(record) for record in records]
        try:
            beats = await self._engine.heartbeats(snapshot.record.batch_id, snapshot.progress.children)
        except EngineUnavailableError:
            beats = {}
        return [
            LiveDocument(
                record.model_copy(update={"status": DocumentStatus.IN_FLIGHT}),
                beats[record.ordinal].stage if record.ordinal in beats else None,
            )
            if record.ordinal in held
            else LiveDocument(record)
            for record in records
        ]
