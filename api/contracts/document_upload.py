"""Contract B, document upload: files and what describes them in one form, and how far they are.

It has no word for documents that were cancelled through another door: they count as failed, and say so. A document
that was skipped, because its content is there already, counts as processed.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import access
from api.body import UNLIMITED_BODY, RequestBody
from api.contracts.document_outcomes import FailedDocument, failed_documents
from api.contracts.errors import answering_with
from api.contracts.upload_form import FILES, MAPPING, WARNINGS, FormLimits, UploadForm
from api.dependencies import (
    ApiParts,
    BatchIdPath,
    BatchTenant,
    CurrentCaller,
    IdempotencyKey,
    LinksOf,
    Parts,
    TenantHeader,
    require_not_draining,
)
from api.multipart import boundary_of
from api.rates import Rate
from api.resources import BatchSnapshot, Outlook
from api.service.capacity import Room
from api.service.waiting import NO_WORKER
from ingather.domain.pace import completion_at
from ingather.models.accounts import TenantLimits
from ingather.models.batch import DEFAULT_COLLECTION, BatchState, CollectionName, Counts
from ingather.models.errors import (
    BatchTooLargeError,
    DocumentTooLargeError,
    EmptyBatchError,
    IngatherError,
    RequestError,
    UnsupportedMediaTypeError,
)

CONTRACT = "document_upload"
_RETRY_AFTER_SECONDS = 2
_FLOOR_PER_SECOND = 10 / 60
"""What the contract promises: an estimate where nothing was measured yet."""
_MOVING = frozenset({BatchState.QUEUED, BatchState.RUNNING, BatchState.RETRYING, BatchState.FINALIZING})

_CODES: dict[type[IngatherError], tuple[str, int]] = {
    BatchTooLargeError: ("BATCH_TOO_LARGE", 400),
    EmptyBatchError: ("EMPTY_BATCH", 400),
    DocumentTooLargeError: ("FILE_TOO_LARGE", 413),
}
"""The contract's own words; every other error has its code in capitals and the status it has everywhere."""


class ErrorDetail(BaseModel):
    code: str
    message: str


class ErrorBody(BaseModel):
    error: ErrorDetail


class UploadAccepted(BaseModel):
    """An upload that is stored and on its way."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    total_documents: int
    status: Literal["in_progress"] = "in_progress"
    message: str


class UploadStatus(BaseModel):
    """How far an upload is."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    total_documents: int
    processed_count: int
    """Documents taken in, those among them that were there already."""
    failed_count: int
    status: Literal["in_progress", "completed", "partial_failure", "failed"]
    failed_documents: list[FailedDocument]
    warnings: list[str] = Field(default_factory=list)
    """What was odd about the metadata mapping, such as a row without a file."""
    estimated_completion_time: datetime | None = None
    """While it runs; null while nothing moves."""
    completed_at: datetime | None = None
    """Once it ended, as the next."""
    processing_time_seconds: float | None = None


def _answer(error: IngatherError, status: int, headers: Mapping[str, str]) -> Response:
    code, status = _CODES.get(type(error), (error.code, status))
    return envelope(code, error.message, status, headers)


def envelope(code: str, message: str, status: int, headers: Mapping[str, str]) -> Response:
    """An error in the contract's shape, also of no route."""
    body = {"error": {"code": code.upper(), "message": message}}
    return Response(orjson.dumps(body), status_code=status, headers=dict(headers), media_type="application/json")


router = APIRouter(
    prefix="/api/v1/documents/ingest/batch",
    tags=["document upload"],
    route_class=answering_with(_answer),
    responses={"4XX": {"model": ErrorBody}, 503: {"model": ErrorBody, "description": "Come again after `Retry-After`"}},
)

_FORM = {
    "type": "object",
    "required": [FILES],
    "properties": {
        FILES: {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "The documents. Repeat the field; at most `max_files_per_batch` of them.",
        },
        MAPPING: {
            "type": "string",
            "format": "binary",
            "description": "CSV with a `filename` column, or a JSON object from file name to an object of fields.",
        },
    },
}


@router.post(
    "",
    status_code=202,
    response_model=UploadAccepted,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}},
    max_body_size=UNLIMITED_BODY,
)
@access(rate=Rate.UPLOADS, makes_job=True)
async def upload_documents(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    links: LinksOf,
    idempotency_key: IdempotencyKey = None,
    collection: Annotated[CollectionName, Query(description="Where search finds the documents.")] = DEFAULT_COLLECTION,
) -> Response:
    """Upload documents as a batch. Answers 202 once all of them are stored and the batch has begun."""
    require_not_draining(parts)
    boundary = _boundary(request)
    limits = await _limits(parts, caller.tenant_id)
    rules = await parts.submissions.rules(caller.tenant_id, collection)
    async with _body(request, parts, caller.tenant_id, limits) as chunks:
        form = UploadForm(
            chunks,
            boundary,
            limits=FormLimits(limits["max_files_per_batch"], limits["max_file_bytes"]),
            rules=rules,
            collection=collection,
        )
        accepted = await parts.submissions.submit(
            caller.tenant_id,
            idempotency_key,
            form.read,
            contract=CONTRACT,
            created_by=caller.user,
            by=caller.actor,
        )
    if not accepted.was_replayed:
        parts.metrics.submitted(accepted.file_count, accepted.upload_bytes)
    batch_id, count = accepted.snapshot.record.batch_id, accepted.file_count
    body = UploadAccepted(
        batch_id=batch_id,
        total_documents=count,
        message=f"Batch accepted: {count} document{'s' if count != 1 else ''} will be processed.",
    )
    headers = {
        "Location": f"{links.base_url}{router.prefix}/{batch_id}/status",
        "Retry-After": str(_RETRY_AFTER_SECONDS),
        **({"Idempotency-Replayed": "true"} if accepted.was_replayed else {}),
    }
    return Response(body.model_dump_json(), status_code=202, headers=headers, media_type="application/json")


