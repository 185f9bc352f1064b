"""``/keys``: API keys. A key is shown once, on the page that answers the form that made it."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.forms import Mistakes, mistakes_of, once, repeated_key
from api.dashboard.public_api import Api, ApiRefusal, Json, PublicApi
from api.dashboard.rendering import form_of, page, see

router = APIRouter(include_in_schema=False, prefix="/keys")

PAGE_SIZE: Final = 50
SCOPES: Final[Mapping[str, str]] = {
    "read": "look at batches, documents, events and settings; search",
    "write": "submit and steer",
    "admin": "manage tenants, users and keys of the whole deployment; includes the other two",
}
LIFETIMES: Final[Mapping[str, str]] = {
    "30": "in 30 days",
    "90": "in 90 days",
    "365": "in a year",
    "": "never",
}
GRACES: Final[Mapping[str, str]] = {
    "0": "ends at once",
    "3600": "is accepted for another hour",
    "86400": "is accepted for another day",
    "604800": "is accepted for another week",
}
USUAL_GRACE: Final = "86400"


def standing(key: Json, now: datetime) -> tuple[str, str]:
    """How a key stands: a tone and a word."""
    if key["expires_at"] is None:
        return "good", "Live"
    left = datetime.fromisoformat(key["expires_at"]) - now
    if left <= timedelta(0):
        return "stop", "Expired"
    return ("part", "Ends soon") if left < timedelta(days=7) else ("good", "Live")


def expiry(days: int, now: datetime) -> datetime:
    """At the end of the day, in UTC: a form that is sent twice means the same moment."""
    return datetime.combine((now + timedelta(days=days + 1)).date(), time.min, UTC)


async def tenant_names(api: PublicApi) -> dict[str, str]:
    """Names of tenants by id, as far as they may be seen: the newest two hundred."""
    listed = await api.get_or_none("/v1/tenants", limit=200)
    return {each["id"]: each["name"] for each in listed["data"]} if listed else {}


@router.get("")
@public
async def list_keys(request: Request, api: Api, cursor: str = "") -> Response:
    """Keys that were not revoked."""
    listed = await api.get("/v1/api-keys", limit=PAGE_SIZE, cursor=cursor)
    now = datetime.now(UTC)
    followed = {each["rotated_from"] for each in listed["data"]}
    for each in listed["data"]:
        each["tone"], each["standing"] = standing(each, now)
        each["is_followed"] = each["id"] in followed
    names = await tenant_names(api)
    return await page(
        request,
        api,
        "keys/list.html",
        title="Keys",
        listed=listed,
        chosen={"cursor": cursor},
        tenant_names=names,
        has_tenants=len({each["tenant_id"] for each in listed["data"]}) > 1,
        graces=GRACES,
        usual_grace=USUAL_GRACE,
        once=once(),
    )


@router.get("/new")
@public
async def show_new(request: Request, api: Api) -> Response:
    """The form for a key."""
    return await _form(request, api, {"lifetime": "90"}, ["read", "write"], Mistakes())


@router.post("/new")
@public
async def create(request: Request, api: Api) -> Response:
    """Make a key and show it."""
    fields = await form_of(request, api)
    scopes = [each for each in (await request.form()).getlist("scopes") if isinstance(each, str)]
    body: Json = {"name": fields.get("name", "").strip(), "scopes": scopes}
    for name in ("user", "tenant_id"):
        if fields.get(name, "").strip():
            body[name] = fields[name].strip()
    if fields.get("lifetime", "") in LIFETIMES and fields.get("lifetime"):
        body["expires_at"] = expiry(int(fields["lifetime"]), datetime.now(UTC)).isoformat()
    try:
        made = await api.send("POST", "/v1/api-keys", body, headers=repeated_key(fields))
    except ApiRefusal as refusal:
        if refusal.status not in {404, 409, 422}:
            raise
        mistakes = mistakes_of(refusal.problem, {"name", "scopes", "user", "tenant_id", "expires_at"})
        return await _form(request, api, fields, scopes, mistakes, status=422)
    return await _show(request, api, made.body, "")


@router.post("/{key_id}/rotate")
@public
async def rotate(request: Request, api: Api, key_id: str) -> Response:
    """Make the key that follows and show it."""
    fields = await form_of(request, api)
    grace = fields.get("grace", USUAL_GRACE)
    body = {"grace_seconds": int(grace if grace in GRACES else USUAL_GRACE)}
    path = f"/v1/api-keys/{quote(key_id, safe='')}/rotate"
    made = await api.send("POST", path, body, headers=repeated_key(fields))
    return await _show(request, api, made.body, GRACES[str(body["grace_seconds"])])


@router.post("/{key_id}/revoke")
@public
async def revoke(request: Request, api: Api, key_id: str) -> Response:
    """Accept a key no more, for good."""
    await form_of(request, api)
    await api.send("DELETE", f"/v1/api-keys/{quote(key_id, safe='')}")
    return see(request, "/keys", "The key was revoked. It is refused everywhere within two seconds.")


async def _show(request: Request, api: PublicApi, key: Json, old_one: str) -> Response:
    return await page(request, api, "keys/made.html", title=key["name"], key=key, old_one=old_one)


async def _form(
    request: Request,
    api: PublicApi,
    given: Mapping[str, str],
    scopes: list[str],
    mistakes: Mistakes,
    *,
    status: int = 200,
) -> Response:
    return await page(
        request,
        api,
        "keys/new.html",
        title="Make a key",
        status=status,
        given=given,
        chosen_scopes=scopes,
        mistakes=mistakes,
        all_scopes=SCOPES,
        lifetimes=LIFETIMES,
        tenant_names=await tenant_names(api),
        once=once(),
    )
