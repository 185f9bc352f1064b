"""``/tenants``: whom this deployment serves, and how their documents are treated."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import public
from api.dashboard.forms import Mistakes, json_object, mistakes_of, once, pretty, repeated_key, whole_number
from api.dashboard.pages.limits import GROUPS, said
from api.dashboard.public_api import Api, ApiRefusal, Json, PublicApi, together
from api.dashboard.rendering import form_of, page, see

router = APIRouter(include_in_schema=False, prefix="/tenants")

PAGE_SIZE: Final = 50
PIPELINES: Final[Mapping[str, str]] = {
    "ingest": "ingest: parse, cut, embed and index here",
    "handoff": "handoff: to workers of a platform's own",
}
OWN_LIMITS: Final = (
    "max_concurrent_jobs",
    "max_concurrent_bytes",
    "max_documents_per_batch",
    "max_files_per_batch",
    "max_file_bytes",
    "max_request_bytes",
    "requests_per_minute",
    "uploads_per_minute",
    "jobs_per_user_per_minute",
    "streams_per_key",
    "max_webhooks",
)
"""Limits that a tenant may have of its own."""
_WORDS: Final = {name: limit for group in GROUPS.values() for name, limit in group.items()}
_OBJECTS: Final = ("default_metadata", "metadata_schema", "collection_schemas")
FIELDS: Final = frozenset({"name", "tenant_id", "pipeline", "fairness_weight", *_OBJECTS, *OWN_LIMITS})


def settings_of(fields: dict[str, str], mistakes: Mistakes) -> Json:
    """What was entered, as the API takes it. What is empty goes back to what it was at first."""
    body: Json = {"name": fields.get("name", "").strip()}
    if fields.get("pipeline") in PIPELINES:
        body["pipeline"] = fields["pipeline"]
    weight = fields.get("fairness_weight", "").strip()
    try:
        body["fairness_weight"] = float(weight) if weight else None
    except ValueError:
        mistakes.by_field["fairness_weight"] = "This is no number."
    body |= {name: json_object(fields, name, mistakes) for name in _OBJECTS}
    limits = {name: whole_number(fields, name, mistakes) for name in OWN_LIMITS}
    body["limits"] = {name: value for name, value in limits.items() if value is not None} or None
    return body


def entered(tenant: Json) -> dict[str, str]:
    """A tenant as its form shows it."""
    shown = {
        "name": tenant["name"],
        "pipeline": tenant["pipeline"],
        "fairness_weight": f"{tenant['fairness_weight']:g}",
    }
    shown |= {name: pretty(tenant[name]) for name in _OBJECTS}
    return shown | {name: str(tenant["limits"][name]) for name in OWN_LIMITS if name in tenant["limits"]}


@router.get("")
@public
async def list_tenants(request: Request, api: Api, name: str = "", cursor: str = "") -> Response:
    """The tenants, newest first."""
    listed = await api.get("/v1/tenants", limit=PAGE_SIZE, name=name.strip(), cursor=cursor)
    return await page(
        request,
        api,
        "tenants/list.html",
        title="Tenants",
        listed=listed,
        chosen={"name": name, "cursor": cursor},
    )


@router.get("/new")
@public
async def show_new(request: Request, api: Api) -> Response:
    """The form for a tenant."""
    return await _form(request, api, None, {"fairness_weight": "1", "pipeline": "ingest"}, Mistakes())


@router.post("/new")
@public
async def create(request: Request, api: Api) -> Response:
    """Register a tenant."""
    fields = await form_of(request, api)
    mistakes = Mistakes()
    body = {name: value for name, value in settings_of(fields, mistakes).items() if value is not None}
    if tenant_id := fields.get("tenant_id", "").strip():
        body["tenant_id"] = tenant_id
    if mistakes.is_empty:
        try:
            made = await api.send("POST", "/v1/tenants", body, headers=repeated_key(fields))
        except ApiRefusal as refusal:
            if refusal.status not in {409, 422}:
                raise
            mistakes = mistakes_of(refusal.problem, FIELDS)
        else:
            return see(request, f"/tenants/{made.body['id']}", "The tenant was registered.")
    return await _form(request, api, None, fields, mistakes, status=422)


@router.get("/{tenant_id}")
@public
async def show_tenant(request: Request, api: Api, tenant_id: str) -> Response:
    """A tenant's settings."""
    tenant = await api.get(_path(tenant_id))
    return await _form(request, api, tenant, entered(tenant), Mistakes())


@router.post("/{tenant_id}")
@public
async def edit(request: Request, api: Api, tenant_id: str) -> Response:
    """Change a tenant's settings."""
    fields = await form_of(request, api)
    tenant = await api.get(_path(tenant_id))
    mistakes = Mistakes()
    body = settings_of(fields, mistakes)
    if mistakes.is_empty:
        try:
            await api.send("PATCH", _path(tenant_id), body)
        except ApiRefusal as refusal:
            if refusal.status not in {409, 422}:
                raise
            mistakes = mistakes_of(refusal.problem, FIELDS)
        else:
            where = f"/tenants/{quote(tenant_id, safe='')}"
            return see(request, where, "The settings were changed. Batches that run keep what they began with.")
    return await _form(request, api, tenant, fields, mistakes, status=422)


@router.post("/{tenant_id}/delete")
@public
async def delete(request: Request, api: Api, tenant_id: str) -> Response:
    """Nobody can act for it any more: only where its name was typed once more."""
    fields = await form_of(request, api)
    tenant = await api.get(_path(tenant_id))
    if fields.get("confirmed_name", "").strip() != tenant["name"]:
        mistakes = Mistakes(title="Nothing was deleted: the name that was typed is another one.")
        return await _form(request, api, tenant, entered(tenant), mistakes, status=422)
    await api.send("DELETE", _path(tenant_id))
    return see(request, "/tenants", f"{tenant['name']} is gone, with its keys and users. Its batches stay on record.")


async def _form(
    request: Request,
    api: PublicApi,
    tenant: Json | None,
    given: Mapping[str, str],
    mistakes: Mistakes,
    *,
    status: int = 200,
) -> Response:
    usual, users, keys = await together(
        api.get_or_none("/v1/limits"),
        _count(api, "/v1/users", tenant),
        _count(api, "/v1/api-keys", tenant),
    )
    return await page(
        request,
        api,
        "tenants/form.html",
        title=tenant["name"] if tenant else "Register a tenant",
        status=status,
        tenant=tenant,
        given=given,
        mistakes=mistakes,
        pipelines=PIPELINES,
        own_limits=[_limit(name, usual or {}) for name in OWN_LIMITS],
        users=users,
        keys=keys,
        once=once(),
    )


async def _count(api: PublicApi, path: str, tenant: Json | None) -> str:
    """How many a tenant has, as far as one page tells."""
    listed = await api.get_or_none(path, tenant_id=tenant["id"], limit=100) if tenant else None
    return f"{len(listed['data'])}{'+' if listed['has_more'] else ''}" if listed else "–"


def _limit(name: str, usual: Mapping[str, Any]) -> Json:
    words = _WORDS[name]
    own = said(usual[name], words.unit) if name in usual else ""
    unit = " (bytes)" if words.unit == "bytes" else ""
    return {"name": name, "label": words.label + unit, "hint": words.text, "usual": own}


def _path(tenant_id: str) -> str:
    return f"/v1/tenants/{quote(tenant_id, safe='')}"
