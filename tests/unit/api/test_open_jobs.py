"""Which jobs have not ended: looked up once for everybody who waits for news of them."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from api.service.open_batches import OpenBatches
from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.models.batch import BatchProgress, BatchState, Counts
from ingather.models.errors import CatalogUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.catalog_records import batch_record
from tests.support.waiting import until

SOURCES = {"contract": "sources", "state": BatchState.PENDING}


class CountingCatalog(InMemoryCatalog):
    """Counts questions, and may be away."""

    def __init__(self):
        super().__init__()
        self.asked = 0
        self.is_away = False

    async def list_open(self, where, ended_after=None):
        self.asked += 1
        if self.is_away:
            raise CatalogUnavailableError("away")
        return await super().list_open(where, ended_after)


class Running:
    """What the engine lists."""

    def __init__(self):
        self.progress = {}

    async def under_way(self, _tenant_id):
        return self.progress


@pytest.fixture
def catalog():
    return CountingCatalog()


@pytest.fixture
def running():
    return Running()


@pytest.fixture
async def jobs(catalog, running):
    jobs = OpenBatches(catalog, running, "sources")
    yield jobs
    await jobs.close()


async def heard(interest):
    await asyncio.wait_for(interest.changed.wait(), 10)
    interest.changed.clear()
    return interest.jobs


async def test_each_user_hears_of_their_own_jobs_of_the_door(catalog, jobs):
    """Not of another user's, nor of batches that came through another door."""
    mine = batch_record(created_by="vera", **SOURCES)
    for record in (mine, batch_record(created_by="jocelyn", **SOURCES), batch_record(created_by="vera")):
        await catalog.add_batch(record)
    async with jobs.interest(DEFAULT_TENANT_ID, "vera") as interest:
        found = await heard(interest)
    assert list(found) == [mine.batch_id]
    assert found[mine.batch_id].state is BatchState.PENDING


async def test_a_hundred_who_wait_cost_what_one_does(catalog, jobs):
    """One question for all of a tenant, and none once they have left."""
    await catalog.add_batch(batch_record(created_by="vera", **SOURCES))
    async with AsyncExitStack() as stack:
        interests = [await stack.enter_async_context(jobs.interest(DEFAULT_TENANT_ID, "vera")) for _ in range(100)]
        for interest in interests:
            await heard(interest)
        assert catalog.asked <= 2
    asked = catalog.asked
    await asyncio.sleep(0.3)
    assert catalog.asked == asked


async def test_the_engine_says_what_a_job_does_now(catalog, running, jobs):
    """The catalog calls a job pending until it has ended."""
    record = batch_record(created_by="vera", **SOURCES)
    await catalog.add_batch(record)
    async with jobs.interest(DEFAULT_TENANT_ID, "vera") as interest:
        await heard(interest)
        running.progress[record.batch_id] = BatchProgress(state=BatchState.RUNNING, counts=Counts(total=1, done=1))
        found = await heard(interest)
    assert (found[record.batch_id].state, found[record.batch_id].counts.done) == (BatchState.RUNNING, 1)


async def test_what_a_job_answered_itself_is_sooner_known(catalog, jobs):
    """A start through this process is news before the engine lists it."""
    record = batch_record(created_by="vera", **SOURCES)
    await catalog.add_batch(record)
    async with jobs.interest(DEFAULT_TENANT_ID, "vera") as interest:
        await heard(interest)
        jobs.note(DEFAULT_TENANT_ID, record.batch_id, BatchState.QUEUED)
        assert (await heard(interest))[record.batch_id].state is BatchState.QUEUED


async def test_a_catalog_that_is_away_is_asked_again(catalog, jobs):
    """Whoever waits hears once it is back."""
    catalog.is_away = True
    await catalog.add_batch(batch_record(created_by="vera", **SOURCES))
    async with jobs.interest(DEFAULT_TENANT_ID, "vera") as interest:
        await until(lambda: catalog.asked > 0)
        assert interest.jobs is None
        catalog.is_away = False
        assert len(await heard(interest)) == 1
