"""``/v1/tenants``: who this deployment serves, and how their documents are treated."""

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from api.access import GuardedRoute
from api.cursors import time_and_id
from api.dependencies import CurrentCaller, IdempotencyKey, PageSize, Parts, require_json
from api.problems import invalid
from api.service.accounts import tenant_id_for
from ingather.domain.metadata_rules import check_schema
from ingather.models.accounts import (
    MAX_COLLECTION_SCHEMAS,
    MAX_FAIRNESS_WEIGHT,
    MIN_FAIRNESS_WEIGHT,
    Tenant,
    TenantLimits,
)
from ingather.models.errors import AlreadyExistsError, IdempotencyKeyReusedError, ValidationFailedError
from ingather.models.identity import TenantId
from workflows.pipelines import OFFERED_PIPELINES

router = APIRouter(prefix="/v1/tenants", tags=["administration"], route_class=GuardedRoute)

JsonSchema = dict[str, Any]
MAX_SETTINGS_BYTES = 256 * 1024


class TenantSettings(BaseModel):
    """What can be set; a field that is left out keeps its value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=255)
    pipeline: str | None = None
    """What its documents run through: `ingest`, or `handoff` for platforms whose own workers parse."""
    default_metadata: dict[str, Any] | None = None
    """Metadata of a document that comes without any."""
    metadata_schema: JsonSchema | None = None
    """JSON Schema that each document's metadata must fit."""
    collection_schemas: dict[str, JsonSchema] | None = Field(default=None, max_length=MAX_COLLECTION_SCHEMAS)
    """JSON Schema by collection, there in place of `metadata_schema`."""
    limits: TenantLimits | None = None
    """In place of those of `GET /v1/limits`."""
    fairness_weight: float | None = Field(default=None, ge=MIN_FAIRNESS_WEIGHT, le=MAX_FAIRNESS_WEIGHT)
    """Share of the workers while tenants compete for them."""

    @field_validator("pipeline")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in OFFERED_PIPELINES:
            raise ValueError(f"The pipelines are {', '.join(OFFERED_PIPELINES)}.")
        return value

    def changes(self) -> dict[str, Any]:
        """Fields that were sent, as they are kept. None takes a schema away, and sets the rest to what it was at first."""
        sent = self.model_dump(mode="json", exclude_unset=True)
        kept = {}
        for name, value in sent.items():
            field = Tenant.model_fields[name]
            kept[name] = field.get_default(call_default_factory=True) if value is None else value
        if isinstance(kept.get("limits"), TenantLimits):
            kept["limits"] = {}
        return kept


class NewTenant(TenantSettings):
    """A tenant to register."""

    name: str = Field(min_length=1, max_length=255)
    tenant_id: TenantId | None = Field(default=None, validation_alias=AliasChoices("tenant_id", "id"))
    """For tenants that have an id elsewhere; made here when left out."""


class TenantView(BaseModel):
    """A tenant as it is set now."""

    id: str
    tenant_id: str
    """The same as `id`."""
    name: str
    pipeline: str
    default_metadata: dict[str, Any]
    metadata_schema: JsonSchema | None
    collection_schemas: dict[str, JsonSchema]
    limits: dict[str, int]
    fairness_weight: float
    created_at: AwareDatetime


class TenantList(BaseModel):
    data: list[TenantView]
    has_more: bool = False
    next_cursor: str | None = None


@router.post("", status_code=201, response_model=TenantView, dependencies=[Depends(require_json)])
async def create_tenant(
    *, parts: Parts, caller: CurrentCaller, body: NewTenant, idempotency_key: IdempotencyKey = None
) -> Response:
    """Register a tenant. Needs the scope `admin`."""
    _check(body)
    values = {"name": body.name} | body.changes()
    values.pop("tenant_id", None)
    tenant_id = body.tenant_id or tenant_id_for(caller, idempotency_key)
    wanted = Tenant.model_validate({**values, "tenant_id": tenant_id, "created_at": datetime.now(UTC)})
    made = await parts.accounts.create_tenant(caller, wanted)
    if made.was_replayed and made.thing.model_copy(update={"created_at": wanted.created_at}) != wanted:
        if body.tenant_id is None:
            raise IdempotencyKeyReusedError("This Idempotency-Key was used with another request.")
        raise AlreadyExistsError("A tenant with this id is registered, with other settings.", field="tenant_id")
    headers = {"Location": f"/v1/tenants/{made.thing.tenant_id}"}
    if made.was_replayed:
        headers["Idempotency-Replayed"] = "true"
    return _answer(made.thing, 201, headers)


