"""``/v1/webhook-endpoints``: where events of batches are sent. A secret is shown once, when it is made."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Depends, Header, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from api.access import GuardedRoute
from api.cursors import time_and_id
from api.dependencies import CurrentCaller, IdempotencyKey, PageSize, Parts, Tenant, require_json
from api.service.webhooks import MadeWebhook
from ingather.domain.identifiers import as_uuid
from ingather.models.batch import BatchState, Counts
from ingather.models.webhook import (
    DeliveryAttempt,
    DeliveryStatus,
    DisabledReason,
    Webhook,
    WebhookDelivery,
    WebhookEventType,
    WebhookUrl,
)
from ingather.ports.webhooks import DeliveryFilter

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"], route_class=GuardedRoute)

_EXAMPLE: JsonDict = {
    "url": "https://hooks.example.org/ingather",
    "event_types": ["batch.completed", "batch.failed"],
}

EventTypes = Annotated[tuple[WebhookEventType, ...], Field(max_length=len(WebhookEventType))]


class NewWebhook(BaseModel):
    """An endpoint to register."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [_EXAMPLE]})

    url: WebhookUrl
    """http or https, at an address of the public Internet."""
    event_types: EventTypes = ()
    """What it hears of; everything when empty."""
    description: str = Field(default="", max_length=255)


class WebhookChanges(BaseModel):
    """What is to be different; the rest stays."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"is_enabled": False}]})

    url: WebhookUrl | None = None
    event_types: EventTypes | None = None
    description: str | None = Field(default=None, max_length=255)
    is_enabled: bool | None = None
    """Whether anything is sent; `true` also brings back one that answered 410."""


class WebhookView(BaseModel):
    """An endpoint without its secret."""

    webhook_id: str
    url: str
    description: str
    event_types: list[WebhookEventType]
    """What it hears of; everything when empty."""
    batch_id: str | None
    """The one batch whose events it gets; null for those of all."""
    is_enabled: bool
    disabled_reason: DisabledReason | None
    """`requested`, or `gone` where it answered 410; null while it is sent to."""
    previous_secret_until: AwareDatetime | None
    """After a rotation: until then the secret before signs too."""
    created_by: str
    created_at: AwareDatetime


class WebhookWithSecret(WebhookView):
    """An endpoint with the secret it was just given."""

    secret: str | None
    """`whsec_…`, shown once: null where the request was answered before."""


class WebhookPage(BaseModel):
    """Endpoints, newest first."""

    data: list[WebhookView]
    has_more: bool = False
    next_cursor: str | None = None


class DeliveryView(BaseModel):
    """One event on its way to one endpoint."""

    delivery_id: str
    webhook_id: str
    event_id: str
    """The `webhook-id` header: the same in every attempt and redelivery."""
    event_type: str
    batch_id: str | None
    status: DeliveryStatus
    attempts: list[DeliveryAttempt]
    next_attempt_at: AwareDatetime | None
    redelivery_of: str | None
    """The delivery that was sent again."""
    payload: dict[str, Any]
    """What is sent."""
    created_at: AwareDatetime
    ended_at: AwareDatetime | None


class DeliveryPage(BaseModel):
    """Deliveries, newest first."""

    data: list[DeliveryView]
    has_more: bool = False
    next_cursor: str | None = None


class WebhookTest(BaseModel):
    """What came of sending a test event."""

    webhook_id: str
    ok: bool
    status_code: int | None
    """Null where there was no answer."""
    message: str
    """What is wrong, in words."""
    took_ms: float
    delivery_id: str


class EventData(BaseModel):
    """What an event tells. Open to additions; a `webhook.test` has `tenant_id` and `webhook_id` alone."""

    tenant_id: str
    status: BatchState
    version: int
    """Rises with every change of the batch: orders events that arrive in another order."""
    retry_round: int
    progress: float
    counts: Counts
    failures_by_code: dict[str, int]
    problem: dict[str, str] | None
    """`code` and `action`, where the batch could not run."""
    links: dict[str, str]
    """`batch`, `documents`, `report`, `events`."""


class WebhookEvent(BaseModel):
    """What is sent to an endpoint."""

    id: str
    """The same in every attempt and redelivery."""
    type: WebhookEventType
    time: AwareDatetime
    batch_id: str
    data: EventData


def describe_event(
    *,
    _body: Annotated[WebhookEvent, Body()],
    _webhook_id: Annotated[str, Header(alias="webhook-id", description="The event's `id`.")],
    _webhook_timestamp: Annotated[int, Header(alias="webhook-timestamp", description="When it was signed.")],
    _webhook_signature: Annotated[
        str, Header(alias="webhook-signature", description="Standard Webhooks 1.0.0; two of them after a rotation.")
    ],
) -> None:
    """What an endpoint is sent. It answers 2xx; 410 where it wants no more."""


@router.post("", status_code=201, response_model=WebhookWithSecret, dependencies=[Depends(require_json)])
async def create_webhook(
    *, parts: Parts, caller: CurrentCaller, body: NewWebhook, idempotency_key: IdempotencyKey = None
) -> Response:
    """Register an endpoint. Its secret is in this answer and in no other. Nothing is sent: `POST …/test` does."""
    made = await parts.webhooks.create(
        caller, body.url, event_types=body.event_types, description=body.description, key=idempotency_key
    )
    return _with_secret(made, 201, {"Location": f"/v1/webhook-endpoints/{made.webhook.webhook_id}"})


@router.get("")
async def list_webhooks(
    *,
    parts: Parts,
    tenant: Tenant,
    limit: PageSize,
    batch_id: Annotated[str | None, Query(description="Only the one that this batch named.", max_length=36)] = None,
    cursor: str | None = None,
) -> WebhookPage:
    """The tenant's endpoints, newest first; those of single batches are shown on demand."""
    filters = {"list": "webhooks", "tenant": tenant, "batch": batch_id or ""}
    before = time_and_id(parts.cursors.decode(cursor, filters)) if cursor else None
    # What is no id is no batch's.
    batch = (as_uuid(batch_id) or batch_id) if batch_id else None
    found, has_more = await parts.webhooks.page(tenant, limit, before, batch_id=batch)
    next_cursor = None
    if has_more:
        next_cursor = parts.cursors.encode([found[-1].created_at.isoformat(), found[-1].webhook_id], filters)
    return WebhookPage(data=[_view(each) for each in found], has_more=has_more, next_cursor=next_cursor)


