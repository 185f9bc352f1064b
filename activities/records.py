"""What is left of a batch when it ends: the catalog's rows in line with the ledger, a report, a summary."""

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime

import structlog
from temporalio import activity

from activities.failures import translate_errors
from activities.heartbeats import beating_plainly
from activities.webhooks import Newsroom
from ingather.domain.audit import batch_ended, batch_event
from ingather.domain.batch_state import outlives
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.keys import (
    end_prefix,
    ends_prefix,
    report_key,
    submission_prefix,
    summary_key,
    upload_prefix,
)
from ingather.domain.ledger import Ledger
from ingather.domain.webhooks import end_news
from ingather.models.batch import BatchState, BatchSummary
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.errors import BatchNotFoundError, IngatherError, InvalidStateError, error_classes
from ingather.models.messages import (
    ClosedBatch,
    FinishBatchInput,
    FinishBatchOutput,
    RecordControlsInput,
    ReopenBatchInput,
    ResetDocumentsInput,
)
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog

_BLOCK = 500
"""Rows corrected at a time."""
_PIECE_BYTES = 256 * 1024
"""Of a report, on its way to the store."""

log = structlog.get_logger(__name__)


class RecordActivities:
    """Last words.

    Args:
        blobs: where reports and summaries are kept.
        catalog: the batches' records.
        newsroom: tells webhooks how a batch ended; nobody is told without it.
    """

    def __init__(self, blobs: BlobStore, catalog: Catalog, newsroom: Newsroom | None = None) -> None:
        self._blobs = blobs
        self._catalog = catalog
        self._newsroom = newsroom

    @activity.defn(name="finish_batch")
    @translate_errors
    async def finish_batch(self, request: FinishBatchInput) -> FinishBatchOutput:
        """Write the last word everywhere it is read. Safe to repeat: same keys, same content.

        An attempt that was given up for dead may wake up when a later run of its batch has ended: its
        objects have names of their own, and what it says of rows and batch is older than what is there.
        """
        closed = request.closed
        end = (request.tenant_id, request.batch_id, closed.summary.version)
        key = report_key(*end)
        summary = closed.summary.model_copy(update={"report_key": key})
        async with beating_plainly():
            await self._raise_if_outlived(summary)
            await reconcile(self._catalog, request.batch_id, closed)
            report = _Report(self._catalog, request.tenant_id, request.batch_id)
            await self._blobs.put_stream(key, report.lines())
            closed = closed.model_copy(update={"summary": summary})
            await self._blobs.put(summary_key(*end), closed.model_dump_json().encode())
            await self._catalog.finish_batch(summary, [batch_ended(request.tenant_id, summary, datetime.now(UTC))])
            await self._raise_if_outlived(summary)
            if self._newsroom is not None:
                # The catalog has its last word by now: whoever asks when the event comes is answered the same.
                await self._newsroom.tell(request.tenant_id, request.batch_id, [end_news(summary)])
            await self._remove_earlier_ends(*end)
            if summary.problem is not None or summary.counts.failed == summary.counts.cancelled == 0:
                # A retry that could read them is refused for the one, and has nothing to read for the other.
                await self._remove_uploads(request.tenant_id, request.batch_id, report.used_uploads)
            elif await self._was_left_open(request.batch_id):
                await self._remove_submission(request.tenant_id, request.batch_id)
        log.info(
            "batch.ended",
            batch_id=request.batch_id,
            tenant_id=request.tenant_id,
            state=summary.state.value,
            **summary.counts.model_dump(),
        )
        return FinishBatchOutput(report_key=key)

    async def _raise_if_outlived(self, summary: BatchSummary) -> None:
        """Stop an attempt that was given up for dead and woke up after a later run of its batch had the last word."""
        found = await self._catalog.get_batch(summary.batch_id)
        if found is not None and outlives(found, summary):
            raise InvalidStateError("The batch was opened again since this end; what came of that stays.")

    @activity.defn(name="reopen_batch")
    @translate_errors
    async def reopen_batch(self, request: ReopenBatchInput) -> ClosedBatch:
        """The documents' states as the last run left them; the catalog calls the batch running again."""
        async with beating_plainly():
            record = await self._catalog.get_batch(request.batch_id, request.tenant_id)
            if record is None:
                raise BatchNotFoundError(f"There is no batch {request.batch_id}.")
            content = await self._blobs.get(summary_key(request.tenant_id, request.batch_id, record.version))
            await self._call_retrying(request.batch_id)
        return ClosedBatch.model_validate_json(content)

    @activity.defn(name="reset_documents")
    @translate_errors
    async def reset_documents(self, request: ResetDocumentsInput) -> None:
        """Back to pending, for a retry; the catalog calls the batch running, also where it had its last word already."""
        ordinals = list(decode_bitmap(request.ordinals))
        async with beating_plainly():
            await self._catalog.reset_documents(request.batch_id, ordinals, activity.info().scheduled_time)
            await self._call_retrying(request.batch_id)

    @activity.defn(name="record_controls")
    @translate_errors
    async def record_controls(self, request: RecordControlsInput) -> None:
        """What was done to a batch. The caller's own API process may have said it already: the first word stays."""
        await self._catalog.audit.record(
            [
                batch_event(
                    note.kind,
                    request.tenant_id,
                    request.batch_id,
                    note.by,
                    note.at,
                    which=note.which,
                    details=note.details,
                )
                for note in request.notes
            ]
        )

    async def _call_retrying(self, batch_id: str) -> None:
        # Scheduled once, whatever attempt this is: what has ended since then must stay, should this one come late.
        before = activity.info().scheduled_time
        await self._catalog.set_batch_state(batch_id, BatchState.RETRYING, before=before)

    async def _remove_earlier_ends(self, tenant_id: str, batch_id: str, version: int) -> None:
        """Reports that nothing points to any more."""
        this_one = end_prefix(tenant_id, batch_id, version)
        async for blob in self._blobs.list(ends_prefix(tenant_id, batch_id)):
            if blob.key < this_one:
                await self._blobs.delete(blob.key)

    async def _was_left_open(self, batch_id: str) -> bool:
        """It was cancelled before it was complete: nobody wants half of it, so no retry needs its bytes."""
        record = await self._catalog.get_batch(batch_id)
        return record is not None and record.spec.open and record.sealed_at is None

    async def _remove_submission(self, tenant_id: str, batch_id: str) -> None:
        """Everything that was handed in. The batch has ended, so nothing comes after this."""
        await self._remove_uploads(tenant_id, batch_id, used=())
        async for blob in self._blobs.list(submission_prefix(tenant_id, batch_id)):
            await self._blobs.delete(blob.key)

    async def _remove_uploads(self, tenant_id: str, batch_id: str, used: Collection[str]) -> None:
        """Whatever came in and is no document's own bytes now: none will be fetched again."""
        async for blob in self._blobs.list(upload_prefix(tenant_id, batch_id)):
            if blob.key not in used:
                await self._blobs.delete(blob.key)


