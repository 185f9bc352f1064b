"""A batch of more documents than one workflow runs itself: children do the work, the batch stays one."""

import asyncio
import uuid
from itertools import chain

import pytest
from temporalio import workflow
from temporalio.client import WorkflowFailureError, WorkflowUpdateStage
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.service import RPCError
from temporalio.worker import Replayer

from ingather.domain.bitmap import decode_bitmap
from ingather.models.batch import BatchState, Counts
from ingather.models.identity import child_workflow_id_for
from ingather.models.messages import PACK_KILLED, PACK_RETRY_ALONE, JournalKind, PriorityRequest
from tests.support.batch_driver import driven, request, retry
from tests.support.fake_activities import DONE, World, failed
from tests.support.waiting import until, until_async
from workflows import children
from workflows.batch import BatchWorkflow
from workflows.chunk import ChunkWorkflow


async def hears_pause(child) -> None:
    """Wait until a child with documents in flight starts no more."""

    async def heard() -> bool | None:
        return True if (await child.query(ChunkWorkflow.progress)).state is BatchState.PAUSING else None

    await until_async(heard)


async def hears_priority(child, priority: int) -> None:
    """Wait until a child goes by a priority."""

    async def heard() -> bool | None:
        return True if (await child.query(ChunkWorkflow.progress)).priority == priority else None

    await until_async(heard)


async def has_done(batch, documents: int) -> None:
    """Wait until children have told of so many."""

    async def there() -> bool | None:
        return True if (await batch.query(BatchWorkflow.progress)).counts.done == documents else None

    await until_async(there)


@pytest.mark.parametrize(
    ("documents", "size"), [(1_001, 250), (8_000, 250), (8_001, 251), (32_000, 1_000), (1_000_000, 1_000)]
)
def test_children_are_as_many_as_fit_thirty_two_and_never_larger_than_a_batch(documents, size):
    """A child costs as much as several packs, so none is very small; very many documents make more of them."""
    assert children.child_size(documents) == size


async def test_the_first_batch_over_a_thousand_runs_in_children(client):
    """Each document is ingested once and indexed, by a child; the counts are exact."""
    world = World(document_count=1_001)
    async with driven(client, world, sandbox=True) as driver:
        handle = await driver.start()
        summary = await handle.result()

        assert summary.state is BatchState.COMPLETED
        assert summary.counts == Counts(total=1_001, done=1_001)
        assert sorted(world.started) == list(range(1_001))
        assert sorted(chain.from_iterable(world.indexed)) == list(range(1_001))
        history = await handle.fetch_history()
        assert (
            sum(event.HasField("start_child_workflow_execution_initiated_event_attributes") for event in history.events)
            == 5
        )
        assert len(history.events) < 5 * 9 + 100


async def test_failures_come_home_with_their_codes(client, low_limits):
    """Children answer how each document ended; the batch keeps codes and sources apart."""
    world = World(
        document_count=23,
        outcome=lambda ordinal, _: failed("encrypted" if ordinal < 7 else "corrupt") if ordinal % 3 == 0 else DONE,
    )
    async with driven(client, world) as driver:
        summary = await (await driver.start()).result()

        assert summary.state is BatchState.COMPLETED_WITH_FAILURES
        assert summary.counts == Counts(total=23, done=15, failed=8)
        assert summary.failures_by_code == {"corrupt": 5, "encrypted": 3}
        assert summary.sources[0].counts == summary.counts


async def test_no_more_children_run_at_once_than_the_batch_may_have(client, low_limits):
    """The others start as these end; ``max_workers`` bounds them all together."""
    world = World(document_count=40, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=2, options={"max_workers": 6})
        await until(lambda: world.waiting == 6)
        await asyncio.sleep(0.3)
        progress = await handle.query(BatchWorkflow.progress)

        assert world.most_in_flight == 6
        assert [(child.index, child.document_count) for child in progress.children] == [(0, 5), (1, 5)]
        assert progress.counts == Counts(total=40, pending=30, in_flight=10)
        world.gate.set()
        assert (await handle.result()).counts == Counts(total=40, done=40)
        assert world.most_in_flight == 6


async def test_without_parallel_processing_a_large_batch_keeps_its_order(client, low_limits):
    """One child at a time, one document at a time, none of them in a pack, and the large in their turn."""
    world = World(document_count=15, is_small=lambda _: True, is_large=lambda ordinal: ordinal == 4)
    async with driven(client, world) as driver:
        await (await driver.start(options={"parallel_processing": False})).result()

        assert world.most_in_flight == 1
        assert [each.ordinal for each in world.inputs] == list(range(15))


