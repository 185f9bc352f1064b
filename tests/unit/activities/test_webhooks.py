"""Events on their way to endpoints: who hears of what, how it is signed, and what an answer means."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from ingather.adapters.webhook_http import HttpWebhookSender
from ingather.domain.webhooks import new_secret
from ingather.models.audit import AuditType
from ingather.models.batch import BatchProblem, BatchState
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import AttemptDeliveryOutput, DeliveryInput
from ingather.models.webhook import DeliveryStatus, DisabledReason, WebhookEventType
from ingather.ports.audit import AuditFilter
from tests.support.http_stand_in import Told, http_stand_in
from tests.support.webhooks import BATCH, Post, news, receiver

SUCCEEDED = AttemptDeliveryOutput(status=DeliveryStatus.SUCCEEDED)


@pytest.fixture
async def post():
    made = Post()
    yield made
    await made.sender.close()


async def test_an_event_is_verified_by_the_reference_library(post):
    """Signed with the endpoint's secret; ids, counts and links are in it, and no name of a document."""
    secret = new_secret()
    async with receiver(secret) as hook:
        webhook = await post.register(hook.url, secret)
        [delivery] = await post.tell(news())
        assert await post.attempt(delivery) == SUCCEEDED
        [event] = hook.received
        [asked] = hook.asked
    assert (asked.method, asked.path, asked.headers["content-type"]) == ("POST", "/hook", "application/json")
    assert asked.headers["webhook-id"] == event["id"]
    assert (event["type"], event["batch_id"], event["time"]) == ("batch.completed", BATCH, "2026-03-14T12:00:00.000Z")
    assert event["data"]["counts"]["done"] == 3
    assert event["data"]["links"]["report"] == f"https://ingather.example/v1/batches/{BATCH}/report"
    [noted] = await post.log_of(webhook)
    assert (noted.status, noted.attempts[0].status_code, noted.ended_at is not None) == ("succeeded", 204, True)


async def test_news_told_twice_is_sent_once(post):
    """Told again after a crash between noting and starting, what is missing is started, under the same ids."""
    for number in range(3):
        await post.register(f"https://hooks.example.org/{number}")
    post.starter.dies_before = 2
    with pytest.raises(ConnectionError):
        await post.tell(news())
    assert len(post.starter.started) == 1
    first = await post.tell(news())
    assert len(first) == 3
    assert await post.tell(news()) == first
    assert len({each.delivery_id for each in first}) == 3


async def test_what_was_delivered_is_not_started_again(post):
    """A batch's last activity that wakes up late finds the log, however long ago the workflow ended."""
    secret = new_secret()
    async with receiver(secret) as hook:
        await post.register(hook.url, secret)
        [delivery] = await post.tell(news())
        await post.attempt(delivery)
        calls = post.starter.calls
        await post.tell(news())
    assert post.starter.calls == calls


async def test_endpoints_hear_of_what_they_asked_for(post):
    """By type and by batch; those that are switched off, and other tenants', of nothing."""
    all_of_it = await post.register("https://hooks.example.org/all")
    await post.register("https://hooks.example.org/ends", event_types=(WebhookEventType.BATCH_FAILED,))
    of_this = await post.register("https://hooks.example.org/this", batch_id=BATCH)
    await post.register("https://hooks.example.org/other", batch_id="01890000-0000-7000-8000-000000000002")
    await post.register("https://hooks.example.org/off", disabled_reason=DisabledReason.REQUESTED)
    started = await post.tell(news())
    assert {each.webhook_id for each in started} == {all_of_it.webhook_id, of_this.webhook_id}


async def test_each_end_of_a_batch_is_an_event_of_its_own(post):
    """A batch that is retried ends twice; the id tells the two apart, and is the same at every endpoint."""
    for number in range(2):
        await post.register(f"https://hooks.example.org/{number}")
    await post.tell(news(which="v7"), news(which="v9"))
    deliveries = [each for webhook in await post.catalog.webhooks.list_all(9) for each in await post.log_of(webhook)]
    assert len(deliveries) == 4
    assert len({each.event_id for each in deliveries}) == 2


