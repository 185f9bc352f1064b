"""The story of a large batch, read from its children's journals and from the catalog: each event once."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator

import orjson
import pytest

from api.streams import poller as poller_module
from api.streams import telling
from api.streams.poller import Poller
from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.domain.live_progress import ChildKey
from ingather.models.batch import BatchState
from ingather.models.document import DocumentStatus
from tests.support.house import House
from tests.support.scripted_batch import ScriptedBatch
from tests.support.waiting import until
from tests.support.watching import Watcher


@pytest.fixture
async def batch() -> ScriptedBatch:
    batch = await ScriptedBatch(str(uuid.uuid4()), document_count=12).create()
    batch.state(BatchState.RUNNING)
    return batch


@pytest.fixture
async def house(batch: ScriptedBatch) -> AsyncIterator[House]:
    house = House(batch, InMemoryEventLog())
    yield house
    await house.close()


def ends(watcher: Watcher) -> list[int]:
    return [ordinal for kind, ordinal in watcher.documents if kind != "started"]


def starts(watcher: Watcher) -> list[int]:
    return [ordinal for kind, ordinal in watcher.documents if kind == "started"]


def contiguous(seqs: list[int]) -> bool:
    return seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_documents_of_children_are_told_as_they_end(house, batch) -> None:
    """Starts and ends of every child's documents, each once, under numbers without a gap."""
    batch.begin_child(0, range(4))
    batch.begin_child(1, range(4, 8))
    watcher = house.watch("0")
    await batch.run([0, 1, 4])
    await watcher.sees("document.succeeded", 3)
    await batch.run([2, 3, 5, 6, 7])
    batch.end_child(0)
    batch.end_child(1)
    batch.begin_child(2, range(8, 12))
    await batch.run(range(8, 12))
    batch.end_child(2)
    await batch.close()
    await watcher.closes()

    assert sorted(ends(watcher)) == sorted(starts(watcher)) == list(range(12))
    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))
    assert "stream.reset" not in watcher.names


async def test_what_a_child_leaves_is_told_by_the_one_that_runs_it(house, batch) -> None:
    """Whoever reads late finds its end in the catalog while that child is at work: it is told once all the same."""
    batch.begin_child(0, range(12))
    await batch.run(range(11))
    batch.start(11)
    batch.end_child(0, leaving=[11])
    batch.begin_child(1, [11])
    await batch.run([11])
    watcher = house.watch("0")
    await watcher.sees("document.succeeded", 12)
    batch.end_child(1)
    await batch.close()
    await watcher.closes()

    assert sorted(ends(watcher)) == sorted(starts(watcher)) == list(range(12))


async def test_progress_is_exact_and_never_goes_back(house, batch) -> None:
    """Counts add up to the total while children begin, fall silent and end, and no document is un-done."""
    watcher = house.watch()
    await watcher.sees("stream.snapshot")
    child = batch.begin_child(0, range(6))
    await batch.run(range(4))
    await asyncio.sleep(0.7)
    child.is_silent = True
    other = batch.begin_child(1, range(6, 12))
    await batch.run(range(6, 10))
    await asyncio.sleep(0.7)
    other.is_open = False
    await asyncio.sleep(0.7)
    batch.end_child(1)
    await asyncio.sleep(0.7)
    counts = [frame.data["data"]["counts"] for frame in watcher.of("batch.progress")]

    assert len(counts) >= 3
    assert all(sum(part for name, part in each.items() if name != "total") == 12 for each in counts)
    done = [each["done"] for each in counts]
    assert done == sorted(done)
    assert done[-1] == 8


async def test_progress_does_not_go_back_where_another_process_takes_over(batch) -> None:
    """A child that is silent just then was counted before: the next poller says nothing until it has heard it too."""
    log = Recorder(max_events=100)
    batch.state(BatchState.RUNNING)
    child = batch.begin_child(0, range(6))
    batch.begin_child(1, range(6, 12))
    await batch.run(range(4))
    first = Poller(batch.key, batch.parts(log), "first")
    leading = asyncio.create_task(first.run())
    await until(lambda: len(log.done_counts) > 0)
    leading.cancel()
    await first.resign()
    child.is_silent = True
    await batch.run(range(6, 8))
    asked = batch.count
    second = asyncio.create_task(Poller(batch.key, batch.parts(log), "second").run())
    await until(lambda: batch.count > asked + 3)
    child.is_silent = False
    await until(lambda: log.done_counts[-1] == 6)
    second.cancel()

    assert log.done_counts == sorted(log.done_counts)


