"""Contract A's stream and its announcements, around a scripted batch."""

import asyncio
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from api.contracts.job_body import CONTRACT
from api.contracts.job_events import JobAnnouncer
from api.contracts.job_stream import JobWording
from api.streams.attendance import Attendance
from api.streams.poller import Poller
from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.models.batch import BatchState
from ingather.models.document import DocumentStatus
from ingather.models.errors import CatalogUnavailableError, EventLogUnavailableError
from tests.support.house import House
from tests.support.scripted_batch import ScriptedBatch
from tests.support.waiting import until, until_async
from tests.support.watching import Watcher

ANNOUNCERS = {CONTRACT: JobAnnouncer}


@pytest.fixture
async def batch() -> ScriptedBatch:
    return await ScriptedBatch(str(uuid.uuid4()), document_count=4, contract=CONTRACT).create()


@pytest.fixture
async def house(batch: ScriptedBatch) -> AsyncIterator[House]:
    house = House(batch, InMemoryEventLog(), ANNOUNCERS)
    yield house
    await house.close()


class Channel:
    """What is published for a batch, from the beginning."""

    def __init__(self, house: House) -> None:
        self._heard = house.log.listen(f"job:events:{house.batch.key.batch_id}")

    @property
    def kinds(self) -> list[str]:
        return [json.loads(body)["event_type"] for body in self._heard]

    @property
    def events(self) -> list[dict[str, object]]:
        return [json.loads(body) for body in self._heard]

    async def hears(self, kind: str, count: int = 1) -> None:
        await until(lambda: self.kinds.count(kind) >= count)


@pytest.fixture
def channel(house: House) -> Channel:
    return Channel(house)


def watch(house: House, last_event_id: str | None = None, *, told: bool = False) -> Watcher:
    async def status() -> str:
        return "completed"

    return house.watch(wording=JobWording(house.batch.key.batch_id, last_event_id, status), told=told)


def kinds(watcher: Watcher) -> list[str]:
    return [frame.data["event_type"] for frame in watcher.frames if frame.event == "progress"]


async def attended(house: House) -> asyncio.Task[None]:
    """An API process that nobody watches through."""
    attendance = Attendance(house.hub, house.batch.catalog, frozenset(ANNOUNCERS))
    return asyncio.create_task(attendance.keep())


# The stream


async def test_a_stream_is_the_batch_in_the_contracts_words(house, batch) -> None:
    """Live from the start to the end, and then it closes."""
    watcher = watch(house)
    batch.state(BatchState.RUNNING)
    await batch.run(range(3))
    batch.start(3)
    await batch.end(3, DocumentStatus.FAILED, "corrupt")
    await batch.close(BatchState.COMPLETED_WITH_FAILURES)
    await watcher.closes()

    assert kinds(watcher) == ["start", "progress", "progress", "progress", "fail", "complete"]
    assert watcher.names == ["progress"] * 6 + ["complete"]
    assert watcher.frames[-1].data == {"status": "failed"}


async def test_a_replay_is_the_same_frame_by_frame(house, batch) -> None:
    """From the log, where the batch is over, and behind any id."""
    live = watch(house)
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    await batch.close()
    await live.closes()
    replay = watch(house, told=True)
    await replay.closes()
    assert replay.frames == live.frames

    for position, frame in enumerate(live.frames[:-1]):
        rest = watch(house, frame.id, told=True)
        await rest.closes()
        assert rest.frames == live.frames[position + 1 :]


async def test_the_last_id_says_that_there_is_nothing_left(house, batch) -> None:
    """Of this very end: after a retry it is an id like any other."""
    wording = JobWording(batch.key.batch_id, "12-end", lambda: None)
    assert wording.has_all(12)
    assert not wording.has_all(20)
    assert not JobWording(batch.key.batch_id, "12", lambda: None).has_all(12)


async def test_an_end_that_a_retry_followed_is_not_told(house, batch) -> None:
    """Who comes afterwards sees one end; who watched to the first one was told of it."""
    first = watch(house)
    batch.state(BatchState.RUNNING)
    await batch.run(range(3))
    batch.start(3)
    await batch.end(3, DocumentStatus.FAILED, "corrupt")
    await batch.close(BatchState.COMPLETED_WITH_FAILURES)
    await first.closes()
    await batch.reopen(3)
    second = watch(house)
    await batch.run([3])
    await batch.close()
    await second.closes()

    assert kinds(first)[-1] == "complete"
    assert Counter(kinds(second)) == {"start": 1, "progress": 4, "fail": 1, "complete": 1}
    assert second.frames[-1].data == {"status": "completed"}


