"""What every event log must do, over memory and over a real Redis."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.adapters.redis_event_log import RedisEventLog
from ingather.models.batch import BatchProgress, BatchState, Counts
from ingather.models.errors import EventLogUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.event_log import Announcement, EventLog, LoggedEvent, LogRange, Notes, StreamKey
from ingather.stack import part
from tests.support import servers
from tests.support.waiting import until

OpenLog = Callable[..., EventLog]


def event(seq: int, *, type_: str = "document.started", state: str = "running") -> LoggedEvent:
    return LoggedEvent(seq, type_, b'{"seq":%d,"name":"\xc3\xa9"}' % seq, state)


def events(first: int, last: int) -> list[LoggedEvent]:
    return [event(seq) for seq in range(first, last + 1)]


@pytest.fixture
def key() -> StreamKey:
    return StreamKey(DEFAULT_TENANT_ID, str(uuid.uuid4()))


@pytest.fixture(params=["memory", "redis"])
def server_url(request: pytest.FixtureRequest) -> str | None:
    """URL of the server behind the log; None for memory."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None


@pytest.fixture
async def open_log(server_url: str | None) -> AsyncIterator[OpenLog]:
    """Opens logs of one kind; they are closed after the test."""
    opened: list[EventLog] = []

    def connect(**options: float) -> EventLog:
        opened.append(RedisEventLog(server_url, **options) if server_url else InMemoryEventLog(**options))
        return opened[-1]

    yield connect
    for log in opened:
        await log.close()


@pytest.fixture
async def log(open_log: OpenLog) -> EventLog:
    return open_log()


async def test_what_is_appended_is_read_in_order(log: EventLog, key: StreamKey) -> None:
    """Bodies come back byte for byte, from any position, as many as asked for."""
    await log.elect(key, "a", 5)
    assert await log.append(key, "a", events(1, 3), first=True)
    assert await log.append(key, "a", [event(4, state="paused")])

    assert await log.read(key, 0, 100) == [*events(1, 3), event(4, state="paused")]
    assert await log.read(key, 2, 1) == [event(3)]
    assert await log.read(key, 4, 10) == []


async def test_what_is_announced_is_published_with_the_append(
    log: EventLog, key: StreamKey, server_url: str | None
) -> None:
    """In its order, and not where the append is refused: after another's lease, or with a number that is taken."""
    async with heard_at("somewhere", log, server_url) as heard:
        await log.elect(key, "a", 5)
        said = [Announcement("somewhere", b"one"), Announcement("elsewhere", b"x"), Announcement("somewhere", b"two")]
        assert await log.append(key, "a", events(1, 2), notes=Notes({"n": b"1"}, whole=True), announcements=said)
        assert not await log.append(key, "a", events(2, 2), announcements=[Announcement("somewhere", b"again")])
        assert not await log.append(key, "b", events(3, 3), announcements=[Announcement("somewhere", b"stranger")])
        assert await log.append(key, "a", events(3, 3), announcements=[Announcement("somewhere", b"three")])
        await until(lambda: len(heard) >= 3)
        await asyncio.sleep(0.05)

    assert heard == [b"one", b"two", b"three"]
    assert await log.read(key, 0, 10) == events(1, 3)
    assert await log.notes(key) == {"n": b"1"}


@asynccontextmanager
async def heard_at(channel: str, log: EventLog, server_url: str | None) -> AsyncIterator[list[bytes]]:
    """A list of what is announced there while the block runs."""
    if server_url is None:
        assert isinstance(log, InMemoryEventLog)
        yield log.listen(channel)
        return
    heard: list[bytes] = []
    async with Redis.from_url(server_url) as redis, redis.pubsub(ignore_subscribe_messages=True) as channels:
        await channels.subscribe(channel)

        async def listen() -> None:
            while True:
                message = await channels.get_message(timeout=None)
                heard.extend([message["data"]] if message else [])

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0.1)
        yield heard
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_the_range_says_where_another_poller_goes_on(log: EventLog, key: StreamKey) -> None:
    """Numbers, state of the last event, and whether the beginning is there."""
    await log.elect(key, "a", 5)
    await log.append(key, "a", [event(1), event(2, state="pausing")], first=True)

    expected = LogRange(oldest=1, latest=2, state="pausing", complete=True, certain=True)
    assert await log.range(key) == expected


async def test_an_unknown_batch_is_an_empty_log(log: EventLog, key: StreamKey) -> None:
    """Nothing to read, and nothing certain."""
    assert await log.range(key) == LogRange()
    assert await log.read(key, 0, 10) == []