async def test_a_problem_is_told_by_its_code(post):
    """Its message may quote a name."""
    problem = BatchProblem(code="batch_too_large", message="secret-plans.zip holds too much.", action="Split it.")
    webhook = await post.register("https://hooks.example.org/")
    await post.tell(news(WebhookEventType.BATCH_FAILED, state=BatchState.FAILED, problem=problem))
    [delivery] = await post.log_of(webhook)
    assert delivery.payload["data"]["problem"] == {"code": "batch_too_large", "action": "Split it."}
    assert "secret-plans" not in json.dumps(delivery.payload)


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
async def test_anything_but_2xx_is_tried_again(post, status):
    """After the pause of the schedule; a redirect is not followed."""
    secret = new_secret()
    async with receiver(secret) as hook:
        hook.answers = [Told(status, headers={"Location": f"{hook.server.url}/elsewhere"})]
        webhook = await post.register(hook.url, secret)
        [delivery] = await post.tell(news())
        answer = await post.attempt(delivery, pause_seconds=5.0)
        assert len(hook.asked) == 1
    assert answer == AttemptDeliveryOutput(status=DeliveryStatus.PENDING, pause_seconds=5.0)
    [noted] = await post.log_of(webhook)
    assert noted.attempts[0].status_code == status
    assert noted.next_attempt_at > noted.attempts[0].at
    assert str(status) in noted.attempts[0].error


@pytest.mark.parametrize(
    ("asked", "pause"), [("120", 120.0), ("1", 5.0), ("99999999", 86_400.0), ("soon", 5.0), ("-3", 5.0)]
)
async def test_what_a_receiver_asks_for_is_honoured(post, asked, pause):
    """A longer pause than the schedule's, up to a day; never a shorter one."""
    secret = new_secret()
    async with receiver(secret) as hook:
        hook.answers = [Told(503, headers={"Retry-After": asked})]
        await post.register(hook.url, secret)
        [delivery] = await post.tell(news())
        assert (await post.attempt(delivery, pause_seconds=5.0)).pause_seconds == pause


async def test_nobody_there_is_an_answer_too(post):
    """The last attempt of the schedule ends the delivery."""
    async with receiver() as hook:
        url = hook.url
    webhook = await post.register(url)
    [delivery] = await post.tell(news())
    assert (await post.attempt(delivery, 1)).status is DeliveryStatus.PENDING
    assert (await post.attempt(delivery, 2, pause_seconds=None)).status is DeliveryStatus.FAILED
    [noted] = await post.log_of(webhook)
    assert [each.status_code for each in noted.attempts] == [None, None]
    assert "could not be reached" in noted.attempts[0].error
    assert "abc" not in noted.model_dump_json()


async def test_410_switches_an_endpoint_off(post):
    """The delivery is over, the endpoint hears of nothing more, and the audit log says so."""
    secret = new_secret()
    async with receiver(secret) as hook:
        hook.answers = [Told(410)]
        webhook = await post.register(hook.url, secret)
        [delivery] = await post.tell(news())
        waiting = (await post.tell(news(which="v9")))[-1]
        assert (await post.attempt(delivery)).status is DeliveryStatus.FAILED
        # What was under way beside it is given up without a request.
        assert (await post.attempt(waiting)).status is DeliveryStatus.FAILED
        assert len(hook.asked) == 1
    after = await post.catalog.webhooks.get_webhook(DEFAULT_TENANT_ID, webhook.webhook_id)
    assert after.disabled_reason is DisabledReason.GONE
    where = AuditFilter(DEFAULT_TENANT_ID, event_type=AuditType.WEBHOOK_DISABLED)
    [event] = await post.catalog.audit.list_events(where, 5)
    assert (event.actor, event.resource_id) == ("system", webhook.webhook_id)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"description": "ops"}, DisabledReason.GONE),
        ({"url": "https://hooks.example.org/new"}, None),
        ({"disabled_reason": DisabledReason.REQUESTED}, DisabledReason.REQUESTED),
    ],
    ids=["described", "moved", "switched off"],
)
async def test_410_counts_whatever_is_changed_meanwhile(post, change, reason):
    """But for another address, which did not say so; and whoever switched it off did that first."""

    async def answer(_asked):
        assert await post.catalog.webhooks.replace_webhook(webhook, webhook.model_copy(update=change))
        return Told(410)

    async with http_stand_in(answer) as server:
        webhook = await post.register(server.url)
        [delivery] = await post.tell(news())
        await post.attempt(delivery)
    after = await post.catalog.webhooks.get_webhook(DEFAULT_TENANT_ID, webhook.webhook_id)
    assert after.disabled_reason is reason


async def test_an_attempt_that_is_on_record_is_not_made_again(post):
    """A worker that dies after writing it down leaves nothing to do."""
    secret = new_secret()
    async with receiver(secret) as hook:
        hook.answers = [Told(500)]
        await post.register(hook.url, secret)
        [delivery] = await post.tell(news())
        first = await post.attempt(delivery, 1)
        assert await post.attempt(delivery, 1) == first
        assert await post.attempt(delivery, 2) == SUCCEEDED
        assert await post.attempt(delivery, 2) == SUCCEEDED
        assert len(hook.asked) == 2
        ids = {asked.headers["webhook-id"] for asked in hook.asked}
    assert len(ids) == 1


