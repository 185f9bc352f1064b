"""Contract E, texts: a batch of short texts through a language model, answered at once or asked for later.

The batch is a workflow like any other and outlives the request that made it: a client that hangs up reads how it ended
at ``/batch_status``, and ``/v1/batches`` pauses, cancels and retries it.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote
from uuid import NAMESPACE_OID, uuid5

import orjson
import structlog
from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import BaseModel, ConfigDict

from api.access import Caller, access
from api.body import UNLIMITED_BODY, RequestBody
from api.contracts.errors import answering_with, places_of
from api.contracts.text_body import CLIENT_BATCH_ID, CONTRACT, NewTextBatch, SentBatch, TextFeed
from api.dependencies import (
    SECRET_HEADER,
    ApiParts,
    CurrentCaller,
    IdempotencyKey,
    Parts,
    TenantHeader,
    asked_wait,
    require_json,
    require_not_draining,
)
from api.feeds import json_of
from api.rates import Rate
from api.resources import BatchSnapshot
from api.service.texts import TextOutcome
from ingather.domain.identifiers import as_uuid
from ingather.models.batch import BatchRecord, BatchState, ProcessingOptions
from ingather.models.errors import BatchNotFoundError, IdempotencyKeyReusedError, IngatherError, TenantNotFoundError
from ingather.models.identity import batch_id_for
from ingather.models.text import Sentiment, TextOperation

INTERNAL_ERROR = "Failed to process batch request due to an internal server error."
RETRY_AFTER_SECONDS = 1
_TEXTS: dict[type[IngatherError], str] = {
    BatchNotFoundError: "Batch not found",
    TenantNotFoundError: "Tenant not found",
    IdempotencyKeyReusedError: "This batch_id stands for a batch of other requests.",
}
"""The contract's own words; every other error speaks for itself."""
_WAITING = frozenset({BatchState.PENDING, BatchState.QUEUED})

Status = Literal["pending", "processing", "completed", "failed"]


class ErrorBody(BaseModel):
    detail: str | list[dict[str, Any]]


class TextResponse(BaseModel):
    """What came of a text, in the field that fits its operation."""

    model_config = ConfigDict(frozen=True)

    operation: TextOperation
    success: Literal[True] = True
    result: str | None = None
    """Of `summarize` and `qa`."""
    sentiment: Sentiment | None = None
    key_points: tuple[str, ...] | None = None
    questions: tuple[str, ...] | None = None
    metadata: dict[str, Any]
    """`provider` and `model`, the client's own `user_metadata`, and what else the model tells."""
    processing_time: float
    """Seconds."""
    timestamp: datetime
    cache_hit: bool


class TextItem(BaseModel):
    """How one text ended."""

    model_config = ConfigDict(frozen=True)

    request_index: int
    """0-based place in the request."""
    status: Literal["completed", "failed"]
    response: TextResponse | None = None
    error: str | None = None


class TextBatchResult(BaseModel):
    """A batch that has ended."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    total_requests: int
    completed: int
    failed: int
    results: list[TextItem]
    """In the order of the requests."""
    total_processing_time: float
    """Seconds."""
    timestamp: datetime


class TextBatchStatus(BaseModel):
    """A batch as far as it is."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    status: Status
    message: str
    total_requests: int
    completed: int
    failed: int
    results: list[TextItem]
    """Those that have ended, in the order of the requests."""
    timestamp: datetime


def _answer(error: IngatherError, status: int, headers: Mapping[str, str]) -> Response:
    if isinstance(error, IdempotencyKeyReusedError):
        return _refused(_TEXTS[IdempotencyKeyReusedError], 409, headers)
    if status == 500:
        return _refused(INTERNAL_ERROR, status, headers)
    detail: Any = places_of(error) if status == 422 else _TEXTS.get(type(error), error.message)
    return _refused(detail, status, headers)


def envelope(_code: str, message: str, status: int, headers: Mapping[str, str]) -> Response:
    """An error of no route, in the contract's shape."""
    return _refused(message, status, headers)


def _refused(detail: Any, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        orjson.dumps({"detail": detail}), status_code=status, headers=dict(headers or {}), media_type="application/json"
    )


_ROUTE = answering_with(_answer)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody},
    500: {"model": ErrorBody},
    503: {"model": ErrorBody, "description": "Come again after `Retry-After`"},
}
router = APIRouter(prefix="/batch_process", tags=["texts"], route_class=_ROUTE, responses=_RESPONSES)
status_router = APIRouter(prefix="/batch_status", tags=["texts"], route_class=_ROUTE, responses=_RESPONSES)