async def test_what_a_child_told_after_the_last_look_comes_from_the_catalog(house, batch) -> None:
    """It closed in between: nothing is missing, nothing comes twice, and it is not asked again."""
    child = batch.begin_child(0, range(6))
    watcher = house.watch("0")
    await batch.run([0, 1])
    batch.start(2)
    await watcher.sees("document.started", 3)
    child.is_open = False
    await batch.end(2)
    await batch.run([3, 4])
    await batch.end(5, DocumentStatus.FAILED, "corrupt")
    batch.end_child(0)
    await watcher.until(lambda seen: len(ends(seen)) == 6)
    asked = len(batch.asked)
    await asyncio.sleep(0.5)

    assert sorted(starts(watcher)) == [0, 1, 2, 3, 4]
    assert sorted(ends(watcher)) == list(range(6))
    assert watcher.of("document.failed")[0].data["data"]["error"]["message"] == "It cannot be read."
    assert len(batch.asked) == asked


async def test_a_batch_is_told_from_the_middle(house, batch) -> None:
    """Nobody watched: ended children come from the catalog, those at work from their journals."""
    batch.begin_child(0, range(4))
    await batch.run(range(4))
    batch.end_child(0)
    batch.begin_child(1, range(4, 8))
    await batch.run([4, 5])
    watcher = house.watch("0")
    await watcher.until(lambda seen: len(ends(seen)) == 6)

    assert watcher.names[1:3] == ["batch.created", "batch.started"]
    assert sorted(ends(watcher)) == sorted(starts(watcher)) == list(range(6))
    assert watcher.seqs == list(range(1, len(watcher.seqs) + 1))


@pytest.mark.parametrize("max_events", [8, 1_000])
async def test_another_process_goes_on_in_every_child(batch, max_events) -> None:
    """Also where the log has let go of most that was told: no gap, no duplicate."""
    house = House(batch, InMemoryEventLog(max_events=max_events))
    batch.begin_child(0, range(6))
    batch.begin_child(1, range(6, 12))
    first = house.watch("0")
    await first.sees("batch.started")
    for count, ordinal in enumerate([0, 1, 2, 6, 7], start=1):
        await batch.run([ordinal])
        await first.sees("document.succeeded", count)
    batch.start(3)
    await first.sees("document.started", 6)
    other = house.open_hub()
    second = house.watch(str(first.seqs[-1]), hub=other)
    await second.sees("stream.open")
    await house.hub.close()
    seen = first.seqs[-1]
    await batch.end(3)
    for count, ordinal in enumerate([4, 5, 8, 9, 10, 11], start=2):
        await batch.run([ordinal])
        await second.sees("document.succeeded", count)
    batch.end_child(0)
    batch.end_child(1)
    await batch.close()
    await second.closes()
    await house.close()

    assert "stream.reset" not in second.names
    assert contiguous(first.seqs + [seq for seq in second.seqs if seq > seen])
    assert sorted(ends(first) + ends(second)) == list(range(12))
    assert sorted(starts(first) + starts(second)) == list(range(12))


async def test_an_emptied_log_is_announced_and_nothing_comes_twice(house, batch) -> None:
    """Another poller after the loss: a reset, then what is new."""
    batch.begin_child(0, range(6))
    first = house.watch("0")
    await batch.run(range(3))
    await first.sees("document.succeeded", 3)
    await house.hub.close()
    await house.log.flush()
    other = house.open_hub()
    second = house.watch(str(first.seqs[-1]), hub=other)
    await second.sees("stream.snapshot")
    await batch.run(range(3, 6))
    await second.sees("document.succeeded", 3)

    assert "stream.reset" in second.names
    assert ends(second) == [3, 4, 5]
    assert min(second.seqs) > max(first.seqs)


