"""``/system``: workers, queues, tenants and parts, while one looks."""

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api, Json, PublicApi, within
from api.dashboard.rendering import fragment, page

router = APIRouter(include_in_schema=False)

AT_ONCE_SECONDS: Final = 0.2
"""How long the page waits for the parts; it is shown without them where they take longer, and they come by themselves."""
PATIENT_SECONDS: Final = 10.0

ROLES: Final[Mapping[str, str]] = {
    "workflows": "decide what happens next in each batch",
    "io": "list documents, write the index, reports and notices",
    "cpu": "fetch and read documents, cut and embed them",
}
PARTS: Final[Mapping[str, str]] = {
    "storage": "Storage",
    "catalog": "Catalog",
    "index": "Search index",
    "events": "Events",
    "engine": "Temporal",
    "search attributes": "Search attributes",
}


def part_label(name: str) -> str:
    """A check's name as a person would say it; queues keep theirs."""
    return PARTS.get(name) or name.capitalize()


def people_of(role: Json) -> list[Json]:
    """The worker processes of a role, each once, with when it was last seen by any of its queues."""
    found: dict[str, Json] = {}
    for queue in role["queues"]:
        for worker in queue["workers"]:
            known = found.get(worker["identity"])
            if known is None or worker["last_seen_at"] > known["last_seen_at"]:
                found[worker["identity"]] = worker
    return [found[identity] for identity in sorted(found)]


@router.get("/system")
@public
async def show_system(request: Request, api: Api, part: Annotated[str, Query(alias="fragment")] = "") -> Response:
    """The deployment right now."""
    if part == "overview":
        return fragment(request, "system/overview.html", **await _report(api, PATIENT_SECONDS))
    return await page(request, api, "system/page.html", title="System", **await _report(api, AT_ONCE_SECONDS))


async def _report(api: PublicApi, seconds: float) -> Json:
    try:
        system = await within(seconds, api.get("/v1/system"))
    except TimeoutError:
        return {"system": None, "roles": [], "failing": 0}
    roles = [role | {"text": ROLES.get(role["role"], ""), "workers": people_of(role)} for role in system["roles"]]
    for check in system["checks"]:
        check["label"] = part_label(check["name"])
    failing = sum(check["ok"] is not True for check in system["checks"])
    return {"system": system, "roles": roles, "failing": failing}
