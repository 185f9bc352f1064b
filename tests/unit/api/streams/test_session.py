"""What a client sees of a batch: in order, without a gap, without a duplicate."""

import asyncio

from api.streams import hub as hub_module
from api.streams.hub import Hub
from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.models.batch import BatchState
from ingather.models.document import DocumentStatus
from ingather.models.errors import EventLogUnavailableError
from tests.support.house import House
from tests.support.watching import parse


def contiguous(seqs: list[int]) -> bool:
    return seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_a_new_watcher_gets_a_snapshot_then_what_comes(house, batch) -> None:
    """Open, snapshot, live events, end: nothing older than the snapshot."""
    batch.state(BatchState.RUNNING)
    batch.start(0)
    await batch.end(0)
    watcher = house.watch()
    await watcher.sees("stream.snapshot")
    batch.start(1)
    await batch.end(1)
    await watcher.sees("document.succeeded")
    await batch.close()
    await watcher.closes()

    assert watcher.names[:2] == ["stream.open", "stream.snapshot"]
    assert watcher.frames[0].data["mode"] == "snapshot"
    assert watcher.documents == [("started", 1), ("succeeded", 1)]
    assert watcher.names[-2:] == ["batch.completed", "stream.end"]
    assert contiguous(watcher.seqs)


async def test_cursor_zero_gets_everything(house, batch) -> None:
    """From the first event on, with numbers from 1, for a batch that ran before anybody watched."""
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    watcher = house.watch("0")
    await watcher.sees("document.succeeded", 4)
    await batch.close()
    await watcher.closes()

    assert watcher.frames[0].data["mode"] == "replay"
    assert "stream.snapshot" not in watcher.names
    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    assert watcher.names[1:3] == ["batch.created", "batch.started"]


async def test_a_reconnect_goes_on_where_it_stopped(house, batch) -> None:
    """Two connections together see each event once."""
    batch.state(BatchState.RUNNING)
    first = house.watch("0")
    batch.start(0)
    await first.sees("document.started")
    await first.leave()
    await batch.end(0)
    batch.start(1)
    second = house.watch(str(first.seqs[-1]))
    await batch.end(1)
    await batch.close()
    await second.closes()

    assert contiguous(first.seqs + second.seqs)
    assert first.documents + second.documents == [
        ("started", 0),
        ("succeeded", 0),
        ("started", 1),
        ("succeeded", 1),
    ]


async def test_an_unknown_cursor_is_reset(house, batch) -> None:
    """A number from the future, or no number at all: reset and snapshot, then live."""
    for cursor in ("999999", "abc", "-4"):
        watcher = house.watch(cursor)
        await watcher.sees("stream.snapshot")

        assert watcher.names[:3] == ["stream.open", "stream.reset", "stream.snapshot"]
        assert watcher.of("stream.reset")[0].data["reason"] in {"unknown", "unreadable"}


async def test_a_trimmed_cursor_is_reset(batch) -> None:
    """Where the log no longer holds what follows the cursor, the stream says so."""
    house = House(batch, InMemoryEventLog(max_events=5))
    batch.state(BatchState.RUNNING)
    await batch.run_all()
    await house.watch().sees("stream.snapshot")
    try:
        watcher = house.watch("2")
        await watcher.sees("stream.snapshot")
        assert watcher.of("stream.reset")[0].data["reason"] == "trimmed"
        beginning = house.watch("0")
        await beginning.sees("stream.reset")
    finally:
        await house.close()


async def test_an_emptied_log_costs_no_live_watcher_an_event(house, batch) -> None:
    """The same poller goes on with the next number; an old cursor is reset."""
    batch.state(BatchState.RUNNING)
    watcher = house.watch("0")
    await watcher.sees("batch.started")
    seen = watcher.seqs[-1]
    await house.log.flush()
    batch.start(0)
    await batch.end(0)
    await watcher.sees("document.succeeded")
    late = house.watch("1")
    await late.sees("stream.snapshot")
    await batch.close()
    await watcher.closes()

    assert contiguous(watcher.seqs)
    assert watcher.seqs[-1] > seen
    assert late.names[1] == "stream.reset"
    assert "stream.reset" not in watcher.names


async def test_another_poller_after_an_emptied_log_never_uses_a_number_twice(house, batch, brief_linger) -> None:
    """Its numbers lie above every number that was set aside; who watches across it gets a reset."""
    batch.state(BatchState.RUNNING)
    batch.start(0)
    first = house.watch("0")
    await first.sees("document.started")
    other = house.open_hub()
    across = house.watch("0", hub=other)
    await across.sees("document.started")
    await house.hub.close()
    await house.log.flush()
    await batch.end(0)
    await across.sees("stream.reset")
    await batch.close()
    await across.closes()

    assert max(first.seqs) <= 1000
    assert across.seqs == sorted(set(across.seqs))
    later = across.seqs[len(first.seqs) :]
    assert min(later) > 1000
    assert across.names[across.names.index("stream.reset") + 1] == "stream.snapshot"