def _body_schema() -> dict[str, Any]:
    schema = NewTextBatch.model_json_schema(ref_template="#/components/schemas/{model}")
    own = schema.pop("$defs")

    def resolved(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return resolved(own[value["$ref"].rsplit("/", 1)[1]])
            return {name: resolved(each) for name, each in value.items()}
        return [resolved(each) for each in value] if isinstance(value, list) else value

    return {"required": True, "content": {"application/json": {"schema": resolved(schema)}}}


PreferHeader = Annotated[
    str | None,
    Header(description="`respond-async`: answer 202 at once. `wait=N`: answer 202 where it takes over N seconds."),
]


@router.post(
    "",
    response_model=TextBatchResult,
    responses={202: {"model": TextBatchStatus, "description": "It goes on; `Location` says where to ask."}},
    openapi_extra={"requestBody": _body_schema()},
    max_body_size=UNLIMITED_BODY,
)
@access(rate=Rate.UPLOADS)
async def process_batch(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    idempotency_key: IdempotencyKey = None,
    prefer: PreferHeader = None,
) -> Response:
    """Process a batch of texts. Answers when all of them have ended, each for itself."""
    require_not_draining(parts)
    await require_json(request)
    limits = parts.texts.limits
    async with _batch_of(request, parts, caller.tenant_id, limits.max_requests) as batch:
        accepted = await parts.submissions.submit(
            caller.tenant_id,
            _key_of(batch.batch_id, idempotency_key),
            TextFeed(batch).read,
            contract=CONTRACT,
            created_by=caller.user,
            by=caller.actor,
            options=ProcessingOptions(max_workers=limits.concurrency, max_retries=limits.max_retries),
        )
    if not accepted.was_replayed:
        parts.metrics.submitted(accepted.file_count, accepted.upload_bytes)
    record = accepted.snapshot.record
    headers = {"Idempotency-Replayed": "true"} if accepted.was_replayed else {}
    if accepted.webhook_secret is not None:
        headers |= {SECRET_HEADER: accepted.webhook_secret, "Cache-Control": "no-store"}
    seconds = _seconds_to_wait(prefer, limits.answer_seconds)

    async def is_wanted() -> bool:
        return not parts.readiness.is_draining and not await request.is_disconnected()

    if seconds:
        snapshot = await parts.texts.wait(record.tenant_id, record.batch_id, seconds, is_wanted)
    else:
        snapshot = accepted.snapshot
    if snapshot.is_final and seconds:
        return _json(_result(snapshot, await parts.texts.outcomes(snapshot)), headers=headers)
    # A name may be in any script, and hold what ends a path.
    headers |= {
        "Location": f"/batch_status/{quote(_name_of(record), safe='')}",
        "Retry-After": str(RETRY_AFTER_SECONDS),
    }
    return _json(_status(snapshot, await parts.texts.outcomes(snapshot)), status=202, headers=headers)


BatchName = Annotated[str, Path(description="The batch's id, or the client's own.")]


@status_router.get("/{batch_name}", response_model=TextBatchStatus)
async def read_status(
    *, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None, batch_name: BatchName
) -> Response:
    """How far a batch is, with what came of its texts so far."""
    record = await _record(parts, caller, batch_name)
    snapshot = await parts.batches.snapshot(record.tenant_id, record.batch_id)
    return _json(_status(snapshot, await parts.texts.outcomes(snapshot)))


# --- The request ------------------------------------------------------------------------------


@asynccontextmanager
async def _batch_of(
    request: Request, parts: ApiParts, tenant_id: str, max_requests: int
) -> AsyncIterator[NewTextBatch]:
    """The batch of the body, held in memory as long as the block lasts. After a refusal the rest is read and let go."""
    body = RequestBody(request, parts.limits.max_json_bytes, "max_json_bytes")
    async with body.taken_in(), json_of(body, parts.json_room, tenant_id, SentBatch) as sent:
        yield sent.checked(max_requests)


def _key_of(batch_id: str | None, idempotency_key: str | None) -> str | None:
    """What makes two requests one: the client's own id, which is found again by it, else its key."""
    if batch_id is not None or idempotency_key is None:
        return batch_id
    return str(uuid5(NAMESPACE_OID, f"Idempotency-Key\n{idempotency_key}"))


def _seconds_to_wait(prefer: str | None, most: float) -> float:
    if prefer and "respond-async" in prefer.lower():
        return 0.0
    asked = asked_wait(prefer)
    return most if asked is None else min(asked, most)


async def _record(parts: ApiParts, caller: Caller, name: str) -> BatchRecord:
    """By the client's own id within its tenant, else by ours. Raises ``BatchNotFoundError``."""
    record = await parts.catalog.get_batch(batch_id_for(caller.tenant_id, CONTRACT, name.strip()), caller.tenant_id)
    batch_id = as_uuid(name)
    if record is None and batch_id is not None:
        tenant_id = await parts.gate.tenant_of_batch(caller, batch_id)
        record = await parts.batches.record(tenant_id, batch_id)
    if record is None or record.spec.contract != CONTRACT:
        raise BatchNotFoundError("No batch of this tenant has this id.")
    structlog.contextvars.bind_contextvars(tenant_id=record.tenant_id, batch_id=record.batch_id)
    return record


# --- The answers ------------------------------------------------------------------------------


def _name_of(record: BatchRecord) -> str:
    """The client's own id, where it chose one."""
    return str(record.spec.metadata.get(CLIENT_BATCH_ID, record.batch_id))


def _result(snapshot: BatchSnapshot, outcomes: list[TextOutcome]) -> TextBatchResult:
    counts, progress = snapshot.progress.counts, snapshot.progress
    items = [_item(outcome) for outcome in outcomes]
    completed = sum(item.status == "completed" for item in items)
    ended_at = progress.ended_at or datetime.now(UTC)
    began_at = progress.started_at or snapshot.record.created_at
    return TextBatchResult(
        batch_id=_name_of(snapshot.record),
        total_requests=counts.total,
        completed=completed,
        failed=counts.total - completed,
        results=items,
        total_processing_time=round(max(0.0, (ended_at - began_at).total_seconds()), 3),
        timestamp=ended_at,
    )


def _status(snapshot: BatchSnapshot, outcomes: list[TextOutcome]) -> TextBatchStatus:
    items = [_item(outcome) for outcome in outcomes]
    completed = sum(item.status == "completed" for item in items)
    total = snapshot.progress.counts.total
    status = _status_of(snapshot)
    return TextBatchStatus(
        batch_id=_name_of(snapshot.record),
        status=status,
        message=_message(snapshot, status, completed, len(items)),
        total_requests=total,
        completed=completed,
        failed=len(items) - completed,
        results=items,
        timestamp=snapshot.progress.ended_at or datetime.now(UTC),
    )


def _status_of(snapshot: BatchSnapshot) -> Status:
    """One that is about to be cancelled is, and a cancelled one has failed: this contract has no word for it."""
    match snapshot.progress.state:
        case BatchState.COMPLETED | BatchState.COMPLETED_WITH_FAILURES:
            return "completed"
        case BatchState.FAILED | BatchState.CANCELLED:
            return "failed"
        case state:
            return "pending" if state in _WAITING and not snapshot.progress.started_at else "processing"


def _message(snapshot: BatchSnapshot, status: Status, completed: int, ended: int) -> str:
    total, state, problem = snapshot.progress.counts.total, snapshot.progress.state, snapshot.progress.problem
    if problem is not None:
        return problem.message
    if state in {BatchState.CANCELLED, BatchState.CANCELLING}:
        return f"The batch was cancelled; {completed} of {total} requests were completed."
    if status == "processing" and state in {BatchState.PAUSED, BatchState.PAUSING}:
        return f"The batch is paused; {ended} of {total} requests have ended."
    return {
        "pending": "The batch waits to be processed.",
        "processing": f"{ended} of {total} requests have ended.",
        "completed": f"{completed} of {total} requests were completed.",
        "failed": "None of the requests could be completed.",
    }[status]


def _item(outcome: TextOutcome) -> TextItem:
    if outcome.result is None or outcome.operation is None:
        return TextItem(request_index=outcome.ordinal, status="failed", error=outcome.error)
    kept = outcome.result
    metadata: dict[str, Any] = {"provider": kept.provider, "model": kept.model, **kept.answer.details}
    if outcome.user_metadata is not None:
        metadata["user_metadata"] = outcome.user_metadata
    response = TextResponse(
        operation=outcome.operation,
        success=True,
        **kept.answer.model_dump(exclude={"details"}, exclude_none=True),
        metadata=metadata,
        processing_time=outcome.processing_seconds,
        timestamp=outcome.ended_at or kept.made_at,
        cache_hit=outcome.is_from_cache,
    )
    return TextItem(request_index=outcome.ordinal, status="completed", response=response)


def _json(model: BaseModel, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    # What was not set means nothing; a null in a client's own metadata does.
    content = model.model_dump_json(exclude_unset=True)
    return Response(content, status_code=status, headers=dict(headers or {}), media_type="application/json")