async def test_large_documents_begin_before_their_turn_in_each_child(client, low_limits):
    """No child ends later for one of them; another worker may take the child up at any time."""
    world = World(document_count=15, is_large=lambda ordinal: ordinal in (4, 9))
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1, options={"max_workers": 2})
        assert (await handle.result()).counts == Counts(total=15, done=15)
        assert world.started.index(4) < world.started.index(1)
        assert world.started.index(9) < world.started.index(6)
        child = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 0, 0))
        replayer = Replayer(workflows=[ChunkWorkflow], data_converter=pydantic_data_converter)
        await replayer.replay_workflow(await child.fetch_history())


@pytest.mark.parametrize(("max_workers", "in_flight"), [(None, 40), (20, 16), (15, 8), (5, 5)])
async def test_workers_are_shared_out_among_the_children(client, low_limits, max_workers, in_flight):
    """A batch that asks for so many never has more; one that does not ask fills the window of each child."""
    world = World(document_count=40, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=8, options={"max_workers": max_workers})
        await until(lambda: world.waiting == in_flight)
        await asyncio.sleep(0.3)
        world.gate.set()
        await handle.result()

        assert world.most_in_flight == in_flight


async def test_a_pause_reaches_the_children_and_a_resume_too(client, low_limits):
    """Documents in flight finish, no other starts, in any child."""
    world = World(document_count=30, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=2, options={"max_workers": 4})
        await until(lambda: world.waiting == 4)

        await handle.execute_update(BatchWorkflow.pause, request())
        for index in range(2):
            await hears_pause(client.get_workflow_handle(child_workflow_id_for(driver.batch_id, index, 0)))
        world.gate.set()
        await until(lambda: world.in_flight == 0)
        await asyncio.sleep(0.5)
        assert len(world.started) == 4

        await handle.execute_update(BatchWorkflow.resume, request())
        assert (await handle.result()).counts == Counts(total=30, done=30)
        assert sorted(world.started) == list(range(30))


async def test_a_new_priority_lets_a_paused_batch_stay_paused(client, low_limits):
    """Its children hear of it; whoever watches is told of one pause and one resume."""
    world = World(document_count=12, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(options={"max_workers": 2}, children_at_once=2)
        await until(lambda: world.waiting == 2)
        await handle.execute_update(BatchWorkflow.pause, request())
        both = [client.get_workflow_handle(child_workflow_id_for(driver.batch_id, index, 0)) for index in range(2)]
        for child in both:
            await hears_pause(child)
        world.gate.set()
        await driver.reaches(BatchState.PAUSED)

        await handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="urgent", priority=1))
        for child in both:
            await hears_priority(child, 1)

        await handle.execute_update(BatchWorkflow.resume, request())
        await handle.result()
        entries = (await handle.query(BatchWorkflow.outcomes, 0)).entries
        states = [entry.state for entry in entries if entry.kind is JournalKind.STATE]
        assert states[states.index(BatchState.PAUSING) :] == [
            BatchState.PAUSING, BatchState.PAUSED, BatchState.RUNNING, BatchState.FINALIZING
        ]  # fmt: skip


async def test_a_batch_paused_before_its_children_starts_none(client, low_limits):
    """And a resume lets them come."""
    world = World(document_count=30)
    async with driven(client, world) as driver:
        handle = await driver.start(hold=True)
        await until(lambda: world.calls["build_manifest"] == 1)
        await handle.execute_update(BatchWorkflow.start, request())
        await handle.execute_update(BatchWorkflow.pause, request())
        await driver.reaches(BatchState.PAUSED)
        await handle.execute_update(BatchWorkflow.resume, request())
        assert (await handle.result()).counts == Counts(total=30, done=30)


async def test_cancel_keeps_what_the_children_finished(client, low_limits):
    """They return what they did; what they had not begun, and what had no child yet, counts as cancelled."""
    world = World(document_count=40, gate=asyncio.Event(), open_for=7)
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=2)
        await until(lambda: world.open_for == 0 and world.waiting > 0)

        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

        assert isinstance(caught.value.cause, CancelledError)
        assert world.closed is not None
        assert world.closed.summary.state is BatchState.CANCELLED
        assert world.closed.summary.counts == Counts(total=40, done=7, cancelled=33)
        # A write that the cancel interrupted is made again.
        assert len(set(chain.from_iterable(world.indexed))) == 7
        assert world.in_flight == 0


