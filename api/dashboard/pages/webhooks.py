"""``/webhooks``: where events are sent, what was sent there, and what became of it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.forms import Mistakes, mistakes_of, once, pretty, repeated_key
from api.dashboard.public_api import Api, ApiRefusal, Json, PublicApi
from api.dashboard.rendering import form_of, fragment, page, see

router = APIRouter(include_in_schema=False, prefix="/webhooks")

PAGE_SIZE: Final = 50
DELIVERIES_SHOWN: Final = 25
EVENTS: Final[Mapping[str, str]] = {
    "batch.started": "it got its place and runs",
    "batch.paused": "nothing is in flight any more",
    "batch.resumed": "it goes on",
    "batch.retrying": "documents run again",
    "batch.completed": "every document ended; some may have failed",
    "batch.failed": "every document failed, or it could not run",
    "batch.cancelled": "it was cancelled",
}
STATES: Final[Mapping[str, str]] = {"": "All", "pending": "Under way", "succeeded": "Taken", "failed": "Given up"}
TONES: Final[Mapping[str, str]] = {"pending": "run", "succeeded": "good", "failed": "bad"}
FIELDS: Final = frozenset({"url", "event_types", "description"})
_OFF: Final[Mapping[str, str]] = {"requested": "Switched off", "gone": "Answered 410: gone"}


def standing(webhook: Json) -> tuple[str, str]:
    """How a webhook stands: a tone and words."""
    if webhook["is_enabled"]:
        return "good", "On"
    return "stop", _OFF.get(webhook["disabled_reason"] or "", "Off")


def outcome_of(attempt: Json) -> str:
    """What came of an attempt, in a few words."""
    answered = f"{attempt['status_code']}" if attempt["status_code"] is not None else "no answer"
    return f"{answered}: {attempt['error']}" if attempt["error"] else answered


@router.get("")
@public
async def list_webhooks(request: Request, api: Api, cursor: str = "") -> Response:
    """The tenant's webhooks."""
    listed = await api.get("/v1/webhook-endpoints", limit=PAGE_SIZE, cursor=cursor)
    for each in listed["data"]:
        each["tone"], each["standing"] = standing(each)
    return await page(request, api, "webhooks/list.html", title="Webhooks", listed=listed, chosen={"cursor": cursor})


@router.get("/new")
@public
async def show_new(request: Request, api: Api) -> Response:
    """The form for a webhook."""
    return await _new(request, api, {}, [], Mistakes())


@router.post("/new")
@public
async def create(request: Request, api: Api) -> Response:
    """Register a webhook and show its secret."""
    fields = await form_of(request, api)
    chosen = await _chosen(request)
    body = {
        "url": fields.get("url", "").strip(),
        "description": fields.get("description", "").strip(),
        "event_types": chosen,
    }
    try:
        made = await api.send("POST", "/v1/webhook-endpoints", body, headers=repeated_key(fields))
    except ApiRefusal as refusal:
        if refusal.status not in {409, 422}:
            raise
        return await _new(request, api, fields, chosen, mistakes_of(refusal.problem, FIELDS), status=422)
    return await _secret(request, api, made.body, is_new=True)


@router.get("/{webhook_id}")
@public
async def show_webhook(
    *,
    request: Request,
    api: Api,
    webhook_id: str,
    status: str = "",
    cursor: str = "",
    part: Annotated[str, Query(alias="fragment")] = "",
) -> Response:
    """A webhook, and what was sent to it."""
    chosen = {"status": status if status in STATES else "", "cursor": cursor}
    if part == "deliveries":
        return fragment(
            request,
            "webhooks/deliveries.html",
            me=await api.get("/v1/me"),
            **await _deliveries(api, webhook_id, chosen),
        )
    return await _webhook(request, api, webhook_id, chosen)


@router.post("/{webhook_id}/edit")
@public
async def edit(request: Request, api: Api, webhook_id: str) -> Response:
    """Change where it is sent, what it hears of, what it is called."""
    fields = await form_of(request, api)
    chosen = await _chosen(request)
    body = {
        "url": fields.get("url", "").strip(),
        "description": fields.get("description", "").strip(),
        "event_types": chosen,
    }
    try:
        await api.send("PATCH", _path(webhook_id), body)
    except ApiRefusal as refusal:
        if refusal.status not in {409, 422}:
            raise
        mistakes = mistakes_of(refusal.problem, FIELDS)
        return await _webhook(request, api, webhook_id, {}, given=body, mistakes=mistakes, status=422)
    return see(request, _here(webhook_id), "The webhook was changed.")


