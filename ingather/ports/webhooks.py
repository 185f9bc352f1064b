"""Webhooks, as the catalog keeps them: endpoints, and a log of what was sent to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ingather.models.audit import AuditEvent
from ingather.models.webhook import DeliveryAttempt, DeliveryStatus, Webhook, WebhookDelivery


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries of an endpoint to list, all conditions together."""

    tenant_id: str
    webhook_id: str
    status: DeliveryStatus | None = None
    event_type: str | None = None
    before: tuple[datetime, str] | None = None
    """Keyset cursor: creation and id of the last one seen; newest first."""


class Webhooks(Protocol):
    """Part of the catalog. Methods raise ``CatalogUnavailableError``; none blocks the event loop.

    Secrets come here encrypted. A deleted tenant's endpoints are gone with it, and so is their log. ``events`` are
    recorded in the same step as a change, and not where nothing changed.
    """

    async def add_webhook(
        self, webhook: Webhook, events: Sequence[AuditEvent] = (), *, most: int | None = None
    ) -> tuple[Webhook, bool]:
        """Register an endpoint; where there is one of this id, answer that one and False.

        Raises ``TenantNotFoundError``, and ``TooManyWebhooksError`` where its tenant has ``most`` already, those of
        single batches not counted.
        """
        ...

    async def get_webhook(self, tenant_id: str, webhook_id: str) -> Webhook | None:
        """None when unknown, or another tenant's."""
        ...

    async def list_webhooks(
        self, tenant_id: str, limit: int, *, batch_id: str | None = None, before: tuple[datetime, str] | None = None
    ) -> list[Webhook]:
        """A tenant's, newest first: those of all batches, or of one; ``before`` is creation and id of the last one seen."""
        ...

    async def list_listeners(self, tenant_id: str, batch_id: str) -> list[Webhook]:
        """Endpoints that hear of this batch now, whatever the event."""
        ...

    async def has_listeners(self, tenant_id: str) -> bool:
        """Whether any endpoint hears of all of the tenant's batches now."""
        ...

    async def replace_webhook(self, before: Webhook, after: Webhook, events: Sequence[AuditEvent] = ()) -> bool:
        """Put ``after`` in the place of ``before``; False where it changed since, or is gone."""
        ...

    async def delete_webhook(self, tenant_id: str, webhook_id: str, events: Sequence[AuditEvent] = ()) -> bool:
        """Forget it, its secrets and its log. False when there was none."""
        ...

    async def list_all(self, limit: int, *, after: tuple[str, str] | None = None) -> list[Webhook]:
        """All tenants' endpoints, by tenant and id; ``after`` is both of the last one seen."""
        ...

    async def add_deliveries(self, deliveries: Sequence[WebhookDelivery]) -> None:
        """Note what is to be sent; one that is there already stays as it was."""
        ...

    async def get_delivery(self, tenant_id: str, delivery_id: str) -> WebhookDelivery | None:
        """None when unknown, or another tenant's."""
        ...

    async def list_deliveries(self, where: DeliveryFilter, limit: int) -> list[WebhookDelivery]:
        """Newest first."""
        ...

    async def note_attempt(
        self,
        delivery: WebhookDelivery,
        attempt: DeliveryAttempt | None,
        status: DeliveryStatus,
        *,
        next_attempt_at: datetime | None = None,
        at: datetime,
    ) -> WebhookDelivery:
        """Write down how an attempt went, or with None that there will be no further one; answer what is there now.

        What is on record stays: an attempt of the same number, and the end of a delivery that has ended.
        """
        ...

    async def remove_deliveries(self, tenant_id: str, webhook_id: str, before: datetime, limit: int) -> int:
        """Forget deliveries of an endpoint that ended before then, up to ``limit``; answer how many."""
        ...
