"""``/v1/batches``: list, read, edit, steer."""

import hashlib
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.access import GuardedRoute
from api.cursors import time_and_id
from api.dependencies import (
    BatchIdPath,
    BatchTenant,
    CurrentCaller,
    IdempotencyKey,
    LinksOf,
    PageSize,
    Parts,
    Tenant,
    WaitSeconds,
    require_json,
)
from api.problems import invalid
from api.resources import Batch, BatchPage, BatchSnapshot, Links, batch_resource
from api.service.control import Controlled, RetrySelection
from ingather.models.batch import BatchState
from ingather.ports.catalog import BatchFilter

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=GuardedRoute)

RETRY_AFTER_SECONDS = "1"


class BatchEdit(BaseModel):
    """What can be changed about a batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=255)
    priority: int | None = Field(default=None, ge=1, le=5)
    """1 is the most urgent."""


class RetryBody(BaseModel):
    """Which documents to run again: all that failed, or those that match every filter given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    codes: tuple[Annotated[str, Field(max_length=100)], ...] = Field(default=(), max_length=50)
    ordinals: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(), max_length=1_000)
    include_cancelled: bool = False
    """Take in documents that a cancel left undone."""


@router.get("")
async def list_batches(
    *,
    parts: Parts,
    tenant: Tenant,
    links: LinksOf,
    limit: PageSize,
    status: Annotated[list[str] | None, Query(description="One state or several, repeated or with commas.")] = None,
    collection: str | None = None,
    q: Annotated[str | None, Query(max_length=255, description="Part of the name, or what the id begins with.")] = None,
    cursor: str | None = None,
) -> BatchPage:
    """Batches, newest first."""
    states = _states(status)
    filters = {"tenant": tenant, "states": sorted(states), "collection": collection} | ({"q": q} if q else {})
    before = time_and_id(parts.cursors.decode(cursor, filters)) if cursor else None
    where = BatchFilter(tenant_id=tenant, states=states, collection=collection, before=before, text=q or None)
    snapshots, last = await parts.batches.page(where, limit)
    next_cursor = None
    if last is not None:
        next_cursor = parts.cursors.encode([last.created_at.isoformat(), last.batch_id], filters)
    data = [batch_resource(snapshot, links) for snapshot in snapshots]
    return BatchPage(data=data, has_more=last is not None, next_cursor=next_cursor)