async def test_after_a_rotation_both_secrets_sign(post):
    """Each receiver verifies with the one it has; once the time is over the old one signs no more."""
    old, new = new_secret(), new_secret()
    async with receiver(old) as hook:
        webhook = await post.register(hook.url, old)
        [delivery, later] = await post.tell(news(), news(which="v9"))
        until = datetime.now(UTC) + timedelta(hours=1)
        await _reseal(post, webhook, {"secret": new, "earlier": [[old, until.isoformat()]]})
        assert await post.attempt(delivery) == SUCCEEDED
        hook.secrets = [new]
        assert len(hook.asked[0].headers["webhook-signature"].split(" ")) == 2
        await _reseal(post, webhook, {"secret": new, "earlier": [[old, "2026-01-01T00:00:00+00:00"]]})
        assert await post.attempt(later) == SUCCEEDED
        assert len(hook.asked[1].headers["webhook-signature"].split(" ")) == 1


async def test_secrets_that_cannot_be_read_cost_an_attempt(post):
    """The log says what is missing, and the schedule goes on."""
    webhook = await post.register("https://hooks.example.org/")
    [delivery] = await post.tell(news())
    moved = webhook.model_copy(update={"sealed": post.box.seal({"secret": new_secret()}, "somebody else")})
    await post.catalog.webhooks.replace_webhook(webhook, moved)
    assert (await post.attempt(delivery)).status is DeliveryStatus.PENDING
    [noted] = await post.log_of(webhook)
    assert "belong to another" in noted.attempts[0].error


async def test_a_deleted_endpoint_ends_what_is_on_its_way(post):
    """With the endpoint its log is gone."""
    webhook = await post.register("https://hooks.example.org/")
    [delivery] = await post.tell(news())
    await post.catalog.webhooks.delete_webhook(DEFAULT_TENANT_ID, webhook.webhook_id)
    assert (await post.attempt(delivery)).status is DeliveryStatus.FAILED


async def test_one_that_is_sent_again_needs_nobody_to_note_it(post):
    """Whoever asked for it may be gone: the first attempt notes it, with the event's own id."""
    secret = new_secret()
    async with receiver(secret) as hook:
        webhook = await post.register(hook.url, secret)
        [delivery] = await post.tell(news())
        await post.attempt(delivery)
        again = DeliveryInput(
            tenant_id=delivery.tenant_id,
            webhook_id=delivery.webhook_id,
            delivery_id="0189aaaa-0000-7000-8000-000000000001",
            redelivery_of=delivery.delivery_id,
        )
        assert await post.attempt(again) == SUCCEEDED
        assert len({event["id"] for event in hook.received}) == 1
    assert [each.redelivery_of for each in await post.log_of(webhook)] == [delivery.delivery_id, None]


async def test_receivers_that_hang_keep_no_other_waiting():
    """However many: each request has a connection of its own, and all of its time."""
    together, sender = asyncio.Barrier(60), HttpWebhookSender(allow_private=True)

    async def answer(_asked):
        await together.wait()
        return Told(204)

    async with http_stand_in(answer) as server:
        sending = (sender.send(server.url, "evt_1", b"{}", [new_secret()]) for _ in range(together.parties))
        results = await asyncio.gather(*sending)
    await sender.close()
    assert {each.status_code for each in results} == {204}


async def test_private_addresses_are_not_sent_to():
    """The same guard as for sources: by name or by number, and whatever was registered before."""
    post = Post()
    guarded = type(post.sender)()
    result = await guarded.send("http://127.0.0.1:1/", "evt_1", b"{}", [new_secret()])
    assert (result.status_code, result.error) == (None, "127.0.0.1 is not an address of the public Internet.")
    assert guarded.check("http://10.0.0.1/") is not None
    assert guarded.check("https://hooks.example.org/") is None
    await guarded.close()


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("http://127.0.0.1:65536/", new_secret()),
        ("http://xn--/", new_secret()),
        ("http://127.0.0.1:1/", "whsec_" + "A" * 33),
    ],
)
async def test_what_can_never_be_sent_costs_an_attempt(post, url, secret):
    """A port, a name or a secret that is none is an answer: an error would keep the delivery at its first attempt."""
    result = await post.sender.send(url, "evt_1", b"{}", [secret])
    assert result.status_code is None
    assert result.error is not None
    assert secret not in result.error


async def _reseal(post: Post, webhook, secrets) -> None:
    there = await post.catalog.webhooks.get_webhook(webhook.tenant_id, webhook.webhook_id)
    sealed = post.box.seal(secrets, webhook.owner)
    await post.catalog.webhooks.replace_webhook(there, there.model_copy(update={"sealed": sealed}))
