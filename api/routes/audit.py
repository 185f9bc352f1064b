"""``/v1/audit``: who did what, and what was taken in."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.access import GuardedRoute
from api.cursors import time_and_id
from api.dependencies import CurrentCaller, PageSize, Parts
from api.moments import Moment
from api.problems import invalid
from api.service.audit import audited_tenant
from ingather.models.audit import AuditEvent
from ingather.ports.audit import AuditFilter

router = APIRouter(prefix="/v1/audit", tags=["administration"], route_class=GuardedRoute)

_Name = Annotated[str | None, Query(max_length=255)]


class AuditPage(BaseModel):
    data: list[AuditEvent]
    has_more: bool = False
    next_cursor: str | None = None


@router.get("")
async def list_audit_events(
    *,
    parts: Parts,
    caller: CurrentCaller,
    limit: PageSize,
    tenant_id: Annotated[str | None, Query(description="Another tenant, for an administrator.")] = None,
    event_type: _Name = None,
    resource_type: _Name = None,
    resource_id: _Name = None,
    actor: _Name = None,
    since: Annotated[Moment | None, Query(description="From then on.")] = None,
    until: Annotated[Moment | None, Query(description="Before then.")] = None,
    cursor: str | None = None,
) -> AuditPage:
    """Events of one tenant, newest first: each document taken in, each change of a batch, tenant, user or key."""
    if since is not None and until is not None and since >= until:
        raise invalid("query:until", "It lies before `since`.", "empty_period")
    tenant = audited_tenant(caller, tenant_id)
    names = {"event_type": event_type, "resource_type": resource_type, "resource_id": resource_id, "actor": actor}
    filters = {"tenant": tenant, **names, "since": since, "until": until}
    before = time_and_id(parts.cursors.decode(cursor, filters)) if cursor else None
    where = AuditFilter(tenant, **names, since=since, until=until, before=before)
    events, has_more = await parts.audit.page(where, limit)
    next_cursor = None
    if has_more:
        next_cursor = parts.cursors.encode([events[-1].timestamp.isoformat(), events[-1].event_id], filters)
    return AuditPage(data=list(events), has_more=has_more, next_cursor=next_cursor)
