"""Contract D, sources: jobs over files of connected sources, started, steered, listed and added up.

A job is one user's: in ``required`` mode the caller's own, in ``open`` mode whosever the request names. Another's is
not there.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import NAMESPACE_OID, uuid5

import orjson
import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import Caller, access, public
from api.body import UNLIMITED_BODY, RequestBody
from api.contracts.errors import answering_with
from api.contracts.source_job_body import CONTRACT, NewSourceJob, SourceJobFeed, UserId
from api.contracts.source_job_view import (
    MAX_FILES,
    STATUS_OF,
    JobStatus,
    SourceJob,
    Statistics,
    job_of,
    states_of,
    statistics_of,
)
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
from api.idempotency import check_key
from api.moments import ZonelessMoment
from api.rates import Rate
from api.resources import BatchSnapshot
from api.service.control import Controlled, RetrySelection
from api.service.documents import LiveDocument
from api.service.jobs import Whose
from ingather.domain.identifiers import as_uuid
from ingather.models.accounts import Scope
from ingather.models.batch import BatchRecord, BatchState
from ingather.models.errors import (
    BatchNotFoundError,
    EngineUnavailableError,
    IngatherError,
    InvalidStateError,
    TenantNotFoundError,
    UserNotFoundError,
)

SERVICE = "ingather"
MAX_PAGE = 200

JOB_NOT_FOUND = "Job not found"
_TEXTS: dict[type[IngatherError], str] = dict.fromkeys(
    (BatchNotFoundError, UserNotFoundError, TenantNotFoundError), JOB_NOT_FOUND
)
"""The contract's own words; every other error speaks for itself."""
_INVALID = frozenset({409, 415, 422})
"""What others call so is 400 here: this contract has one status for requests that cannot be carried out."""


class ErrorBody(BaseModel):
    detail: str


def _answer(error: IngatherError, status: int, headers: Mapping[str, str]) -> Response:
    if isinstance(error, InvalidStateError):
        return _refused(_with_state(error), 400, headers)
    places = [f"{each.pointer}: {each.detail}" for each in error.facts.get("errors", ())]
    detail = _TEXTS.get(type(error)) or "; ".join(places[:5]) or error.message
    return _refused(detail, 400 if status in _INVALID else status, headers)


def _with_state(error: InvalidStateError) -> str:
    """What is wrong, and the state in the contract's word for it."""
    state = error.facts.get("current_status")
    known = STATUS_OF.get(BatchState(state)) if state in set(BatchState) else state
    return f"{error.message} Current status: {known}." if known else error.message


def envelope(_code: str, message: str, status: int, headers: Mapping[str, str]) -> Response:
    """An error of no route, in the contract's shape."""
    return _refused(message, status, headers)


def _refused(detail: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps({"detail": detail}), status_code=status, headers=dict(headers or {}), media_type="application/json"
    )


_ROUTE = answering_with(_answer)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody},
    503: {"model": ErrorBody, "description": "Come again after `Retry-After`"},
}
router = APIRouter(prefix="/batch", tags=["source jobs"], route_class=_ROUTE, responses=_RESPONSES)
health_router = APIRouter(tags=["source jobs"], route_class=_ROUTE)


class Health(BaseModel):
    status: Literal["healthy"] = "healthy"
    service: str = SERVICE
    timestamp: datetime


@health_router.get("/health", response_model=Health)
@health_router.head("/health", include_in_schema=False)
@public
async def read_health() -> Health:
    """Whether this process answers. Whether its dependencies do is `GET /readyz`."""
    return Health(timestamp=datetime.now(UTC))


# --- Jobs ----------------------------------------------------------------------------------------

JobId = Annotated[str, Path(description="The job's id.")]
UserQuery = Annotated[UserId, Query(description="Whose job it is.")]


def _body_schema() -> dict[str, Any]:
    schema = NewSourceJob.model_json_schema(ref_template="#/components/schemas/{model}")
    own = schema.pop("$defs")

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolved(own[value["$ref"].rsplit("/", 1)[1]])
            return {name: resolved(each) for name, each in value.items()}
        return [resolved(each) for each in value] if isinstance(value, list) else value

    return {"required": True, "content": {"application/json": {"schema": resolved(schema)}}}


