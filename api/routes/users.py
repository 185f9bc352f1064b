"""``/v1/users`` and ``/v1/tokens``: people, and programs that log in like people."""

from datetime import UTC, datetime
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from api.access import GuardedRoute, public
from api.cursors import time_and_id
from api.dependencies import CurrentCaller, IdempotencyKey, PageSize, Parts, require_json
from api.problems import invalid
from api.rates import address_of
from ingather.models.accounts import DEFAULT_SCOPES, KEY_USER_PREFIX, Scope, User
from ingather.models.identity import SecretText

router = APIRouter(prefix="/v1", tags=["administration"], route_class=GuardedRoute)

Password = Annotated[SecretText, Field(min_length=1, max_length=1_024)]
Username = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


class NewUser(BaseModel):
    """A user to register."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    username: Username
    """Unique in the whole deployment. Names that begin with `key:` are those of keys without a user."""
    password: Password
    tenant_id: str | None = None
    """The caller's own tenant when left out."""
    scopes: frozenset[Scope] = DEFAULT_SCOPES

    @field_validator("username")
    @classmethod
    def _is_no_key_s(cls, value: str) -> str:
        if value.startswith(KEY_USER_PREFIX):
            raise ValueError(f"Names that begin with {KEY_USER_PREFIX} are those of keys.")
        return value


class UserChanges(BaseModel):
    """What is to be different; the rest stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: frozenset[Scope] | None = Field(default=None, min_length=1)
    password: Password | None = None
    """Tokens and sessions from before are refused; its keys are not touched."""
    is_disabled: bool | None = None
    """Whether it is refused, with its tokens, sessions and keys; `false` lets it in again."""


class UserView(BaseModel):
    """A user, without the password."""

    id: str
    username: str
    tenant_id: str
    scopes: list[str]
    created_at: AwareDatetime
    is_disabled: bool
    password_changed_at: AwareDatetime | None
    """Null where it is the first one."""


class UserList(BaseModel):
    data: list[UserView]
    has_more: bool = False
    next_cursor: str | None = None


class LogIn(BaseModel):
    """Who wants a token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    username: Username
    password: Password


class TokenView(BaseModel):
    """What to send as `Authorization: Bearer …`."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105  # the word of RFC 6750
    expires_in: int
    """Seconds."""


@router.post("/users", status_code=201, response_model=UserView, dependencies=[Depends(require_json)])
async def create_user(
    *, parts: Parts, caller: CurrentCaller, body: NewUser, idempotency_key: IdempotencyKey = None
) -> Response:
    """Register a user. Needs the scope `admin`."""
    password = body.password.get_secret_value()
    made = await parts.accounts.create_user(
        caller, body.username, password, body.tenant_id, scopes=body.scopes, key=idempotency_key
    )
    headers = {"Location": f"/v1/users/{made.thing.user_id}"}
    if made.was_replayed:
        headers["Idempotency-Replayed"] = "true"
    content = orjson.dumps(user_view(made.thing).model_dump(mode="json"))
    return Response(content, status_code=201, headers=headers, media_type="application/json")


@router.get("/users")
async def list_users(
    *,
    parts: Parts,
    caller: CurrentCaller,
    limit: PageSize,
    tenant_id: Annotated[str | None, Query(description="Of this tenant.")] = None,
    cursor: str | None = None,
) -> UserList:
    """Users, newest first: of all tenants for an administrator, else of the caller's own."""
    tenant = await parts.accounts.listed_tenant(caller, tenant_id)
    filters = {"list": "users", "tenant": tenant}
    before = time_and_id(parts.cursors.decode(cursor, filters)) if cursor else None
    listed = await parts.accounts.list_users(tenant, limit, before)
    next_cursor = None
    if listed.has_more:
        last = listed.found[-1]
        next_cursor = parts.cursors.encode([last.created_at.isoformat(), last.user_id], filters)
    data = [user_view(user) for user in listed.found]
    return UserList(data=data, has_more=listed.has_more, next_cursor=next_cursor)


@router.get("/users/{user_id}")
async def read_user(parts: Parts, caller: CurrentCaller, user_id: str) -> UserView:
    """One user."""
    return user_view(await parts.accounts.user(caller, user_id))


@router.patch("/users/{user_id}", dependencies=[Depends(require_json)])
async def edit_user(parts: Parts, caller: CurrentCaller, user_id: str, body: UserChanges) -> UserView:
    """Change what a user may do, its password, or whether it is let in at all. Needs the scope `admin`."""
    await parts.accounts.user(caller, user_id)
    if not any(value is not None for _, value in body):
        raise invalid("#", "Name what to change.", "nothing_to_change")
    edited = await parts.accounts.edit_user(
        caller,
        user_id,
        scopes=body.scopes,
        password=body.password.get_secret_value() if body.password else None,
        is_disabled=body.is_disabled,
    )
    return user_view(edited)


@router.delete("/users/{user_id}", status_code=204, response_class=Response)
async def delete_user(parts: Parts, caller: CurrentCaller, user_id: str) -> Response:
    """Its tokens and keys are refused from now on. Needs the scope `admin`."""
    await parts.accounts.delete_user(caller, user_id)
    return Response(status_code=204)


@router.post("/tokens", dependencies=[Depends(require_json)])
@public
async def create_token(parts: Parts, request: Request, body: LogIn) -> Response:
    """An access token for a user name and password."""
    issued = await parts.accounts.log_in(body.username, body.password.get_secret_value(), address_of(request.scope))
    seconds = int((issued.expires_at - datetime.now(UTC)).total_seconds())
    view = TokenView(access_token=issued.token, expires_in=seconds)
    return Response(view.model_dump_json(), media_type="application/json", headers={"Cache-Control": "no-store"})


def user_view(user: User) -> UserView:
    return UserView(
        id=user.user_id,
        username=user.username,
        tenant_id=user.tenant_id,
        scopes=sorted(scope.value for scope in user.scopes),
        created_at=user.created_at,
        is_disabled=user.is_disabled,
        password_changed_at=user.password_changed_at,
    )
