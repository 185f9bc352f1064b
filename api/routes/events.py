"""What happens to a batch, while it happens: as Server-Sent Events, or as pages of JSON."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from api.access import GuardedRoute, TicketParameter, access
from api.dependencies import BatchIdPath, BatchTenant, CurrentCaller, LinksOf, PageSize, Parts
from api.resources import batch_resource
from api.streams.event_streams import EventStreams
from api.streams.frames import MEDIA_TYPE
from api.streams.wording import OurWording
from ingather.domain.event_cursor import parse_cursor
from ingather.models.errors import NotAcceptableError

router = APIRouter(prefix="/v1/batches/{batch_id}", tags=["events"], route_class=GuardedRoute)

JSON = "application/json"


@router.get(
    "/events",
    summary="Follow a batch",
    response_class=Response,
    responses={
        200: {
            "description": "Events as a stream (`text/event-stream`), or a page of them (`application/json`).",
            "content": {MEDIA_TYPE: {}, JSON: {}},
        },
        204: {"description": "The batch has ended, and the client has seen its last event."},
    },
)
@access(ticket_for="batch_id")
async def follow_batch(
    *,
    request: Request,
    caller: CurrentCaller,
    tenant: BatchTenant,
    batch_id: BatchIdPath,
    parts: Parts,
    links: LinksOf,
    limit: PageSize,
    after: Annotated[str | None, Query(description="The `id` of the last event seen; 0 for all of them.")] = None,
    last_event_id: Annotated[str | None, Header(description="As `after`, and before it.")] = None,
    accept: Annotated[str, Header()] = "*/*",
    _sig: TicketParameter = None,
) -> Response:
    """Every event of a batch after the cursor, in order, without a gap and without a duplicate.

    Without a cursor a stream begins with `stream.snapshot`, the whole batch. A cursor that cannot
    be served is answered with `stream.reset` and a snapshot. The stream ends with `stream.end`.
    """
    form = preferred(accept)
    record = await parts.batches.record(tenant, batch_id)
    cursor = parse_cursor(last_event_id or after)
    streams: EventStreams = request.app.state.streams
    if form == JSON:
        page = await streams.page(record, cursor, limit)
        return Response(page.encode(), media_type=JSON, headers={"Cache-Control": "no-store"})

    async def render() -> dict[str, Any]:
        return batch_resource(await parts.batches.snapshot(tenant, batch_id), links).model_dump(mode="json")

    client = await parts.gate.count_stream(caller, request)
    return await streams.open(record, OurWording(cursor, render), client) or Response(status_code=204)


def preferred(accept: str) -> str:
    """The form a client prefers; a stream where it does not care. Raises ``NotAcceptableError``."""
    wishes: dict[str, float] = {}
    for part in accept.lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weights = [text.removeprefix("q=") for text in parameters if text.startswith("q=")]
        wishes[kind] = _weight(weights[0]) if weights else 1.0

    def wish(form: str) -> float:
        ranges = (form, form.split("/", 1)[0] + "/*", "*/*")
        return next((wishes[name] for name in ranges if name in wishes), 0.0)

    best = max((MEDIA_TYPE, JSON), key=wish)
    if wish(best) <= 0.0:
        raise NotAcceptableError("Events are available as text/event-stream and as application/json.")
    return best


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