@router.get("/{batch_id}", responses={304: {"description": "Not changed"}}, response_model=Batch)
async def read_batch(
    *,
    parts: Parts,
    tenant: BatchTenant,
    links: LinksOf,
    batch_id: BatchIdPath,
    wait: WaitSeconds,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A batch now. With ``If-None-Match``, ``Prefer: wait=N`` waits for a change, else for its end."""
    known = {tag.strip() for tag in if_none_match.split(",")} if if_none_match else set()

    def is_reached(snapshot: BatchSnapshot) -> bool:
        return etag(snapshot) not in known if known else snapshot.is_final

    snapshot = await parts.batches.wait_for(tenant, batch_id, wait, is_reached)
    headers = {"ETag": etag(snapshot), "Cache-Control": "private, no-cache"}
    if wait:
        headers["Preference-Applied"] = f"wait={wait:.0f}"
    if etag(snapshot) in known:
        return Response(status_code=304, headers=headers)
    return batch_response(snapshot, links, 200, headers)


@router.patch("/{batch_id}", dependencies=[Depends(require_json)])
async def edit_batch(
    *, parts: Parts, caller: CurrentCaller, tenant: BatchTenant, links: LinksOf, batch_id: BatchIdPath, edit: BatchEdit
) -> Batch:
    """Rename a batch, or move it ahead or back."""
    if edit.name is None and edit.priority is None:
        raise invalid("#", "Name what to change: name or priority.", "nothing_to_change")
    await parts.batches.record(tenant, batch_id)
    if edit.priority is not None:
        await parts.control.set_priority(tenant, batch_id, edit.priority, by=caller.actor)
    if edit.name is not None:
        await parts.control.rename(tenant, batch_id, edit.name, by=caller.actor)
    return batch_resource(await parts.batches.snapshot(tenant, batch_id), links)


@router.post("/{batch_id}/start", status_code=202, response_model=Batch)
async def start_batch(
    *,
    parts: Parts,
    caller: CurrentCaller,
    tenant: BatchTenant,
    links: LinksOf,
    batch_id: BatchIdPath,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Let a batch that was submitted with ``hold`` run."""
    return _controlled(await parts.control.start(tenant, batch_id, idempotency_key, by=caller.actor), links)


@router.post("/{batch_id}/pause", status_code=202, response_model=Batch)
async def pause_batch(
    *,
    parts: Parts,
    caller: CurrentCaller,
    tenant: BatchTenant,
    links: LinksOf,
    batch_id: BatchIdPath,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start no more documents; those in flight finish."""
    return _controlled(await parts.control.pause(tenant, batch_id, idempotency_key, by=caller.actor), links)


@router.post("/{batch_id}/resume", status_code=202, response_model=Batch)
async def resume_batch(
    *,
    parts: Parts,
    caller: CurrentCaller,
    tenant: BatchTenant,
    links: LinksOf,
    batch_id: BatchIdPath,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Go on after a pause."""
    return _controlled(await parts.control.resume(tenant, batch_id, idempotency_key, by=caller.actor), links)


@router.post("/{batch_id}/cancel", status_code=202, response_model=Batch)
async def cancel_batch(
    *,
    parts: Parts,
    caller: CurrentCaller,
    tenant: BatchTenant,
    links: LinksOf,
    batch_id: BatchIdPath,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Stop what runs, keep what is done."""
    return _controlled(await parts.control.cancel(tenant, batch_id, idempotency_key, by=caller.actor), links)


@router.post("/{batch_id}/retry", status_code=202, response_model=Batch, dependencies=[Depends(require_json)])
async def retry_batch(
    *,
    parts: Parts,
    caller: CurrentCaller,
    tenant: BatchTenant,
    links: LinksOf,
    batch_id: BatchIdPath,
    body: RetryBody | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Run failed documents again, of a running batch or an ended one."""
    body = body or RetryBody()
    selection = RetrySelection(body.codes, body.ordinals, include_cancelled=body.include_cancelled)
    return _controlled(await parts.control.retry(tenant, batch_id, idempotency_key, selection, by=caller.actor), links)


def etag(snapshot: BatchSnapshot) -> str:
    """Changes whenever the batch does: the engine's version, its children's, and what is kept outside of it."""
    progress = snapshot.progress
    outside = f"{snapshot.record.name}\n{progress.state}\n{progress.priority}\n{snapshot.stale}\n{progress.indexed}"
    outside += f"\n{progress.counts.total}\n{progress.children_version}\n{snapshot.outlook.waiting_for if snapshot.outlook else None}"
    return f'W/"{progress.version}-{hashlib.sha256(outside.encode()).hexdigest()[:8]}"'


def batch_response(
    snapshot: BatchSnapshot, links: Links, status: int, headers: dict[str, str] | None = None
) -> Response:
    """A batch with its status and headers."""
    content = orjson.dumps(batch_resource(snapshot, links).model_dump(mode="json"))
    all_headers = {"ETag": etag(snapshot), **(headers or {})}
    if status == 202:
        all_headers["Location"] = links.batch(snapshot.record.batch_id)
        all_headers["Retry-After"] = RETRY_AFTER_SECONDS
    return Response(content, status_code=status, headers=all_headers, media_type="application/json")


def _controlled(controlled: Controlled, links: Links) -> Response:
    headers = {"Idempotency-Replayed": "true"} if controlled.was_replayed else {}
    return batch_response(controlled.snapshot, links, 202, headers)


def _states(status: list[str] | None) -> tuple[BatchState, ...]:
    names = [name.strip() for item in status or [] for name in item.split(",") if name.strip()]
    known = {state.value for state in BatchState}
    if any(name not in known for name in names):
        raise invalid("query:status", f"The states are {', '.join(sorted(known))}.", "unknown_status")
    return tuple(dict.fromkeys(BatchState(name) for name in names))
