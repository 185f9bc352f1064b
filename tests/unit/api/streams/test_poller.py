"""One poller tells the story, whatever fails around it."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from api.engine import Presence
from api.streams import hub as hub_module
from api.streams import poller as poller_module
from api.streams.poller import Poller, trouble_seconds
from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.models.batch import BatchState
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.errors import CatalogUnavailableError, EventLogUnavailableError
from ingather.models.messages import DocumentHeartbeat
from tests.support.house import House
from tests.support.scripted_batch import ScriptedBatch
from tests.support.waiting import until, until_async


async def logged(log: InMemoryEventLog, batch: ScriptedBatch) -> list[str]:
    return [event.type for event in await log.read(batch.key, 0, 10_000)]


async def test_one_of_two_processes_polls(house, batch) -> None:
    """Watchers of both see everything, and the batch is asked by one."""
    batch.state(BatchState.RUNNING)
    other = house.open_hub()
    watchers = [house.watch("0"), house.watch("0", hub=other)]
    for ordinal in range(4):
        batch.start(ordinal)
        await batch.end(ordinal)
        await asyncio.sleep(0.2)
    asked = batch.count
    await batch.close()
    for watcher in watchers:
        await watcher.closes()

    assert asked < 10
    assert "stream.reset" not in watchers[0].names + watchers[1].names
    assert watchers[0].seqs == watchers[1].seqs == list(range(1, len(watchers[0].seqs) + 1))


async def test_another_process_takes_over_within_the_lease(house, batch, monkeypatch) -> None:
    """A poller that is gone without a word is followed by another, which goes on with the next number."""
    monkeypatch.setattr(poller_module, "LEASE_SECONDS", 1.0)
    batch.state(BatchState.RUNNING)
    dead = Poller(batch.key, batch.parts(house.log), "dead")
    running = asyncio.create_task(dead.run())
    batch.start(0)
    await dead.ready.wait()
    watcher = house.watch("0")
    await watcher.sees("document.started")
    running.cancel()
    await batch.end(0)
    await watcher.sees("document.succeeded", seconds=3)
    await batch.close()
    await watcher.closes()

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    assert watcher.documents == [("started", 0), ("succeeded", 0)]


async def test_a_poller_that_slept_cannot_write_beside_its_successor(batch) -> None:
    """Its lease is gone: what it would have written is dropped, and it begins anew from the log."""
    log = InMemoryEventLog()
    batch.state(BatchState.RUNNING)
    asleep, awake = (Poller(batch.key, batch.parts(log), name) for name in ("asleep", "awake"))
    first = asyncio.create_task(asleep.run())
    await asleep.ready.wait()
    first.cancel()
    await log.resign(batch.key, "asleep")
    second = asyncio.create_task(awake.run())
    await batch.run_all()
    await awake.ready.wait()
    again = asyncio.create_task(asleep.run())
    await batch.close()
    await asyncio.wait_for(asyncio.gather(second, again), 10)

    types = await logged(log, batch)
    assert types.count("document.succeeded") == 4
    assert types.count("batch.completed") == 1


async def test_a_poller_that_stood_by_gives_no_number_a_second_time(batch, monkeypatch) -> None:
    """Another process told on meanwhile, and then the log lost everything: what it remembers of before counts no more."""
    monkeypatch.setattr(poller_module, "LEASE_SECONDS", 0.6)
    log = InMemoryEventLog()
    batch.state(BatchState.RUNNING)
    former, latter = (Poller(batch.key, batch.parts(log), name) for name in ("former", "latter"))
    standing_by = asyncio.create_task(former.run())
    await former.ready.wait()
    await log.resign(batch.key, "former")
    leading = asyncio.create_task(latter.run())
    await latter.ready.wait()
    await until(lambda: not former._writer._is_restored)
    await batch.run(range(3))
    await until_async(lambda: told(log, batch, "document.succeeded", 3))
    last = (await log.range(batch.key)).latest
    leading.cancel()
    await log.flush()
    await until(lambda: former._writer._is_restored)
    await asyncio.sleep(0.5)
    await batch.run([3])
    await until_async(lambda: told(log, batch, "document.succeeded", 1))
    standing_by.cancel()

    assert min(event.seq for event in await log.read(batch.key, 0, 10_000)) > last


async def told(log: InMemoryEventLog, batch: ScriptedBatch, event_type: str, count: int) -> bool | None:
    return True if (await logged(log, batch)).count(event_type) >= count else None


@pytest.mark.parametrize("port", ["catalog numbers", "catalog rows", "log"])
async def test_a_failing_part_costs_no_event(house, batch, monkeypatch, port: str) -> None:
    """The poller tries again until the part is back; nothing is dropped or told twice."""
    names = {"catalog numbers": "reserve_event_numbers", "catalog rows": "get_documents", "log": "append"}
    part = house.log if port == "log" else batch.catalog
    error = EventLogUnavailableError if port == "log" else CatalogUnavailableError
    real, calls = getattr(part, names[port]), 0

    async def flaky(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise error("away")
        return await real(*args, **options)

    monkeypatch.setattr(part, names[port], flaky)
    batch.state(BatchState.RUNNING)
    watcher = house.watch("0")
    for ordinal in range(4):
        batch.start(ordinal)
        await batch.end(ordinal)
        await asyncio.sleep(0.15)
    await batch.close()
    await watcher.closes()

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    assert sorted(watcher.documents) == sorted((kind, n) for n in range(4) for kind in ("started", "succeeded"))


async def test_a_write_whose_answer_was_lost_is_not_repeated(house, batch, monkeypatch) -> None:
    """The events are in the log though the answer never came: they are recognised there."""
    real, lost = house.log.append, 0

    async def append(*args: object, **options: object) -> bool:
        nonlocal lost
        written = await real(*args, **options)
        if lost < 2:
            lost += 1
            raise EventLogUnavailableError("the answer was lost")
        return written

    monkeypatch.setattr(house.log, "append", append)
    batch.state(BatchState.RUNNING)
    watcher = house.watch("0")
    await batch.run_all()
    await watcher.sees("document.succeeded", 4)
    await batch.close()
    await watcher.closes()

    assert lost == 2
    assert watcher.names.count("batch.created") == 1
    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))


async def test_a_silent_engine_is_waited_for(house, batch) -> None:
    """While no worker answers the stream stays open; afterwards nothing is missing."""
    batch.state(BatchState.RUNNING)
    batch.is_silent = True
    watcher = house.watch("0")
    await watcher.sees("stream.open")
    await batch.run_all()
    await asyncio.sleep(0.5)
    assert not watcher.is_closed
    batch.is_silent = False
    await watcher.sees("document.succeeded", 4)

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))


async def test_an_engine_that_is_behind_is_asked_as_seldom_as_one_that_is_not(batch) -> None:
    """By a batch among many that wait: questions repeated each second would keep it behind."""
    batch.is_silent = True
    alone = await ScriptedBatch(str(uuid.uuid4())).create()
    alone.is_silent = True
    pollers = [
        Poller(batch.key, batch.parts(InMemoryEventLog()), "among many", lambda: 60.0),
        Poller(alone.key, alone.parts(InMemoryEventLog()), "alone", lambda: 0.1),
    ]
    polling = [asyncio.create_task(poller.run()) for poller in pollers]
    await until(lambda: alone.count >= 15)
    for task in polling:
        task.cancel()

    assert batch.count < alone.count / 2


async def test_journal_entries_that_were_let_go_come_from_the_catalog(house, batch) -> None:
    """Ends of documents are told even when the journal begins after them."""
    batch.state(BatchState.RUNNING)
    await batch.end(0)
    await batch.end(1, DocumentStatus.FAILED, "corrupt")
    batch.journal_first = len(batch.journal)
    batch.journal.clear()
    batch.start(2)
    watcher = house.watch("0")
    await watcher.sees("batch.progress")

    assert watcher.documents == [("succeeded", 0), ("failed", 1), ("started", 2)]


async def test_a_workflow_that_was_reset_is_followed_on(house, batch) -> None:
    """Its journal is shorter than before: the stream goes on with what comes."""
    batch.state(BatchState.RUNNING)
    batch.start(0)
    watcher = house.watch("0")
    await watcher.sees("document.started")
    del batch.journal[1:]
    await asyncio.sleep(0.4)
    batch.start(1)
    await watcher.sees("document.started", 2)

    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))


async def test_progress_comes_twice_a_second_at_most(house, batch) -> None:
    """Documents are told one by one; progress is thinned out, and is exact at the end."""
    batch.state(BatchState.RUNNING)
    watcher = house.watch("0")
    for ordinal in range(4):
        batch.start(ordinal)
        await asyncio.sleep(0.15)
        await batch.end(ordinal)
        await asyncio.sleep(0.15)
    await batch.close()
    await watcher.closes()
    times = [datetime.fromisoformat(frame.data["time"]) for frame in watcher.of("batch.progress")]

    assert len(times) >= 2
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps) >= timedelta(seconds=0.45)
    assert watcher.of("batch.completed")[0].data["data"]["counts"]["done"] == 4


async def test_slow_files_show_their_stage(house, batch) -> None:
    """A document in flight for more than a second is shown with the stage it is in."""
    batch.state(BatchState.RUNNING)
    batch.beats = {0: DocumentHeartbeat(stage=Stage.PARSING, filename="a.pdf", started_at=datetime.now(UTC))}
    batch.start(0)
    watcher = house.watch()
    await watcher.until(lambda seen: any(frame.data["data"]["files"] for frame in seen.of("batch.progress")), 5)
    [shown] = next(f.data["data"]["files"] for f in watcher.of("batch.progress") if f.data["data"]["files"])

    assert (shown["filename"], shown["stage"], shown["ordinal"]) == ("a.pdf", "parsing", 0)


async def test_a_waiting_batch_is_asked_less_often(house, batch) -> None:
    """Paused with nothing in flight: the questions slow down to one a second."""
    batch.state(BatchState.PAUSED)
    watcher = house.watch()
    await watcher.sees("stream.snapshot")
    await asyncio.sleep(2)
    asked = batch.count
    await asyncio.sleep(2)

    assert batch.count - asked <= 3


async def test_nobody_watching_costs_nothing(house, batch, brief_linger) -> None:
    """A moment after the last watcher left nothing is asked any more, and the lease is free."""
    batch.state(BatchState.RUNNING)
    watcher = house.watch()
    await watcher.sees("stream.snapshot")
    await watcher.leave()
    await until(lambda: house.hub.followed_count == 0)
    await asyncio.sleep(0.1)
    asked = batch.count
    await asyncio.sleep(0.6)

    assert batch.count == asked
    assert await house.log.elect(batch.key, "another", 1)


async def test_a_batch_ended_from_outside_says_so(house, batch) -> None:
    """A terminated workflow: failed, with the reason, and counts that add up."""
    batch.state(BatchState.RUNNING)
    batch.start(0)
    watcher = house.watch("0")
    await watcher.sees("document.started")
    batch.presence = Presence.CLOSED
    await watcher.closes()
    last = watcher.of("batch.failed")[0].data["data"]

    assert last["problem"]["code"] == "terminated"
    assert last["counts"] == {
        "total": 4,
        "pending": 0,
        "in_flight": 0,
        "done": 0,
        "failed": 0,
        "skipped": 0,
        "cancelled": 4,
    }


@pytest.mark.parametrize("age", [timedelta(), timedelta(hours=2)])
async def test_a_batch_whose_workflow_is_still_to_start_is_waited_for(age) -> None:
    """Its record comes first, as old as the upload it comes from: a watcher who is early sees it begin."""
    batch = ScriptedBatch(str(uuid.uuid4()))
    batch.created_at -= age
    batch.presence = Presence.MISSING
    house = House(await batch.create(), InMemoryEventLog())
    watcher = house.watch("0")
    await until(lambda: batch.settle_count > 0, 20)
    batch.presence = Presence.OPEN
    batch.state(BatchState.RUNNING)
    await watcher.sees("batch.started")
    assert "batch.failed" not in watcher.names
    await house.close()


async def test_no_progress_is_shared_after_the_end(house, batch, monkeypatch) -> None:
    """Whoever reads the batch after its last event must not get the poller's older numbers."""
    monkeypatch.setattr(hub_module, "LINGER_SECONDS", 0.05)
    batch.state(BatchState.RUNNING)
    watcher = house.watch("0")
    await batch.run_all()
    await watcher.sees("document.succeeded", 4)
    assert await house.log.get_snapshot(batch.key.batch_id) is not None
    await batch.close()
    await watcher.closes()

    assert await house.log.get_snapshot(batch.key.batch_id) is None
    assert batch.key.batch_id in house.changed