async def test_a_poller_that_lost_its_notes_writes_them_again(house, batch) -> None:
    """The log was emptied under a living poller: its successor knows all that was told before."""
    batch.begin_child(0, range(6))
    first = house.watch("0")
    await batch.run(range(3))
    await first.sees("document.succeeded", 3)
    await house.log.flush()
    await batch.run([3])
    await first.sees("document.succeeded", 4)
    await house.hub.close()
    other = house.open_hub()
    second = house.watch(str(first.seqs[-1]), hub=other)
    await batch.run([4, 5])
    batch.end_child(0)
    await batch.close()
    await second.closes()

    assert ends(second)[:2] == [4, 5]
    assert sorted(ends(second)) == [4, 5]


async def test_more_than_the_log_holds_is_announced_not_told(house, batch, monkeypatch) -> None:
    """Children that ended long before anybody watched: a gap, a reset, and the latest ones."""
    monkeypatch.setattr(telling, "BACKLOG_DOCUMENTS", 5)
    for index in range(3):
        batch.begin_child(index, range(index * 4, index * 4 + 4))
        await batch.run(range(index * 4, index * 4 + 4))
        batch.end_child(index)
    watcher = house.watch("0")
    await watcher.until(lambda seen: len(ends(seen)) == 4)
    await batch.close()
    await watcher.closes()

    assert sorted(ends(watcher)) == [8, 9, 10, 11]
    assert "stream.reset" in watcher.names
    assert watcher.seqs == sorted(set(watcher.seqs))


async def test_a_large_batch_that_nobody_watched_is_told_in_part(house, batch, monkeypatch) -> None:
    """After its end: as many documents as the log has room for, the last ones, and a reset before them."""
    monkeypatch.setattr(telling, "BACKLOG_DOCUMENTS", 5)
    monkeypatch.setattr(telling, "SLICE_DOCUMENTS", 2)
    await batch.run_all()
    await batch.close()
    watcher = house.watch("0")
    await watcher.closes()

    assert sorted(ends(watcher)) == [7, 8, 9, 10, 11]
    assert watcher.names[-2:] == ["batch.completed", "stream.end"]
    assert "stream.reset" in watcher.names


async def test_what_a_cancel_left_undone_is_told_at_the_end(house, batch) -> None:
    """Documents that never came into a child are in no journal: the catalog knows them as cancelled."""
    batch.begin_child(0, range(4))
    watcher = house.watch("0")
    await batch.run(range(2))
    await watcher.sees("document.succeeded", 2)
    batch.end_child(0)
    for ordinal in range(2, 12):
        batch.statuses[ordinal] = DocumentStatus.CANCELLED
    await batch.catalog.mark_cancelled(batch.key.batch_id, range(2, 12), batch.created_at)
    await batch.close(BatchState.CANCELLED)
    await watcher.closes()

    assert sorted(ends(watcher)) == list(range(12))
    assert watcher.names.count("document.cancelled") == 10


async def test_a_retry_runs_in_children_of_its_own(house, batch) -> None:
    """The same index in another round is another child; both ends of its document are told."""
    batch.begin_child(0, range(12))
    watcher = house.watch("0")
    await batch.run(range(11))
    batch.start(11)
    await batch.end(11, DocumentStatus.FAILED, "corrupt")
    batch.end_child(0)
    await watcher.sees("document.failed")
    batch.retry_round = 1
    await batch.catalog.reset_documents(batch.key.batch_id, [11])
    batch.statuses[11] = DocumentStatus.PENDING
    batch.begin_child(0, [11], retry_round=1)
    batch.start(11)
    await batch.end(11, DocumentStatus.FAILED, "corrupt")
    batch.end_child(0, retry_round=1)
    await batch.close(BatchState.COMPLETED_WITH_FAILURES)
    await watcher.closes()

    assert Counter(ends(watcher)) == Counter([*range(12), 11])
    assert Counter(starts(watcher)) == Counter([*range(12), 11])
    assert ChildKey(0, 1) in batch.asked or watcher.names.count("document.failed") == 2


