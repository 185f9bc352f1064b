"""``/users``: people, and programs that sign in like people."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.forms import Mistakes, mistakes_of, once, repeated_key
from api.dashboard.pages.keys import SCOPES, tenant_names
from api.dashboard.public_api import Api, ApiRefusal, Json, PublicApi, together
from api.dashboard.rendering import form_of, page, see

router = APIRouter(include_in_schema=False, prefix="/users")

PAGE_SIZE: Final = 50
_DIFFERS: Final = {"password_again": "This is another password."}
FIELDS: Final = frozenset({"username", "password", "tenant_id", "scopes"})


@router.get("")
@public
async def list_users(request: Request, api: Api, cursor: str = "") -> Response:
    """The users."""
    listed, names = await together(api.get("/v1/users", limit=PAGE_SIZE, cursor=cursor), tenant_names(api))
    return await page(
        request,
        api,
        "users/list.html",
        title="Users",
        listed=listed,
        chosen={"cursor": cursor},
        tenant_names=names,
        has_tenants=len({each["tenant_id"] for each in listed["data"]}) > 1,
    )


@router.get("/new")
@public
async def show_new(request: Request, api: Api) -> Response:
    """The form for a user."""
    return await _new(request, api, {}, ["read", "write"], Mistakes())


@router.post("/new")
@public
async def create(request: Request, api: Api) -> Response:
    """Register a user."""
    fields = await form_of(request, api)
    scopes = await _scopes(request)
    mistakes = Mistakes()
    if fields.get("password", "") != fields.get("password_again", ""):
        mistakes.by_field |= _DIFFERS
    body: Json = {
        "username": fields.get("username", "").strip(),
        "password": fields.get("password", ""),
        "scopes": scopes,
    }
    if tenant_id := fields.get("tenant_id", "").strip():
        body["tenant_id"] = tenant_id
    if mistakes.is_empty:
        try:
            made = await api.send("POST", "/v1/users", body, headers=repeated_key(fields))
        except ApiRefusal as refusal:
            if refusal.status not in {404, 409, 422}:
                raise
            mistakes = mistakes_of(refusal.problem, FIELDS)
        else:
            return see(request, f"/users/{made.body['id']}", "The user was registered.")
    return await _new(request, api, fields, scopes, mistakes, status=422)


@router.get("/{user_id}")
@public
async def show_user(request: Request, api: Api, user_id: str) -> Response:
    """One user, and what can be changed."""
    return await _user(request, api, user_id, Mistakes())


@router.post("/{user_id}/{action}")
@public
async def change(request: Request, api: Api, user_id: str, action: str) -> Response:
    """Change what a user may do, its password, or whether it is let in."""
    fields = await form_of(request, api)
    here, path = f"/users/{quote(user_id, safe='')}", _path(user_id)
    body: Json
    match action:
        case "scopes":
            body, said = {"scopes": await _scopes(request)}, "What the user may do was changed."
        case "password":
            if fields.get("password", "") != fields.get("password_again", ""):
                mistakes = Mistakes(by_field=dict(_DIFFERS))
                return await _user(request, api, user_id, mistakes, status=422)
            body = {"password": fields.get("password", "")}
            said = "The password was changed. Whoever was signed in with the old one signs in again."
        case "disable":
            body, said = {"is_disabled": True}, "The user is disabled: refused everywhere within two seconds."
        case "enable":
            body, said = {"is_disabled": False}, "The user is let in again."
        case "delete":
            await api.send("DELETE", path)
            return see(request, "/users", "The user is gone, and its keys are revoked.")
        case _:
            raise ApiRefusal(404, {"title": "Nothing here", "detail": "A user cannot be changed so."})
    try:
        await api.send("PATCH", path, body)
    except ApiRefusal as refusal:
        if refusal.status not in {409, 422}:
            raise
        return await _user(request, api, user_id, mistakes_of(refusal.problem, FIELDS), status=refusal.status)
    return see(request, here, said)


async def _scopes(request: Request) -> list[str]:
    return [each for each in (await request.form()).getlist("scopes") if isinstance(each, str)]


async def _new(
    request: Request,
    api: PublicApi,
    given: Mapping[str, str],
    scopes: list[str],
    mistakes: Mistakes,
    *,
    status: int = 200,
) -> Response:
    shown = {name: value for name, value in given.items() if not name.startswith("password")}
    return await page(
        request,
        api,
        "users/new.html",
        title="Register a user",
        status=status,
        given=shown,
        chosen_scopes=scopes,
        mistakes=mistakes,
        all_scopes=SCOPES,
        tenant_names=await tenant_names(api),
        once=once(),
    )


async def _user(request: Request, api: PublicApi, user_id: str, mistakes: Mistakes, *, status: int = 200) -> Response:
    user, names = await together(api.get(_path(user_id)), tenant_names(api))
    return await page(
        request,
        api,
        "users/page.html",
        title=user["username"],
        status=status,
        user=user,
        mistakes=mistakes,
        all_scopes=SCOPES,
        tenant_name=names.get(user["tenant_id"], user["tenant_id"]),
        here=f"/users/{user['id']}",
    )


def _path(user_id: str) -> str:
    return f"/v1/users/{quote(user_id, safe='')}"
