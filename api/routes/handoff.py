"""``/v1/batches/{id}/push-again``: for a hand-off list that was lost."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.access import GuardedRoute
from api.cursors import ordinal_of
from api.dependencies import BatchIdPath, BatchTenant, CurrentCaller, IdempotencyKey, Parts
from api.service.audit import audited_tenant

router = APIRouter(prefix="/v1/batches", tags=["administration"], route_class=GuardedRoute)


class PushedAgainView(BaseModel):
    """What one request pushed."""

    documents: int
    """Documents looked at, all of which were handed on before."""
    pushed: int
    """Pushed by this request; fewer where it was sent before under the same key."""
    has_more: bool
    next_cursor: str | None = None
    """Send the request again with it, under the same `Idempotency-Key`."""


@router.post("/{batch_id}/push-again")
async def push_again(
    *,
    parts: Parts,
    caller: CurrentCaller,
    tenant: BatchTenant,
    batch_id: BatchIdPath,
    tenant_id: Annotated[str | None, Query(description="The tenant whose batch it is, where it is another's.")] = None,
    cursor: str | None = None,
    idempotency_key: IdempotencyKey = None,
) -> PushedAgainView:
    """Push every document of the batch that was handed on to its tenant's list again, 10,000 a request. Needs the scope `admin`."""
    owner = audited_tenant(caller, tenant_id) if tenant_id is not None else tenant
    filters = {"tenant": owner, "batch": batch_id, "what": "push-again"}
    after = ordinal_of(parts.cursors.decode(cursor, filters)) if cursor else -1
    done = await parts.handoff.push_again(caller, owner, batch_id, idempotency_key, after)
    return PushedAgainView(
        documents=done.documents,
        pushed=done.pushed,
        has_more=done.has_more,
        next_cursor=parts.cursors.encode([done.last], filters) if done.has_more else None,
    )
