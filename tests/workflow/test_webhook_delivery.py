"""An event on its way to an endpoint, over days that pass in seconds."""

import asyncio
from datetime import datetime, timedelta

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import TimeSkipper, TimeSkippingConfig
from temporalio.worker import Worker

from activities.webhooks import Newsroom, TemporalDeliveryStarter, WebhookActivities
from ingather.domain.webhooks import JITTER, PAUSES, new_secret
from ingather.models.batch import BatchState
from ingather.models.engine import WEBHOOK_QUEUE, WORKFLOW_QUEUE
from ingather.models.identity import DEFAULT_TENANT_ID, delivery_workflow_id_for
from ingather.models.messages import ListenerAdded
from ingather.models.webhook import DeliveryStatus, WebhookEventType
from tests.support import servers
from tests.support.batch_driver import driven, request
from tests.support.batch_scenarios import ONE_AT_A_TIME, heard_later
from tests.support.delivery_scenarios import never_succeeds, play_delivery
from tests.support.fake_activities import World
from tests.support.http_stand_in import Asked, Told, http_stand_in
from tests.support.waiting import until
from tests.support.webhooks import BATCH, Post, news, verified
from workflows.batch import BatchWorkflow
from workflows.runner import sandboxed_runner
from workflows.webhook_delivery import WebhookDeliveryWorkflow

HOUR = timedelta(hours=1)


@pytest.fixture(scope="session")
def skipping_address(tmp_path_factory: pytest.TempPathFactory):
    """A server on which a workflow's time passes while nothing happens in it."""
    directory = tmp_path_factory.mktemp("skipping")
    server = servers.temporal_server(directory, **{"frontend.WorkflowTimeSkippingEnabled": "true"})
    with servers.started(server):
        yield server.address


@pytest.fixture
async def skipper(skipping_address: str) -> TimeSkipper:
    client = await Client.connect(skipping_address, data_converter=pydantic_data_converter)
    return TimeSkipper(client, config=TimeSkippingConfig(enabled=True))


async def test_a_receiver_that_is_down_for_an_hour_gets_each_event_once(skipper):
    """Five attempts, the last one well after the hour; told twice, each event is taken once, and its signature fits."""
    post, secret = Post(), new_secret()
    taken, began = [], {}

    async def answer(asked: Asked) -> Told:
        event = verified(asked, [secret])
        [delivery] = [each for each in await post.log_of(webhook) if each.event_id == event["id"]]
        handle = skipper.client.get_workflow_handle(delivery_workflow_id_for(delivery.delivery_id))
        now = await skipper.get_current_time(handle)
        if now - began.setdefault(event["id"], now) < HOUR:
            return Told(503)
        taken.append(event["id"])
        return Told(200)

    async with http_stand_in(answer) as server:
        webhook = await post.register(server.url, secret)
        newsroom = Newsroom(post.catalog.webhooks, TemporalDeliveryStarter(skipper.client))
        activities = WebhookActivities(post.catalog.webhooks, newsroom, post.box, post.sender)
        events = (news(WebhookEventType.BATCH_STARTED, "j1"), news())
        async with (
            Worker(
                skipper.client,
                task_queue=WORKFLOW_QUEUE,
                workflows=[WebhookDeliveryWorkflow],
                workflow_runner=sandboxed_runner(),
            ),
            Worker(skipper.client, task_queue=WEBHOOK_QUEUE, activities=[activities.attempt_delivery]),
        ):
            for _ in range(2):
                await newsroom.tell(DEFAULT_TENANT_ID, BATCH, events)
            for delivery in await post.log_of(webhook):
                handle = skipper.client.get_workflow_handle(delivery_workflow_id_for(delivery.delivery_id))
                await handle.result()
            await newsroom.tell(DEFAULT_TENANT_ID, BATCH, events)
    await post.sender.close()
    log = await post.log_of(webhook)
    assert sorted(taken) == sorted(each.event_id for each in log)
    assert len(taken) == 2
    for delivery in log:
        assert [each.status_code for each in delivery.attempts] == [503] * 4 + [200]
        assert delivery.status is DeliveryStatus.SUCCEEDED


async def test_the_schedule_is_the_published_one(client):
    """Ten attempts; before each the pause that is published, longer by up to a tenth; after the last none."""
    scenario = never_succeeds()
    await play_delivery(client, scenario)
    assert [each.number for each in scenario.attempts] == list(range(1, 11))
    pauses = [each.pause_seconds for each in scenario.attempts]
    assert pauses.pop() is None
    for pause, published in zip(pauses, PAUSES[1:], strict=True):
        assert published.total_seconds() <= pause <= published.total_seconds() * (1 + JITTER)


async def test_a_batch_tells_what_happens_to_it(client):
    """Each change of state once, with the counts of that moment; nothing of states that are only passed through."""
    world = World(seconds=0.05)
    async with driven(client, world) as driver:
        handle = await driver.start(options=ONE_AT_A_TIME, is_heard=True, hold=True)
        await driver.reaches(BatchState.PENDING)
        await handle.execute_update(BatchWorkflow.start, request())
        await handle.result()
    [started] = world.news
    assert (started.kind, started.state, started.counts.total) == ("batch.started", BatchState.RUNNING, 3)
    assert isinstance(started.at, datetime)


async def test_a_batch_tells_whoever_begins_to_listen_what_follows(client):
    """It was submitted when nobody did."""
    world = World(seconds=0.05)
    async with driven(client, world) as driver:
        await heard_later(driver)
    assert [each.kind for each in world.news] == ["batch.started"]


async def test_whoever_began_to_listen_is_remembered_in_the_next_run(short_history_client):
    """A batch that continues as new takes it along."""
    world = World(document_count=30, gate=asyncio.Event(), open_for=25)
    async with driven(short_history_client, world) as driver:
        handle = await driver.start(options=ONE_AT_A_TIME)
        await handle.signal(BatchWorkflow.listener_added, ListenerAdded())
        first_run = (await handle.describe()).run_id
        await until(lambda: world.waiting == 1)
        await handle.execute_update(BatchWorkflow.pause, request())
        world.gate.set()
        await driver.reaches(BatchState.PAUSED)
        await until(lambda: "batch.paused" in [each.kind for each in world.news])
        assert (await handle.describe()).run_id != first_run


async def test_a_batch_that_nobody_listens_to_tells_nothing(client):
    """No activity is spent on it; how it ended is told by the one that writes its last word."""
    world = World()
    async with driven(client, world) as driver:
        await (await driver.start(options=ONE_AT_A_TIME)).result()
    assert world.calls["tell_news"] == 0