@router.post("/{webhook_id}/{action}")
@public
async def act(request: Request, api: Api, webhook_id: str, action: str) -> Response:
    """Test it, switch it, give it a new secret, or forget it."""
    fields = await form_of(request, api)
    path, here = _path(webhook_id), _here(webhook_id)
    match action:
        case "test":
            tested = (await api.send("POST", f"{path}/test")).body
            if "hx-request" in request.headers:
                return fragment(request, "webhooks/outcome.html", outcome=tested)
            return await _webhook(request, api, webhook_id, {}, outcome=tested)
        case "rotate":
            made = (await api.send("POST", f"{path}/rotate", headers=repeated_key(fields))).body
            return await _secret(request, api, made, is_new=False)
        case "enable" | "disable":
            await api.send("PATCH", path, {"is_enabled": action == "enable"})
            return see(request, here, "Events are sent again." if action == "enable" else "Nothing more is sent to it.")
        case "delete":
            await api.send("DELETE", path)
            return see(request, "/webhooks", "The webhook is gone, with its secret and its log.")
    raise ApiRefusal(404, {"title": "Nothing here", "detail": "A webhook cannot be asked to do that."})


@router.post("/{webhook_id}/deliveries/{delivery_id}/redeliver")
@public
async def redeliver(request: Request, api: Api, webhook_id: str, delivery_id: str) -> Response:
    """Send an event again."""
    fields = await form_of(request, api)
    path = f"{_path(webhook_id)}/deliveries/{quote(delivery_id, safe='')}/redeliver"
    await api.send("POST", path, headers=repeated_key(fields))
    return see(request, f"{_here(webhook_id)}#deliveries", "The event is sent again.")


async def _chosen(request: Request) -> list[str]:
    """Events that were ticked; none where all were, so that later kinds are heard of too."""
    ticked = [each for each in (await request.form()).getlist("event_types") if isinstance(each, str)]
    return [] if set(ticked) >= set(EVENTS) else ticked


async def _new(
    request: Request,
    api: PublicApi,
    given: Mapping[str, str],
    chosen: Sequence[str],
    mistakes: Mistakes,
    *,
    status: int = 200,
) -> Response:
    return await page(
        request,
        api,
        "webhooks/new.html",
        title="Add a webhook",
        status=status,
        given=given,
        chosen_events=chosen,
        mistakes=mistakes,
        events=EVENTS,
        once=once(),
    )


async def _secret(request: Request, api: PublicApi, webhook: Json, *, is_new: bool) -> Response:
    return await page(
        request,
        api,
        "webhooks/secret.html",
        title=webhook["description"] or webhook["url"],
        webhook=webhook,
        is_new=is_new,
        here=_here(webhook["webhook_id"]),
    )


async def _webhook(
    request: Request,
    api: PublicApi,
    webhook_id: str,
    chosen: Json,
    *,
    given: Json | None = None,
    mistakes: Mistakes | None = None,
    outcome: Json | None = None,
    status: int = 200,
) -> Response:
    webhook = await api.get(_path(webhook_id))
    webhook["tone"], webhook["standing"] = standing(webhook)
    deliveries = await _deliveries(api, webhook_id, {"status": "", "cursor": "", **chosen})
    return await page(
        request,
        api,
        "webhooks/page.html",
        title=webhook["description"] or webhook["url"],
        status=status,
        webhook=webhook,
        given=given or webhook,
        mistakes=mistakes or Mistakes(),
        outcome=outcome,
        events=EVENTS,
        **deliveries,
    )


async def _deliveries(api: PublicApi, webhook_id: str, chosen: Json) -> Json:
    listed = await api.get(f"{_path(webhook_id)}/deliveries", limit=DELIVERIES_SHOWN, **chosen)
    for each in listed["data"]:
        each["tone"], each["standing"] = TONES.get(each["status"], "run"), STATES.get(each["status"], each["status"])
        each["shown_payload"] = pretty(each["payload"])
        for attempt in each["attempts"]:
            attempt["outcome"] = outcome_of(attempt)
    return {
        "deliveries": listed,
        "delivery_states": STATES,
        "chosen": chosen,
        "here": _here(webhook_id),
        "once": once(),
    }


def _path(webhook_id: str) -> str:
    return f"/v1/webhook-endpoints/{quote(webhook_id, safe='')}"


def _here(webhook_id: str) -> str:
    return f"/webhooks/{quote(webhook_id, safe='')}"
