"""The contract of webhooks over memory, SQLite and PostgreSQL."""

import uuid
from datetime import timedelta

import pytest

from ingather.models.accounts import Tenant
from ingather.models.audit import AuditEvent
from ingather.models.errors import TenantNotFoundError, TooManyWebhooksError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.webhook import DeliveryAttempt, DeliveryStatus, DisabledReason, Webhook, WebhookDelivery
from ingather.ports.audit import AuditFilter
from ingather.ports.webhooks import DeliveryFilter
from tests.support.catalog_records import NOON

OTHER = "11111111-1111-7111-8111-111111111111"
BATCH = "01890000-0000-7000-8000-000000000001"
SECOND = timedelta(seconds=1)


@pytest.fixture
async def webhooks(catalog):
    await catalog.accounts.add_tenant(Tenant(tenant_id=OTHER, name="Acme", created_at=NOON))
    return catalog.webhooks


def webhook(name: str = "a", **facts) -> Webhook:
    given = {"tenant_id": DEFAULT_TENANT_ID, "url": "https://example.org/hook", "sealed": "gAAA", "created_at": NOON}
    return Webhook(webhook_id=_id(name), **{**given, **facts})


def delivery(name: str = "d", to: str = "a", **facts) -> WebhookDelivery:
    given = {
        "tenant_id": DEFAULT_TENANT_ID,
        "webhook_id": _id(to),
        "event_id": "evt_1",
        "event_type": "batch.completed",
        "batch_id": BATCH,
        "payload": {"id": "evt_1", "data": {"n": [1, None]}},
        "created_at": NOON,
    }
    return WebhookDelivery(delivery_id=_id(name), **{**given, **facts})


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


async def test_an_endpoint_is_read_as_it_was_written(webhooks):
    """Every field comes back; the second of an id is answered with the first."""
    wanted = webhook(
        description="Zoë’s", event_types=("batch.completed", "batch.failed"), batch_id=BATCH,
        previous_until=NOON, disabled_reason="gone", created_by="Zoë",
    )  # fmt: skip
    assert await webhooks.add_webhook(wanted) == (wanted, True)
    assert await webhooks.get_webhook(DEFAULT_TENANT_ID, _id("a")) == wanted
    assert await webhooks.add_webhook(webhook(url="https://example.org/2")) == (wanted, False)
    assert await webhooks.get_webhook(OTHER, _id("a")) is None
    with pytest.raises(TenantNotFoundError):
        await webhooks.add_webhook(webhook("b", tenant_id=str(uuid.uuid4())))


async def test_a_tenant_has_so_many_and_no_more(webhooks):
    """Those of single batches do not count, and one that is there already is no further one."""
    await webhooks.add_webhook(webhook("a"), most=1)
    await webhooks.add_webhook(webhook("of a batch", batch_id=BATCH), most=1)
    _, is_new = await webhooks.add_webhook(webhook("a"), most=1)
    assert is_new is False
    with pytest.raises(TooManyWebhooksError):
        await webhooks.add_webhook(webhook("b"), most=1)
    await webhooks.add_webhook(webhook("c", tenant_id=OTHER), most=1)


async def test_they_are_listed_newest_first(webhooks):
    """Page by page; those of a batch by themselves; all tenants' for whoever renews keys."""
    for number, name in enumerate("abc"):
        await webhooks.add_webhook(webhook(name, created_at=NOON + SECOND * number))
    await webhooks.add_webhook(webhook("d", batch_id=BATCH))
    await webhooks.add_webhook(webhook("e", tenant_id=OTHER))
    first = await webhooks.list_webhooks(DEFAULT_TENANT_ID, 2)
    assert [each.webhook_id for each in first] == [_id("c"), _id("b")]
    before = first[-1].created_at, first[-1].webhook_id
    assert await webhooks.list_webhooks(DEFAULT_TENANT_ID, 2, before=before) == [webhook("a")]
    [of_batch] = await webhooks.list_webhooks(DEFAULT_TENANT_ID, 2, batch_id=BATCH)
    assert of_batch.webhook_id == _id("d")
    everything = await webhooks.list_all(9)
    assert len(everything) == 5
    assert await webhooks.list_all(9, after=(everything[1].tenant_id, everything[1].webhook_id)) == everything[2:]


async def test_listeners_are_those_that_are_on(webhooks):
    """Of all batches, or of this one."""
    assert await webhooks.has_listeners(DEFAULT_TENANT_ID) is False
    await webhooks.add_webhook(webhook("of a batch", batch_id=BATCH))
    await webhooks.add_webhook(webhook("of another", batch_id=str(uuid.uuid4())))
    await webhooks.add_webhook(webhook("off", disabled_reason=DisabledReason.REQUESTED))
    assert await webhooks.has_listeners(DEFAULT_TENANT_ID) is False
    await webhooks.add_webhook(webhook("on"))
    assert await webhooks.has_listeners(DEFAULT_TENANT_ID) is True
    found = {each.webhook_id for each in await webhooks.list_listeners(DEFAULT_TENANT_ID, BATCH)}
    assert found == {_id("of a batch"), _id("on")}
    assert await webhooks.list_listeners(OTHER, BATCH) == []