async def test_what_is_no_longer_retained_is_left_out(house, batch) -> None:
    """A stream begins with the oldest event there is, and makes up no start."""
    small = House(batch, InMemoryEventLog(max_events=3), ANNOUNCERS)
    try:
        first = watch(small)
        batch.state(BatchState.RUNNING)
        await first.sees("progress")
        for ordinal in range(4):
            await batch.run([ordinal])
            await first.sees("progress", ordinal + 2)
        await batch.close()
        await first.closes()
        assert kinds(first) == ["start", *["progress"] * 4, "complete"]
        for last_seen in (None, "1", "garbage", "900000"):
            late = watch(small, last_seen, told=True)
            await late.closes()
            assert kinds(late)[-1] == "complete"
            assert "start" not in kinds(late)
            assert len(kinds(late)) < len(kinds(first))
    finally:
        await small.close()


async def test_a_log_that_is_away_delays_a_stream_and_costs_it_nothing(house, batch, monkeypatch) -> None:
    """It begins once the log can be read."""
    real, calls = house.log.range, 0

    async def flaky(key: object) -> object:
        nonlocal calls
        calls += 1
        if calls < 4:
            raise EventLogUnavailableError("away")
        return await real(key)

    monkeypatch.setattr(house.log, "range", flaky)
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    watcher = watch(house)
    await watcher.sees("progress", 5)
    await batch.close()
    await watcher.closes()
    assert kinds(watcher) == ["start", *["progress"] * 4, "complete"]


async def test_a_process_that_goes_away_leaves_the_stream_open_ended(house, batch) -> None:
    """No end is told, so the client comes again, behind what it has."""
    batch.state(BatchState.RUNNING)
    watcher = watch(house)
    await batch.run([0])
    await watcher.sees("progress", 2)
    house.hub.drain()
    await watcher.closes()
    assert watcher.names == ["progress", "progress"]

    other = house.open_hub()
    wording = JobWording(batch.key.batch_id, watcher.frames[-1].id, lambda: None)
    again = house.watch(hub=other, wording=wording)
    await batch.run([1, 2, 3])
    await batch.close()
    await again.closes()
    assert kinds(again) == ["progress"] * 3 + ["complete"]


# The channel


async def test_a_batch_is_told_without_a_watcher(house, batch, channel) -> None:
    """From the catalog it is known that somebody listens; afterwards it is let go."""
    keeping = await attended(house)
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    await batch.close()
    await channel.hears("complete")
    await until(lambda: not house.hub.attended)
    keeping.cancel()

    assert channel.kinds == ["start", *["progress"] * 4, "complete"]
    assert (await batch.catalog.get_batch(batch.key.batch_id)).is_told
    await until(lambda: house.hub.followed_count == 0)


async def test_a_batch_that_ended_while_nobody_looked_is_told(house, batch, channel) -> None:
    """By the next process there is."""
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    await batch.close()
    keeping = await attended(house)
    await channel.hears("complete")
    keeping.cancel()
    assert channel.kinds == ["start", *["progress"] * 4, "complete"]


async def test_another_process_goes_on_where_one_stopped(house, batch, channel) -> None:
    """Each event once, whoever published it."""
    batch.state(BatchState.RUNNING)
    await batch.run([0])
    first = Poller(batch.key, batch.parts(house.log, ANNOUNCERS), "first")
    running = asyncio.create_task(first.run())
    await channel.hears("progress")
    running.cancel()
    await first.resign()
    await batch.run([1])
    second = Poller(batch.key, batch.parts(house.log, ANNOUNCERS), "second")
    going_on = asyncio.create_task(second.run())
    await channel.hears("progress", 2)
    await batch.run([2, 3])
    await batch.close()
    await asyncio.wait_for(going_on, 10)
    assert channel.kinds == ["start", *["progress"] * 4, "complete"]
    assert [event["document_index"] for event in channel.events[1:-1]] == [0, 1, 2, 3]


@pytest.mark.parametrize("lost", ["answer", "request"])
async def test_a_write_that_went_wrong_publishes_nothing_twice(house, batch, channel, monkeypatch, lost: str) -> None:
    """Whether or not it was applied."""
    real, calls = house.log.append, 0

    async def append(*args: object, **options: object) -> bool:
        nonlocal calls
        calls += 1
        if calls % 2 and lost == "request":
            raise EventLogUnavailableError("away")
        written = await real(*args, **options)
        if calls % 2:
            raise EventLogUnavailableError("the answer was lost")
        return written

    monkeypatch.setattr(house.log, "append", append)
    keeping = await attended(house)
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    await batch.close()
    await channel.hears("complete")
    await until(lambda: not house.hub.attended)
    keeping.cancel()
    assert channel.kinds == ["start", *["progress"] * 4, "complete"]


