"""Reading progress from a real Temporal: one query for many, the memo when nobody answers, none after the end."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from api.streams.queries import BatchQueries, ProgressAnswer
from api.streams.reader import ProgressReader
from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.domain.live_progress import ChildKey
from ingather.models.batch import BatchProgress, BatchState, Counts
from ingather.models.engine import MEMO_PROGRESS, WORKFLOW_QUEUE
from ingather.models.identity import workflow_id_for
from ingather.models.messages import BatchInput, JournalKind
from tests.support.batch_driver import BatchDriver, driven
from tests.support.fake_activities import World
from tests.support.waiting import until, until_async
from workflows import book, children


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address, data_converter=pydantic_data_converter)


@pytest.fixture
async def held(client: Client) -> AsyncIterator[BatchDriver]:
    """A batch that waits for its start, with a worker that answers."""
    async with driven(client, World(document_count=5)) as driver:
        await driver.start(hold=True)
        await driver.reaches(BatchState.PENDING)
        yield driver


async def test_many_readers_cost_one_query(client, held) -> None:
    """Fifty at once, and those of the next quarter of a second."""
    reader = ProgressReader(client, InMemoryEventLog())
    answers = await asyncio.gather(*(reader.read(held.batch_id) for _ in range(50)))
    await reader.read(held.batch_id)

    assert reader.queries.count == 1
    assert {answer.progress.state for answer in answers} == {BatchState.PENDING}
    assert not answers[0].stale
    assert not answers[0].closed


async def test_a_watched_batch_costs_no_query(client, held) -> None:
    """The poller's snapshot answers, whichever process it is in."""
    log = InMemoryEventLog()
    shared = BatchProgress(state=BatchState.RUNNING, counts=Counts(total=5, pending=5), version=99)
    await log.put_snapshot(held.batch_id, shared, 5)
    reader = ProgressReader(client, log)

    assert (await reader.read(held.batch_id)).progress == shared
    assert reader.queries.count == 0


async def test_answers_never_go_back(client, held) -> None:
    """After an update's answer the next read is not older, though a shared snapshot is."""
    log = InMemoryEventLog()
    old = BatchProgress(state=BatchState.RUNNING, counts=Counts(total=5, pending=5), version=7)
    await log.put_snapshot(held.batch_id, old, 5)
    reader = ProgressReader(client, log)
    newer = old.model_copy(update={"state": BatchState.PAUSED, "version": 8})
    await reader.note(held.batch_id, newer)
    await asyncio.sleep(0.3)

    assert (await reader.read(held.batch_id)).progress == newer


async def test_nobody_tells_what_was_shared_before_a_cancel(client, held) -> None:
    """The process that sent it asks the workflow, whatever a poller shares a moment late; the others find nothing."""
    log = InMemoryEventLog()
    reader, other = ProgressReader(client, log), ProgressReader(client, log)
    old = BatchProgress(state=BatchState.RUNNING, counts=Counts(total=5, pending=5), version=1)
    await log.put_snapshot(held.batch_id, old, 5)
    assert (await reader.read(held.batch_id)).progress == old
    await reader.changed(held.batch_id)

    assert (await other.read(held.batch_id)).progress.state is BatchState.PENDING
    await log.put_snapshot(held.batch_id, old, 5)
    answer = await reader.read(held.batch_id)

    assert (answer.progress.state, answer.stale) == (BatchState.PENDING, False)


async def test_an_answer_that_was_asked_for_before_a_change_is_not_kept(client, held) -> None:
    """Who asked before may hear it; who asks behind the change makes the question anew."""
    reader = ProgressReader(client, InMemoryEventLog())
    asked = asyncio.create_task(reader.read(held.batch_id))
    await asyncio.sleep(0)
    await reader.changed(held.batch_id)
    answer, _ = await asyncio.gather(reader.read(held.batch_id), asked)

    assert answer.progress.state is BatchState.PENDING
    assert reader.queries.count == 2


async def test_without_a_worker_the_memo_answers(client) -> None:
    """Within the deadline, and marked as stale."""
    driver = BatchDriver(client, World(document_count=2))
    known = BatchProgress(state=BatchState.QUEUED, counts=Counts(total=2, pending=2))
    await client.start_workflow(
        "BatchWorkflow",
        BatchInput(spec=driver.spec()),
        id=workflow_id_for(driver.batch_id),
        task_queue=f"{WORKFLOW_QUEUE}-nobody",
        memo={MEMO_PROGRESS: known},
    )
    reader = ProgressReader(client, InMemoryEventLog())
    began = time.monotonic()
    answer = await reader.read(driver.batch_id)
    seconds = time.monotonic() - began
    await driver.clean_up()

    assert (answer.progress, answer.stale, answer.closed) == (known, True, False)
    assert seconds < 4


async def test_a_closed_batch_is_not_replayed(client, held) -> None:
    """The server refuses the query, so no worker works; closed is said, whatever ended it."""
    await held.handle.terminate("by hand")
    reader = ProgressReader(client, InMemoryEventLog())
    answer = await reader.read(held.batch_id)

    assert answer.closed
    assert answer.progress.state is BatchState.PENDING
    assert not answer.stale


async def test_an_unknown_batch_is_closed_and_empty(client) -> None:
    """Nothing runs under that id."""
    reader = ProgressReader(client, InMemoryEventLog())
    answer = await reader.read("00000000-0000-7000-8000-00000000dead")

    assert (answer.progress, answer.closed) == (None, True)


async def test_a_large_batch_is_its_own_numbers_and_its_children_s(client, monkeypatch) -> None:
    """What children did, what they have in their hands and what waits, exactly; and a poller reads their journals."""
    monkeypatch.setattr(book, "MAX_DOCUMENTS_PER_WORKFLOW", 10)
    monkeypatch.setattr(children, "MIN_CHILD_DOCUMENTS", 5)
    world = World(document_count=23, gate=asyncio.Event(), open_for=3)
    async with driven(client, world) as driver:
        await driver.start(children_at_once=2, options={"max_workers": 4})
        await until(lambda: world.waiting == 4)
        queries = BatchQueries(client)

        async def settled() -> ProgressAnswer | None:
            answer = await queries.progress(driver.batch_id)
            return answer if answer.progress.counts.done == 3 else None

        answer = await until_async(settled)
        pages = await queries.child_outcomes(driver.batch_id, {ChildKey(0): 0, ChildKey(1): 0, ChildKey(77): 0})

        assert answer.complete
        assert answer.progress.counts == Counts(total=23, pending=16, in_flight=4, done=3)
        assert answer.progress.sources[0].counts == answer.progress.counts
        assert len(answer.progress.in_flight) == 4
        assert pages[ChildKey(77)] is None
        entries = [entry for page in pages.values() if page is not None for entry in page.entries]
        assert len({entry.ordinal for entry in entries if entry.kind is JournalKind.STARTED}) == 7
        assert len({entry.ordinal for entry in entries if entry.kind is JournalKind.ENDED}) == 3
        world.gate.set()