async def test_a_retry_reaches_failures_of_children_that_ended_and_of_those_at_work(client, low_limits):
    """Every failed document that matches runs again, once."""
    world = World(
        document_count=11,
        outcome=lambda ordinal, round_: failed() if ordinal in {0, 6} and round_ == 0 else DONE,
        gate=asyncio.Event(),
        open_for=9,
    )
    async with driven(client, world) as driver:
        # The first child has ended with its failure, the second is at work and has had its own.
        handle = await driver.start(children_at_once=1, options={"max_workers": 1})
        second = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 1, 0))
        await until(lambda: world.waiting == 1 and world.open_for == 0)
        assert (await second.query(ChunkWorkflow.progress)).counts.failed == 1

        answer = await handle.execute_update(BatchWorkflow.retry, retry(codes=("corrupt",)))
        assert answer.affected == 1  # the other is the child's to tell
        world.gate.set()
        summary = await handle.result()

        assert summary.counts == Counts(total=11, done=11)
        assert sorted(world.started) == sorted([*range(11), 0, 6])
        assert sorted(chain.from_iterable(world.resets)) == [0, 6]


async def test_a_retry_that_is_passed_on_while_the_last_child_ends_is_part_of_the_batch(
    client, low_limits, monkeypatch
):
    """The report waits for it: a batch that runs on is never called ended."""

    async def slowly(signal):
        await workflow.sleep(1)
        await children_signalled(signal)

    children_signalled = children._signalled
    monkeypatch.setattr(children, "_signalled", slowly)
    world = World(
        document_count=11,
        outcome=lambda ordinal, round_: failed() if ordinal == 0 and round_ == 0 else DONE,
        gate=asyncio.Event(),
        open_for=10,
    )
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1, options={"max_workers": 1})
        await until(lambda: world.waiting == 1 and world.open_for == 0)
        waiting = await handle.start_update(BatchWorkflow.retry, retry(), wait_for_stage=WorkflowUpdateStage.ACCEPTED)
        world.gate.set()
        answer = await waiting.result()
        summary = await handle.result()

        assert (answer.affected, answer.state) == (1, BatchState.RETRYING)
        assert world.ended == ["reset_documents", "finish_batch"]
        assert summary.counts == Counts(total=11, done=11)


async def test_a_closed_large_batch_is_opened_again(client, low_limits):
    """The failed ones of many children run again in as few as hold them."""
    world = World(
        document_count=23, outcome=lambda ordinal, round_: failed() if ordinal % 5 == 0 and not round_ else DONE
    )
    async with driven(client, world) as driver:
        summary = await (await driver.start()).result()
        assert summary.counts == Counts(total=23, done=18, failed=5)

        await driver.reopen(retry())
        summary = await driver.handle.result()

        assert summary.counts == Counts(total=23, done=23)
        assert sorted(world.started[23:]) == [0, 5, 10, 15, 20]
        child = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 0, 1))
        assert (await child.describe()).id == f"batch/{driver.batch_id}/0/r1"


async def test_a_child_that_somebody_ended_is_made_again(client, low_limits):
    """Its documents are nobody else's to run, so nothing is lost."""
    world = World(document_count=12, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting == 12)
        await client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 1, 0)).terminate("by an operator")
        await until(lambda: len(world.started) > 12)
        world.gate.set()

        assert (await handle.result()).counts == Counts(total=12, done=12)
        assert {each.ordinal for each in world.inputs if each.again} == {5, 6, 7, 8, 9}
        assert sum(each.again for each in world.inputs) == 5


async def test_children_that_are_ended_one_by_one_cost_no_document(client, low_limits):
    """What counts is how often it happened to the same documents, not how often in all."""
    world = World(document_count=25, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=5)
        await until(lambda: world.waiting == 25)
        for index in range(5):
            await client.get_workflow_handle(child_workflow_id_for(driver.batch_id, index, 0)).terminate("one by one")
        await until(lambda: len(world.started) == 50)
        world.gate.set()

        assert (await handle.result()).counts == Counts(total=25, done=25)


async def test_a_child_that_is_ended_again_and_again_fails_its_documents(client, low_limits):
    """A batch must end: they can be retried."""
    world = World(document_count=11, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1)
        for index in range(children.MAX_CHILD_FAILURES + 1):
            child = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, index, 0))

            async def ended(child=child):
                try:
                    await child.terminate("by an operator")
                except RPCError:
                    return None  # not there yet
                return True

            await until_async(ended)
        world.gate.set()
        summary = await handle.result()

        assert summary.counts == Counts(total=11, done=6, failed=5)
        assert summary.failures_by_code == {"internal_error": 5}


