"""Contract C, scanned sheets: how a batch goes on and what it came to. Uploads are ``sheet_uploads``'s.

Sheets that cannot be read do not fail a batch; one of which none could be read has failed.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict

from api.access import Caller, TicketParameter, access
from api.contracts.errors import answering_with
from api.contracts.sheet_errors import ErrorBody, answer, envelope
from api.dependencies import ApiParts, CurrentCaller, Parts, TenantHeader
from api.resources import BatchSnapshot
from api.service.sheets import CONTRACT, MAX_SHEETS
from api.streams.event_streams import EventStreams
from api.streams.frames import MEDIA_TYPE, comment, retry_frame
from api.streams.sheet_feed import FeedEvent, SheetFeed
from ingather.domain.identifiers import as_uuid
from ingather.domain.keys import sheet_csv_key, sheet_rows_key, skipped_files_key
from ingather.domain.sheet_end import SheetBatchStatus, status_of
from ingather.domain.sheet_events import share_of, whole_percentage
from ingather.models.batch import BatchRecord
from ingather.models.errors import BatchNotFoundError, DocumentNotFoundError, EventLogUnavailableError, IngatherError
from ingather.models.sheets import SheetRow, SheetStage
from ingather.models.upload import Upload

__all__ = ["envelope", "router"]

_NOT_FOUND = "Batch not found"
_CSV_TYPE = "text/csv; charset=utf-8"
_LINES_TYPE = "application/x-ndjson"
_BEFORE_AND_AFTER = frozenset({SheetStage.UPLOADING, SheetStage.COMPLETED, SheetStage.FAILED})
"""Stages in which nothing is done to the sheets."""


class SheetBatchState(BaseModel):
    """How a batch stands."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    status: SheetBatchStatus
    upload_type: str
    sheets_total: int
    """Covers are not sheets. Before the upload was looked into, the files that were uploaded."""
    sheets_processed: int
    sheets_failed: int
    created_at: datetime
    completed_at: datetime | None = None
    error_details: str | None = None


class SheetProgressState(BaseModel):
    """The latest event, as it was told, with how the batch stands as a whole."""

    model_config = ConfigDict(extra="allow")

    batch_id: str
    status: SheetBatchStatus
    progress_percentage: float
    """Of the whole batch."""
    stage: str
    stage_percentage: float
    """Within the stage."""
    message: str
    sheets_total: int
    sheets_processed: int
    elapsed_seconds: int
    timestamp: datetime


class SheetRowPage(BaseModel):
    data: list[SheetRow]
    has_more: bool


def _answer(error: IngatherError, status: int, headers: Mapping[str, str]) -> Response:
    known = BatchNotFoundError(_NOT_FOUND) if isinstance(error, BatchNotFoundError) else error
    return answer(known, status, headers)


router = APIRouter(
    prefix="/api/batches",
    tags=["scanned sheets"],
    route_class=answering_with(_answer),
    responses={"4XX": {"model": ErrorBody}, 503: {"model": ErrorBody, "description": "Come again after `Retry-After`"}},
)

BatchPath = Annotated[str, Path(description="The batch's id.")]


@router.get("/{batch_id}/status", response_model=SheetBatchState)
async def read_status(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, batch_id: BatchPath
) -> SheetBatchState:
    """How a batch stands, from the first chunk of its upload on."""
    found = await _found(parts, caller, batch_id)
    if isinstance(found, Upload):
        return _arriving(found)
    state = _state(await parts.batches.snapshot(found.tenant_id, found.batch_id))
    if state.status != "pending":
        return state
    return _moved_on(state, await _told(parts, found.batch_id))


@router.get("/{batch_id}/progress", response_model=SheetProgressState)
async def read_progress(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, batch_id: BatchPath
) -> Response:
    """The latest event, for clients that cannot hold a stream open."""
    found = await _found(parts, caller, batch_id)
    if isinstance(found, Upload):
        state = _arriving(found)
        said = await _told(parts, state.batch_id) or _made_up_of(found)
    else:
        snapshot = await parts.batches.snapshot(found.tenant_id, found.batch_id)
        told = await _told(parts, found.batch_id)
        state = _moved_on(_state(snapshot), told)
        said = told or _made_up(snapshot)
    stage = SheetStage(said["stage"])
    whole = whole_percentage(stage, said["progress_percentage"])
    body = said | {
        "status": state.status,
        "progress_percentage": 100.0 if state.status == "completed" else whole,
        "stage_percentage": said["progress_percentage"],
    }
    return Response(orjson.dumps(body), media_type="application/json", headers={"Cache-Control": "no-cache"})


