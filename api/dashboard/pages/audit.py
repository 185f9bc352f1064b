"""``/audit``: who did what, and what was taken in."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.forms import day
from api.dashboard.pages.keys import tenant_names
from api.dashboard.public_api import Api, ApiRefusal, Json
from api.dashboard.rendering import page
from api.dashboard.words import short

router = APIRouter(include_in_schema=False)

PAGE_SIZE: Final = 50
LONG_ID: Final = 24
"""Longer ones are shown by their end."""
KINDS: Final = {
    "": "Everything",
    "document": "Documents",
    "batch": "Batches",
    "tenant": "Tenants",
    "user": "Users",
    "api_key": "Keys",
    "connection": "Connections",
    "webhook": "Webhooks",
}
_LINKS: Final = {"batch": "/batches/{}", "connection": "/connections/{}", "tenant": "/tenants/{}", "user": "/users/{}"}
_GONE: Final = ("_DELETED", "_REVOKED")


def happened(event_type: str) -> str:
    """``BATCH_PRIORITY_CHANGED`` as words."""
    return event_type.replace("API_KEY", "KEY").replace("_", " ").capitalize()


def link_of(event: Json) -> str | None:
    """Where to see what it is about, where there is a page and it is not gone."""
    where = _LINKS.get(event["resource_type"])
    return where.format(event["resource_id"]) if where and not event["event_type"].endswith(_GONE) else None


def facts_of(details: Json) -> list[tuple[str, str]]:
    """Small facts in reading order: names before numbers, lists joined."""

    def text(value: object) -> str:
        if isinstance(value, dict):
            return ", ".join(f"{name} {each}" for name, each in value.items() if each)
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    facts = [(name.replace("_", " "), text(value)) for name, value in details.items() if name != "credential"]
    return [(name, value) for name, value in facts if value not in {"", "None", "False"}]


@router.get("/audit")
@public
async def list_events(
    *,
    request: Request,
    api: Api,
    kind: str = "",
    event_type: Annotated[str, Query(max_length=255)] = "",
    resource_id: Annotated[str, Query(max_length=255)] = "",
    actor: Annotated[str, Query(max_length=255)] = "",
    since: Annotated[str, Query(max_length=40)] = "",
    until: Annotated[str, Query(max_length=40)] = "",
    tenant_id: Annotated[str, Query(max_length=64)] = "",
    cursor: str = "",
) -> Response:
    """Events, newest first."""
    chosen = {
        "kind": kind if kind in KINDS else "",
        "event_type": event_type.strip().upper().replace(" ", "_"),
        "resource_id": resource_id.strip(),
        "actor": actor.strip(),
        "since": since,
        "until": until,
        "tenant_id": tenant_id,
        "cursor": cursor,
    }
    begins, ends = day(since), day(until, is_end=True)
    listed: Json = {"data": [], "has_more": False, "next_cursor": None}
    problem = None
    try:
        listed = await api.get(
            "/v1/audit",
            limit=PAGE_SIZE,
            resource_type=chosen["kind"],
            event_type=chosen["event_type"],
            resource_id=chosen["resource_id"],
            actor=chosen["actor"],
            tenant_id=tenant_id,
            since=begins.isoformat() if begins else None,
            until=ends.isoformat() if ends else None,
            cursor=cursor,
        )
    except ApiRefusal as refusal:
        if refusal.status not in {400, 404, 422}:
            raise
        problem = refusal.problem
    for event in listed["data"]:
        event |= {
            "resource": event["resource_type"].replace("api_key", "key").replace("_", " "),
            "shown_id": short(event["resource_id"]) if len(event["resource_id"]) > LONG_ID else event["resource_id"],
            "words": happened(event["event_type"]),
            "href": link_of(event),
            "facts": facts_of(event["details"]),
        }
    return await page(
        request,
        api,
        "audit.html",
        title="Audit",
        listed=listed,
        problem=problem,
        chosen=chosen,
        kinds=KINDS,
        tenant_names=await tenant_names(api),
    )
