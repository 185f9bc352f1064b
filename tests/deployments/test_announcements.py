"""What is promised on a channel comes once, whichever API process tells it, and whether or not there is one."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.contracts.job_body import CONTRACT
from tests.support.deployment import Deployment, api_not_started, deployed
from tests.support.fake_activities import DONE, failed
from tests.support.job_client import Listener, listening
from tests.support.running_stack import Json
from tests.support.waiting import until_async
from tests.support.watched_world import ApiProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

COUNT = 120
WORLD = {
    "document_count": COUNT,
    "seconds": 2.0,
    "outcome": lambda ordinal, _round: failed() if ordinal % 10 == 3 else DONE,
}
EVENTS = {"start": 1, "progress": COUNT - COUNT // 10, "fail": COUNT // 10, "complete": 1}


@pytest.fixture(scope="module")
def shared_api(temporal_address: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> ApiProcess:
    """None runs but those that a test starts."""
    return api_not_started(temporal_address, redis_url, tmp_path_factory.mktemp("announcements"))


@pytest.fixture
async def deployment(shared_api: ApiProcess, tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(shared_api, tmp_path) as deployment:
        yield deployment


@pytest.fixture
async def listener(redis_url: str) -> AsyncIterator[Listener]:
    async with listening(redis_url) as listener:
        yield listener


def assert_each_once(heard: list[Json]) -> None:
    assert Counter(event["event_type"] for event in heard) == EVENTS
    about = [event["document_index"] for event in heard if event["document_index"] is not None]
    assert sorted(about) == list(range(COUNT))
    assert (heard[0]["event_type"], heard[-1]["event_type"], heard[-1]["message"]) == ("start", "complete", "failed")


async def test_an_api_that_is_killed_and_started_again_publishes_each_event_once(
    deployment: Deployment, listener: Listener
) -> None:
    """Nobody watches, in none of its lives."""
    api = await deployment.api()
    batch = await deployment.batch(await deployment.world(**WORLD), contract=CONTRACT)
    await listener.hears(batch.batch_id, "progress")
    await asyncio.to_thread(api.kill)
    before = len(listener.heard[batch.batch_id])
    assert before < COUNT
    await asyncio.sleep(1)
    await deployment.api()
    heard = await listener.hears(batch.batch_id, "complete")
    await asyncio.sleep(2)
    assert_each_once(heard)


async def test_of_several_processes_one_publishes_and_another_follows_it(
    deployment: Deployment, listener: Listener
) -> None:
    """Each event once, though three attend and two of them are killed; watchers here and there change nothing."""
    apis = [await deployment.api() for _ in range(3)]
    batch = await deployment.batch(await deployment.world(**WORLD), contract=CONTRACT)
    watcher = apis[2].watch(batch.batch_id, "0")
    await listener.hears(batch.batch_id, "progress")
    for api in apis[:2]:
        await asyncio.to_thread(api.kill)
    heard = await listener.hears(batch.batch_id, "complete")
    await watcher.closes(30)
    await asyncio.sleep(2)
    assert_each_once(heard)


async def test_what_happened_while_no_process_ran_is_published_by_the_next(
    deployment: Deployment, listener: Listener
) -> None:
    """The whole job, from its start to its end, from the catalog."""
    batch = await deployment.batch(await deployment.world(**WORLD | {"seconds": 0.0}), contract=CONTRACT)
    await batch.handle.result()
    assert batch.batch_id not in listener.heard
    await deployment.api()
    heard = await listener.hears(batch.batch_id, "complete")
    await asyncio.sleep(2)
    assert_each_once(heard)
    record = await deployment.catalog.get_batch(batch.batch_id)
    assert record is not None
    assert record.is_told


async def test_an_emptied_redis_in_mid_job_repeats_nothing(deployment: Deployment, listener: Listener) -> None:
    """The process that tells has it all in mind."""
    await deployment.api()
    batch = await deployment.batch(await deployment.world(**WORLD), contract=CONTRACT)
    await listener.hears(batch.batch_id, "progress")
    await deployment.redis.flushall()
    heard = await listener.hears(batch.batch_id, "complete")
    await asyncio.sleep(2)
    assert_each_once(heard)


async def test_a_workflow_that_was_terminated_is_told(deployment: Deployment, listener: Listener) -> None:
    """From outside, where nobody looked: complete with failed, and a fail for each document that was not processed."""
    await deployment.api()
    batch = await deployment.batch(await deployment.world(**WORLD | {"seconds": 30.0}), contract=CONTRACT)
    await listener.hears(batch.batch_id, "start")
    await batch.handle.terminate("by hand")
    heard = await listener.hears(batch.batch_id, "complete")
    assert Counter(event["event_type"] for event in heard) == {"start": 1, "fail": COUNT, "complete": 1}
    assert heard[-1]["message"] == "failed"


async def test_many_that_wait_are_asked_seldom(deployment: Deployment, listener: Listener) -> None:
    """A hundred jobs that wait to be started cost fewer than sixty queries a second, and each tells its end."""
    api = await deployment.api()
    world = await deployment.world(document_count=1)
    batches = [await deployment.batch(world, contract=CONTRACT, hold=True) for _ in range(100)]

    async def are_asked_seldom() -> bool | None:
        before = await queries(api)
        await asyncio.sleep(5)
        return (await queries(api) - before) / 5 < 60 or None

    await until_async(are_asked_seldom)  # they are asked less and less often
    for batch in batches[:3]:
        await batch.handle.cancel()
        assert [event["event_type"] for event in await listener.hears(batch.batch_id, "cancel")] == ["start", "cancel"]


async def queries(api: ApiProcess) -> float:
    lines = (await api.client().get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("ingather_batch_queries_total "))