async def test_a_new_priority_reaches_the_children(client, low_limits):
    """The documents still to start are ordered by it."""
    world = World(document_count=12, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(priority=4, options={"max_workers": 3}, children_at_once=3)
        await until(lambda: world.waiting == 3)
        await handle.execute_update(
            BatchWorkflow.set_priority, PriorityRequest(request_id=uuid.uuid4().hex, priority=1)
        )
        first = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 0, 0))
        await hears_priority(first, 1)
        world.gate.set()
        await handle.result()
        scheduled = [
            event.activity_task_scheduled_event_attributes
            for event in (await first.fetch_history()).events
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
        documents = [each.priority.priority_key for each in scheduled if each.activity_type.name == "ingest_document"]
        assert documents[0] == 4
        assert documents[-1] == 1


async def test_the_journal_names_the_children_and_they_tell_of_their_documents(client, low_limits):
    """A watcher follows the batch's journal and those of its children at work."""
    world = World(document_count=12, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting == 12)
        child = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 2, 0))
        page = await child.query(ChunkWorkflow.outcomes, 0)
        started = [entry.ordinal for entry in page.entries if entry.kind is JournalKind.STARTED]
        assert started == [10, 11]
        assert page.progress.counts == Counts(total=2, in_flight=2)
        world.gate.set()
        await handle.result()
        entries = (await handle.query(BatchWorkflow.outcomes, 0)).entries
        began = [entry for entry in entries if entry.kind is JournalKind.CHILD_STARTED]
        ended = [entry for entry in entries if entry.kind is JournalKind.CHILD_ENDED]
        assert [entry.child for entry in began] == [0, 1, 2]
        assert sorted((entry.child, list(decode_bitmap(entry.ordinals or ""))) for entry in ended) == [
            (0, [0, 1, 2, 3, 4]), (1, [5, 6, 7, 8, 9]), (2, [10, 11])
        ]  # fmt: skip
        assert not any(entry.kind is JournalKind.ENDED for entry in entries)


async def test_a_long_history_continues_as_new_when_no_child_runs(client, low_limits, monkeypatch):
    """Children go on counting where the earlier run stopped, and every document runs once."""
    monkeypatch.setattr(children, "MAX_HISTORY_EVENTS", 40)
    world = World(document_count=60)
    async with driven(client, world) as driver:
        first = await client.start_workflow(
            BatchWorkflow.run, driver.input(), id=driver.handle.id, task_queue="ingather-workflows"
        )
        summary = await driver.handle.result()
        assert summary.counts == Counts(total=60, done=60)
        assert sorted(world.started) == list(range(60))
        described = await driver.handle.describe()
        assert described.run_id != first.first_execution_run_id


def hanging(documents: int, **fields: object) -> World:
    """Small documents, of which the second of each five kills its parser in its pack and the fourth keeps others waiting."""
    letters = {1: PACK_KILLED, 3: PACK_RETRY_ALONE}
    return World(
        document_count=documents,
        is_small=lambda _: True,
        pack_outcome=lambda ordinal: letters.get(ordinal % 5, DONE),
        **fields,
    )


async def test_what_packs_sent_back_runs_after_all_others_of_the_batch(client, low_limits):
    """No child lasts for it while others wait; it runs alone, and what it killed goes with it."""
    world = hanging(40, seconds=0.05)
    async with driven(client, world, sandbox=True) as driver:
        handle = await driver.start(children_at_once=2)
        summary = await handle.result()

        assert summary.counts == Counts(total=40, done=40)
        assert sorted(chain.from_iterable(world.packs)) == list(range(40))
        assert {each.ordinal: each.kills for each in world.inputs} == {
            ordinal: int(ordinal % 5 == 1) for ordinal in range(40) if ordinal % 5 in {1, 3}
        }
        assert sorted(chain.from_iterable(world.indexed)) == list(range(40))
        entries = (await handle.query(BatchWorkflow.outcomes, 0)).entries
        begun = [entry.child for entry in entries if entry.kind is JournalKind.CHILD_STARTED]
        ended = {entry.child: decode_bitmap(entry.ordinals or "") for entry in entries if entry.ordinals}
        assert begun == list(range(12))
        assert sorted(chain.from_iterable(ended[child] for child in range(8))) == [
            n for n in range(40) if n % 5 % 2 == 0
        ]
        assert sorted(chain.from_iterable(ended[child] for child in range(8, 12))) == [
            n for n in range(40) if n % 5 % 2
        ]
        # The last of the others ended before the first of these began.
        kinds = [(entry.kind, entry.child) for entry in entries]
        assert max(kinds.index((JournalKind.CHILD_ENDED, child)) for child in range(8)) < kinds.index(
            (JournalKind.CHILD_STARTED, 8)
        )