@router.get(
    "/{batch_id}/stream",
    response_class=Response,
    responses={
        200: {"description": "The batch's events, those retained and those to come.", "content": {MEDIA_TYPE: {}}}
    },
)
@access(ticket_for="batch_id")
async def follow(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    batch_id: BatchPath,
    _sig: TicketParameter = None,
) -> Response:
    """Every event as `progress`, then one `complete` or one `error`; then the stream closes.

    It opens as soon as the first chunk's answer has given the id.
    """
    found = await _found(parts, caller, batch_id)
    tenant_id, known = found.tenant_id, found.batch_id or ""

    async def find() -> BatchRecord | Upload | None:
        record = await parts.catalog.get_batch(known, tenant_id)
        return record or await parts.chunked_uploads.of_batch(known, tenant_id)

    client = await parts.gate.count_stream(caller, request)
    feed: SheetFeed = request.app.state.sheet_feed
    streams: EventStreams = request.app.state.streams
    frames = _frames(feed.follow(known, find))
    return streams.counted(tenant_id, frames, client, {"Cache-Control": "no-cache"})


@router.get(
    "/{batch_id}/results.csv",
    response_class=Response,
    responses={200: {"description": "A row a sheet.", "content": {"text/csv": {}}}},
)
async def download_table(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, batch_id: BatchPath
) -> Response:
    """The results as a table, once the batch has ended."""
    record = await _record(parts, caller, batch_id)
    key = sheet_csv_key(record.tenant_id, record.batch_id, record.version)
    return await _download(parts, record, key, "results.csv", _CSV_TYPE)


@router.get(
    "/{batch_id}/results.ndjson",
    response_class=Response,
    responses={200: {"description": "An object a sheet.", "content": {_LINES_TYPE: {}}}},
)
async def download_lines(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, batch_id: BatchPath
) -> Response:
    """The same, one JSON object a line."""
    record = await _record(parts, caller, batch_id)
    key = sheet_rows_key(record.tenant_id, record.batch_id, record.version)
    return await _download(parts, record, key, "results.ndjson", _LINES_TYPE)


@router.get(
    "/{batch_id}/skipped.ndjson",
    response_class=Response,
    responses={200: {"description": "An object for each file that is no sheet.", "content": {_LINES_TYPE: {}}}},
)
async def download_skipped(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, batch_id: BatchPath
) -> Response:
    """Files of the upload that were passed over, and why."""
    record = await _record(parts, caller, batch_id)
    return await _download(
        parts, record, skipped_files_key(record.tenant_id, record.batch_id), "skipped.ndjson", _LINES_TYPE
    )


@router.get("/{batch_id}/sheets", response_model=SheetRowPage)
async def list_sheets(
    *,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    batch_id: BatchPath,
    group: Annotated[str | None, Query(description="Sheets of this group alone.", max_length=500)] = None,
    after: Annotated[int, Query(ge=-1, le=MAX_SHEETS, description="Sheets behind this ordinal.")] = -1,
    limit: Annotated[int, Query(ge=1, le=1_000, description="Rows on a page.")] = 100,
) -> SheetRowPage:
    """Rows of the catalog, in the order of the sheets."""
    record = await _record(parts, caller, batch_id)
    rows = await parts.catalog.sheets.list_rows(record.batch_id, limit + 1, after_ordinal=after, group_code=group)
    return SheetRowPage(data=rows[:limit], has_more=len(rows) > limit)


# --- The request ------------------------------------------------------------------------------


async def _record(parts: ApiParts, caller: Caller, batch_id: str) -> BatchRecord:
    """Raises ``BatchNotFoundError``, also for what cannot be an id, and for a batch of another door."""
    known = as_uuid(batch_id)
    if known is None:
        raise BatchNotFoundError("No batch of this tenant has this id.")
    tenant_id = await parts.gate.tenant_of_batch(caller, known)
    structlog.contextvars.bind_contextvars(tenant_id=tenant_id, batch_id=known)
    record = await parts.batches.record(tenant_id, known)
    if record.spec.contract != CONTRACT:
        raise BatchNotFoundError("No batch of sheets has this id.")
    return record


async def _found(parts: ApiParts, caller: Caller, batch_id: str) -> BatchRecord | Upload:
    """The batch, or the upload in chunks that is going to be it. Raises as ``_record`` does."""
    try:
        return await _record(parts, caller, batch_id)
    except BatchNotFoundError:
        known = as_uuid(batch_id)
        tenant_id = caller.tenant_id if caller.is_narrowed else None
        upload = await parts.chunked_uploads.of_batch(known, tenant_id) if known is not None else None
        if upload is None:
            raise
    structlog.contextvars.bind_contextvars(tenant_id=upload.tenant_id)
    return upload