async def test_numbers_survive_a_catalog_that_is_older_than_the_log() -> None:
    """Restored from a backup, the catalog's mark lies below the log: no number in it is used again."""
    batch = await ScriptedBatch(str(uuid.uuid4()), document_count=1).create()
    log = InMemoryEventLog()
    first = Poller(batch.key, batch.parts(log), "first")
    first_run = asyncio.create_task(first.run())
    await first.ready.wait()
    first_run.cancel()
    await log.resign(batch.key, "first")
    before = await log.range(batch.key)
    restored = await ScriptedBatch(batch.key.batch_id, document_count=1).create()
    second = Poller(batch.key, restored.parts(log), "second")
    second_run = asyncio.create_task(second.run())
    restored.start(0)
    await second.ready.wait()
    second_run.cancel()
    events = await log.read(batch.key, 0, 100)

    assert [event.seq for event in events] == sorted({event.seq for event in events})
    assert events[-1].seq > before.latest


def test_an_engine_that_is_behind_is_asked_ever_less_where_many_wait_unwatched() -> None:
    """A watched batch is asked each second all the same, and nobody waits longer than they would without trouble or a minute."""
    watched, one_of_a_hundred, one_of_thousands = (
        [trouble_seconds(trouble, idle) for trouble in range(1, 12)] for idle in (1.0, 2.0, 90.0)
    )
    assert watched == sorted(watched)
    assert watched[-1] == 1.0
    assert one_of_a_hundred == sorted(one_of_a_hundred)
    assert one_of_a_hundred[-1] == 60.0
    assert one_of_thousands[-1] <= 90.0