@router.post(
    "/jobs", response_model=SourceJob, openapi_extra={"requestBody": _body_schema()}, max_body_size=UNLIMITED_BODY
)
@access(rate=Rate.UPLOADS)
async def create_job(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Make a job of selected files. It waits for `start`; the sources are asked when it runs."""
    require_not_draining(parts)
    await require_json(request)
    async with _job_of(request, parts, caller.tenant_id) as job:
        caller = caller.acting_as(job.user_id)
        await parts.gate.count_job(caller, request.scope["state"].setdefault("rates", []))
        feed = SourceJobFeed(
            job,
            partial(parts.connections.check_selections, caller.tenant_id),
            max_parser_seconds=float(parts.published_limits["max_parser_seconds"]),
            embedding_models=parts.embedding_models,
            parsing_model=parts.submissions.parsing_model,
        )
        accepted = await parts.submissions.submit(
            caller.tenant_id,
            _key_of(caller, idempotency_key),
            feed.read,
            contract=CONTRACT,
            created_by=caller.user,
            by=caller.actor,
        )
    if not accepted.was_replayed:
        parts.metrics.submitted(accepted.file_count, accepted.upload_bytes)
        parts.open_jobs.note(caller.tenant_id, accepted.snapshot.record.batch_id, BatchState.PENDING)
    headers = {"Idempotency-Replayed": "true"} if accepted.was_replayed else {}
    return _json(await _job(parts, accepted.snapshot), headers)


@router.get("/jobs/{job_id}", response_model=SourceJob)
async def read_job(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, job_id: JobId, user_id: UserQuery
) -> Response:
    """How far a job is, with its files: the first thousand, and those in flight."""
    record = await find_job(parts, caller.acting_as(user_id), job_id)
    return _json(await _job(parts, await parts.batches.snapshot(record.tenant_id, record.batch_id), with_files=True))


# --- Control -------------------------------------------------------------------------------------

Action = Literal["start", "pause", "resume", "cancel", "retry"]


class ControlBody(BaseModel):
    model_config = ConfigDict(frozen=True)

    user_id: UserId
    action: Action
    retry_failed_only: bool = True
    """Without it a retry runs every file again; of a job that has ended."""


class ControlDone(BaseModel):
    success: Literal[True] = True
    message: str
    job_id: str
    status: JobStatus


_ENDED = frozenset({"completed", "failed", "cancelled"})
_FROM: dict[Action, frozenset[str]] = {
    "start": frozenset({"pending"}),
    "pause": frozenset({"queued", "running", "retrying"}),
    "resume": frozenset({"paused"}),
    "cancel": frozenset({"pending", "queued", "running", "paused", "retrying"}),
    "retry": frozenset({"queued", "running", "paused", "retrying"}) | _ENDED,
}
"""Statuses in which each action is allowed."""


@dataclass(frozen=True, slots=True)
class _Steering:
    """Carries an action out on one job."""

    parts: ApiParts
    record: BatchRecord
    caller: Caller
    key: str | None

    async def do(self, body: ControlBody) -> Controlled:
        """The job afterwards. Raises ``InvalidStateError``, with its state, where that does not allow the action.

        Nothing is refused for a state that may be over: ``EngineUnavailableError`` where the present one cannot be had.
        What took effect before under the same key is answered once more, whatever the job's state is by now.
        """
        tenant_id, batch_id = self.record.tenant_id, self.record.batch_id
        control, action = self.parts.control, body.action
        everything = action == "retry" and not body.retry_failed_only
        selection = RetrySelection(include_cancelled=True, everything=everything) if action == "retry" else None
        took = await control.took(batch_id, self.key, action, selection)
        before = await self.parts.batches.snapshot(tenant_id, batch_id)
        if took:
            return Controlled(before, was_replayed=True)
        status = STATUS_OF[before.progress.state]
        allowed = _ENDED if everything else _FROM[action]
        if status not in allowed or (action == "retry" and before.progress.state is BatchState.CANCELLING):
            if before.stale:
                raise EngineUnavailableError(
                    "The job's status is not known now, and with it whether it may be steered so."
                )
            what = "retry every file" if everything else action
            is_cancelling = before.progress.state is BatchState.CANCELLING
            why = f"is still being cancelled, and cannot {what} before it is" if is_cancelling else f"cannot {what} now"
            raise InvalidStateError(f"The job {why}.", current_status=before.progress.state.value)
        if selection is not None:
            return await control.retry(tenant_id, batch_id, self.key, selection, by=self.caller.actor)
        send: Callable[..., Awaitable[Controlled]] = getattr(control, action)
        return await send(tenant_id, batch_id, self.key, by=self.caller.actor)


@router.post("/jobs/{job_id}/control", response_model=ControlDone)
async def control_job(
    *,
    response: Response,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    job_id: JobId,
    body: ControlBody,
    idempotency_key: IdempotencyKey = None,
) -> ControlDone:
    """Start, pause, resume, cancel or retry a job. What its status does not allow is 400, and says the status."""
    acting = caller.acting_as(body.user_id)
    record = await find_job(parts, acting, job_id)
    controlled = await _Steering(parts, record, acting, idempotency_key).do(body)
    state = controlled.snapshot.progress.state
    if controlled.was_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    else:
        parts.open_jobs.note(record.tenant_id, record.batch_id, state)
    return ControlDone(message=f"Job {body.action} successful", job_id=record.batch_id, status=STATUS_OF[state])


# --- Lists and sums ------------------------------------------------------------------------------


class ListBody(BaseModel):
    model_config = ConfigDict(frozen=True)

    user_id: UserId
    status_filter: list[JobStatus] | None = Field(default=None, max_length=20)
    """Jobs in any of these statuses; all without it."""
    limit: int = Field(default=50, ge=1, le=MAX_PAGE)
    offset: int = Field(default=0, ge=0, le=10_000_000)
    as_of: ZonelessMoment | None = None
    """As the first page answered it: what was created since shifts nothing, however many pages are read at once."""


class JobList(BaseModel):
    jobs: list[SourceJob]
    """Newest first, without their files."""
    total_jobs: int
    has_more: bool
    as_of: datetime
    """Send it with the next page."""
    stale: bool = False
    """What runs could not be asked: jobs are shown, and were selected, as they were last known."""


@router.post("/jobs/list", response_model=JobList)
@access(scope=Scope.READ)
async def list_jobs(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, body: ListBody
) -> Response:
    """A user's jobs, newest first."""
    states = None if body.status_filter is None else states_of(body.status_filter)
    page = await parts.jobs.page(whose(caller.acting_as(body.user_id)), states, body.limit, body.offset, body.as_of)
    found = JobList(
        jobs=[job_of(snapshot) for snapshot in page.snapshots],
        total_jobs=page.total,
        has_more=page.has_more,
        as_of=page.as_of,
        stale=page.stale,
    )
    return _json(found)


@router.get("/statistics", response_model=Statistics)
async def read_statistics(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, user_id: UserQuery
) -> Statistics:
    """All of a user's jobs, added up."""
    return statistics_of(await parts.jobs.sums(whose(caller.acting_as(user_id))))


# --- What routes share ---------------------------------------------------------------------------


async def find_job(parts: ApiParts, caller: Caller, job_id: str) -> BatchRecord:
    """A job of the user the caller acts as. Raises ``BatchNotFoundError``, also for what cannot be an id."""
    batch_id = as_uuid(job_id)
    if batch_id is None:
        raise BatchNotFoundError("No batch of this tenant has this id.")
    tenant_id = await parts.gate.tenant_of_batch(caller, batch_id)
    structlog.contextvars.bind_contextvars(tenant_id=tenant_id, batch_id=batch_id)
    record = await parts.batches.record(tenant_id, batch_id)
    if (record.spec.contract, record.spec.created_by) != (CONTRACT, caller.user):
        raise BatchNotFoundError("No batch of this tenant has this id.")
    return record


def whose(caller: Caller) -> Whose:
    """The jobs of the user the caller acts as."""
    return Whose(caller.tenant_id, CONTRACT, caller.user)


@asynccontextmanager
async def _job_of(request: Request, parts: ApiParts, tenant_id: str) -> AsyncIterator[NewSourceJob]:
    """The job of the body, held in memory as long as the block lasts. After a refusal the rest is read and let go."""
    body = RequestBody(request, parts.limits.max_json_bytes, "max_json_bytes")
    async with body.taken_in(), json_of(body, parts.json_room, tenant_id, NewSourceJob) as job:
        yield job


async def _job(parts: ApiParts, snapshot: BatchSnapshot, *, with_files: bool = False) -> SourceJob:
    record = snapshot.record
    documents: list[LiveDocument] | None = None
    if with_files:
        documents = await parts.documents.first(snapshot, MAX_FILES)
    is_ahead = snapshot.progress.started_at is None and not snapshot.is_final
    pace = await parts.batches.seconds_per_document(record.tenant_id) if is_ahead else None
    return job_of(snapshot, documents, pace=pace)


def _key_of(caller: Caller, key: str | None) -> str | None:
    """A user's own: the same key of two users is two jobs. Raises ``RequestError`` for one that cannot be used."""
    key = check_key(key)
    return None if key is None else str(uuid5(NAMESPACE_OID, f"{caller.user}\n{key}"))


def _json(model: BaseModel, headers: Mapping[str, str] | None = None) -> Response:
    return Response(model.model_dump_json(), headers=dict(headers or {}), media_type="application/json")
