"""Which batches are told first, where there are more than can be: every catalog shares the places alike."""

from datetime import timedelta

from ingather.models.batch import BatchState
from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.catalog_records import NOON, batch_record

OTHER = "11111111-1111-7111-8111-111111111111"


def job(minute: int, **changes):
    record = batch_record(created_at=NOON + timedelta(minutes=minute), **changes)
    return record.model_copy(update={"spec": record.spec.model_copy(update={"contract": "jobs"})})


async def first_untold(catalog, jobs, limit):
    for record in jobs:
        await catalog.add_batch(record)
    found = await catalog.list_untold(["jobs"], limit)
    names = {record.batch_id: place for place, record in enumerate(jobs)}
    return [names[batch_id] for _tenant_id, batch_id in found]


async def test_one_tenants_jobs_do_not_take_the_places_of_all_others(catalog):
    """However many there are and however long they wait, a newer job of another tenant has its turn."""
    await catalog.add_tenant(OTHER, "other")
    jobs = [job(minute) for minute in range(10)] + [job(60, tenant_id=OTHER), job(61, tenant_id=OTHER)]

    assert await first_untold(catalog, jobs, 4) == [0, 10, 1, 11]
    assert len(await catalog.list_untold(["jobs"], 100)) == len(jobs)


async def test_jobs_that_may_run_come_before_those_that_wait(catalog):
    """Those that ended, the oldest, and the most urgent ones, wherever they are in the line."""
    waiting = [job(minute, priority=4) for minute in range(10)]
    urgent = [job(60, priority=1), job(61, priority=1)]
    ended = [job(70, priority=5, state=BatchState.COMPLETED)]

    # The oldest urgent job is as far ahead in the line as the one that ended is by age.
    assert await first_untold(catalog, waiting + urgent + ended, 4) == [10, 12, 0, 11]


async def test_tenants_are_told_apart_in_what_is_found(catalog):
    """Each batch comes with its own tenant."""
    await catalog.add_tenant(OTHER, "other")
    mine, theirs = job(0), job(1, tenant_id=OTHER)
    for record in (mine, theirs):
        await catalog.add_batch(record)
    assert await catalog.list_untold(["jobs"], 10) == [(DEFAULT_TENANT_ID, mine.batch_id), (OTHER, theirs.batch_id)]
