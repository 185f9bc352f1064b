"""Contract A, tenant jobs: documents inline, and a job that is followed as it goes.

Documents that were skipped, because their content is there already, count as processed. Those that were cancelled
with their job count as neither; those of a job that was cut short, as failed.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
import structlog
from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import Caller, TicketParameter, access
from api.body import UNLIMITED_BODY, RequestBody
from api.contracts.errors import answering_with, places_of
from api.contracts.job_body import CONTRACT, JobDocument, JobFeed, NewJob, priority_of
from api.contracts.job_events import JobStatus, final_status
from api.contracts.job_stream import JobWording
from api.dependencies import (
    ApiParts,
    CurrentCaller,
    IdempotencyKey,
    Parts,
    TenantHeader,
    require_json,
    require_not_draining,
)
from api.feeds import json_of
from api.rates import Rate
from api.resources import BatchSnapshot
from api.streams.event_streams import EventStreams
from api.streams.frames import MEDIA_TYPE
from ingather.domain.identifiers import as_uuid
from ingather.models.audit import Actor
from ingather.models.batch import BatchRecord, BatchState
from ingather.models.errors import (
    BatchNotFoundError,
    EventLogUnavailableError,
    IngatherError,
    InvalidStateError,
    TenantNotFoundError,
)
from ingather.ports.event_log import EventLog, StreamKey

CANCEL_SECONDS = 3.0
"""How long a cancel waits to see the job stop."""
_WAITING = frozenset({BatchState.PENDING, BatchState.QUEUED})
_TEXTS: dict[type[IngatherError], str] = {
    TenantNotFoundError: "Tenant not found",
    BatchNotFoundError: "Job not found",
}
"""The contract's own words; every other error speaks for itself."""


class BatchJob(BaseModel):
    """A job, as far as it is."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    tenant_id: str
    status: JobStatus
    """``failed`` when at least one document failed, once the job is over."""
    total_documents: int
    processed_count: int
    """Documents taken in, those among them that were there already."""
    failed_count: int
    created_at: datetime
    updated_at: datetime
    collection: str
    priority: int


class ErrorBody(BaseModel):
    detail: str | list[dict[str, Any]] = Field(description="What is wrong; for a 422 a list of `{loc, msg, type}`.")


class Cancelled(BaseModel):
    status: Literal["cancelled"] = "cancelled"


def _answer(error: IngatherError, status: int, headers: Mapping[str, str]) -> Response:
    detail: Any = _TEXTS.get(type(error), error.message)
    if status == 422:
        detail = places_of(error)
    return _refused(detail, status, headers)


def envelope(_code: str, message: str, status: int, headers: Mapping[str, str]) -> Response:
    """An error of no route, in the contract's shape."""
    return _refused(message, status, headers)


def _refused(detail: Any, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps({"detail": detail}), status_code=status, headers=dict(headers or {}), media_type="application/json"
    )


router = APIRouter(
    prefix="/api/v1/batch/jobs",
    tags=["tenant jobs"],
    route_class=answering_with(_answer),
    responses={"4XX": {"model": ErrorBody}, 503: {"model": ErrorBody, "description": "Come again after `Retry-After`"}},
)


def _body_schema() -> dict[str, Any]:
    schema = NewJob.model_json_schema()
    schema["properties"]["documents"]["items"] = schema.pop("$defs")[JobDocument.__name__]
    return {"required": True, "content": {"application/json": {"schema": schema}}}


JobId = Annotated[str, Path(description="The job's id.")]


