"""Events of batches to a receiver, on a real stack."""

import pytest

from tests.support.running_stack import notes
from tests.support.waiting import until_async
from tests.support.webhooks import receiver

pytestmark = pytest.mark.slow

OWN_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="


async def test_a_batch_tells_its_webhooks_what_happens_to_it(visitor):
    """Started and completed, once each, also to an address that the batch alone named; what comes verifies, and whoever
    asks when it comes is answered that the batch has ended.
    """
    async with receiver() as hook:
        made = await visitor.post("/v1/webhook-endpoints", {"url": hook.url}, 201)
        own = await visitor.post("/v1/webhook-endpoints", {"url": hook.url, "event_types": ["batch.failed"]}, 201)
        hook.secrets = [made["secret"], OWN_SECRET]
        batch_id = await visitor.submit(notes(2, "hookworm"), webhook_url=hook.url, webhook_secret=OWN_SECRET)

        async def told() -> bool | None:
            mine = [event for event in hook.received if event["batch_id"] == batch_id]
            return sorted(event["type"] for event in mine) == ["batch.completed"] * 2 + ["batch.started"] * 2 or None

        await until_async(told, 90)
        events = {event["type"]: event for event in hook.received if event["batch_id"] == batch_id}
        for webhook in (made, own):
            await visitor.http.delete(f"/v1/webhook-endpoints/{webhook['webhook_id']}")
    assert events["batch.completed"]["data"]["counts"]["done"] == 2
    assert len({event["id"] for event in hook.received if event["batch_id"] == batch_id}) == 2
    assert "hookworm" not in str(events)


async def test_a_batch_tells_whoever_begins_to_listen_what_follows(visitor):
    """A webhook that is made while it waits hears it start."""
    async with receiver() as hook:
        batch_id = await visitor.submit(notes(1, "latecomer"), hold=True)
        made = await visitor.post("/v1/webhook-endpoints", {"url": hook.url}, 201)
        hook.secrets = [made["secret"]]
        await visitor.post(f"/v1/batches/{batch_id}/start")

        async def told() -> bool | None:
            types = {event["type"] for event in hook.received if event["batch_id"] == batch_id}
            return types == {"batch.started", "batch.completed"} or None

        await until_async(told, 90)
        await visitor.http.delete(f"/v1/webhook-endpoints/{made['webhook_id']}")
