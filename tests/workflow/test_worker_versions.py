"""Workers with a version, on a real server: the next one takes running batches over, and a stopping one hands back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import pytest
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

import worker as worker_process
from activities.failures import HANDED_BACK, translate_errors
from activities.places import PlaceActivities
from ingather.models.engine import CPU_QUEUE, IO_QUEUE, MANIFEST_QUEUE, WORKFLOW_QUEUE
from ingather.models.identity import DEFAULT_TENANT_ID, workflow_id_for
from ingather.models.messages import PlaceLimits
from ingather.settings import Settings
from tests.support import servers
from tests.support.batch_driver import BatchDriver
from tests.support.fake_activities import World
from tests.support.waiting import until

SHORT_GRACE = timedelta(seconds=0.2)


@pytest.fixture(scope="module")
def versioned_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own: once a version is current, workers without one get nothing any more."""
    server = servers.temporal_server(tmp_path_factory.mktemp("versioned"))
    with servers.started(server):
        yield server.address


@pytest.fixture
async def versioned_client(versioned_address: str) -> Client:
    return await Client.connect(versioned_address, data_converter=pydantic_data_converter)


@asynccontextmanager
async def deployed(client: Client, world: World, build_id: str) -> AsyncIterator[None]:
    """All roles in one version, which makes itself current."""
    settings = Settings(worker={"build_id": build_id, "make_current": True, "shutdown_grace": SHORT_GRACE})
    places = PlaceActivities(client, PlaceLimits(max_jobs=4, max_bytes=2**40))
    by_queue = {
        WORKFLOW_QUEUE: [],
        MANIFEST_QUEUE: [world.build_manifest],
        IO_QUEUE: [*world.io_activities(), places.request_place, places.check_holders],
        CPU_QUEUE: world.cpu_activities(),
    }
    async with AsyncExitStack() as stack:
        for queue, activities in by_queue.items():
            await stack.enter_async_context(worker_process.build_worker(client, queue, activities, settings))
        await worker_process.make_current(client, settings, pause_seconds=0.1)
        yield


async def versions_of(client: Client, batch_id: str) -> list[str]:
    """Which version decided what happened, in order, each once."""
    history = await client.get_workflow_handle(workflow_id_for(batch_id)).fetch_history()
    decided = [
        event.workflow_task_completed_event_attributes.deployment_version.build_id
        for event in history.events
        if event.HasField("workflow_task_completed_event_attributes")
    ]
    return list(dict.fromkeys(decided))


async def test_a_running_batch_goes_over_to_the_version_that_is_current(versioned_client: Client):
    """Half of it runs in version 1, whose workers then go away, and the rest in version 2; nobody does anything."""
    world = World(document_count=20, gate=asyncio.Event(), open_for=8)
    driver = BatchDriver(versioned_client, world)
    async with deployed(versioned_client, world, "1"):
        handle = await driver.start()
        await until(lambda: world.waiting == 12)

    async with deployed(versioned_client, world, "2"):
        world.gate.set()
        summary = await asyncio.wait_for(handle.result(), 60)

    assert (summary.counts.total, summary.counts.done) == (20, 20)
    assert await versions_of(versioned_client, driver.batch_id) == ["1", "2"]


class Endless:
    """An activity that only its worker's end ends, until it is told otherwise."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.attempts: list[int] = []

    @activity.defn(name="endless")
    @translate_errors
    async def endless(self) -> list[int]:
        self.attempts.append(activity.info().attempt)
        await self.may_end.wait()
        return self.attempts


@workflow.defn(name="CallsEndless", sandboxed=False)
class CallsEndless:
    @workflow.run
    async def run(self, queue: str) -> list[int]:
        answer: list[int] = await workflow.execute_activity(
            "endless",
            task_queue=queue,
            start_to_close_timeout=timedelta(minutes=5),
            # An hour of pause: whatever comes sooner was asked for by who handed it back.
            retry_policy=RetryPolicy(initial_interval=timedelta(hours=1)),
            result_type=list[int],
        )
        return answer


async def test_what_is_handed_back_is_taken_up_at_once(client: Client):
    """Neither the heartbeat's time-out nor the pause between attempts stands before the next worker."""
    queue, endless = f"handed-back-{DEFAULT_TENANT_ID}", Endless()

    def one_worker() -> Worker:
        return Worker(client, task_queue=queue, activities=[endless.endless], graceful_shutdown_timeout=SHORT_GRACE)

    async with Worker(client, task_queue=f"{queue}-workflows", workflows=[CallsEndless]):
        async with one_worker():
            handle = await client.start_workflow(
                CallsEndless.run, queue, id=f"calls-{queue}", task_queue=f"{queue}-workflows"
            )
            await until(lambda: endless.attempts == [1])
        description = await handle.describe()
        [pending] = description.raw_description.pending_activities
        assert pending.last_failure.application_failure_info.type == HANDED_BACK

        endless.may_end.set()
        async with one_worker():
            assert await asyncio.wait_for(handle.result(), 30) == [1, 2]
