"""Batches that are told without being watched: who has a place, and keeps it."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

from api.streams.attendance import Attendance
from ingather.models.batch import BatchState
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.event_log import StreamKey
from tests.support.catalog_records import batch_record

OTHER = "11111111-1111-7111-8111-111111111111"
CONTRACT = "v1"
"""Of the records that tests make."""


async def add_job(catalog, minutes_ago: int, tenant_id: str = DEFAULT_TENANT_ID) -> StreamKey:
    created_at = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    record, _ = await catalog.add_batch(
        batch_record(batch_id=str(uuid.uuid4()), tenant_id=tenant_id, created_at=created_at)
    )
    return StreamKey(tenant_id, record.batch_id)


async def test_a_tenant_with_many_jobs_silences_no_other(house, batch):
    """A job that has just begun is not let go for older ones that wait."""
    catalog = batch.catalog
    await catalog.add_tenant(OTHER, "other")
    waiting = [await add_job(catalog, minutes_ago=60 - number) for number in range(6)]
    new = await add_job(catalog, minutes_ago=0, tenant_id=OTHER)
    house.hub.attend(new)

    keeping = asyncio.create_task(Attendance(house.hub, catalog, frozenset({CONTRACT}), most=4).keep())
    for _ in range(500):
        if len(house.hub.attended) >= 4:
            break
        await asyncio.sleep(0.01)
    keeping.cancel()

    assert house.hub.attended == {new, *waiting[:3]}


async def test_who_comes_back_to_a_batch_that_was_told_meanwhile_sees_it_live(house, batch, brief_linger):
    """The last watcher left, and the batch went on being told: the next one follows it from where it is."""
    house.hub.attend(batch.key)
    batch.state(BatchState.RUNNING)
    batch.start(0)
    first = house.watch("0")
    await first.sees("document.started")
    await first.leave()
    await asyncio.sleep(0.2)  # longer than the linger: nobody is waited for any more
    await batch.end(0)
    for _ in range(500):
        [*_, latest] = await house.log.read(batch.key, 0, 100)
        if latest.type == "document.succeeded":
            break
        await asyncio.sleep(0.01)

    second = house.watch()
    await second.sees("stream.snapshot")
    batch.start(1)
    await second.sees("document.started")

    assert second.documents == [("started", 1)]
