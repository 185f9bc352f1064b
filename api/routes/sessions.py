"""``/v1/sessions`` and ``/v1/me``: signing in with a browser, and who one is."""

from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime, BaseModel

from api.access import GuardedRoute, access
from api.credentials import credential_of
from api.dependencies import CurrentCaller, Parts
from api.sessions import COOKIE, csrf_token, looks_like_session, session_of
from ingather.models.accounts import Scope
from ingather.models.errors import UnauthorizedError

router = APIRouter(prefix="/v1", tags=["administration"], route_class=GuardedRoute)


class SessionView(BaseModel):
    """A session that was opened. Its secret is in the cookie alone."""

    user: str
    tenant_id: str
    expires_at: AwareDatetime
    csrf_token: str
    """What requests that change something carry as `X-CSRF-Token`, where the cookie is all they show."""


class MyLinks(BaseModel):
    docs: str = "/docs"
    temporal_ui: str | None = None


class Me(BaseModel):
    """Who asks, as the service sees it."""

    user: str
    """`anonymous` for nobody in particular, where the deployment is open."""
    tenant_id: str
    tenant_name: str
    scopes: list[str]
    """What the credential may do; all there is where the deployment is open."""
    auth: Literal["open", "required"]
    credential: str
    """`key`, `token` or `none`; that of the sign-in where a session was shown."""
    csrf_token: str | None = None
    """Of the session that was shown."""
    expires_at: AwareDatetime | None = None
    """When the session or token ends."""
    version: str
    links: MyLinks


@router.post("/sessions", status_code=201, response_model=SessionView)
@access(scope=Scope.READ)
async def open_session(parts: Parts, caller: CurrentCaller, request: Request) -> Response:
    """Sign in with a browser: show a key, or an access token, and get a cookie that stands for it.

    It is `HttpOnly` and `SameSite=Lax`, ends with the key or the user it was opened with, and after
    `INGATHER_AUTH__SESSION_LIFETIME`.
    """
    if looks_like_session(credential_of(request.headers) or ""):
        raise UnauthorizedError(
            "A session opens no other.", action="Show a key, or an access token of POST /v1/tokens."
        )
    session, secret = await parts.accounts.open_session(caller)
    view = SessionView(
        user=caller.user, tenant_id=session.tenant_id, expires_at=session.expires_at, csrf_token=csrf_token(secret)
    )
    headers = {"Cache-Control": "no-store"}
    response = Response(view.model_dump_json(), status_code=201, headers=headers, media_type="application/json")
    seconds = int((session.expires_at - datetime.now(UTC)).total_seconds())
    is_secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, secret, max_age=seconds, httponly=True, samesite="lax", secure=is_secure, path="/")
    return response


@router.delete("/sessions/current", status_code=204, response_class=Response)
@access(scope=Scope.READ)
async def close_session(parts: Parts, _caller: CurrentCaller, request: Request) -> Response:
    """Sign out: the session of the cookie is over, in every window that has it. Without one nothing happens."""
    secret = session_of(request.headers)
    if secret is not None:
        await parts.accounts.close_session(secret)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax")
    return response


@router.get("/me")
async def read_me(parts: Parts, caller: CurrentCaller, request: Request) -> Me:
    """Who asks, for which tenant, and what they may do."""
    tenant = await parts.gate.tenants.get(caller.tenant_id)
    shown = credential_of(request.headers) or ""
    return Me(
        user=caller.user,
        tenant_id=caller.tenant_id,
        tenant_name=tenant.name,
        scopes=[scope.value for scope in Scope if caller.may(scope)],
        auth="open" if parts.gate.is_open else "required",
        credential=caller.principal.kind.value,
        csrf_token=csrf_token(shown) if looks_like_session(shown) else None,
        expires_at=caller.principal.expires_at,
        version=request.app.version,
        links=MyLinks(temporal_ui=parts.temporal_ui_url),
    )