@router.get("/{webhook_id}")
async def read_webhook(parts: Parts, tenant: Tenant, webhook_id: str) -> WebhookView:
    """One endpoint."""
    return _view(await parts.webhooks.webhook(tenant, webhook_id))


@router.patch("/{webhook_id}", dependencies=[Depends(require_json)])
async def change_webhook(parts: Parts, caller: CurrentCaller, webhook_id: str, body: WebhookChanges) -> WebhookView:
    """Change an endpoint, switch it off or on."""
    changes = {name: value for name, value in body if value is not None}
    return _view(await parts.webhooks.change(caller, webhook_id, changes))


@router.delete("/{webhook_id}", status_code=204, response_class=Response)
async def delete_webhook(parts: Parts, caller: CurrentCaller, webhook_id: str) -> Response:
    """Forget an endpoint with its secret and its log. What is on its way to it is given up."""
    await parts.webhooks.delete(caller, webhook_id)
    return Response(status_code=204)


@router.post("/{webhook_id}/rotate", response_model=WebhookWithSecret)
async def rotate_secret(
    *, parts: Parts, caller: CurrentCaller, webhook_id: str, idempotency_key: IdempotencyKey = None
) -> Response:
    """A new secret, in this answer and in no other. Until `previous_secret_until` the one before signs too."""
    return _with_secret(await parts.webhooks.rotate(caller, webhook_id, key=idempotency_key), 200, {})