async def test_a_number_that_is_there_is_refused(log: EventLog, key: StreamKey) -> None:
    """All or nothing: not even the new ones of such an append are written."""
    await log.elect(key, "a", 5)
    await log.append(key, "a", events(1, 3))

    assert not await log.append(key, "a", events(3, 4))
    assert not await log.append(key, "a", events(2, 2))
    assert (await log.range(key)).latest == 3


async def test_notes_are_kept_with_the_events(log: EventLog, key: StreamKey) -> None:
    """Whole ones replace all there were, changes those of the same names; a refused append changes none."""
    await log.elect(key, "a", 5)
    assert await log.notes(key) == {}
    await log.append(key, "a", events(1, 1), notes=Notes({"old": b"1"}, whole=True))
    await log.append(key, "a", events(2, 2), notes=Notes({"x": b"1", "y": b"\x00\xff"}, whole=True))
    await log.append(key, "a", events(3, 3), notes=Notes({"x": b"2"}, whole=False))
    await log.append(key, "a", events(4, 4))
    assert not await log.append(key, "a", events(4, 4), notes=Notes({"x": b"3"}, whole=False))

    assert await log.notes(key) == {"x": b"2", "y": b"\x00\xff"}


async def test_changes_to_lost_notes_are_refused(log: EventLog, key: StreamKey) -> None:
    """Half a memory is worse than none: the poller writes all of it again."""
    await log.elect(key, "a", 5)
    assert not await log.append(key, "a", events(1, 1), notes=Notes({"x": b"2"}, whole=False))
    assert await log.range(key) == LogRange()
    assert await log.append(key, "a", events(1, 1), notes=Notes({"x": b"2"}, whole=True))


async def test_only_the_leader_writes(log: EventLog, key: StreamKey) -> None:
    """A poller without the lease, or with one that ran out, cannot append."""
    assert not await log.append(key, "a", events(1, 1))
    await log.elect(key, "a", 0.05)
    await asyncio.sleep(0.1)
    assert not await log.append(key, "a", events(1, 1))
    await log.elect(key, "b", 5)
    assert not await log.append(key, "a", events(1, 1))
    assert await log.append(key, "b", events(1, 1))


async def test_one_poller_is_elected(log: EventLog, key: StreamKey) -> None:
    """The first stays it while it renews; another follows when it resigns or its lease runs out."""
    assert await log.elect(key, "a", 5)
    assert await log.elect(key, "a", 5)
    assert not await log.elect(key, "b", 5)
    await log.resign(key, "b")
    assert not await log.elect(key, "b", 5)
    await log.resign(key, "a")
    assert await log.elect(key, "b", 0.05)
    await asyncio.sleep(0.1)
    assert await log.elect(key, "c", 5)


async def test_tenants_do_not_meet(log: EventLog, key: StreamKey) -> None:
    """The same batch id under another tenant is another log."""
    other = StreamKey("00000000-0000-7000-8000-000000000002", key.batch_id)
    await log.elect(key, "a", 5)
    await log.append(key, "a", events(1, 2))

    assert await log.read(other, 0, 10) == []
    assert await log.elect(other, "b", 5)


async def test_a_wait_brings_events_of_all_batches(log: EventLog, key: StreamKey) -> None:
    """One blocking read answers for every batch followed, as soon as something comes."""
    other = StreamKey(DEFAULT_TENANT_ID, str(uuid.uuid4()))
    for each in (key, other):
        await log.elect(each, "a", 5)
    await log.append(key, "a", events(1, 3))
    waiting = asyncio.create_task(log.wait({key: 3, other: 0}, 5))
    await asyncio.sleep(0.1)
    await log.append(other, "a", events(1, 2))

    assert await waiting == [(other, event(1)), (other, event(2))]
    assert await log.wait({key: 1, other: 2}, 5) == [(key, event(2)), (key, event(3))]


async def test_a_wait_ends_with_its_time(log: EventLog, key: StreamKey) -> None:
    """Empty-handed, and not as an error."""
    began = time.monotonic()

    assert await log.wait({key: 0}, 0.1) == []
    assert 0.05 < time.monotonic() - began < 30


async def test_a_wait_can_be_woken(log: EventLog, key: StreamKey) -> None:
    """While it waits, and also when the wake-up comes just before it."""
    waiting = asyncio.create_task(log.wait({key: 0}, 60))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    await log.wake()
    assert await waiting == []
    await log.wake()
    assert await log.wait({key: 0}, 60) == []
    assert time.monotonic() - began < 30


async def test_a_log_is_capped(open_log: OpenLog, key: StreamKey) -> None:
    """The oldest events go first, and the range says that the beginning is missing."""
    log = open_log(max_events=200)
    await log.elect(key, "a", 5)
    await log.append(key, "a", events(1, 1_200), first=True)
    known = await log.range(key)

    assert known.latest == 1_200
    assert 1_200 - 200 - 200 <= known.oldest <= 1_001
    assert not known.complete
    assert [entry.seq for entry in await log.read(key, 0, 2)] == [known.oldest, known.oldest + 1]