async def test_all_that_was_sent_back_may_run_at_once(client, low_limits):
    """In as many children as the batch may have: each may take all the time there is."""
    world = hanging(25, gate=asyncio.Event(), open_for=5)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting == 10)
        progress = await handle.query(BatchWorkflow.progress)
        assert [(child.index, child.document_count) for child in progress.children] == [(5, 5), (6, 5)]
        assert progress.counts == Counts(total=25, in_flight=10, done=15)
        world.gate.set()
        assert (await handle.result()).counts == Counts(total=25, done=25)


async def test_a_cancel_counts_what_was_sent_back_and_had_not_begun_as_cancelled(client, low_limits):
    """What its pack did not settle, nobody has."""
    world = hanging(15, gate=asyncio.Event(), open_for=2)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await has_done(handle, 6)
        await handle.cancel()
        await until(lambda: world.closed is not None)
        assert world.closed is not None
        assert world.closed.summary.counts == Counts(total=15, done=6, cancelled=9)
        assert world.inputs == []


async def test_a_child_of_documents_sent_back_that_somebody_ended_is_made_again(client, low_limits):
    """They still run alone, and what they killed in their packs still counts."""
    world = hanging(15, gate=asyncio.Event(), open_for=3)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting == 6)
        await client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 3, 0)).terminate("by an operator")
        await until(lambda: len(world.inputs) == 11)
        world.gate.set()
        assert (await handle.result()).counts == Counts(total=15, done=15)
        again = {each.ordinal: each.kills for each in world.inputs if each.again}
        assert again == {1: 1, 3: 0, 6: 1, 8: 0, 11: 1}
        assert len(world.packs) == 3


async def test_what_was_sent_back_goes_on_over_a_continue_as_new(client, low_limits, monkeypatch):
    """It is neither packed again nor forgiven."""
    monkeypatch.setattr(children, "MAX_HISTORY_EVENTS", 40)
    world = hanging(60)
    async with driven(client, world) as driver:
        first = await client.start_workflow(
            BatchWorkflow.run, driver.input(), id=driver.handle.id, task_queue="ingather-workflows"
        )
        assert (await driver.handle.result()).counts == Counts(total=60, done=60)
        assert (await driver.handle.describe()).run_id != first.first_execution_run_id
        assert sorted(chain.from_iterable(world.packs)) == list(range(60))
        assert sorted((each.ordinal, each.kills) for each in world.inputs) == [
            (ordinal, int(ordinal % 5 == 1)) for ordinal in range(60) if ordinal % 5 in {1, 3}
        ]


async def test_where_very_many_are_sent_back_children_run_theirs_themselves(client, low_limits, monkeypatch):
    """What the batch keeps for the last is bounded."""
    monkeypatch.setattr(children, "MAX_SENT_BACK", 2)
    world = hanging(15)
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1)
        assert (await handle.result()).counts == Counts(total=15, done=15)
        order = [each.ordinal for each in world.inputs]
        assert [sorted(order[:2]), sorted(order[2:4]), sorted(order[4:])] == [[6, 8], [11, 13], [1, 3]]


async def test_a_retry_while_others_were_sent_back_runs_first(client, low_limits):
    """Failed documents that somebody asks for again do not wait behind those that may take long."""
    outcomes = {0: failed(), 1: PACK_RETRY_ALONE, 6: PACK_RETRY_ALONE}
    world = World(
        document_count=12,
        is_small=lambda _: True,
        pack_outcome=lambda ordinal: outcomes.get(ordinal, DONE),
        gate=asyncio.Event(),
        open_for=2,
    )
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1)
        await has_done(handle, 7)
        await handle.execute_update(BatchWorkflow.retry, retry())
        world.gate.set()
        assert (await handle.result()).counts == Counts(total=12, done=12)
        order = [each.ordinal for each in world.inputs]
        assert [order[:1], sorted(order[1:])] == [[0], [1, 6]]


