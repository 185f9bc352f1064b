"""Contract C, scanned sheets: where its clients log in."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel, ConfigDict

from api.access import public
from api.contracts.errors import answering_with
from api.contracts.sheet_errors import ErrorBody, answer, envelope
from api.dependencies import Parts
from api.rates import address_of

__all__ = ["envelope", "router"]


class AccessToken(BaseModel):
    """What to send as `Authorization: Bearer …`."""

    model_config = ConfigDict(frozen=True)

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  # the word of RFC 6750
    expires_in: int
    """Seconds."""


router = APIRouter(
    prefix="/api/auth",
    tags=["scanned sheets"],
    route_class=answering_with(answer),
    responses={"4XX": {"model": ErrorBody}, 503: {"model": ErrorBody, "description": "Come again after `Retry-After`"}},
)


@router.post("/login", response_model=AccessToken)
@public
async def log_in(
    *,
    request: Request,
    parts: Parts,
    username: Annotated[str, Form(min_length=1, max_length=255)],
    password: Annotated[str, Form(min_length=1, max_length=1_024)],
) -> Response:
    """An access token for the right password, for an hour unless the deployment says otherwise."""
    issued = await parts.accounts.log_in(username, password, address_of(request.scope))
    seconds = int((issued.expires_at - datetime.now(UTC)).total_seconds())
    view = AccessToken(access_token=issued.token, expires_in=seconds)
    return Response(view.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})