@router.get("")
async def list_tenants(
    *,
    parts: Parts,
    caller: CurrentCaller,
    limit: PageSize,
    name: Annotated[str | None, Query(max_length=255, description="Those of this name.")] = None,
    cursor: str | None = None,
) -> TenantList:
    """All tenants for an administrator, newest first; else the caller's own."""
    filters = {"list": "tenants", "tenant": caller.tenant_id, "name": name}
    before = time_and_id(parts.cursors.decode(cursor, filters)) if cursor else None
    listed = await parts.accounts.list_tenants(caller, name, limit, before)
    next_cursor = None
    if listed.has_more:
        last = listed.found[-1]
        next_cursor = parts.cursors.encode([last.created_at.isoformat(), last.tenant_id], filters)
    data = [tenant_view(tenant) for tenant in listed.found]
    return TenantList(data=data, has_more=listed.has_more, next_cursor=next_cursor)


@router.get("/{tenant_id}")
async def read_tenant(parts: Parts, caller: CurrentCaller, tenant_id: str) -> TenantView:
    """One tenant."""
    return tenant_view(await parts.accounts.tenant(caller, tenant_id))


@router.patch("/{tenant_id}", dependencies=[Depends(require_json)])
async def edit_tenant(parts: Parts, caller: CurrentCaller, tenant_id: str, body: TenantSettings) -> TenantView:
    """Change what is sent; batches that run keep what they began with. Needs the scope `admin`."""
    await parts.accounts.tenant(caller, tenant_id)
    _check(body)
    if not body.model_fields_set:
        raise invalid("#", "Name what to change.", "nothing_to_change")
    return tenant_view(await parts.accounts.edit_tenant(caller, tenant_id, body.changes()))


@router.delete("/{tenant_id}", status_code=204, response_class=Response)
async def delete_tenant(parts: Parts, caller: CurrentCaller, tenant_id: str) -> Response:
    """Nobody can act for it any more: its keys and users go with it, its batches stay on record. Needs the scope `admin`."""
    await parts.accounts.delete_tenant(caller, tenant_id)
    return Response(status_code=204)


def tenant_view(tenant: Tenant) -> TenantView:
    values = tenant.model_dump(exclude={"limits"})
    return TenantView(id=tenant.tenant_id, limits=tenant.limits.model_dump(exclude_none=True), **values)


def _answer(tenant: Tenant, status: int, headers: dict[str, str]) -> Response:
    content = orjson.dumps(tenant_view(tenant).model_dump(mode="json"))
    return Response(content, status_code=status, headers=headers, media_type="application/json")


def _check(body: TenantSettings) -> None:
    """Raises ``ValidationFailedError`` for a schema that is none, and for more than is kept."""
    try:
        size = len(orjson.dumps(body.model_dump(mode="json", exclude_unset=True)))
    except TypeError:
        detail = "It holds a number of more than 64 bits or half of a character, or is nested too deeply."
        raise invalid("#", detail, "not_kept") from None
    if size > MAX_SETTINGS_BYTES:
        raise invalid("#", f"A tenant's settings take at most {MAX_SETTINGS_BYTES:,} bytes.", "too_large")
    schemas = {"#/metadata_schema": body.metadata_schema}
    schemas |= {f"#/collection_schemas/{name}": schema for name, schema in (body.collection_schemas or {}).items()}
    for pointer, schema in schemas.items():
        if schema is not None:
            try:
                check_schema(schema)
            except ValidationFailedError as error:
                raise invalid(pointer, error.message, "invalid_schema") from None
