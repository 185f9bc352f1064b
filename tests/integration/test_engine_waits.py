"""Why a batch stands still, asked of a real Temporal server."""

import asyncio
import math
import uuid

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.failures import to_application_error
from api.engine_waits import EngineWaits, PendingWork
from ingather.domain.waiting_line import batches_in, position_in
from ingather.models.engine import CPU_QUEUE, WORKFLOW_QUEUE
from ingather.models.errors import EmbedderUnavailableError
from ingather.models.identity import workflow_id_for
from tests.support.batch_driver import driven
from tests.support.fake_activities import World
from tests.support.placed_batches import placed
from tests.support.waiting import until, until_async
from workflows.places import LINE_IN_MEMO


@pytest.fixture
async def client(temporal_address) -> Client:
    return await Client.connect(temporal_address, data_converter=pydantic_data_converter)


async def test_the_line_of_a_tenant_is_known_without_a_worker(client):
    """The memo is read, so the answer is there when every worker is gone."""
    async with placed(client) as tenant:
        await tenant.runs(await tenant.submit())
        waiting = await tenant.submit()
        await tenant.waits(waiting, behind=0)

        async def shown() -> bool | None:
            line = await EngineWaits(client).line(tenant.tenant_id)
            return True if line is not None and position_in(line, waiting) == 1 else None

        await until_async(shown)


async def test_a_tenant_without_a_line_has_none(client):
    """Nobody ever asked, or everybody is through."""
    assert await EngineWaits(client).line(str(uuid.uuid4())) is None


async def test_a_batch_far_back_in_the_line_has_its_position_too(client):
    """The memo holds the first of a long line; a worker is asked for the rest."""
    async with placed(client) as tenant:
        count = LINE_IN_MEMO + 6
        await asyncio.gather(*(tenant.submit() for _ in range(count + 1)))

        async def all_named() -> bool | None:
            line = await EngineWaits(client).line(tenant.tenant_id)
            return True if line is not None and len(batches_in(line)) == line.waiting == count else None

        await until_async(all_named)


async def test_a_queue_is_silent_until_a_worker_polls_it(client):
    """A queue that nobody ever asked is silent for ever; one with a worker is not."""
    assert await EngineWaits(client).seconds_since_poll(f"unused-{uuid.uuid4()}") == math.inf
    async with driven(client, World()) as driver:
        await (await driver.start()).result()
        waits = EngineWaits(client)
        assert await waits.seconds_since_poll(CPU_QUEUE) < 60
        assert await waits.seconds_since_poll(WORKFLOW_QUEUE) < 60


async def test_documents_that_wait_for_a_provider_say_until_when(client):
    """An attempt that met a rate limit is counted apart, with the time the provider asked for."""

    def limited(_ordinal: int, _round: int):
        raise to_application_error(
            EmbedderUnavailableError("It is busy.", reason="status 429", retry_after_seconds=600.0)
        )

    async with driven(client, World(document_count=3, outcome=limited)) as driver:
        await driver.start()

        async def all_wait() -> PendingWork | None:
            work = await EngineWaits(client).pending((workflow_id_for(driver.batch_id),))
            return work if work.limited == 3 else None

        work = await until_async(all_wait)
        assert (work.started, work.scheduled) == (0, 0)
        assert work.limited_until is not None


async def test_documents_at_work_are_counted_as_started(client):
    """What is on a worker is told from what waits for one; a workflow that is not there has neither."""
    world = World(document_count=2, gate=asyncio.Event())
    async with driven(client, world) as driver:
        await driver.start()
        await until(lambda: world.in_flight == 2)

        work = await EngineWaits(client).pending((workflow_id_for(driver.batch_id), "batch/none"))
        assert work == PendingWork(started=2)
