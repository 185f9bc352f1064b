"""``/v1/api-keys``: make, rotate and revoke keys. A key is shown once, when it is made."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field

from api.access import GuardedRoute
from api.cursors import time_and_id
from api.dependencies import CurrentCaller, IdempotencyKey, PageSize, Parts, require_json
from api.moments import Moment
from api.problems import invalid
from api.service.accounts import ROTATION_GRACE, Made
from ingather.models.accounts import DEFAULT_SCOPES, ApiKey, Scope

router = APIRouter(prefix="/v1/api-keys", tags=["administration"], route_class=GuardedRoute)


class NewApiKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")
    """What it is for; its batches say they were created by `key:` and this, where it acts as no user."""
    tenant_id: str | None = None
    """The caller's own tenant when left out."""
    scopes: frozenset[Scope] = Field(default=DEFAULT_SCOPES, min_length=1)
    user: str | None = Field(default=None, validation_alias=AliasChoices("user", "username", "user_id"))
    """Name or id of the user it acts as."""
    expires_at: Moment | None = None
    """Never when left out."""


class Rotation(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grace_seconds: int = Field(default=int(ROTATION_GRACE.total_seconds()), ge=0, le=30 * 86_400)
    """How long the old key is still accepted."""


class ApiKeyView(BaseModel):
    """What is known of a key."""

    id: str
    name: str
    prefix: str
    """How it begins."""
    tenant_id: str
    user: str | None
    scopes: list[str]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    last_used_at: AwareDatetime | None
    """To the minute."""
    rotated_from: str | None


class NewApiKeyView(ApiKeyView):
    key: str | None
    """The key itself: shown this once, and not again when the request is replayed."""


class ApiKeyList(BaseModel):
    data: list[ApiKeyView]
    has_more: bool = False
    next_cursor: str | None = None


@router.post("", status_code=201, response_model=NewApiKeyView, dependencies=[Depends(require_json)])
async def create_api_key(
    *, parts: Parts, caller: CurrentCaller, body: NewApiKey, idempotency_key: IdempotencyKey = None
) -> Response:
    """Make a key. Needs the scope `admin`."""
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        raise invalid("#/expires_at", "It lies in the past.", "in_the_past")
    made = await parts.accounts.create_key(
        caller,
        body.name,
        body.tenant_id,
        body.scopes,
        user=body.user,
        expires_at=body.expires_at,
        idempotency_key=idempotency_key,
    )
    return _answer(made)


@router.get("")
async def list_api_keys(
    *,
    parts: Parts,
    caller: CurrentCaller,
    limit: PageSize,
    tenant_id: Annotated[str | None, Query(description="Of this tenant.")] = None,
    cursor: str | None = None,
) -> ApiKeyList:
    """Keys that were not revoked, newest first: of all tenants for an administrator, else of the caller's own."""
    tenant = await parts.accounts.listed_tenant(caller, tenant_id)
    filters = {"list": "api-keys", "tenant": tenant}
    before = time_and_id(parts.cursors.decode(cursor, filters)) if cursor else None
    listed = await parts.accounts.list_keys(tenant, limit, before)
    next_cursor = None
    if listed.has_more:
        last = listed.found[-1]
        next_cursor = parts.cursors.encode([last.created_at.isoformat(), last.key_id], filters)
    data = [ApiKeyView(**_facts(key)) for key in listed.found]
    return ApiKeyList(data=data, has_more=listed.has_more, next_cursor=next_cursor)


@router.get("/{key_id}")
async def read_api_key(parts: Parts, caller: CurrentCaller, key_id: str) -> ApiKeyView:
    """One key."""
    return ApiKeyView(**_facts(await parts.accounts.key(caller, key_id)))


@router.post("/{key_id}/rotate", status_code=201, response_model=NewApiKeyView, dependencies=[Depends(require_json)])
async def rotate_api_key(
    *,
    parts: Parts,
    caller: CurrentCaller,
    key_id: str,
    body: Rotation | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """A new key of the same kind, while the old one is accepted for a while; once for a key. A key may rotate itself;
    else `admin`.
    """
    grace = timedelta(seconds=(body or Rotation()).grace_seconds)
    return _answer(await parts.accounts.rotate_key(caller, key_id, grace, idempotency_key=idempotency_key))


@router.delete("/{key_id}", status_code=204, response_class=Response)
async def delete_api_key(parts: Parts, caller: CurrentCaller, key_id: str) -> Response:
    """Revoke a key: at once in this process, within two seconds in all. Needs the scope `admin`."""
    await parts.accounts.delete_key(caller, key_id)
    return Response(status_code=204)


def _answer(made: Made) -> Response:
    view = NewApiKeyView(**_facts(made.thing), key=made.secret)
    headers = {"Location": f"/v1/api-keys/{view.id}", "Cache-Control": "no-store"}
    if made.was_replayed:
        headers["Idempotency-Replayed"] = "true"
    content = orjson.dumps(view.model_dump(mode="json"))
    return Response(content, status_code=201, headers=headers, media_type="application/json")


def _facts(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.key_id,
        "name": key.name,
        "prefix": f"ing_live_{key.key_id}",
        "tenant_id": key.tenant_id,
        "user": key.username,
        "scopes": sorted(scope.value for scope in key.scopes),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "rotated_from": key.rotated_from,
    }