@router.post("", response_model=BatchJob, openapi_extra={"requestBody": _body_schema()}, max_body_size=UNLIMITED_BODY)
@access(rate=Rate.UPLOADS, makes_job=True)
async def create_job(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take documents in as a job. Answers once all of them are stored and the job has begun."""
    require_not_draining(parts)
    await require_json(request)
    async with _job_of(request, parts, caller.tenant_id) as job:
        tenant = await parts.gate.tenant_named(caller, str(job.tenant_id) if job.tenant_id else None)
        accepted = await parts.submissions.submit(
            tenant.tenant_id,
            idempotency_key,
            JobFeed(job).read,
            contract=CONTRACT,
            created_by=caller.user,
            by=caller.actor,
        )
    if not accepted.was_replayed:
        parts.metrics.submitted(accepted.file_count, accepted.upload_bytes)
    parts.attend(tenant.tenant_id, accepted.snapshot.record.batch_id)
    headers = {"Idempotency-Replayed": "true"} if accepted.was_replayed else {}
    return await _job_response(accepted.snapshot, parts.events, headers)


@router.get("/{job_id}", response_model=BatchJob)
async def read_job(*, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, job_id: JobId) -> Response:
    """How far a job is."""
    record = await _record(parts, caller, job_id)
    return await _job_response(await parts.batches.snapshot(record.tenant_id, record.batch_id), parts.events)


@router.get(
    "/{job_id}/stream",
    response_class=Response,
    responses={
        200: {"description": "The job's events, those retained and those to come.", "content": {MEDIA_TYPE: {}}},
        204: {"description": "The job is over, and the client has seen the end of its stream."},
    },
)
@access(ticket_for="job_id")
async def follow_job(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    job_id: JobId,
    last_event_id: Annotated[str | None, Header(description="The last `id` seen: what comes after it is sent.")] = None,
    _sig: TicketParameter = None,
) -> Response:
    """Every event of a job as `progress`, then `complete` with its final status; then the stream closes."""
    record = await _record(parts, caller, job_id)

    async def status() -> JobStatus:
        return job_status(await parts.batches.snapshot(record.tenant_id, record.batch_id))

    client = await parts.gate.count_stream(caller, request)
    streams: EventStreams = request.app.state.streams
    wording = JobWording(record.batch_id, last_event_id, status)
    return await streams.open(record, wording, client) or Response(status_code=204)


@router.delete("/{job_id}", response_model=Cancelled)
async def cancel_job(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, job_id: JobId
) -> Response:
    """Stop a job and keep what is done. Answers when it has stopped, or is certain to."""
    try:
        await _cancel(parts, await _record(parts, caller, job_id), caller.actor)
    except (BatchNotFoundError, InvalidStateError):
        return _refused("Job not found or not cancellable", 404)
    return Response(Cancelled().model_dump_json(), media_type="application/json")


# --- The request ------------------------------------------------------------------------------


@asynccontextmanager
async def _job_of(request: Request, parts: ApiParts, tenant_id: str) -> AsyncIterator[NewJob]:
    """The job of the body, held in memory as long as the block lasts. After a refusal the rest is read and let go."""
    body = RequestBody(request, parts.limits.max_json_bytes, "max_json_bytes")
    with parts.metrics.uploads_open.track_inprogress():
        async with body.taken_in(), json_of(body, parts.json_room, tenant_id, NewJob) as job:
            yield job


async def _record(parts: ApiParts, caller: Caller, job_id: str) -> BatchRecord:
    """Raises ``BatchNotFoundError``, also for what cannot be an id."""
    batch_id = as_uuid(job_id)
    if batch_id is None:
        raise BatchNotFoundError("No batch of this tenant has this id.")
    tenant_id = await parts.gate.tenant_of_batch(caller, batch_id)
    structlog.contextvars.bind_contextvars(tenant_id=tenant_id, batch_id=batch_id)
    return await parts.batches.record(tenant_id, batch_id)


async def _cancel(parts: ApiParts, record: BatchRecord, by: Actor) -> None:
    """Raises ``InvalidStateError`` for a job that ended before it could be cancelled."""
    tenant_id, batch_id = record.tenant_id, record.batch_id
    before = await parts.batches.snapshot(tenant_id, batch_id)
    if not before.is_final:
        await parts.control.cancel(tenant_id, batch_id, None, by=by)
        before = await parts.batches.wait_for(tenant_id, batch_id, CANCEL_SECONDS, lambda now: now.is_final)
        if not before.is_final or before.progress.state is BatchState.CANCELLED:
            return
    raise InvalidStateError("The job has ended.", current_status=before.progress.state.value)


# --- The answers ------------------------------------------------------------------------------


async def _job_response(
    snapshot: BatchSnapshot, events: EventLog, headers: Mapping[str, str] | None = None
) -> Response:
    record, progress = snapshot.record, snapshot.progress
    counts, state = progress.counts, progress.state
    is_cut_short = state.is_final and state is not BatchState.CANCELLED
    job = BatchJob(
        job_id=record.batch_id,
        tenant_id=record.tenant_id,
        status=job_status(snapshot),
        total_documents=counts.total,
        processed_count=counts.done + counts.skipped,
        failed_count=counts.failed + (counts.cancelled if is_cut_short else 0),
        created_at=record.created_at,
        updated_at=await _updated_at(snapshot, events),
        collection=record.spec.collection,
        priority=priority_of(record),
    )
    return Response(job.model_dump_json(), headers=dict(headers or {}), media_type="application/json")


def job_status(snapshot: BatchSnapshot) -> JobStatus:
    """The job's status in the contract's words. One that is about to be cancelled is."""
    state = snapshot.progress.state
    if state.is_final or state is BatchState.CANCELLING:
        return final_status(state, snapshot.progress.counts)
    return "pending" if state in _WAITING else "processing"


async def _updated_at(snapshot: BatchSnapshot, events: EventLog) -> datetime:
    """When something last happened to it, as its events tell."""
    record, progress = snapshot.record, snapshot.progress
    known = progress.ended_at or progress.started_at or record.created_at
    if snapshot.is_final:
        return known
    key = StreamKey(record.tenant_id, record.batch_id)
    try:
        latest = (await events.range(key)).latest
        last = await events.read(key, latest - 1, 1) if latest else []
    except EventLogUnavailableError:
        last = []
    return max(known, datetime.fromisoformat(orjson.loads(last[0].body)["time"])) if last else known
