"""Webhooks: endpoints made, changed and tried, their secrets turned over, and events sent to them again."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
import uuid_utils

from activities.webhooks import DeliveryStarter, attempt_of, disable_gone, redelivery, signing_secrets
from api.access import Caller
from api.idempotency import check_key
from api.problems import invalid
from api.service.listeners import Listeners
from api.service.tenants import TenantBook
from ingather.domain.audit import account_event
from ingather.domain.webhooks import (
    body_of,
    delivery_id_for,
    event_id_of_test,
    new_secret,
    payload_of_test,
    webhook_id_for_batch,
)
from ingather.models.audit import AuditType
from ingather.models.errors import (
    CredentialKeyMissingError,
    DeliveryNotFoundError,
    IdempotencyKeyReusedError,
    InvalidStateError,
    WebhookNotFoundError,
)
from ingather.models.identity import batch_id_for
from ingather.models.messages import DeliveryInput
from ingather.models.webhook import (
    TEST_EVENT,
    DeliveryStatus,
    DisabledReason,
    Webhook,
    WebhookDelivery,
    WebhookEventType,
)
from ingather.ports.audit import AuditLog
from ingather.ports.secret_box import SecretBox
from ingather.ports.webhook_sender import WebhookSender
from ingather.ports.webhooks import DeliveryFilter, Webhooks

log = structlog.get_logger(__name__)

_MOST_EARLIER = 4
"""Secrets of before that sign at a time: whoever turns them over again and again loses the oldest."""
_KEYS_KEPT, _MOST_KEYS = timedelta(days=1), 100
"""How long the keys of requests that turned a secret over are known, and how many of them."""
_TRIES = 5
"""Of a change that met another one."""
_RENEWED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class MadeWebhook:
    """An endpoint that was registered, or had been by the same request before."""

    webhook: Webhook
    secret: str | None
    """Shown once: None for a replay."""
    was_replayed: bool = False


@dataclass(slots=True)
class WebhookService:
    """Keeps a tenant's endpoints."""

    webhooks: Webhooks
    audit: AuditLog
    box: SecretBox
    sender: WebhookSender
    engine: DeliveryStarter
    tenants: TenantBook
    listeners: Listeners
    most: int = 20
    """Endpoints of a tenant that has no limit of its own, those of single batches not counted."""
    rotation_overlap: timedelta = timedelta(hours=24)

    async def create(
        self,
        caller: Caller,
        url: str,
        *,
        event_types: tuple[WebhookEventType, ...] = (),
        description: str = "",
        key: str | None = None,
    ) -> MadeWebhook:
        """Register an endpoint; nothing is sent to it. Batches that have not ended know of it when this returns.

        Raises ``ValidationFailedError`` for an address that leads where this deployment sends nothing,
        ``TooManyWebhooksError``, ``IdempotencyKeyReusedError``, ``CredentialKeyMissingError``.
        """
        key = check_key(key)
        self._check(url)
        secret = new_secret()
        wanted = self._sealed(
            Webhook(
                webhook_id=batch_id_for(caller.tenant_id, "webhooks", key) if key else str(uuid_utils.uuid7()),
                tenant_id=caller.tenant_id,
                url=url,
                description=description,
                event_types=event_types,
                sealed="",
                created_by=caller.user,
                created_at=datetime.now(UTC),
            ),
            secret,
        )
        event = account_event(AuditType.WEBHOOK_CREATED, wanted, caller.actor, wanted.created_at)
        own = (await self.tenants.get(caller.tenant_id)).limits.max_webhooks
        there, is_new = await self.webhooks.add_webhook(wanted, [event], most=own or self.most)
        await self.listeners.has_begun(caller.tenant_id)
        if is_new:
            log.info("webhook.created", webhook_id=there.webhook_id)
            return MadeWebhook(there, secret)
        if (there.url, there.description, there.event_types) != (url, description, event_types):
            raise IdempotencyKeyReusedError("This Idempotency-Key was used with another request.")
        return MadeWebhook(there, None, was_replayed=True)

    async def webhook(self, tenant_id: str, webhook_id: str) -> Webhook:
        """One of the tenant's. Raises ``WebhookNotFoundError``."""
        found = await self.webhooks.get_webhook(tenant_id, webhook_id)
        if found is None:
            raise WebhookNotFoundError("No webhook of this tenant has this id.")
        return found

    async def page(
        self, tenant_id: str, limit: int, before: tuple[datetime, str] | None, *, batch_id: str | None = None
    ) -> tuple[list[Webhook], bool]:
        """The tenant's, newest first, and whether there are more."""
        found = await self.webhooks.list_webhooks(tenant_id, limit + 1, batch_id=batch_id, before=before)
        return found[:limit], len(found) > limit

    async def change(self, caller: Caller, webhook_id: str, changes: dict[str, Any]) -> Webhook:
        """Change address, description, event types, or whether it is sent to (``is_enabled``).

        Raises ``WebhookNotFoundError``, and ``ValidationFailedError`` for an address that nothing is sent to.
        """
        if "url" in changes:
            self._check(changes["url"])
        fields = dict(changes)
        is_enabled = fields.pop("is_enabled", None)
        if is_enabled is not None:
            fields["disabled_reason"] = None if is_enabled else DisabledReason.REQUESTED
        after = await self._replace(
            caller,
            webhook_id,
            AuditType.WEBHOOK_CHANGED,
            lambda it: it.model_copy(update=fields),
            fields=sorted(changes),
        )
        # Also where it was on: whoever asks again may never have had the answer, and its batches not the word.
        if is_enabled and after.batch_id is None:
            await self.listeners.has_begun(caller.tenant_id)
        return after

    async def rotate(self, caller: Caller, webhook_id: str, *, key: str | None = None) -> MadeWebhook:
        """A new secret; the one before signs beside it for a while. What the same ``key`` turned over within a day stays.

        Raises ``WebhookNotFoundError``, ``CredentialKeyMissingError``.
        """
        key = check_key(key)
        secret, now = new_secret(), datetime.now(UTC)
        until = now + self.rotation_overlap
        was_replayed = False

        def rotated(webhook: Webhook) -> Webhook:
            nonlocal was_replayed
            known = self.box.open(webhook.sealed, webhook.owner)
            keys = _recent_keys(known, now)
            was_replayed = key is not None and _digest(key) in keys
            if was_replayed:
                return webhook
            if key is not None:
                keys[_digest(key)] = now.isoformat()
            earlier = [[known["secret"], until.isoformat()], *known.get("earlier", ())][:_MOST_EARLIER]
            return self._sealed(webhook.model_copy(update={"previous_until": until}), secret, earlier, keys)

        after = await self._replace(caller, webhook_id, AuditType.WEBHOOK_ROTATED, rotated)
        if was_replayed:
            return MadeWebhook(after, None, was_replayed=True)
        log.info("webhook.rotated", webhook_id=webhook_id)
        return MadeWebhook(after, secret)

    async def delete(self, caller: Caller, webhook_id: str) -> None:
        """Forget it, its secret and its log. What is on its way to it is given up. Raises ``WebhookNotFoundError``."""
        webhook = await self.webhook(caller.tenant_id, webhook_id)
        event = account_event(AuditType.WEBHOOK_DELETED, webhook, caller.actor, datetime.now(UTC))
        await self.webhooks.delete_webhook(caller.tenant_id, webhook_id, [event])
        log.info("webhook.deleted", webhook_id=webhook_id)

    async def test(self, tenant_id: str, webhook_id: str, *, key: str | None = None) -> tuple[WebhookDelivery, bool]:
        """Send it one event now, as any other is sent, and answer how that went. It is not tried again.

        Answers the delivery, and whether the same request had made it before. Raises ``WebhookNotFoundError``, ``CredentialKeyMissingError``.
        """
        webhook = await self.webhook(tenant_id, webhook_id)
        now, event_id = datetime.now(UTC), event_id_of_test(webhook_id, check_key(key))
        delivery_id = delivery_id_for(webhook_id, event_id)
        if (known := await self.webhooks.get_delivery(tenant_id, delivery_id)) is not None:
            return known, True
        delivery = WebhookDelivery(
            delivery_id=delivery_id,
            tenant_id=tenant_id,
            webhook_id=webhook_id,
            event_id=event_id,
            event_type=TEST_EVENT,
            payload=payload_of_test(webhook, event_id, now),
            created_at=now,
        )
        secrets = signing_secrets(self.box, webhook, now)
        result = await self.sender.send(webhook.url, event_id, body_of(delivery), secrets)
        # Noted once it is over: a process that dies meanwhile leaves nothing that seems to be on its way.
        ended = datetime.now(UTC)
        status = DeliveryStatus.FAILED if result.error else DeliveryStatus.SUCCEEDED
        ended_delivery = delivery.model_copy(
            update={"attempts": (attempt_of(1, result, ended),), "status": status, "ended_at": ended}
        )
        await self.webhooks.add_deliveries([ended_delivery])
        if result.is_gone:
            await disable_gone(self.webhooks, webhook, ended)
        log.info("webhook.tested", webhook_id=webhook_id, status_code=result.status_code)
        return ended_delivery, False

    async def deliveries(self, where: DeliveryFilter, limit: int) -> tuple[list[WebhookDelivery], bool]:
        """What was sent to an endpoint, newest first, and whether there is more. Raises ``WebhookNotFoundError``."""
        await self.webhook(where.tenant_id, where.webhook_id)
        found = await self.webhooks.list_deliveries(where, limit + 1)
        return found[:limit], len(found) > limit

    async def delivery(self, tenant_id: str, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """One delivery. Raises ``WebhookNotFoundError``, ``DeliveryNotFoundError``."""
        await self.webhook(tenant_id, webhook_id)
        found = await self.webhooks.get_delivery(tenant_id, delivery_id)
        if found is None or found.webhook_id != webhook_id:
            raise DeliveryNotFoundError("No delivery of this webhook has this id.")
        return found

    async def redeliver(
        self, caller: Caller, webhook_id: str, delivery_id: str, *, key: str | None = None
    ) -> tuple[WebhookDelivery, bool]:
        """Send an event again, from now on, under its own id. A delivery still under way is given up for the new one.

        Answers the new delivery, and whether the same request had made it before. Raises ``WebhookNotFoundError``,
        ``DeliveryNotFoundError``, ``InvalidStateError`` for an endpoint that is switched off,
        ``EngineUnavailableError``.
        """
        origin = await self.delivery(caller.tenant_id, webhook_id, delivery_id)
        webhook = await self.webhook(caller.tenant_id, webhook_id)
        if not webhook.is_enabled:
            raise InvalidStateError(
                "The webhook is switched off, so nothing is sent to it.",
                action="Switch it on with PATCH /v1/webhook-endpoints/{id}, then redeliver.",
                current_status="disabled",
            )
        now = datetime.now(UTC)
        again = delivery_id_for(webhook_id, origin.event_id, f"{delivery_id}\n{check_key(key) or uuid.uuid4().hex}")
        known = await self.webhooks.get_delivery(caller.tenant_id, again)
        if known is None:
            wanted = DeliveryInput(
                tenant_id=caller.tenant_id, webhook_id=webhook_id, delivery_id=again, redelivery_of=delivery_id
            )
            # The workflow first: it notes the delivery itself where this process dies before it can.
            await self.engine.start_delivery(wanted, f"{origin.event_type} again")
            await self.webhooks.add_deliveries([redelivery(origin, again, now)])
        # For a repeat too: what it repeats may have broken off before this.
        await self.webhooks.note_attempt(origin, None, DeliveryStatus.FAILED, at=now)
        event = account_event(
            AuditType.WEBHOOK_REDELIVERED, webhook, caller.actor, now, delivery_id=again, event_type=origin.event_type
        )
        await self.audit.record([event.model_copy(update={"event_id": str(uuid.uuid5(uuid.NAMESPACE_URL, again))})])
        return known or await self.delivery(caller.tenant_id, webhook_id, again), known is not None

    # --- One batch -----------------------------------------------------------------------------

    async def is_heard(self, tenant_id: str) -> bool:
        """Whether any endpoint hears of all of the tenant's batches now."""
        return await self.webhooks.has_listeners(tenant_id)

    def for_batch(
        self, tenant_id: str, batch_id: str, url: str, secret: str | None = None, *, created_by: str = "anonymous"
    ) -> MadeWebhook:
        """The endpoint that one batch names, not registered yet; with a new secret where none is given.

        Raises ``ValidationFailedError`` for an address that nothing is sent to, ``CredentialKeyMissingError``.
        """
        self._check(url, "#/webhook_url")
        made = secret or new_secret()
        webhook = Webhook(
            webhook_id=webhook_id_for_batch(batch_id),
            tenant_id=tenant_id,
            url=url,
            batch_id=batch_id,
            sealed="",
            created_by=created_by,
            created_at=datetime.now(UTC),
        )
        return MadeWebhook(self._sealed(webhook, made), None if secret else made)

    async def register(self, made: MadeWebhook) -> None:
        """Let the endpoint of one batch hear of it. The same again takes the place of the first."""
        there, is_new = await self.webhooks.add_webhook(made.webhook)
        if not is_new:
            await self.webhooks.replace_webhook(there, made.webhook)

    async def renew_all(self) -> int:
        """Encrypt secrets anew that are not under the newest key; answers how many. Several processes may do it."""
        renewed, after = 0, None
        while found := await self.webhooks.list_all(_RENEWED_AT_ONCE, after=after):
            for webhook in found:
                renewed += await self._renew(webhook)
            after = found[-1].tenant_id, found[-1].webhook_id
        if renewed:
            log.info("webhook.secrets_renewed", count=renewed)
        return renewed

    async def close(self) -> None:
        """Let go of what is open to receivers."""
        await self.sender.close()

    async def _renew(self, webhook: Webhook) -> bool:
        try:
            sealed = self.box.renewed(webhook.sealed)
        except CredentialKeyMissingError as error:
            # The endpoint's deliveries say so themselves; the others work.
            facts = {"webhook_id": webhook.webhook_id, "tenant_id": webhook.tenant_id}
            log.warning("webhook.secret_unreadable", reason=error.message, action=error.action, **facts)
            return False
        if sealed is None:
            return False
        return await self.webhooks.replace_webhook(webhook, webhook.model_copy(update={"sealed": sealed}))

    def _check(self, url: str, pointer: str = "#/url") -> None:
        refusal = self.sender.check(url)
        if refusal is not None:
            raise invalid(pointer, refusal, "address_refused")

    def _sealed(
        self,
        webhook: Webhook,
        secret: str,
        earlier: list[list[str]] | None = None,
        keys: dict[str, str] | None = None,
    ) -> Webhook:
        more = {"earlier": earlier, "keys": keys}
        secrets = {"secret": secret, **{name: value for name, value in more.items() if value}}
        return webhook.model_copy(update={"sealed": self.box.seal(secrets, webhook.owner)})

    async def _replace(
        self,
        caller: Caller,
        webhook_id: str,
        kind: AuditType,
        changed: Callable[[Webhook], Webhook],
        **details: Any,
    ) -> Webhook:
        for _ in range(_TRIES):
            before = await self.webhook(caller.tenant_id, webhook_id)
            after = changed(before)
            if after is before:
                return before
            event = account_event(kind, after, caller.actor, datetime.now(UTC), **details)
            if await self.webhooks.replace_webhook(before, after, [event]):
                return await self.webhook(caller.tenant_id, webhook_id)
        raise InvalidStateError(
            "The webhook is being changed by others.", action="Send it again.", current_status="changing"
        )


def _recent_keys(sealed: dict[str, Any], now: datetime) -> dict[str, str]:
    """Digests of the keys that turned the secret over, with when: those that are still known, newest last."""
    known = [(key, at) for key, at in sealed.get("keys", {}).items() if now - datetime.fromisoformat(at) < _KEYS_KEPT]
    return dict(known[1 - _MOST_KEYS :])


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32]