async def test_what_was_sent_back_is_shared_out_where_a_child_may_do_few_at_once(client, low_limits):
    """All that a batch may do at once, it does: each may take all the time there is."""
    world = hanging(25, gate=asyncio.Event(), open_for=5)
    async with driven(client, world) as driver:
        handle = await driver.start(options={"max_workers": 4})
        await until(lambda: world.waiting == 4)
        progress = await handle.query(BatchWorkflow.progress)
        assert [child.document_count for child in progress.children] == [3, 3, 3, 1]
        world.gate.set()
        assert (await handle.result()).counts == Counts(total=25, done=25)


async def test_a_child_may_have_nothing_but_documents_sent_back(client, low_limits):
    """It ends without any, and they run all the same."""
    world = World(
        document_count=12,
        is_small=lambda _: True,
        pack_outcome=lambda ordinal: PACK_RETRY_ALONE if ordinal < 5 else DONE,
    )
    async with driven(client, world) as driver:
        handle = await driver.start()
        assert (await handle.result()).counts == Counts(total=12, done=12)
        entries = (await handle.query(BatchWorkflow.outcomes, 0)).entries
        ended = {
            entry.child: list(decode_bitmap(entry.ordinals or ""))
            for entry in entries
            if entry.kind is JournalKind.CHILD_ENDED
        }
        assert ended == {0: [], 1: [5, 6, 7, 8, 9], 2: [10, 11], 3: [0, 1, 2, 3, 4]}


async def test_a_pause_holds_what_was_sent_back(client, low_limits):
    """It begins with the resume."""
    world = hanging(15, gate=asyncio.Event(), open_for=2)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await has_done(handle, 6)
        await handle.execute_update(BatchWorkflow.pause, request())
        world.gate.set()
        await driver.reaches(BatchState.PAUSED)
        await has_done(handle, 9)
        await asyncio.sleep(0.3)
        assert world.inputs == []

        await handle.execute_update(BatchWorkflow.resume, request())
        assert (await handle.result()).counts == Counts(total=15, done=15)


async def test_a_retry_in_a_child_runs_there_and_what_was_sent_back_does_not(client, low_limits):
    """A person asked for the failed ones; the others still wait for the rest of the batch."""
    outcomes = {0: failed(), 1: PACK_KILLED}
    world = World(
        document_count=12,
        is_small=lambda ordinal: ordinal < 4 or ordinal >= 5,
        pack_outcome=lambda ordinal: outcomes.get(ordinal, DONE),
        gate=asyncio.Event(),
        open_for=1,
    )
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1, options={"max_workers": 1})
        await until(lambda: world.waiting == 1)
        child = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 0, 0))

        async def has_failed() -> bool | None:
            return True if (await child.query(ChunkWorkflow.progress)).counts.failed == 1 else None

        await until_async(has_failed)
        await handle.execute_update(BatchWorkflow.retry, retry())
        world.gate.set()
        assert (await handle.result()).counts == Counts(total=12, done=12)
        assert [each.ordinal for each in world.inputs] == [4, 0, 1]
        assert [each.kills for each in world.inputs] == [0, 0, 1]


async def test_what_a_worker_of_before_took_for_pending_is_settled_by_the_next_child(client, low_limits, monkeypatch):
    """It must not be sent back for ever: in such a history children run theirs themselves from then on."""
    patched = workflow.patched
    monkeypatch.setattr(workflow, "patched", lambda change: change != children._LEFT_TO_THE_LAST and patched(change))
    world = hanging(15)
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1)
        assert (await handle.result()).counts == Counts(total=15, done=15)
        assert sorted(each.ordinal for each in world.inputs) == [1, 3, 6, 8, 11, 13]
        # Those that the first child left share an activity once more, and run alone in the child that has them then.
        assert world.packs == [(0, 1, 2, 3, 4), (1, 3, 5, 6, 7), (8, 9, 10, 11, 12), (13, 14)]


async def test_packs_that_fail_as_a_whole_are_settled_by_their_own_children(client, low_limits):
    """What was wrong with them is nobody's poison: while something is away, children wait for it as ever."""
    broken = ApplicationError("away", type="catalog_unavailable", non_retryable=True)
    world = World(document_count=12, is_small=lambda _: True, pack_error=broken)
    async with driven(client, world) as driver:
        handle = await driver.start()
        assert (await handle.result()).counts == Counts(total=12, done=12)
        entries = (await handle.query(BatchWorkflow.outcomes, 0)).entries
        assert sum(entry.kind is JournalKind.CHILD_STARTED for entry in entries) == 3
