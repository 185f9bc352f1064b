"""``/``: what the batches are doing."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api, together
from api.dashboard.rendering import fragment, page

router = APIRouter(include_in_schema=False)

PAGE_SIZE = 25
FILTERS = {
    "": "All",
    "open": "Open",
    "failed": "With failures",
    "done": "Completed",
    "cancelled": "Cancelled",
}
_STATES = {
    "open": "pending,queued,running,pausing,paused,retrying,finalizing,cancelling",
    "failed": "completed_with_failures,failed",
    "done": "completed",
    "cancelled": "cancelled",
}


@router.get("/")
@public
async def list_batches(
    *,
    request: Request,
    api: Api,
    show: str = "",
    q: Annotated[str, Query(max_length=255)] = "",
    collection: str = "",
    cursor: str = "",
    fragment_name: Annotated[str, Query(alias="fragment")] = "",
) -> Response:
    """The batches, newest first, and how much is under way."""
    show = show if show in FILTERS else ""
    listed, stats = await together(
        api.get(
            "/v1/batches",
            limit=PAGE_SIZE,
            status=_STATES.get(show),
            q=q.strip(),
            collection=collection,
            cursor=cursor,
        ),
        api.soon("/v1/stats", 1.5 if fragment_name else 0.1),
    )
    context = {
        "listed": listed,
        "stats": stats,
        "chosen": {"show": show, "q": q, "collection": collection, "cursor": cursor},
        "filters": FILTERS,
    }
    if fragment_name == "rows":
        return fragment(request, "batches/rows.html", **context)
    return await page(request, api, "batches/list.html", title="Batches", **context)
