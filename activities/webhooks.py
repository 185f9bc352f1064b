"""Events on their way to webhooks: who hears of what, and one request at a time."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities.failures import translate_errors
from activities.heartbeats import beating_plainly
from ingather.domain.audit import account_event
from ingather.domain.webhooks import asked_pause, body_of, deliveries_of
from ingather.models.audit import SYSTEM, AuditType
from ingather.models.engine import WEBHOOK_DELIVERY_WORKFLOW, WORKFLOW_QUEUE, WORKFLOW_TASK_TIMEOUT
from ingather.models.errors import CredentialKeyMissingError, EngineUnavailableError
from ingather.models.identity import delivery_workflow_id_for
from ingather.models.messages import (
    AttemptDeliveryInput,
    AttemptDeliveryOutput,
    BatchNews,
    DeliveryInput,
    TellNewsInput,
)
from ingather.models.webhook import DeliveryAttempt, DeliveryStatus, DisabledReason, Webhook, WebhookDelivery
from ingather.ports.secret_box import SecretBox
from ingather.ports.webhook_sender import SendResult, WebhookSender
from ingather.ports.webhooks import Webhooks

log = structlog.get_logger(__name__)

RPC_TIMEOUT = timedelta(seconds=5)
_REMOVED_AT_ONCE = 200

_TENANT_ID = SearchAttributeKey.for_keyword("TenantId")


class DeliveryStarter(Protocol):
    """Sees to it that a delivery is made."""

    async def start_delivery(self, delivery: DeliveryInput, summary: str) -> None:
        """Safe to repeat. Raises ``EngineUnavailableError``."""
        ...


class TemporalDeliveryStarter:
    """One workflow a delivery, whose id follows from it: started twice, it is one.

    Args:
        client: of the namespace that the batches run in.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    async def start_delivery(self, delivery: DeliveryInput, summary: str) -> None:
        try:
            await self._client.start_workflow(
                WEBHOOK_DELIVERY_WORKFLOW,
                delivery,
                id=delivery_workflow_id_for(delivery.delivery_id),
                task_queue=WORKFLOW_QUEUE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                search_attributes=TypedSearchAttributes([SearchAttributePair(_TENANT_ID, delivery.tenant_id)]),
                static_summary=summary,
                priority=Priority(priority_key=3, fairness_key=delivery.tenant_id),
                task_timeout=WORKFLOW_TASK_TIMEOUT,
                rpc_timeout=RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            log.info("webhook.delivery_found_closed", delivery_id=delivery.delivery_id)
        except RPCError as error:
            raise EngineUnavailableError("A delivery could not be started.", rpc_status=error.status.name) from error


class Newsroom:
    """Turns what happened to a batch into deliveries.

    First they are noted, then started: told again after a crash in between, the same ones are found and started.

    Args:
        webhooks: who hears of what.
        starter: sees to it that a delivery is made.
        base_url: start of the links in what is sent; paths alone when empty.
    """

    def __init__(self, webhooks: Webhooks, starter: DeliveryStarter, base_url: str = "") -> None:
        self._webhooks = webhooks
        self._starter = starter
        self._base_url = base_url

    async def tell(self, tenant_id: str, batch_id: str, news: Iterable[BatchNews]) -> None:
        """Send news to everybody who hears of the batch, once each. Safe to repeat."""
        listeners = await self._webhooks.list_listeners(tenant_id, batch_id)
        if not listeners:
            return
        for each in news:
            now = datetime.now(UTC)
            deliveries = deliveries_of(batch_id, each, listeners, self._base_url, now)
            await self._webhooks.add_deliveries(deliveries)
            for delivery in deliveries:
                there = await self._webhooks.get_delivery(tenant_id, delivery.delivery_id)
                if there is not None and there.status is DeliveryStatus.PENDING:
                    await self._starter.start_delivery(_input_of(delivery), each.kind.value)


class WebhookActivities:
    """Tells, and sends.

    Args:
        webhooks: endpoints and the log of deliveries.
        newsroom: tells what happened to batches.
        box: opens the endpoints' secrets.
        sender: carries an event to an endpoint.
        keep: how long deliveries that ended stay in the log.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        newsroom: Newsroom,
        box: SecretBox,
        sender: WebhookSender,
        keep: timedelta = timedelta(days=30),
    ) -> None:
        self._webhooks = webhooks
        self._newsroom = newsroom
        self._box = box
        self._sender = sender
        self._keep = keep

    @activity.defn(name="tell_news")
    @translate_errors
    async def tell_news(self, request: TellNewsInput) -> None:
        """Start the deliveries of what happened to a batch. Safe to repeat: the same news has the same deliveries."""
        async with beating_plainly():
            await self._newsroom.tell(request.tenant_id, request.batch_id, request.news)

    @activity.defn(name="attempt_delivery")
    @translate_errors
    async def attempt_delivery(self, request: AttemptDeliveryInput) -> AttemptDeliveryOutput:
        """Send an event once, and write down how that went.

        A worker that is killed between the two leaves the next one to send it again, under the same event id.
        """
        async with beating_plainly():
            delivery = await self._delivery(request.delivery)
            if delivery is None:
                return AttemptDeliveryOutput(status=DeliveryStatus.FAILED)
            if _is_noted(delivery, request.number):
                return _answer(delivery, request.pause_seconds)
            webhook = await self._webhooks.get_webhook(delivery.tenant_id, delivery.webhook_id)
            if webhook is None or not webhook.is_enabled:
                return _answer(await self._give_up(delivery), None)
            result = await self._send(webhook, delivery)
            return await self._note(request, webhook, delivery, result)

    async def _delivery(self, wanted: DeliveryInput) -> WebhookDelivery | None:
        """None where endpoint and log are gone. One that is sent again may not be noted yet by who asked for it."""
        found = await self._webhooks.get_delivery(wanted.tenant_id, wanted.delivery_id)
        if found is not None or wanted.redelivery_of is None:
            return found
        origin = await self._webhooks.get_delivery(wanted.tenant_id, wanted.redelivery_of)
        if origin is None:
            return None
        await self._webhooks.add_deliveries([redelivery(origin, wanted.delivery_id, datetime.now(UTC))])
        return await self._webhooks.get_delivery(wanted.tenant_id, wanted.delivery_id)

    async def _send(self, webhook: Webhook, delivery: WebhookDelivery) -> SendResult:
        try:
            secrets = signing_secrets(self._box, webhook, datetime.now(UTC))
        except CredentialKeyMissingError as error:
            return SendResult(None, error.message, 0.0)
        return await self._sender.send(webhook.url, delivery.event_id, body_of(delivery), secrets)

    async def _note(
        self, request: AttemptDeliveryInput, webhook: Webhook, delivery: WebhookDelivery, result: SendResult
    ) -> AttemptDeliveryOutput:
        now = datetime.now(UTC)
        status, pause = _verdict(result, request.pause_seconds)
        noted = await self._webhooks.note_attempt(
            delivery,
            attempt_of(request.number, result, now),
            status,
            next_attempt_at=None if pause is None else now + pause,
            at=now,
        )
        facts = {"webhook_id": webhook.webhook_id, "event_type": delivery.event_type, "status_code": result.status_code}
        log.info("webhook.attempted", delivery_id=delivery.delivery_id, number=request.number, **facts)
        if result.is_gone:
            await disable_gone(self._webhooks, webhook, now)
        if noted.status is not DeliveryStatus.PENDING:
            await self._remove_old(delivery, now)
        return AttemptDeliveryOutput(
            status=noted.status, pause_seconds=None if pause is None else pause.total_seconds()
        )

    async def _give_up(self, delivery: WebhookDelivery) -> WebhookDelivery:
        log.info("webhook.delivery_given_up", delivery_id=delivery.delivery_id, webhook_id=delivery.webhook_id)
        return await self._webhooks.note_attempt(delivery, None, DeliveryStatus.FAILED, at=datetime.now(UTC))

    async def _remove_old(self, delivery: WebhookDelivery, now: datetime) -> None:
        before = now - self._keep
        await self._webhooks.remove_deliveries(delivery.tenant_id, delivery.webhook_id, before, _REMOVED_AT_ONCE)


def signing_secrets(box: SecretBox, webhook: Webhook, now: datetime) -> list[str]:
    """The secrets that sign now, the newest first. Raises ``CredentialKeyMissingError``."""
    opened = box.open(webhook.sealed, webhook.owner)
    earlier = [secret for secret, until in opened.get("earlier", ()) if now < datetime.fromisoformat(until)]
    return [opened["secret"], *earlier]


def attempt_of(number: int, result: SendResult, at: datetime) -> DeliveryAttempt:
    """How a request went, for the log."""
    return DeliveryAttempt(
        number=number, at=at, status_code=result.status_code, error=result.error, took_ms=result.took_ms
    )


def redelivery(origin: WebhookDelivery, delivery_id: str, at: datetime) -> WebhookDelivery:
    """The same event to the same endpoint once more."""
    return WebhookDelivery(
        **origin.model_dump(include={"tenant_id", "webhook_id", "event_id", "event_type", "batch_id", "payload"}),
        delivery_id=delivery_id,
        redelivery_of=origin.delivery_id,
        next_attempt_at=at,
        created_at=at,
    )


async def disable_gone(webhooks: Webhooks, webhook: Webhook, now: datetime) -> None:
    """Its receiver wants no more; nothing is sent until somebody switches it on again.

    What was changed while it was asked does not undo that, unless its address was.
    """
    there: Webhook | None = webhook
    while there is not None and there.is_enabled and there.url == webhook.url:
        after = there.model_copy(update={"disabled_reason": DisabledReason.GONE})
        event = account_event(AuditType.WEBHOOK_DISABLED, there, SYSTEM, now, reason=DisabledReason.GONE.value)
        if await webhooks.replace_webhook(there, after, [event]):
            log.warning("webhook.disabled", webhook_id=webhook.webhook_id, reason=DisabledReason.GONE.value)
            return
        there = await webhooks.get_webhook(webhook.tenant_id, webhook.webhook_id)


def _input_of(delivery: WebhookDelivery) -> DeliveryInput:
    return DeliveryInput(tenant_id=delivery.tenant_id, webhook_id=delivery.webhook_id, delivery_id=delivery.delivery_id)


def _is_noted(delivery: WebhookDelivery, number: int) -> bool:
    return delivery.status is not DeliveryStatus.PENDING or any(each.number == number for each in delivery.attempts)


def _answer(delivery: WebhookDelivery, pause_seconds: float | None) -> AttemptDeliveryOutput:
    is_over = delivery.status is not DeliveryStatus.PENDING
    return AttemptDeliveryOutput(status=delivery.status, pause_seconds=None if is_over else pause_seconds)


def _verdict(result: SendResult, pause_seconds: float | None) -> tuple[DeliveryStatus, timedelta | None]:
    """What an attempt means, and how long to wait for the next one."""
    if result.error is None:
        return DeliveryStatus.SUCCEEDED, None
    if result.is_gone or pause_seconds is None:
        return DeliveryStatus.FAILED, None
    return DeliveryStatus.PENDING, asked_pause(timedelta(seconds=pause_seconds), result.retry_after_seconds)