async def test_two_changes_at_a_time_do_not_undo_each_other(catalog, webhooks):
    """The second is told that it came too late; what is recorded is the first."""
    before, _ = await webhooks.add_webhook(webhook())
    event = _event("WEBHOOK_CHANGED")
    assert await webhooks.replace_webhook(before, before.model_copy(update={"url": "https://example.org/2"}), [event])
    assert not await webhooks.replace_webhook(before, before.model_copy(update={"description": "x"}), [_event("X")])
    there = await webhooks.get_webhook(DEFAULT_TENANT_ID, _id("a"))
    assert (there.url, there.description, there.version) == ("https://example.org/2", "", 2)
    assert await catalog.audit.list_events(AuditFilter(DEFAULT_TENANT_ID), 9) == [event]


async def test_a_deleted_endpoint_takes_its_log_along(webhooks):
    """And nothing more is noted for it."""
    await webhooks.add_webhook(webhook())
    await webhooks.add_deliveries([delivery()])
    assert await webhooks.delete_webhook(OTHER, _id("a")) is False
    assert await webhooks.delete_webhook(DEFAULT_TENANT_ID, _id("a")) is True
    assert await webhooks.delete_webhook(DEFAULT_TENANT_ID, _id("a")) is False
    await webhooks.add_deliveries([delivery("late")])
    for name in ("d", "late"):
        assert await webhooks.get_delivery(DEFAULT_TENANT_ID, _id(name)) is None


async def test_a_deleted_tenants_endpoints_are_gone(catalog, webhooks):
    """Nobody hears of its batches any more."""
    await webhooks.add_webhook(webhook(tenant_id=OTHER))
    await catalog.accounts.delete_tenant(OTHER, NOON)
    assert await webhooks.get_webhook(OTHER, _id("a")) is None
    assert await webhooks.list_listeners(OTHER, BATCH) == []
    assert await webhooks.list_all(9) == []


async def test_what_is_sent_is_noted_once(webhooks):
    """Every field comes back; the same again changes nothing."""
    await webhooks.add_webhook(webhook())
    wanted = delivery(next_attempt_at=NOON, redelivery_of=_id("first"))
    await webhooks.add_deliveries([wanted])
    await webhooks.add_deliveries([delivery(event_type="other")])
    assert await webhooks.get_delivery(DEFAULT_TENANT_ID, _id("d")) == wanted
    assert await webhooks.get_delivery(OTHER, _id("d")) is None


async def test_attempts_are_written_down_in_order(webhooks):
    """What is on record stays: an attempt of the same number, and the end of a delivery."""
    await webhooks.add_webhook(webhook())
    await webhooks.add_deliveries([delivery()])
    first = DeliveryAttempt(number=1, at=NOON, status_code=503, error="It answered 503.", took_ms=1.5)
    later = NOON + SECOND
    noted = await webhooks.note_attempt(delivery(), first, DeliveryStatus.PENDING, next_attempt_at=later, at=NOON)
    assert (noted.attempts, noted.next_attempt_at, noted.ended_at) == ((first,), later, None)
    again = first.model_copy(update={"status_code": 200})
    assert await webhooks.note_attempt(delivery(), again, DeliveryStatus.SUCCEEDED, at=NOON) == noted
    second = DeliveryAttempt(number=2, at=later, status_code=204)
    ended = await webhooks.note_attempt(delivery(), second, DeliveryStatus.SUCCEEDED, at=later)
    assert (ended.status, ended.attempts, ended.ended_at) == ("succeeded", (first, second), later)
    assert await webhooks.note_attempt(delivery(), None, DeliveryStatus.FAILED, at=later) == ended
    assert await webhooks.get_delivery(DEFAULT_TENANT_ID, _id("d")) == ended


async def test_the_log_is_listed_and_cut(webhooks):
    """Newest first, by status and type; what is over for long is removed, what is under way is not."""
    for name in ("a", "b"):
        await webhooks.add_webhook(webhook(name))
    await webhooks.add_deliveries([
        delivery("1", status="failed", ended_at=NOON),
        delivery("2", created_at=NOON + SECOND),
        delivery("3", created_at=NOON + SECOND * 2, event_type="webhook.test", status="failed", ended_at=NOON + SECOND * 3),
        delivery("4", to="b"),
    ])  # fmt: skip

    async def listed(**where) -> list[str]:
        found = await webhooks.list_deliveries(DeliveryFilter(DEFAULT_TENANT_ID, _id("a"), **where), 9)
        return [each.delivery_id for each in found]

    assert await listed() == [_id("3"), _id("2"), _id("1")]
    assert await listed(status=DeliveryStatus.FAILED) == [_id("3"), _id("1")]
    assert await listed(event_type="webhook.test") == [_id("3")]
    assert await listed(before=(NOON + SECOND, _id("2"))) == [_id("1")]
    assert await webhooks.remove_deliveries(DEFAULT_TENANT_ID, _id("a"), NOON + SECOND * 2, 9) == 1
    assert await listed() == [_id("3"), _id("2")]


def _event(kind: str) -> AuditEvent:
    return AuditEvent(
        event_id=str(uuid.uuid4()), tenant_id=DEFAULT_TENANT_ID, event_type=kind, resource_type="webhook",
        resource_id=_id("a"), actor="x", timestamp=NOON,
    )  # fmt: skip