async def test_an_ended_batch_is_replayed_and_ends(house, batch) -> None:
    """After the end the same events come in one go, from the log alone."""
    await batch.run_all()
    await batch.close()
    first = house.watch("0")
    await first.closes()
    asked = batch.count
    again = house.watch("0", told=True)
    await again.closes()

    assert [frame.id for frame in again.frames] == [frame.id for frame in first.frames]
    assert batch.count == asked


async def test_an_unwatched_batch_is_told_after_its_end(house, batch) -> None:
    """Created, every document, the end: rebuilt from the catalog, by time."""
    await batch.end(2)
    await batch.end(0, DocumentStatus.FAILED, "corrupt")
    await batch.end(1, DocumentStatus.SKIPPED)
    await batch.end(3)
    await batch.close(BatchState.COMPLETED_WITH_FAILURES)
    watcher = house.watch("0")
    await watcher.closes()

    assert watcher.names == [
        "stream.open",
        "batch.created",
        "batch.started",
        "document.succeeded",
        "document.failed",
        "document.skipped",
        "document.succeeded",
        "batch.completed",
        "stream.end",
    ]
    assert [ordinal for _, ordinal in watcher.documents] == [2, 0, 1, 3]
    last = watcher.of("batch.completed")[0].data["data"]
    assert last["status"] == "completed_with_failures"
    assert last["counts"]["failed"] == 1
    assert watcher.of("stream.end")[0].id == str(watcher.seqs[-1])


async def test_an_old_cursor_of_an_ended_and_forgotten_batch_is_reset(house, batch) -> None:
    """Reset, snapshot, end: numbers of before the log was lost mean nothing any more."""
    await batch.run_all()
    watcher = house.watch("0")
    await watcher.sees("document.succeeded", 4)
    await batch.close()
    await watcher.closes()
    await house.log.flush()
    old = house.watch(str(watcher.seqs[3]))
    await old.closes()

    assert old.names == ["stream.open", "stream.reset", "stream.snapshot", "stream.end"]


async def test_the_log_going_away_keeps_streams_open(house, batch, monkeypatch) -> None:
    """While the log cannot be read the stream waits; afterwards nothing is missing."""
    batch.state(BatchState.RUNNING)
    watcher = house.watch("0")
    await watcher.sees("batch.started")
    real_wait, real_append = house.log.wait, house.log.append

    async def away(*_args: object, **_kwargs: object) -> None:
        raise EventLogUnavailableError("gone")

    monkeypatch.setattr(house.log, "wait", away)
    monkeypatch.setattr(house.log, "append", away)
    await house.log.wake()
    batch.start(0)
    await asyncio.sleep(0.6)
    monkeypatch.setattr(house.log, "append", real_append)
    monkeypatch.setattr(house.log, "wait", real_wait)
    await batch.end(0)
    await watcher.sees("document.succeeded")

    assert contiguous(watcher.seqs)
    assert watcher.documents == [("started", 0), ("succeeded", 0)]


async def test_an_odd_error_silences_no_stream(house, batch) -> None:
    """A bug of ours while events are handed out: they are read from the log instead, and what follows comes live."""
    unhappy = ["once"]

    def on_state(_batch_id: str) -> None:
        if unhappy:
            unhappy.clear()
            raise ValueError("odd")

    hub = Hub(batch.parts(house.log), on_state)
    hub.start()
    house.hubs.append(hub)
    watcher = house.watch(hub=hub)
    await watcher.sees("stream.snapshot")
    batch.state(BatchState.RUNNING)
    await watcher.sees("batch.started")
    await batch.run_all()
    await batch.close()
    await watcher.closes()

    assert not unhappy
    assert "stream.reset" not in watcher.names
    assert contiguous(watcher.seqs)
    assert watcher.names[-2:] == ["batch.completed", "stream.end"]


async def test_a_log_that_is_away_at_the_beginning_is_waited_for(house, batch, monkeypatch) -> None:
    """The client has a snapshot at once, and its replay as soon as the log is back."""
    batch.state(BatchState.RUNNING)
    real = house.log.range

    async def away(*_args: object) -> None:
        raise EventLogUnavailableError("gone")

    monkeypatch.setattr(house.log, "range", away)
    watcher = house.watch("0")
    await watcher.sees("stream.snapshot")
    assert watcher.frames[0].data["mode"] == "waiting"
    monkeypatch.setattr(house.log, "range", real)
    await watcher.sees("batch.started")

    assert watcher.names[2] == "stream.open"
    assert watcher.seqs[0] == 1


