"""Whose documents come first when there are more than workers: tenants take turns, urgent batches go ahead."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from temporalio import activity

from ingather.models.messages import IngestDocumentInput, IngestDocumentOutput, PriorityRequest
from tests.support.batch_driver import BatchDriver, workers
from tests.support.fake_activities import World
from tests.support.waiting import until
from workflows.batch import BatchWorkflow

SLOTS = 4
UNDER_WAY = SLOTS + 16
"""Documents that may start before a newcomer's first: those on workers, and those that pollers had in hand."""


@dataclass
class OrderedWorld(World):
    """Notes whose document starts when."""

    order: list[str] = field(default_factory=list)
    """Batch ids."""

    @activity.defn(name="ingest_document")
    async def ingest_document(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        self.order.append(request.batch_id)
        return await super().ingest_document(request)


@asynccontextmanager
async def two_batches(client, world: World, *, tenants: int) -> AsyncIterator[tuple[BatchDriver, BatchDriver]]:
    """Few slots, and two batches of one tenant or two."""
    ids = [str(uuid.uuid4()) for _ in range(tenants)]
    drivers = [BatchDriver(client, world, ids[number % tenants]) for number in range(2)]
    async with workers(client, world, slots=SLOTS):
        try:
            yield drivers[0], drivers[1]
        finally:
            for driver in drivers:
                await driver.clean_up()


def between(order: list[str], batch_id: str) -> list[str]:
    """What started from the first document of a batch to its last."""
    first = order.index(batch_id)
    last = len(order) - 1 - order[::-1].index(batch_id)
    return order[first : last + 1]


async def test_tenants_take_turns(client):
    """A tenant with hundreds of documents waiting starts about as many as another one, while that has some left."""
    world = OrderedWorld(document_count=300, seconds=0.01)
    async with two_batches(client, world, tenants=2) as (noisy, quiet):
        await noisy.start()
        await until(lambda: len(world.order) > 20)
        world.document_count = 20
        handle = await quiet.start()
        await handle.result()

        meanwhile = between(world.order, quiet.batch_id)
        assert meanwhile.count(noisy.batch_id) <= 2 * 20 + UNDER_WAY


async def test_an_urgent_batch_overtakes_one_that_runs(client):
    """Its documents go before all that the other batch of the tenant has waiting."""
    world = OrderedWorld(document_count=300, seconds=0.02)
    async with two_batches(client, world, tenants=1) as (low, urgent):
        await low.start(priority=5)
        await until(lambda: len(world.order) > 20)
        world.document_count = 20
        handle = await urgent.start(priority=1)
        await handle.result()

        meanwhile = between(world.order, urgent.batch_id)
        assert meanwhile.count(low.batch_id) <= UNDER_WAY
        assert world.order.count(low.batch_id) < 300


async def test_a_running_batch_made_urgent_overtakes_too(client):
    """The new priority holds for every document that is not yet handed out."""
    world = OrderedWorld(document_count=150, seconds=0.02)
    async with two_batches(client, world, tenants=1) as (first, second):
        await first.start()
        await second.start()
        await until(lambda: world.order.count(second.batch_id) > 5)
        await second.handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="now", priority=1))
        await second.handle.result()

        # Those in its window were handed out with the old priority.
        left = world.order[: len(world.order) - world.order[::-1].index(second.batch_id)]
        assert left.count(first.batch_id) < left.count(second.batch_id) == 150


async def test_priority_moves_nothing_between_tenants_that_are_equal(client):
    """Two tenants that hand in as much at the same priority are through about half of it each at any time."""
    world = OrderedWorld(document_count=100, seconds=0.01)
    async with two_batches(client, world, tenants=2) as (one, other):
        await asyncio.gather(one.start(), other.start())
        await asyncio.gather(one.handle.result(), other.handle.result())

        both = [batch for batch in world.order if batch in (one.batch_id, other.batch_id)]
        shared = list(itertools.dropwhile(lambda batch: batch == both[0], both))[:100]
        assert min(shared.count(one.batch_id), shared.count(other.batch_id)) >= 25
