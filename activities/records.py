"""What is left of a batch when it ends: the catalog's rows in line with the ledger, a report, a summary."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import structlog
from temporalio import activity

from activities.failures import translate_errors
from activities.heartbeats import beating_plainly
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.keys import report_key, summary_key, upload_prefix
from ingather.domain.ledger import Ledger
from ingather.models.batch import BatchState
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.errors import IngatherError, error_classes
from ingather.models.messages import (
    ClosedBatch,
    FinishBatchInput,
    FinishBatchOutput,
    ReopenBatchInput,
    ResetDocumentsInput,
)
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog

log = structlog.get_logger(__name__)


class RecordActivities:
    def __init__(self, blobs: BlobStore, catalog: Catalog) -> None:
        self._blobs = blobs
        self._catalog = catalog

    @activity.defn(name="finish_batch")
    @translate_errors
    async def finish_batch(self, request: FinishBatchInput) -> FinishBatchOutput:
        """Write the last word everywhere it is read. Safe to repeat: same keys, same content."""
        key = report_key(request.tenant_id, request.batch_id)
        closed = request.closed
        summary = closed.summary.model_copy(update={"report_key": key})
        async with beating_plainly():
            await self._reconcile(request.batch_id, closed)
            await self._blobs.put_stream(key, self._report_lines(request.batch_id))
            closed = closed.model_copy(update={"summary": summary})
            await self._blobs.put(summary_key(request.tenant_id, request.batch_id), closed.model_dump_json().encode())
            await self._catalog.finish_batch(summary)
            if summary.counts.failed == summary.counts.cancelled == 0:
                await self._remove_uploads(request.tenant_id, request.batch_id)
        log.info(
            "batch.ended",
            batch_id=request.batch_id,
            tenant_id=request.tenant_id,
            state=summary.state.value,
            **summary.counts.model_dump(),
        )
        return FinishBatchOutput(report_key=key)

    @activity.defn(name="reopen_batch")
    @translate_errors
    async def reopen_batch(self, request: ReopenBatchInput) -> ClosedBatch:
        """The documents' states as the last run left them; the catalog calls the batch running again."""
        async with beating_plainly():
            content = await self._blobs.get(summary_key(request.tenant_id, request.batch_id))
            await self._catalog.set_batch_state(request.batch_id, BatchState.RETRYING)
        return ClosedBatch.model_validate_json(content)

    @activity.defn(name="reset_documents")
    @translate_errors
    async def reset_documents(self, request: ResetDocumentsInput) -> None:
        """Back to pending, for a retry; the catalog calls the batch running, also where it had its last word already."""
        # Scheduled once, whatever attempt this is: what has ended since then must stay, should this one come late.
        before = activity.info().scheduled_time
        async with beating_plainly():
            await self._catalog.reset_documents(request.batch_id, list(decode_bitmap(request.ordinals)), before)
            await self._catalog.set_batch_state(request.batch_id, BatchState.RETRYING)

    async def _reconcile(self, batch_id: str, closed: ClosedBatch) -> None:
        """Where the catalog's row and the ledger differ, the ledger is right.

        They differ for documents that were cancelled, for those whose attempts all ended without
        an answer (no worker, storage away for half an hour), and where an attempt given up for
        dead wrote after the one that counted.
        """
        verdicts = _Verdicts(closed)
        now = datetime.now(UTC)
        cancelled: list[int] = []
        corrected: list[DocumentRecord] = []
        async for record in self._catalog.iterate_documents(batch_id):
            status, code = verdicts.of(record.ordinal)
            if record.status is status:
                continue
            if status is DocumentStatus.CANCELLED:
                cancelled.append(record.ordinal)
            elif status is DocumentStatus.FAILED:
                corrected.append(_failed(record, code, now))
            else:
                corrected.append(_corrected(record, status, None, record.ended_at or now))
        await asyncio.gather(*map(self._catalog.save_outcome, corrected))
        if cancelled:
            await self._catalog.mark_cancelled(batch_id, cancelled, now)

    async def _report_lines(self, batch_id: str) -> AsyncIterator[bytes]:
        async for record in self._catalog.iterate_documents(batch_id):
            yield record.model_dump_json().encode() + b"\n"

    async def _remove_uploads(self, tenant_id: str, batch_id: str) -> None:
        """Whatever came in and is no document's own bytes now: none will be fetched again."""
        prefix = upload_prefix(tenant_id, batch_id)
        kept = {
            record.raw_key
            async for record in self._catalog.iterate_documents(batch_id)
            if record.raw_key and record.raw_key.startswith(prefix)
        }
        async for blob in self._blobs.list(prefix):
            if blob.key not in kept:
                await self._blobs.delete(blob.key)


class _Verdicts:
    """How each document ended. Rows the ledger does not know are of a manifest that was never finished."""

    def __init__(self, closed: ClosedBatch) -> None:
        self._ledger = Ledger.load(closed.ledger, closed.failures)
        self._codes = {ordinal: code for code, bitmap in closed.failures.items() for ordinal in decode_bitmap(bitmap)}
        problem = closed.summary.problem
        self._rest = (DocumentStatus.FAILED, problem.code) if problem else (DocumentStatus.CANCELLED, None)

    def of(self, ordinal: int) -> tuple[DocumentStatus, str | None]:
        if ordinal >= len(self._ledger):
            return self._rest
        return self._ledger[ordinal], self._codes.get(ordinal)


def _failed(record: DocumentRecord, code: str | None, now: datetime) -> DocumentRecord:
    kind = error_classes().get(code or "", IngatherError)
    failure = DocumentFailure(code=code or kind.code, message=f"{kind.title} in every attempt.", action=kind.advice)
    return _corrected(record, DocumentStatus.FAILED, failure, now)


def _corrected(
    record: DocumentRecord, status: DocumentStatus, error: DocumentFailure | None, ended_at: datetime
) -> DocumentRecord:
    """A row by the ledger's word; nobody's attempt, so the catalog takes it, and none from before it afterwards."""
    return record.model_copy(update={"status": status, "error": error, "started_at": None, "ended_at": ended_at})