async def test_a_slow_client_is_told_and_let_go(house, batch) -> None:
    """Its queue overflows while it takes nothing: lagged, then closed; by cursor it gets the rest."""
    batch.state(BatchState.RUNNING)
    taken: list[bytes] = []
    session = house.session("0")
    frames = session.frames()
    async for chunk in frames:
        taken.append(chunk)
        if b"batch.started" in chunk:
            break
    # One more, so that the stream is live, with its client asleep over it.
    batch.start(0)
    taken.append(await anext(frames))
    for _ in range(80):
        for ordinal in range(4):
            batch.start(ordinal)
            await batch.end(ordinal)
    other = house.watch("0")
    await other.sees("document.succeeded", 320, seconds=20)
    rest = [chunk async for chunk in frames]

    assert b"event: stream.lagged" in rest[-1]
    assert len(other.seqs) > 320


async def test_one_stalled_watcher_slows_no_other(house, batch) -> None:
    """Others of its batch get every event while it takes nothing, and so do those of another batch."""
    batch.state(BatchState.RUNNING)
    asleep = house.session("0").frames()
    async for chunk in asleep:
        if b"batch.started" in chunk:
            break
    # One more, so that the stream is live, with its client asleep over it.
    batch.start(0)
    await anext(asleep)
    others = [house.watch("0") for _ in range(3)]
    for watcher in others:
        await watcher.sees("batch.started")
    for _ in range(40):
        await batch.run_all()
    for watcher in others:
        await watcher.sees("document.succeeded", 160)

    assert "stream.lagged" not in [name for watcher in others for name in watcher.names]
    assert b"stream.lagged" in [chunk async for chunk in asleep][-1]


async def test_a_quiet_stream_shows_that_it_lives(house, batch, monkeypatch) -> None:
    """A comment, which clients ignore: proxies keep the connection, and a dead one is noticed."""
    monkeypatch.setattr(hub_module, "PING_SECONDS", 1)
    batch.state(BatchState.PAUSED)
    frames = house.session().frames()
    async with asyncio.timeout(10):
        async for chunk in frames:
            if chunk == b":\n\n":
                break

    assert parse(chunk) == []
    await frames.aclose()


async def test_draining_says_farewell(house, batch) -> None:
    """Every stream gets the frame with a jittered retry and closes; a new one gets it at once."""
    watchers = [house.watch() for _ in range(5)]
    for watcher in watchers:
        await watcher.sees("stream.snapshot")
    house.hub.drain()
    for watcher in watchers:
        await watcher.closes(1.0)
    late = house.watch()
    await late.closes(3.0)

    retries = {watcher.frames[-1].retry for watcher in watchers}
    assert {watcher.names[-1] for watcher in [*watchers, late]} == {"stream.draining"}
    assert len(retries) > 1
    assert all(retry and 1_000 <= retry <= 6_000 for retry in retries)


async def test_two_hundred_watchers_cost_one_poller(house, batch) -> None:
    """Queries and blocking reads do not grow with the number of watchers."""
    batch.state(BatchState.RUNNING)
    watchers = [house.watch("0") for _ in range(200)]
    for ordinal in range(4):
        batch.start(ordinal)
        await batch.end(ordinal)
        await asyncio.sleep(0.2)
    await batch.close()
    for watcher in watchers:
        await watcher.closes()

    assert batch.count < 15
    assert all(watcher.seqs == watchers[0].seqs for watcher in watchers)
    assert all(watcher.documents == watchers[0].documents for watcher in watchers)


async def test_a_retried_batch_is_followed_again(house, batch) -> None:
    """The numbers go on after the first end, and the stream ends with the second one."""
    batch.state(BatchState.RUNNING)
    first = house.watch("0")
    await batch.end(0, DocumentStatus.FAILED, "corrupt")
    await batch.close(BatchState.FAILED)
    await first.closes()
    await batch.reopen(0)
    second = house.watch(str(first.seqs[-1]))
    await second.sees("batch.retrying")
    batch.start(0)
    await batch.end(0)
    await batch.close()
    await second.closes()

    assert contiguous(first.seqs + second.seqs)
    assert first.names[-2:] == ["batch.failed", "stream.end"]
    assert second.documents == [("started", 0), ("succeeded", 0)]


async def test_a_retry_that_nobody_watched_is_told_afterwards(house, batch) -> None:
    """The log's last event was an old end: what came since is added from the catalog."""
    batch.state(BatchState.RUNNING)
    first = house.watch("0")
    await batch.end(0, DocumentStatus.FAILED, "corrupt")
    await batch.close(BatchState.COMPLETED_WITH_FAILURES)
    await first.closes()
    await batch.reopen(0)
    await batch.end(0, DocumentStatus.FAILED, "corrupt")
    await batch.close(BatchState.COMPLETED_WITH_FAILURES)
    second = house.watch(str(first.seqs[-1]))
    await second.closes()

    assert second.names == ["stream.open", "document.failed", "batch.completed", "stream.end"]
    assert second.of("document.failed")[0].data["data"]["attempts"] == 2