@router.post("/{webhook_id}/test")
async def send_test_event(
    *, parts: Parts, tenant: Tenant, webhook_id: str, response: Response, idempotency_key: IdempotencyKey = None
) -> WebhookTest:
    """Send a `webhook.test` event now, once, and say how that went."""
    sent, was_replayed = await parts.webhooks.test(tenant, webhook_id, key=idempotency_key)
    if was_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    attempt = sent.attempts[0]
    return WebhookTest(
        webhook_id=webhook_id,
        ok=attempt.is_success,
        status_code=attempt.status_code,
        message=attempt.error or "The endpoint took the event.",
        took_ms=attempt.took_ms,
        delivery_id=sent.delivery_id,
    )


@router.get("/{webhook_id}/deliveries")
async def list_deliveries(
    *,
    parts: Parts,
    tenant: Tenant,
    webhook_id: str,
    limit: PageSize,
    status: Annotated[DeliveryStatus | None, Query()] = None,
    event_type: Annotated[str | None, Query(max_length=100)] = None,
    cursor: str | None = None,
) -> DeliveryPage:
    """What was sent to an endpoint, newest first."""
    filters = {
        "list": "deliveries",
        "tenant": tenant,
        "webhook": webhook_id,
        "status": status or "",
        "event_type": event_type or "",
    }
    before = time_and_id(parts.cursors.decode(cursor, filters)) if cursor else None
    where = DeliveryFilter(tenant, webhook_id, status=status, event_type=event_type, before=before)
    found, has_more = await parts.webhooks.deliveries(where, limit)
    next_cursor = None
    if has_more:
        next_cursor = parts.cursors.encode([found[-1].created_at.isoformat(), found[-1].delivery_id], filters)
    return DeliveryPage(data=[_delivery_view(each) for each in found], has_more=has_more, next_cursor=next_cursor)


@router.get("/{webhook_id}/deliveries/{delivery_id}")
async def read_delivery(parts: Parts, tenant: Tenant, webhook_id: str, delivery_id: str) -> DeliveryView:
    """One delivery, with every attempt."""
    return _delivery_view(await parts.webhooks.delivery(tenant, webhook_id, delivery_id))


@router.post("/{webhook_id}/deliveries/{delivery_id}/redeliver", status_code=202, response_model=DeliveryView)
async def redeliver(
    *,
    parts: Parts,
    caller: CurrentCaller,
    webhook_id: str,
    delivery_id: str,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send an event again, on a new schedule and under its own event id. One still under way is given up for it."""
    again, was_replayed = await parts.webhooks.redeliver(caller, webhook_id, delivery_id, key=idempotency_key)
    headers = {"Location": f"/v1/webhook-endpoints/{webhook_id}/deliveries/{again.delivery_id}"}
    if was_replayed:
        headers["Idempotency-Replayed"] = "true"
    content = orjson.dumps(_delivery_view(again).model_dump(mode="json"))
    return Response(content, status_code=202, headers=headers, media_type="application/json")


def _with_secret(made: MadeWebhook, status: int, headers: dict[str, str]) -> Response:
    view = WebhookWithSecret(**_view(made.webhook).model_dump(), secret=made.secret)
    headers = {"Cache-Control": "no-store", **headers}
    if made.was_replayed:
        headers["Idempotency-Replayed"] = "true"
    content = orjson.dumps(view.model_dump(mode="json"))
    return Response(content, status_code=status, headers=headers, media_type="application/json")


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(
        webhook_id=webhook.webhook_id,
        url=webhook.url,
        description=webhook.description,
        event_types=list(webhook.event_types),
        batch_id=webhook.batch_id,
        is_enabled=webhook.is_enabled,
        disabled_reason=webhook.disabled_reason,
        previous_secret_until=webhook.previous_until,
        created_by=webhook.created_by,
        created_at=webhook.created_at,
    )


def _delivery_view(delivery: WebhookDelivery) -> DeliveryView:
    return DeliveryView(**delivery.model_dump(exclude={"tenant_id"}))
