"""What every log of sheets' progress must do, over memory and over a real Redis."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from ingather.adapters.memory.sheet_progress import InMemorySheetProgress
from ingather.adapters.redis_sheet_progress import RedisSheetProgress
from ingather.models.errors import EventLogUnavailableError
from tests.support.sheet_events import new_batch_id, stage_event


@pytest.fixture(params=["memory", "redis"])
def server_url(request) -> str | None:
    return request.getfixturevalue("redis_url") if request.param == "redis" else None


@pytest.fixture
async def progress(server_url):
    opened = RedisSheetProgress(server_url, most_events=5) if server_url else InMemorySheetProgress(most_events=5)
    yield opened
    await opened.close()


async def messages(progress, batch_id, after=0):
    return [json.loads(event.body)["message"] for event in await progress.read(batch_id, after)]


async def test_events_are_read_in_the_order_they_were_told(progress):
    """The oldest is first; reading goes on behind a number."""
    batch_id = new_batch_id()
    for number in range(3):
        assert await progress.tell(stage_event(batch_id, mark=str(number), message=str(number)))

    assert await messages(progress, batch_id) == ["0", "1", "2"]
    assert [event.number for event in await progress.read(batch_id, after=1)] == [2, 3]
    assert (await progress.latest(batch_id)).number == 3


async def test_an_event_has_the_fields_that_clients_read(progress):
    """Counts, stage and times, with the seconds since the batch began."""
    batch_id = new_batch_id()
    began = datetime.now(UTC) - timedelta(seconds=90)
    await progress.tell(
        stage_event(
            batch_id, "processing_sheets", sheets_total=9, sheets_processed=3, progress_percentage=33.3, began_at=began
        )
    )

    told = json.loads((await progress.latest(batch_id)).body)
    assert told.pop("timestamp").endswith("+00:00")
    assert told.pop("elapsed_seconds") in {90, 91}
    assert told == {
        "batch_id": batch_id,
        "message": "It goes on.",
        "progress_percentage": 33.3,
        "retry_round": 0,
        "sequence": 1,
        "sheets_processed": 3,
        "sheets_total": 9,
        "stage": "processing_sheets",
    }


async def test_the_same_mark_is_told_once(progress):
    """A second attempt at a stage does not tell its beginning again."""
    batch_id = new_batch_id()
    assert await progress.tell(stage_event(batch_id))
    assert not await progress.tell(stage_event(batch_id, message="Again."))
    assert await messages(progress, batch_id) == ["It goes on."]


async def test_a_stage_that_is_over_tells_nothing_more(progress):
    """A worker that was given up for dead may speak late; nobody hears it."""
    batch_id = new_batch_id()
    await progress.tell(stage_event(batch_id, "generating_csv"))
    assert not await progress.tell(stage_event(batch_id, "processing_sheets"))


async def test_a_retry_goes_through_the_stages_again(progress):
    """After the end of one round come the stages of the next."""
    batch_id = new_batch_id()
    await progress.tell(stage_event(batch_id, "completed"))
    assert await progress.tell(stage_event(batch_id, "processing_sheets", retry_round=1))


async def test_counts_come_no_more_often_than_asked_for(progress):
    """An event that comes too soon after the last of its stage is left out, one of another stage is not."""
    batch_id = new_batch_id()
    often = {"at_most_every": 60.0}
    assert await progress.tell(stage_event(batch_id, "processing_sheets", "1", **often))
    assert not await progress.tell(stage_event(batch_id, "processing_sheets", "2", **often))
    assert await progress.tell(stage_event(batch_id, "collecting_results", "3", **often))


async def test_only_the_latest_are_retained(progress):
    """Numbers go on where older events were let go."""
    batch_id = new_batch_id()
    for number in range(1, 8):
        await progress.tell(stage_event(batch_id, mark=str(number), message=str(number)))

    assert [event.number for event in await progress.read(batch_id)] == [3, 4, 5, 6, 7]
    assert await messages(progress, batch_id, after=5) == ["6", "7"]


async def test_of_an_unknown_batch_there_is_nothing(progress):
    """No events, and no latest one."""
    assert await progress.read(new_batch_id()) == []
    assert await progress.latest(new_batch_id()) is None


async def test_listeners_hear_which_batch_told_something(progress):
    """Whoever listens learns whose log to read."""
    batch_id = new_batch_id()
    async with progress.listen() as names:
        await progress.tell(stage_event(batch_id))
        async with asyncio.timeout(10):
            assert await anext(names) == batch_id


async def test_redis_has_the_names_that_are_promised(redis_url):
    """``current``, ``log`` and ``started_at`` last an hour, and the channel carries each event."""
    batch_id = new_batch_id()
    async with Redis.from_url(redis_url) as redis, RedisSheetProgress(redis_url) as progress, redis.pubsub() as pubsub:
        await pubsub.subscribe(f"batch:{batch_id}:progress")
        await progress.tell(stage_event(batch_id, "uploading", "1"))
        await progress.tell(stage_event(batch_id, "extracting", "2"))

        kept = await redis.lrange(f"batch:{batch_id}:progress:log", 0, -1)
        assert [json.loads(body)["stage"] for body in kept] == ["uploading", "extracting"]
        assert await redis.get(f"batch:{batch_id}:progress:current") == kept[-1]
        assert datetime.fromisoformat((await redis.get(f"batch:{batch_id}:started_at")).decode()).tzinfo is not None
        for name in ("progress:current", "progress:log", "started_at"):
            assert 3590 < await redis.ttl(f"batch:{batch_id}:{name}") <= 3600
        heard = []
        async with asyncio.timeout(10):
            while len(heard) < 2:
                message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
                heard += [message["data"]] if message else []
        assert heard == kept


async def test_a_redis_that_is_away_is_named():
    """The error says what did not answer."""
    async with RedisSheetProgress("redis://127.0.0.1:1/0") as progress:
        with pytest.raises(EventLogUnavailableError):
            await progress.tell(stage_event(new_batch_id()))