@router.get("/{batch_id}/status", response_model=UploadStatus)
async def read_upload_status(*, parts: Parts, tenant: BatchTenant, batch_id: BatchIdPath) -> Response:
    """How far a batch is, which of its documents failed and why, and when it should be done."""
    snapshot = await parts.batches.snapshot(tenant, batch_id)
    counts = snapshot.progress.counts
    has_failed = counts.failed or counts.cancelled
    status = UploadStatus(
        batch_id=batch_id,
        total_documents=counts.total,
        processed_count=counts.done + counts.skipped,
        failed_count=counts.failed + counts.cancelled,
        status=_status(snapshot),
        failed_documents=await failed_documents(parts.catalog, batch_id) if has_failed else [],
        warnings=_warnings(snapshot),
        **_moments(snapshot),
    )
    not_yet = {"completed_at", "processing_time_seconds"}
    left_out = {"estimated_completion_time"} if snapshot.is_final else not_yet
    return Response(status.model_dump_json(exclude=left_out), media_type="application/json")


# --- The request ------------------------------------------------------------------------------


def _boundary(request: Request) -> str:
    content_type = request.headers.get("content-type", "")
    kind = content_type.split(";", 1)[0].strip().lower()
    if request.headers.get("content-length") == "0" or kind in ("", "application/x-www-form-urlencoded"):
        raise EmptyBatchError("No file was uploaded. Send at least one in the field 'files'.")
    if kind != "multipart/form-data":
        raise UnsupportedMediaTypeError("Documents are uploaded as multipart/form-data.")
    boundary = boundary_of(content_type)
    if boundary is None:
        raise RequestError("The multipart Content-Type names no boundary.")
    return boundary


async def _limits(parts: ApiParts, tenant_id: str) -> dict[str, Any]:
    """The deployment's limits, and the tenant's own in their place."""
    tenant = await parts.gate.tenants.find(tenant_id)
    return (tenant.limits if tenant else TenantLimits()).over(parts.published_limits)


@asynccontextmanager
async def _body(
    request: Request, parts: ApiParts, tenant_id: str, limits: Mapping[str, Any]
) -> AsyncIterator[AsyncGenerator[bytes, None]]:
    """The body as it arrives, while there is room for it. After a refusal the rest of it is read and let go."""
    body = RequestBody(request, limits["max_request_bytes"], "max_request_bytes")
    most = limits["max_concurrent_bytes"]
    async with body.taken_in(), parts.capacity.room(tenant_id, body.announced_bytes, most) as room:
        with parts.metrics.uploads_open.track_inprogress():
            yield _within(room, body)


async def _within(room: Room, body: RequestBody) -> AsyncGenerator[bytes, None]:
    async for chunk in body.chunks():
        await room.grow_to(body.received_bytes)
        yield chunk


# --- The status -------------------------------------------------------------------------------


def _status(snapshot: BatchSnapshot) -> Literal["in_progress", "completed", "partial_failure", "failed"]:
    if not snapshot.is_final:
        return "in_progress"
    return _final_status(snapshot.progress.state, snapshot.progress.counts)


def _final_status(state: BatchState, counts: Counts) -> Literal["completed", "partial_failure", "failed"]:
    taken_in = counts.done + counts.skipped
    if not taken_in and (state is not BatchState.COMPLETED or counts.total):
        return "failed"
    return "completed" if taken_in == counts.total else "partial_failure"


def _warnings(snapshot: BatchSnapshot) -> list[str]:
    """Those of the mapping; a batch that came through another door may have anything under that name."""
    record = snapshot.record
    found = record.spec.metadata.get(WARNINGS) if record.spec.contract == CONTRACT else None
    return [str(warning) for warning in found] if isinstance(found, list) else []


def _moments(snapshot: BatchSnapshot) -> dict[str, Any]:
    progress, record = snapshot.progress, snapshot.record
    if not snapshot.is_final:
        return {"estimated_completion_time": _estimate(snapshot)}
    ended_at = progress.ended_at or record.created_at
    seconds = (ended_at - (progress.started_at or record.created_at)).total_seconds()
    return {"completed_at": ended_at, "processing_time_seconds": max(round(seconds, 3), 0.001)}


def _estimate(snapshot: BatchSnapshot) -> datetime | None:
    outlook, progress = snapshot.outlook or Outlook(), snapshot.progress
    if outlook.estimated_completion_at is not None:
        return outlook.estimated_completion_at
    # Whoever stands in line moves with the line; everything else that is waited for is a standstill.
    in_line = progress.state is BatchState.QUEUED and outlook.waiting_for != NO_WORKER
    if progress.state not in _MOVING or (outlook.waiting_for is not None and not in_line):
        return None
    return completion_at(datetime.now(UTC), progress.counts.total - progress.counts.ended, _FLOOR_PER_SECOND)