# --- The answers ------------------------------------------------------------------------------


def _state(snapshot: BatchSnapshot) -> SheetBatchState:
    record, progress = snapshot.record, snapshot.progress
    counts = progress.counts
    return SheetBatchState(
        batch_id=record.batch_id,
        status=status_of(progress.state),
        upload_type=str(record.spec.metadata.get("upload_type", "")),
        sheets_total=counts.total,
        sheets_processed=counts.processed,
        sheets_failed=counts.failed,
        created_at=record.created_at,
        completed_at=progress.ended_at,
        error_details=progress.problem.message if progress.problem else None,
    )


def _arriving(upload: Upload) -> SheetBatchState:
    """How a batch stands whose upload goes on."""
    return SheetBatchState(
        batch_id=upload.batch_id or "",
        status="pending",
        upload_type=str(upload.details["upload_type"]),
        sheets_total=1,
        sheets_processed=0,
        sheets_failed=0,
        created_at=upload.created_at,
    )


def _moved_on(state: SheetBatchState, told: Mapping[str, Any] | None) -> SheetBatchState:
    """The engine calls a batch waiting until it has its sheets; its client sees it being extracted and organized."""
    if state.status == "pending" and told is not None and SheetStage(told["stage"]) not in _BEFORE_AND_AFTER:
        return state.model_copy(update={"status": "processing"})
    return state


async def _told(parts: ApiParts, batch_id: str) -> dict[str, Any] | None:
    """The latest event; None where none is retained, or nobody can say."""
    try:
        told = await parts.sheet_progress.latest(batch_id)
    except EventLogUnavailableError:
        return None
    said: dict[str, Any] | None = orjson.loads(told.body) if told is not None else None
    return said


def _made_up(snapshot: BatchSnapshot) -> dict[str, Any]:
    """An event made of what the engine knows, where none is retained."""
    record, counts = snapshot.record, snapshot.progress.counts
    status = status_of(snapshot.progress.state)
    stage = {"completed": SheetStage.COMPLETED, "failed": SheetStage.FAILED, "cancelled": SheetStage.FAILED}.get(
        status, SheetStage.PROCESSING_SHEETS if snapshot.progress.started_at else SheetStage.EXTRACTING
    )
    now = snapshot.progress.ended_at or datetime.now(UTC)
    is_processing = stage is SheetStage.PROCESSING_SHEETS
    return {
        "batch_id": record.batch_id,
        "stage": stage.value,
        "message": f"Progress: {counts.processed}/{counts.total} tasks completed"
        if is_processing
        else f"Batch is {status}",
        "progress_percentage": 100.0
        if stage.is_last
        else share_of(counts.processed, counts.total)
        if is_processing
        else 0.0,
        "sheets_total": counts.total,
        "sheets_processed": counts.processed,
        "elapsed_seconds": max(0, int((now - record.created_at).total_seconds())),
        "timestamp": now.isoformat(),
    }


def _made_up_of(upload: Upload) -> dict[str, Any]:
    """The same of an upload that goes on."""
    received, total = upload.received_count, upload.total_chunks or 0
    return {
        "batch_id": upload.batch_id,
        "stage": SheetStage.UPLOADING.value,
        "message": f"{received}/{total} chunks uploaded",
        "progress_percentage": share_of(received, total),
        "sheets_total": 0,
        "sheets_processed": 0,
        "elapsed_seconds": max(0, int((upload.changed_at - upload.created_at).total_seconds())),
        "timestamp": upload.changed_at.isoformat(),
    }


async def _download(parts: ApiParts, record: BatchRecord, key: str, filename: str, media_type: str) -> Response:
    stream = await parts.sheets.stored(key)
    if stream is None:
        raise DocumentNotFoundError(
            "The batch has no results yet.", action="Ask again when its status is completed, failed or cancelled."
        )
    pieces, size_bytes = stream
    headers = {
        "Content-Disposition": f'attachment; filename="{record.batch_id}-{filename}"',
        "Content-Length": str(size_bytes),
        "X-Content-Type-Options": "nosniff",
    }
    return StreamingResponse(pieces, headers=headers, media_type=media_type)


async def _frames(events: AsyncGenerator[FeedEvent | None]) -> AsyncGenerator[bytes]:
    yield retry_frame()
    async with aclosing(events):
        async for event in events:
            yield comment("still here") if event is None else _frame(event)


def _frame(event: FeedEvent) -> bytes:
    name = {SheetStage.COMPLETED.value: b"complete", SheetStage.FAILED.value: b"error"}.get(event.stage, b"progress")
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, name, event.body)