async def reconcile(catalog: Catalog, batch_id: str, closed: ClosedBatch) -> None:
    """Where the catalog's row and the ledger differ, the ledger is right.

    They differ for documents that were cancelled, for those whose attempts all ended without
    an answer (no worker, storage away for half an hour), and where an attempt given up for
    dead wrote after the one that counted.
    """
    verdicts = _Verdicts(closed)
    # The workflow's own time, by the clock that attempts are told apart by, and the same in every attempt.
    ended_at = closed.summary.ended_at or datetime.now(UTC)
    cancelled: list[int] = []
    differing: list[int] = []
    async for ordinal, noted in catalog.iterate_statuses(batch_id):
        status, _ = verdicts.of(ordinal)
        if noted is not status:
            (cancelled if status is DocumentStatus.CANCELLED else differing).append(ordinal)
    for start in range(0, len(differing), _BLOCK):
        records = await catalog.get_documents(batch_id, differing[start : start + _BLOCK])
        await asyncio.gather(*(catalog.save_outcome(verdicts.applied_to(record, ended_at)) for record in records))
    if cancelled:
        await catalog.mark_cancelled(batch_id, cancelled, ended_at)


class _Report:
    """One line a document, with flat memory."""

    def __init__(self, catalog: Catalog, tenant_id: str, batch_id: str) -> None:
        self._catalog = catalog
        self._batch_id = batch_id
        self._uploads = upload_prefix(tenant_id, batch_id)
        self.used_uploads: set[str] = set()
        """Uploaded objects in which documents' own bytes lie; known when the last line was read."""

    async def lines(self) -> AsyncIterator[bytes]:
        """Many at a time: a store may change threads for each piece it is given."""
        lines = bytearray()
        async for record in self._catalog.iterate_documents(self._batch_id):
            if record.raw_key and record.raw_key.startswith(self._uploads):
                self.used_uploads.add(record.raw_key)
            lines += record.model_dump_json().encode() + b"\n"
            if len(lines) >= _PIECE_BYTES:
                yield bytes(lines)
                lines.clear()
        yield bytes(lines)


class _Verdicts:
    """How each document ended. Rows the ledger does not know are of a manifest that was never finished."""

    def __init__(self, closed: ClosedBatch) -> None:
        self._ledger = Ledger.load(closed.ledger, closed.failures)
        problem = closed.summary.problem
        self._rest = (DocumentStatus.FAILED, problem.code) if problem else (DocumentStatus.CANCELLED, None)

    def of(self, ordinal: int) -> tuple[DocumentStatus, str | None]:
        if ordinal >= len(self._ledger):
            return self._rest
        return self._ledger[ordinal], self._ledger.code(ordinal)

    def applied_to(self, record: DocumentRecord, ended_at: datetime) -> DocumentRecord:
        """A catalog row that says otherwise, corrected."""
        status, code = self.of(record.ordinal)
        if status is DocumentStatus.FAILED:
            return _failed(record, code, ended_at)
        return _corrected(record, status, None, ended_at)


def _failed(record: DocumentRecord, code: str | None, ended_at: datetime) -> DocumentRecord:
    kind = error_classes().get(code or "", IngatherError)
    failure = DocumentFailure(code=code or kind.code, message=f"{kind.title} in every attempt.", action=kind.advice)
    return _corrected(record, DocumentStatus.FAILED, failure, ended_at)


def _corrected(
    record: DocumentRecord, status: DocumentStatus, error: DocumentFailure | None, ended_at: datetime
) -> DocumentRecord:
    """A row by the ledger's word: nobody's attempt, and decided when the batch ended."""
    return record.model_copy(update={"status": status, "error": error, "started_at": None, "ended_at": ended_at})
