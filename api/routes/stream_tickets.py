"""``/v1/stream-tickets``: for browsers, whose ``EventSource`` can send no header."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.access import GuardedRoute, access
from api.dependencies import CurrentCaller, LinksOf, Parts, TenantHeader, require_json
from api.tickets import PARAMETER, stream_of_batch
from ingather.domain.identifiers import as_uuid
from ingather.models.accounts import Scope
from ingather.models.errors import BatchNotFoundError

router = APIRouter(prefix="/v1/stream-tickets", tags=["events"], route_class=GuardedRoute)


class NewStreamTicket(BaseModel):
    """Which stream is to be opened."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_id: Annotated[str, Field(max_length=64)]
    """The batch whose events it opens."""


class StreamTicketLinks(BaseModel):
    events: str
    """The batch's events, with the ticket."""


class StreamTicketView(BaseModel):
    """A ticket. It is shown this once."""

    sig: str
    """To be sent as the query parameter `sig`."""
    batch_id: str
    open_before: AwareDatetime
    """The stream has to be opened before this; from then on it may be opened again."""
    expires_at: AwareDatetime
    """The stream ends, and is opened no more."""
    links: StreamTicketLinks


@router.post("", status_code=201, response_model=StreamTicketView, dependencies=[Depends(require_json)])
@access(scope=Scope.READ)
async def create_stream_ticket(
    *, parts: Parts, caller: CurrentCaller, links: LinksOf, body: NewStreamTicket, _tenant_id: TenantHeader = None
) -> Response:
    """A ticket for the events of one batch. It reads that stream and nothing else, as long as the credential it was made
    with is accepted.
    """
    batch_id = as_uuid(body.batch_id)
    if batch_id is None:
        raise BatchNotFoundError("No batch of this tenant has this id.")
    tenant_id = await parts.gate.require_stream(caller, batch_id)
    ticket, sig = parts.gate.tickets.issue(tenant_id, stream_of_batch(batch_id), caller.principal)
    view = StreamTicketView(
        sig=sig,
        batch_id=batch_id,
        open_before=ticket.open_before,
        expires_at=ticket.expires_at,
        links=StreamTicketLinks(events=f"{links.batch_links(batch_id).events}?{PARAMETER}={sig}"),
    )
    return Response(
        view.model_dump_json(), status_code=201, media_type="application/json", headers={"Cache-Control": "no-store"}
    )