async def test_a_retry_that_a_child_ran_unseen_is_told_at_the_end(house, batch, monkeypatch) -> None:
    """Told as failed, done since, and over before anybody looked again: the batch itself knows of no second round."""
    monkeypatch.setattr(telling, "MAX_DOCUMENTS_PER_WORKFLOW", 10)
    batch.begin_child(0, range(12))
    watcher = house.watch("0")
    await batch.run(range(11))
    batch.start(11)
    await batch.end(11, DocumentStatus.FAILED, "corrupt")
    await watcher.sees("document.failed")
    await batch.catalog.reset_documents(batch.key.batch_id, [11])
    batch.start(11)
    await batch.end(11)
    del batch.children[ChildKey(0, 0)]
    await batch.close()
    await watcher.closes()

    assert Counter(ends(watcher)) == Counter([*range(12), 11])
    assert watcher.names.count("document.succeeded") == 12


async def test_a_batch_whose_children_rest_is_told_as_paused(house, batch) -> None:
    """Its journal never says so, because children that pause do not end; resumed follows."""
    batch.begin_child(0, range(12))
    watcher = house.watch("0")
    batch.start(0)
    await watcher.sees("document.started")
    batch.state(BatchState.PAUSING)
    await watcher.sees("batch.pausing")
    assert "batch.paused" not in watcher.names
    await batch.end(0)
    await watcher.sees("batch.paused")
    batch.state(BatchState.RUNNING)
    await watcher.sees("batch.resumed")

    assert [name for name in watcher.names if name.startswith("batch.p") and name != "batch.progress"] == [
        "batch.pausing",
        "batch.paused",
    ]


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_each_event_comes_once(batch, monkeypatch, seed: int) -> None:
    """Children begin, end and fall silent; pollers are killed at any moment; the log holds a handful of events."""
    monkeypatch.setattr(poller_module, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(poller_module, "LEASE_SECONDS", 0.05)
    monkeypatch.setattr(poller_module, "STANDBY_SECONDS", 0.01)
    chance, log = random.Random(seed), Recorder(max_events=6)
    waiting, open_children = list(range(12)), dict[int, list[int]]()
    poller, running = None, None
    while waiting or open_children:
        if running is None or chance.random() < 0.2:
            if running is not None:
                running.cancel()
            poller = Poller(batch.key, batch.parts(log), str(uuid.uuid4()))
            running = asyncio.create_task(poller.run())
        if waiting and len(open_children) < 3 and chance.random() < 0.5:
            index = 12 - len(waiting)
            open_children[index], waiting = waiting[:4], waiting[4:]
            batch.begin_child(index, open_children[index])
        for index, left in list(open_children.items()):
            child = batch.children[ChildKey(index)]
            child.is_silent = chance.random() < 0.3
            if left and chance.random() < 0.7:
                ordinal = left.pop(0)
                batch.start(ordinal)
                await batch.end(ordinal, *chance.choice([(), (DocumentStatus.FAILED, "corrupt")]))
            elif not left and child.is_open and chance.random() < 0.5:
                child.is_open = False
            elif not left and not child.is_open:
                batch.end_child(index)
                del open_children[index]
        await asyncio.sleep(chance.choice([0, 0.01, 0.03]))
    await batch.close()
    async with asyncio.timeout(10):
        await running

    kinds = Counter((event.type, event.body.split(b'"ordinal":')[1].split(b",")[0]) for event in log.documents)
    assert set(kinds.values()) == {1}
    assert len(kinds) == 24
    assert [event.seq for event in log.all] == list(range(1, len(log.all) + 1))


class Recorder(InMemoryEventLog):
    """Keeps what was appended, also what the log itself lets go."""

    def __init__(self, *, max_events: int) -> None:
        super().__init__(max_events=max_events)
        self.all = []

    async def append(self, key, owner, events, **options) -> bool:
        written = await super().append(key, owner, events, **options)
        self.all += events if written else []
        return written

    @property
    def documents(self):
        return [event for event in self.all if event.type.startswith("document.")]

    @property
    def done_counts(self):
        """As ``batch.progress`` told them."""
        told = [orjson.loads(event.body) for event in self.all if event.type == "batch.progress"]
        return [each["data"]["counts"]["done"] for each in told]