async def test_a_cancel_is_told_without_the_documents_it_took_along(house, batch, channel) -> None:
    """Also where the batch was closed before anybody saw it being cancelled."""
    batch.state(BatchState.RUNNING)
    await batch.run([0])
    keeping = await attended(house)
    await channel.hears("progress")
    for ordinal in range(1, 4):
        batch.statuses[ordinal] = DocumentStatus.CANCELLED
    await batch.catalog.mark_cancelled(batch.key.batch_id, [1, 2, 3], batch.created_at)
    await batch.close(BatchState.CANCELLED)
    await channel.hears("cancel")
    await asyncio.sleep(0.3)
    keeping.cancel()
    assert channel.kinds == ["start", "progress", "cancel"]


async def test_a_retry_goes_on_on_the_channel(house, batch, channel) -> None:
    """What was told is not told again; the second end is told as well."""
    keeping = await attended(house)
    batch.state(BatchState.RUNNING)
    await batch.run(range(3))
    batch.start(3)
    await batch.end(3, DocumentStatus.FAILED, "corrupt")
    await batch.close(BatchState.COMPLETED_WITH_FAILURES)
    await channel.hears("complete")
    await until(lambda: not house.hub.attended)
    await batch.reopen(3)
    await batch.run([3])
    await batch.close()
    await channel.hears("complete", 2)
    await until(lambda: not house.hub.attended)
    keeping.cancel()
    assert channel.kinds == ["start", "progress", "progress", "progress", "fail", "complete", "progress", "complete"]
    assert channel.events[-1]["message"] == "completed"


async def test_a_history_that_is_rebuilt_is_no_news(house, batch, channel) -> None:
    """Whoever opens the stream of an old job gets it from the catalog; the channel stays silent."""
    keeping = await attended(house)
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    await batch.close()
    await channel.hears("complete")
    await until(lambda: not house.hub.attended)
    said = len(channel.kinds)
    await house.log.flush()
    late = watch(House(batch, house.log, ANNOUNCERS))
    await late.closes()
    keeping.cancel()
    assert Counter(kinds(late)) == {"start": 1, "progress": 4, "complete": 1}
    assert len(channel.kinds) == said


async def test_an_emptied_log_in_mid_job_publishes_nothing_twice(house, batch, channel) -> None:
    """The poller has it all in mind."""
    keeping = await attended(house)
    batch.state(BatchState.RUNNING)
    await batch.run([0, 1])
    await channel.hears("progress", 2)
    await house.log.flush()
    await batch.run([2, 3])
    await batch.close()
    await channel.hears("complete")
    keeping.cancel()
    assert channel.kinds == ["start", *["progress"] * 4, "complete"]


async def test_a_catalog_that_is_away_delays_the_telling(house, batch, channel, monkeypatch) -> None:
    """Looking, restoring and marking are tried again."""
    is_told = _is_told(batch)
    for name in ("list_untold", "get_batch", "note_told"):
        real, calls = getattr(batch.catalog, name), [0]

        async def flaky(*args: object, _real=real, _calls=calls) -> object:
            _calls[0] += 1
            if _calls[0] == 1:
                raise CatalogUnavailableError("away")
            return await _real(*args)

        monkeypatch.setattr(batch.catalog, name, flaky)
    keeping = await attended(house)
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    await batch.close()
    await until_async(is_told)
    keeping.cancel()
    assert channel.kinds == ["start", *["progress"] * 4, "complete"]


def _is_told(batch: ScriptedBatch) -> Callable[[], Awaitable[bool | None]]:
    read = batch.catalog.get_batch

    async def is_told() -> bool | None:
        record = await read(batch.key.batch_id)
        return record.is_told or None

    return is_told


async def test_batches_of_other_contracts_are_not_told_without_a_watcher(house) -> None:
    """Nobody watching costs nothing."""
    other = await ScriptedBatch(str(uuid.uuid4()), catalog=house.batch.catalog).create()
    keeping = await attended(house)
    await until(lambda: house.batch.key in house.hub.attended)
    keeping.cancel()
    assert other.key not in house.hub.attended
    assert other.count == 0
