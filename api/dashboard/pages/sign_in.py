"""``/sign-in`` and ``/sign-out``, where a deployment asks who one is."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.public_api import Api, ApiRefusal
from api.dashboard.rendering import bare_page, form_of, query_of, see

router = APIRouter(include_in_schema=False)


def _within(target: str) -> str:
    """Where to go after the sign-in: a path of this service, whatever the address said."""
    is_ours = target.startswith("/") and not target.startswith(("//", "/\\", "/sign-"))
    return target if is_ours and target.isprintable() else "/"


@router.get("/sign-in")
@public
async def show_sign_in(request: Request, api: Api, next: str = "/") -> Response:  # noqa: A002 - the name in the address
    """The form; whoever is let in already goes on."""
    try:
        await api.get("/v1/me")
    except ApiRefusal:
        return bare_page(request, "sign_in.html", title="Sign in", next=_within(next), problem=None, username="")
    return see(request, _within(next))


@router.post("/sign-in")
@public
async def sign_in(request: Request, api: Api) -> Response:
    """Open a session with a user's name and password, or with a key."""
    fields = await form_of(request, api)
    target, username = _within(fields.get("next", "/")), fields.get("username", "").strip()
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return see(request, f"/sign-in{query_of({'next': target})}")
    api.forget_session()
    try:
        credential = fields.get("key", "").strip()
        if not credential:
            body = {"username": username, "password": fields.get("password", "")}
            credential = (await api.send("POST", "/v1/tokens", body)).body["access_token"]
        opened = await api.send("POST", "/v1/sessions", headers={"Authorization": f"Bearer {credential}"})
    except ApiRefusal as refusal:
        problem = refusal.problem
        if refusal.status in {400, 401, 422}:
            problem = {"detail": "That is not a name and password, or a key, of this service."}
        return bare_page(
            request,
            "sign_in.html",
            title="Sign in",
            status=refusal.status,
            next=target,
            problem=problem,
            username=username,
        )
    response = see(request, target)
    response.headers.append("set-cookie", opened.headers["set-cookie"])
    return response


@router.post("/sign-out")
@public
async def sign_out(request: Request, api: Api) -> Response:
    """End the session, here and in every other window."""
    await form_of(request, api)
    closed = await api.send("DELETE", "/v1/sessions/current")
    response = see(request, "/sign-in")
    response.headers.append("set-cookie", closed.headers["set-cookie"])
    return response