async def test_a_log_outlives_its_last_event_by_its_time(open_log: OpenLog, key: StreamKey) -> None:
    """Each append begins the time anew; afterwards nothing is left."""
    log = open_log(ttl_seconds=0.3)
    await log.elect(key, "a", 5)
    await log.append(key, "a", events(1, 1), first=True)
    await asyncio.sleep(0.2)
    await log.append(key, "a", events(2, 2))
    await asyncio.sleep(0.2)
    assert (await log.range(key)).complete
    await asyncio.sleep(0.25)

    assert await log.range(key) == LogRange()


async def test_a_snapshot_is_shared_for_a_moment(log: EventLog, key: StreamKey) -> None:
    """Until it runs out or is dropped."""
    progress = BatchProgress(state=BatchState.RUNNING, counts=Counts(total=2, done=1, in_flight=1), in_flight=(1,))
    assert await log.get_snapshot(key.batch_id) is None
    await log.put_snapshot(key.batch_id, progress, 0.1)
    assert await log.get_snapshot(key.batch_id) == progress
    await asyncio.sleep(0.15)
    assert await log.get_snapshot(key.batch_id) is None
    await log.put_snapshot(key.batch_id, progress, 5)
    await log.drop_snapshot(key.batch_id)
    assert await log.get_snapshot(key.batch_id) is None


async def test_a_log_can_be_checked(log: EventLog) -> None:
    """For readiness."""
    await log.check()


async def test_events_pass_between_processes(redis_url: str, key: StreamKey) -> None:
    """What one client of Redis appends, another one's wait brings."""
    one, other = RedisEventLog(redis_url), RedisEventLog(redis_url)
    try:
        await one.elect(key, "a", 5)
        waiting = asyncio.create_task(other.wait({key: 0}, 5))
        await asyncio.sleep(0.05)
        await one.append(key, "a", events(1, 2))
        assert [entry.seq for _, entry in await waiting] == [1, 2]
    finally:
        await one.close()
        await other.close()


async def test_an_emptied_redis_forgets_and_goes_on(redis_url: str, key: StreamKey) -> None:
    """The lease is gone with the rest; numbers may go on above those before."""
    log, redis = RedisEventLog(redis_url), Redis.from_url(redis_url)
    try:
        await log.elect(key, "a", 5)
        await log.append(key, "a", events(1, 5), first=True)
        await redis.flushall()
        assert await log.range(key) == LogRange()
        assert not await log.append(key, "a", events(6, 6))
        await log.elect(key, "a", 5)
        assert await log.append(key, "a", events(6, 6))
        known = await log.range(key)
        assert (known.oldest, known.complete, known.certain) == (6, False, True)
    finally:
        await log.close()
        await redis.aclose()


async def test_a_redis_that_restarts_between_two_calls_is_noticed(tmp_path: Path, key: StreamKey) -> None:
    """Though the client connects anew without a word: what came in its last second may be gone, numbers and notes alike."""
    server = servers.redis_server(tmp_path)
    process = await part.start(server, timeout_seconds=60)
    log = RedisEventLog(server.url)
    try:
        await log.elect(key, "a", 600)
        await log.append(key, "a", events(1, 2), notes=Notes({"one": b"1"}, whole=True), first=True)
        process.kill()
        process = await part.start(server, timeout_seconds=60)

        assert not (await log.range(key)).certain
        assert not await log.append(key, "a", events(3, 3), notes=Notes({"two": b"2"}, whole=False))
        assert await log.append(key, "a", events(3, 3), notes=Notes({"one": b"1", "two": b"2"}, whole=True))
        assert await log.range(key) == LogRange(oldest=1, latest=3, state="running", complete=True, certain=True)
        assert await log.append(key, "a", events(4, 4), notes=Notes({"two": b"3"}, whole=False))
    finally:
        await log.close()
        process.kill()


async def test_a_redis_that_is_away_is_an_error_of_ours() -> None:
    """No vendor's error leaves the adapter, and no address or password is in the text."""
    log = RedisEventLog("redis://:secret@127.0.0.1:1/0")
    key = StreamKey(DEFAULT_TENANT_ID, str(uuid.uuid4()))
    for call in (log.range(key), log.wait({key: 0}, 1), log.elect(key, "a", 1), log.check(), log.wake()):
        with pytest.raises(EventLogUnavailableError) as caught:
            await call
        assert "secret" not in str(caught.value)
    await log.close()
