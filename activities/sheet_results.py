"""After the sheets of a batch: collect the results, write the table, load the rows, clean up, tell the end.

Every stage is idempotent: what it writes is named after the batch and how often it ended, never after an attempt, and
what it tells has a mark. A retry of failed sheets goes through all of them again.

Stages read and write sheets in blocks, however many there are. What one keeps of every sheet at a time is said where it
does.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from temporalio import activity

from activities.failures import translate_errors
from activities.heartbeats import beating_plainly
from activities.manifest import ManifestReader
from activities.records import reconcile
from activities.sheet_events import StageTeller, beginning_of, processing_event, stage_teller, tell
from activities.sheet_extraction import uploaded
from ingather.domain.keys import (
    artifact_key,
    sheet_csv_key,
    sheet_rows_key,
    sheets_prefix,
    upload_prefix,
)
from ingather.domain.sheet_end import end_event
from ingather.domain.sheet_table import Pictures, csv_header, csv_rows, row_of
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.identity import file_id_for
from ingather.models.messages import (
    FinishSheetsInput,
    FinishSheetsOutput,
)
from ingather.models.sheets import SheetRow, SheetStage
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.sheet_progress import SheetProgress

T = TypeVar("T")

_BLOCK = 500
_READ_AT_ONCE = 16
"""Objects of OCR texts."""


class SheetResultActivities:
    """What is done after the last sheet."""

    def __init__(
        self, blobs: BlobStore, catalog: Catalog, manifest: ManifestReader, *, progress: SheetProgress
    ) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._manifest = manifest
        self._progress = progress

    @activity.defn(name="collect_sheets")
    @translate_errors
    async def collect_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """Bring the catalog in line with how the sheets ended, and write all of them down as rows.

        Of the sheets that are compared it keeps the coarse picture, some 400 bytes, and which earlier one each looks
        like: 8 MB of 20,000, some more while they are compared. Rows, and what OCR read, are in memory for 500 sheets at
        a time.
        """
        assert request.closed is not None  # this step's own input
        summary, counts = request.summary, request.summary.counts
        async with beating_plainly():
            began_at = await beginning_of(self._catalog, request.batch_id)
            last = processing_event(request.batch_id, counts, began_at, summary.retry_round, is_last=True)
            await tell(self._progress, last)
            teller = await self._finishing(request, SheetStage.COLLECTING_RESULTS)
            await teller.start(f"Collecting results of {counts.total} sheets")
            await reconcile(self._catalog, request.batch_id, request.closed)
            count = await self._write_rows(request, await self._earlier(request.batch_id))
            await teller.end(f"Collected all {count} results in {_seconds_since_scheduled():.2f}s")
        return FinishSheetsOutput(row_count=count)

    @activity.defn(name="write_sheet_csv")
    @translate_errors
    async def write_sheet_csv(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """``results.csv``: a row a sheet."""
        async with beating_plainly():
            teller = await self._finishing(request, SheetStage.GENERATING_CSV)
            await teller.start(f"Generating CSV of {request.row_count} sheets")
            count = 0

            async def pieces() -> AsyncIterator[bytes]:
                nonlocal count
                yield csv_header().encode()
                async for rows in _blocks(self._rows(request)):
                    count += len(rows)
                    yield csv_rows(rows).encode()

            key = sheet_csv_key(request.tenant_id, request.batch_id, request.summary.version)
            await self._blobs.put_stream(key, pieces())
            await teller.end(f"CSV generation complete: {count} sheets")
        return FinishSheetsOutput(row_count=count)

    @activity.defn(name="load_sheets")
    @translate_errors
    async def load_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """The same rows in the catalog."""
        async with beating_plainly():
            teller = await self._finishing(request, SheetStage.LOADING_DATABASE)
            await teller.start(f"Loading {request.row_count} sheets into the database")
            count = 0
            async for rows in _blocks(self._rows(request)):
                await self._catalog.sheets.load(rows, request.summary.version)
                count += len(rows)
            await teller.end(f"Database load completed: {count} sheets")
        return FinishSheetsOutput(row_count=count)

    @activity.defn(name="clean_up_sheets")
    @translate_errors
    async def clean_up_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """Remove the upload and what was extracted, but for sheets' own bytes and what a retry would need.

        It keeps the names of the objects that stay, each once: a sheet's own, or one that many small sheets share.
        """
        tenant_id, batch_id = request.tenant_id, request.batch_id
        async with beating_plainly():
            teller = await self._finishing(request, SheetStage.CLEANUP)
            await teller.start("Cleaning up extracted files")
            needed = await self._still_needed(request)
            upload = await uploaded(self._blobs, self._catalog, tenant_id, batch_id)
            for stored in upload.objects:
                if stored.key not in needed:
                    await self._blobs.delete(stored.key)
            for prefix in (upload_prefix(tenant_id, batch_id), f"{sheets_prefix(tenant_id, batch_id)}readings/"):
                async for blob in self._blobs.list(prefix):
                    if blob.key not in needed:
                        await self._blobs.delete(blob.key)
            await teller.end("Batch cleanup completed")
        return FinishSheetsOutput(row_count=request.row_count)

    @activity.defn(name="conclude_sheets")
    @translate_errors
    async def conclude_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        """Tell how the batch ended: the last event, and the only one that says so."""
        await tell(self._progress, end_event(request.summary, await beginning_of(self._catalog, request.batch_id)))
        return FinishSheetsOutput(row_count=request.row_count)

    # Steps

    async def _earlier(self, batch_id: str) -> dict[int, int]:
        """For each sheet that looks like an earlier one the first such, by their ordinals."""
        pictures = Pictures()
        async for record in self._catalog.iterate_documents(batch_id):
            pictures.add(record.ordinal, _picture(record))
        return await asyncio.to_thread(pictures.earlier)

    async def _write_rows(self, request: FinishSheetsInput, earlier: Mapping[int, int]) -> int:
        """A line a sheet; how many there are."""
        count = 0

        def row(record: DocumentRecord, text: str | None) -> SheetRow:
            first = earlier.get(record.ordinal)
            return row_of(record, text, None if first is None else file_id_for(record.batch_id, first))

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal count
            async for records in _blocks(self._catalog.iterate_documents(request.batch_id)):
                count += len(records)
                rows = map(row, records, await self._texts(records))
                yield b"".join(each.model_dump_json().encode() + b"\n" for each in rows)

        await self._blobs.put_stream(self._rows_key(request), pieces())
        return count

    async def _texts(self, records: Sequence[DocumentRecord]) -> list[str | None]:
        """What OCR read on each, where it did."""
        turns = asyncio.Semaphore(_READ_AT_ONCE)

        async def text_of(record: DocumentRecord) -> str | None:
            if record.status is not DocumentStatus.DONE or not record.chunk_count:
                return None
            # Arrow takes half a second to import, and few deployments read texts.
            from ingather.domain.artifact import read_text  # noqa: PLC0415

            async with turns:
                key = artifact_key(record.tenant_id, record.sha256 or "", record.fingerprint or "")
                return read_text(await self._blobs.get(key))

        return list(await asyncio.gather(*map(text_of, records)))

    async def _rows(self, request: FinishSheetsInput) -> AsyncIterator[SheetRow]:
        rest = b""
        async for piece in self._blobs.stream(self._rows_key(request)):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                yield SheetRow.model_validate_json(line)

    @staticmethod
    def _rows_key(request: FinishSheetsInput) -> str:
        return sheet_rows_key(request.tenant_id, request.batch_id, request.summary.version)

    async def _still_needed(self, request: FinishSheetsInput) -> set[str]:
        """Objects in which sheets' own bytes lie, and those of sheets that a retry may run again."""
        needed: set[str] = set()
        async for record in self._catalog.iterate_documents(request.batch_id):
            if record.raw_key is not None:
                needed.add(record.raw_key)
            if record.status not in {DocumentStatus.DONE, DocumentStatus.SKIPPED}:
                document = await self._manifest.document(request.tenant_id, request.batch_id, record.ordinal)
                if document.blob is not None:
                    needed.add(document.blob.key)
        return needed

    async def _finishing(self, request: FinishSheetsInput, stage: SheetStage) -> StageTeller:
        counts = request.summary.counts
        return await stage_teller(
            self._progress,
            self._catalog,
            request.batch_id,
            stage,
            retry_round=request.summary.retry_round,
            total=counts.total,
            processed=counts.processed,
        )


def _picture(record: DocumentRecord) -> str:
    found = record.metadata.get("sheet")
    known = found.get("picture") if isinstance(found, dict) and record.status is DocumentStatus.DONE else None
    return known if isinstance(known, str) else ""


async def _blocks(items: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    """Some at a time: a store may change threads for each piece it is given, and a catalog writes for each."""
    block: list[T] = []
    async for item in items:
        block.append(item)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


def _seconds_since_scheduled() -> float:
    """How long the stage took, its waits and earlier attempts included."""
    return max(0.0, (datetime.now(UTC) - activity.info().scheduled_time).total_seconds())
