"""Webhooks in dictionaries."""

from collections.abc import Callable, Sequence
from datetime import datetime

from ingather.adapters.memory.accounts import InMemoryAccounts
from ingather.adapters.memory.audit import InMemoryAuditLog
from ingather.domain.webhooks import with_attempt
from ingather.models.audit import AuditEvent
from ingather.models.errors import TenantNotFoundError, TooManyWebhooksError
from ingather.models.webhook import DeliveryAttempt, DeliveryStatus, Webhook, WebhookDelivery
from ingather.ports.webhooks import DeliveryFilter


class InMemoryWebhooks:
    """Those of tenants that ``accounts`` knows."""

    def __init__(self, accounts: InMemoryAccounts, audit: InMemoryAuditLog) -> None:
        self._accounts = accounts
        self._audit = audit
        self._webhooks: dict[str, Webhook] = {}
        self._deliveries: dict[str, WebhookDelivery] = {}

    async def add_webhook(
        self, webhook: Webhook, events: Sequence[AuditEvent] = (), *, most: int | None = None
    ) -> tuple[Webhook, bool]:
        if await self._accounts.get_tenant(webhook.tenant_id) is None:
            raise TenantNotFoundError(f"There is no tenant {webhook.tenant_id}.")
        there = self._webhooks.get(webhook.webhook_id)
        if there is not None:
            return there, False
        if most is not None and webhook.batch_id is None:
            count = len(await self._those(lambda it: it.tenant_id == webhook.tenant_id and it.batch_id is None))
            if count >= most:
                message = f"The tenant has {most} webhooks, and no more are kept."
                raise TooManyWebhooksError(message, limit="max_webhooks")
        self._webhooks[webhook.webhook_id] = webhook
        await self._audit.record(events)
        return webhook, True

    async def get_webhook(self, tenant_id: str, webhook_id: str) -> Webhook | None:
        found = await self._those(lambda it: (it.tenant_id, it.webhook_id) == (tenant_id, webhook_id))
        return found[0] if found else None

    async def list_webhooks(
        self, tenant_id: str, limit: int, *, batch_id: str | None = None, before: tuple[datetime, str] | None = None
    ) -> list[Webhook]:
        found = await self._those(
            lambda it: (
                it.tenant_id == tenant_id
                and it.batch_id == batch_id
                and (before is None or (it.created_at, it.webhook_id) < before)
            )
        )
        return sorted(found, key=lambda it: (it.created_at, it.webhook_id), reverse=True)[:limit]

    async def list_listeners(self, tenant_id: str, batch_id: str) -> list[Webhook]:
        found = await self._those(
            lambda it: it.tenant_id == tenant_id and it.is_enabled and it.batch_id in {None, batch_id}
        )
        return sorted(found, key=lambda it: (it.created_at, it.webhook_id))

    async def has_listeners(self, tenant_id: str) -> bool:
        return bool(await self._those(lambda it: it.tenant_id == tenant_id and it.is_enabled and it.batch_id is None))

    async def replace_webhook(self, before: Webhook, after: Webhook, events: Sequence[AuditEvent] = ()) -> bool:
        there = await self.get_webhook(before.tenant_id, before.webhook_id)
        if there is None or there.version != before.version:
            return False
        self._webhooks[before.webhook_id] = after.model_copy(update={"version": before.version + 1})
        await self._audit.record(events)
        return True

    async def delete_webhook(self, tenant_id: str, webhook_id: str, events: Sequence[AuditEvent] = ()) -> bool:
        if await self.get_webhook(tenant_id, webhook_id) is None:
            return False
        del self._webhooks[webhook_id]
        self._deliveries = {key: it for key, it in self._deliveries.items() if it.webhook_id != webhook_id}
        await self._audit.record(events)
        return True

    async def list_all(self, limit: int, *, after: tuple[str, str] | None = None) -> list[Webhook]:
        found = await self._those(lambda it: after is None or (it.tenant_id, it.webhook_id) > after)
        return sorted(found, key=lambda it: (it.tenant_id, it.webhook_id))[:limit]

    async def add_deliveries(self, deliveries: Sequence[WebhookDelivery]) -> None:
        for delivery in deliveries:
            if delivery.webhook_id in self._webhooks:
                self._deliveries.setdefault(delivery.delivery_id, delivery)

    async def get_delivery(self, tenant_id: str, delivery_id: str) -> WebhookDelivery | None:
        found = self._deliveries.get(delivery_id)
        return found if found is not None and found.tenant_id == tenant_id else None

    async def list_deliveries(self, where: DeliveryFilter, limit: int) -> list[WebhookDelivery]:
        found = [delivery for delivery in self._deliveries.values() if _matches(delivery, where)]
        return sorted(found, key=_position, reverse=True)[:limit]

    async def note_attempt(
        self,
        delivery: WebhookDelivery,
        attempt: DeliveryAttempt | None,
        status: DeliveryStatus,
        *,
        next_attempt_at: datetime | None = None,
        at: datetime,
    ) -> WebhookDelivery:
        there = self._deliveries.get(delivery.delivery_id)
        after = with_attempt(there or delivery, attempt, status, next_attempt_at, at)
        if there is not None:
            self._deliveries[delivery.delivery_id] = after
        return after

    async def remove_deliveries(self, tenant_id: str, webhook_id: str, before: datetime, limit: int) -> int:
        old = [
            delivery.delivery_id
            for delivery in self._deliveries.values()
            if (delivery.tenant_id, delivery.webhook_id) == (tenant_id, webhook_id)
            and delivery.ended_at is not None
            and max(delivery.created_at, delivery.ended_at) < before
        ][:limit]
        for delivery_id in old:
            del self._deliveries[delivery_id]
        return len(old)

    async def _those(self, is_wanted: Callable[[Webhook], bool]) -> list[Webhook]:
        """Deleted tenants have none."""
        return [
            webhook
            for webhook in list(self._webhooks.values())
            if is_wanted(webhook) and await self._accounts.get_tenant(webhook.tenant_id) is not None
        ]


def _matches(delivery: WebhookDelivery, where: DeliveryFilter) -> bool:
    return (
        (delivery.tenant_id, delivery.webhook_id) == (where.tenant_id, where.webhook_id)
        and where.status in {None, delivery.status}
        and where.event_type in {None, delivery.event_type}
        and (where.before is None or _position(delivery) < where.before)
    )


def _position(delivery: WebhookDelivery) -> tuple[datetime, str]:
    return delivery.created_at, delivery.delivery_id
