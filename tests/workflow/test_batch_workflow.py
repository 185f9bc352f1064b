"""A batch from start to end: what it promises its users, on the real server."""

import asyncio
import uuid
from itertools import chain, pairwise

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError, CancelledError

from ingather.models.batch import BatchState, Counts
from ingather.models.document import DocumentStatus
from ingather.models.messages import AddedRequest, IngestDocumentOutput, JournalKind, PriorityRequest
from tests.support.batch_driver import driven, request, retry
from tests.support.fake_activities import DONE, World, failed
from tests.support.waiting import until, until_async
from workflows.batch import BatchWorkflow
from workflows.visibility import SHORTEST_INTERVAL


async def test_every_document_runs_once_and_is_indexed(client):
    """Each document is ingested once and handed to the index; the batch completes with exact counts."""
    world = World(document_count=130)
    async with driven(client, world, sandbox=True) as driver:
        summary = await (await driver.start()).result()

        assert summary.state is BatchState.COMPLETED
        assert summary.counts == Counts(total=130, done=130)
        assert sorted(world.started) == list(range(130))
        assert sorted(chain.from_iterable(world.indexed)) == list(range(130))


async def test_a_failed_document_costs_only_itself(client):
    """A document that cannot be ingested is counted with its code; the others are done."""
    outcomes = {1: failed("encrypted"), 2: IngestDocumentOutput(status=DocumentStatus.SKIPPED)}
    world = World(document_count=4, outcome=lambda ordinal, _: outcomes.get(ordinal, DONE))
    async with driven(client, world) as driver:
        summary = await (await driver.start()).result()

        assert summary.state is BatchState.COMPLETED_WITH_FAILURES
        assert summary.counts == Counts(total=4, done=2, failed=1, skipped=1)
        assert summary.failures_by_code == {"encrypted": 1}
        assert world.indexed == [[0, 3]]


async def test_a_batch_whose_documents_all_failed_is_failed(client):
    """When nothing succeeded the batch says ``failed``, and the workflow itself still completes."""
    world = World(document_count=2, outcome=lambda *_: failed())
    async with driven(client, world) as driver:
        assert (await (await driver.start()).result()).state is BatchState.FAILED


async def test_a_manifest_that_cannot_be_made_fails_the_batch_with_its_reason(client):
    """The refusal of the manifest is the batch's problem, with code and advice, and is reported."""
    refusal = ApplicationError("1,001 documents.", {"action": "Split it."}, type="batch_too_large", non_retryable=True)
    world = World(document_count=5, manifest_error=refusal)
    async with driven(client, world) as driver:
        summary = await (await driver.start()).result()

        assert summary.state is BatchState.FAILED
        assert summary.problem is not None
        assert (summary.problem.code, summary.problem.action) == ("batch_too_large", "Split it.")
        assert summary.counts == Counts(total=5, failed=5)


async def test_a_held_batch_waits_for_start(client):
    """A batch submitted with ``hold`` is pending, with its documents counted, until somebody starts it."""
    world = World()
    async with driven(client, world) as driver:
        handle = await driver.start(hold=True)
        await until(lambda: world.calls["build_manifest"] == 1)

        progress = await handle.query(BatchWorkflow.progress)
        assert (progress.state, progress.counts.pending, world.started) == (BatchState.PENDING, 3, [])

        await handle.execute_update(BatchWorkflow.start, request())
        assert (await handle.result()).counts.done == 3


async def test_pause_lets_documents_in_flight_finish_and_resume_goes_on(client):
    """Pause stops dispatch at once; what runs finishes; resume runs the rest."""
    world = World(document_count=60, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.in_flight == 48)

        answer = await handle.execute_update(BatchWorkflow.pause, request())
        assert answer.state is BatchState.PAUSING

        world.gate.set()
        await until(lambda: world.in_flight == 0)
        progress = await driver.reaches(BatchState.PAUSED)
        assert progress.counts == Counts(total=60, done=48, pending=12)

        await handle.execute_update(BatchWorkflow.resume, request())
        assert (await handle.result()).counts == Counts(total=60, done=60)


async def test_no_more_than_max_workers_are_in_flight(client):
    """``max_workers`` bounds the window."""
    world = World(document_count=20, seconds=0.02)
    async with driven(client, world) as driver:
        await (await driver.start(options={"max_workers": 4})).result()

        assert world.most_in_flight <= 4


async def test_large_documents_begin_before_their_turn(client):
    """One that takes as long as all others is not left to go on alone when they have ended."""
    world = World(document_count=60, is_large=lambda ordinal: ordinal >= 58)
    async with driven(client, world) as driver:
        await (await driver.start(options={"max_workers": 4})).result()

        assert set(world.started[:4]) == {58, 59, 0, 1}
        assert sorted(world.started) == list(range(60))


async def test_without_parallel_processing_documents_run_one_after_the_other(client):
    """``parallel_processing: false`` keeps their order, whatever ``max_workers`` and ``pack_small`` say."""
    world = World(document_count=12, is_small=lambda _: True, is_large=lambda ordinal: ordinal == 11)
    async with driven(client, world) as driver:
        options = {"parallel_processing": False, "max_workers": 8, "pack_small": True}
        await (await driver.start(options=options)).result()

        assert world.most_in_flight == 1
        assert [each.ordinal for each in world.inputs] == list(range(12))


async def test_cancel_keeps_what_is_finished_and_counts_the_rest(client):
    """Finished documents stay done and are indexed, the others are cancelled, the report is written."""
    world = World(document_count=100, gate=asyncio.Event(), open_for=10)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.open_for == 0 and world.in_flight == 48)

        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as caught:
            await handle.result()

        assert isinstance(caught.value.cause, CancelledError)
        assert world.closed is not None
        summary = world.closed.summary
        assert summary.state is BatchState.CANCELLED
        assert summary.counts == Counts(total=100, done=10, cancelled=90)
        # A write that the cancel interrupted is made again.
        assert len(set(chain.from_iterable(world.indexed))) == 10


async def test_a_held_batch_can_be_cancelled(client):
    """Cancelling before the start runs no document."""
    world = World()
    async with driven(client, world) as driver:
        handle = await driver.start(hold=True)
        await until(lambda: world.calls["build_manifest"] == 1)

        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()

        assert world.started == []
        assert world.closed is not None
        assert world.closed.summary.counts == Counts(total=3, cancelled=3)


async def test_retry_while_running_runs_only_the_failed_ones_that_match(client):
    """Retry by code sets exactly the matching failures back and leaves the others failed."""
    codes = {0: "encrypted", 1: "source_unavailable", 2: "source_unavailable"}
    world = World(
        document_count=5,
        outcome=lambda ordinal, round_: failed(codes[ordinal]) if ordinal in codes and round_ == 0 else DONE,
        gate=asyncio.Event(),
        open_for=4,
    )
    async with driven(client, world) as driver:
        handle = await driver.start(options={"max_workers": 1})
        await until(lambda: world.in_flight == 1 and world.open_for == 0)

        answer = await handle.execute_update(BatchWorkflow.retry, retry(codes=("source_unavailable",)))
        world.gate.set()
        summary = await handle.result()

        assert answer.affected == 2
        assert world.resets == [[1, 2]]
        assert summary.counts == Counts(total=5, done=4, failed=1)
        assert summary.failures_by_code == {"encrypted": 1}


async def test_a_closed_batch_is_opened_again_by_retry(client):
    """Retry of an ended batch runs its failed documents again under the same workflow id."""
    world = World(document_count=4, outcome=lambda ordinal, round_: failed() if ordinal == 2 and not round_ else DONE)
    async with driven(client, world) as driver:
        first = await (await driver.start()).result()
        assert first.state is BatchState.COMPLETED_WITH_FAILURES

        answer = await driver.reopen(retry(ordinals=(2, 3)))
        second = await driver.handle.result()

        assert answer.affected == 1
        assert world.started.count(2) == 2
        assert second.state is BatchState.COMPLETED
        assert second.counts == Counts(total=4, done=4)
        assert second.version > first.version


async def test_cancelled_documents_are_retried_only_when_asked_for(client):
    """``include_cancelled`` finishes a batch that was cancelled half-way."""
    world = World(document_count=6, gate=asyncio.Event(), open_for=2)
    async with driven(client, world) as driver:
        handle = await driver.start(options={"max_workers": 2})
        await until(lambda: world.open_for == 0 and world.in_flight == 2)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()
        world.gate.set()

        assert (await driver.reopen(retry())).affected == 0
        assert (await driver.handle.result()).state is BatchState.CANCELLED
        assert (await driver.reopen(retry(include_cancelled=True))).affected == 4
        summary = await driver.handle.result()
        assert summary.counts == Counts(total=6, done=6)


async def test_a_retry_of_everything_runs_what_is_done_too(client):
    """``include_done`` runs every document of an ended batch again; while one is under way it is refused."""
    world = World(document_count=4, outcome=lambda ordinal, round_: failed() if ordinal == 2 and not round_ else DONE)
    async with driven(client, world) as driver:
        await (await driver.start()).result()
        world.gate = asyncio.Event()

        answer = await driver.reopen(retry(include_done=True))
        await until(lambda: world.in_flight == 4)
        with pytest.raises(WorkflowUpdateFailedError):
            await driver.handle.execute_update(BatchWorkflow.retry, retry(include_done=True))
        world.gate.set()

        assert answer.affected == 4
        assert (await driver.handle.result()).counts == Counts(total=4, done=4)
        assert [world.started.count(ordinal) for ordinal in range(4)] == [2, 2, 2, 2]


async def test_a_repeated_request_id_changes_nothing(client):
    """An update that is sent again after a lost answer takes effect once."""
    world = World(document_count=3, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.in_flight == 3)
        pause = request()

        await handle.execute_update(BatchWorkflow.pause, pause)
        await handle.execute_update(BatchWorkflow.resume, request())
        answer = await handle.execute_update(BatchWorkflow.pause, pause)
        world.report_gate = asyncio.Event()
        world.gate.set()
        await driver.reaches(BatchState.FINALIZING)
        late = await handle.execute_update(BatchWorkflow.pause, pause)
        world.report_gate.set()

        assert (answer.state, late.state) == (BatchState.RUNNING, BatchState.FINALIZING)
        assert (await handle.result()).counts.done == 3


async def test_a_retry_repeated_after_the_batch_ended_again_runs_nothing(client):
    """The batch remembers what it took over its end, however often it is opened."""
    world = World(outcome=lambda ordinal, _: DONE if ordinal else failed())
    async with driven(client, world) as driver:
        await (await driver.start()).result()
        again = retry()
        assert (await driver.reopen(again)).affected == 1
        await driver.handle.result()
        assert again.request_id in world.closed.handled_requests

        assert (await driver.reopen(again)).affected == 0
        assert (await driver.handle.result()).counts.failed == 1
        assert world.started.count(0) == 2


async def test_signals_do_what_updates_do(client):
    """The fallback for an update without an answer: the same request as a signal."""
    world = World(document_count=3)
    async with driven(client, world) as driver:
        handle = await driver.start(hold=True)
        await handle.signal(BatchWorkflow.start_signal, request())

        assert (await handle.result()).counts.done == 3


async def test_an_action_its_state_does_not_allow_is_refused_with_that_state(client):
    """A refused update names the state and leaves no trace in history."""
    world = World()
    async with driven(client, world) as driver:
        handle = await driver.start(hold=True)
        await until(lambda: world.calls["build_manifest"] == 1)

        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await handle.execute_update(BatchWorkflow.pause, request())

        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.type == "invalid_state"
        assert caught.value.cause.details[0]["current_status"] == "pending"
        await handle.execute_update(BatchWorkflow.start, request())
        await handle.result()


async def test_priority_changes_for_the_documents_still_to_start(client):
    """A running batch can be made more urgent."""
    world = World(document_count=4, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(options={"max_workers": 1})
        await until(lambda: world.in_flight == 1)

        answer = await handle.execute_update(
            BatchWorkflow.set_priority, PriorityRequest(request_id=uuid.uuid4().hex, priority=1)
        )
        world.gate.set()
        await handle.result()

        assert answer.progress.priority == 1
        priorities = [
            event.activity_task_scheduled_event_attributes.priority.priority_key
            async for event in handle.fetch_history_events()
            if event.HasField("activity_task_scheduled_event_attributes")
            and event.activity_task_scheduled_event_attributes.activity_type.name == "ingest_document"
        ]
        assert priorities == [3, 1, 1, 1]


async def test_the_journal_tells_every_start_and_end_in_order(client):
    """``outcomes`` answers what happened from a position on, with the progress it leads to."""
    world = World(document_count=5, gate=asyncio.Event(), open_for=3)
    async with driven(client, world) as driver:
        handle = await driver.start(options={"max_workers": 1})
        await until(lambda: world.open_for == 0 and world.in_flight == 1)

        page = await handle.query(BatchWorkflow.outcomes, 0)
        rest = await handle.query(BatchWorkflow.outcomes, page.next - 1)

        kinds = [(entry.kind, entry.ordinal) for entry in page.entries if entry.kind is not JournalKind.STATE]
        assert kinds == [
            *((kind, ordinal) for ordinal in range(3) for kind in (JournalKind.STARTED, JournalKind.ENDED)),
            (JournalKind.STARTED, 3),
        ]
        assert rest.entries == page.entries[-1:]
        assert page.progress.counts == Counts(total=5, done=3, in_flight=1, pending=1)
        world.gate.set()
        await handle.result()


async def test_the_memo_shows_progress_without_a_worker(client):
    """``describe()`` answers state and counts from the memo and the search attributes."""
    world = World(document_count=3, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.in_flight == 3)

        description = await handle.describe()

        memo = await description.memo()
        assert memo["progress"]["state"] == "running"
        assert memo["progress"]["counts"]["total"] == 3
        world.gate.set()
        await handle.result()


async def test_no_document_name_or_text_is_in_results_and_inputs(client):
    """History holds identities and counts; names appear once, in the manifest page's answer, and as summaries."""
    world = World(document_count=2)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await handle.result()

        async for event in handle.fetch_history_events():
            if event.HasField("activity_task_scheduled_event_attributes"):
                attributes = event.activity_task_scheduled_event_attributes
                assert b"document-" not in b"".join(payload.data for payload in attributes.input.payloads)


async def test_a_long_history_continues_as_new_without_losing_count(short_history_client):
    """When the server asks for it the batch goes on in a new run: nothing runs twice, the journal stays whole."""
    world = World(document_count=40, outcome=lambda ordinal, _: failed("encrypted") if ordinal < 3 else DONE)
    async with driven(short_history_client, world) as driver:
        handle = await driver.start(options={"max_workers": 4})
        summary = await handle.result()

        runs = [run async for run in short_history_client.list_workflows(f"WorkflowId = '{handle.id}'")]
        assert len(runs) > 1
        assert summary.counts == Counts(total=40, done=37, failed=3)
        assert summary.failures_by_code == {"encrypted": 3}
        assert sorted(world.started) == list(range(40))
        assert sorted(chain.from_iterable(world.indexed)) == list(range(3, 40))
        assert world.closed is not None
        assert world.closed.journal_length >= 2 * 40


async def test_a_pause_survives_continue_as_new(short_history_client):
    """A paused batch whose history grew long goes on in a new run, still paused, with its memo."""
    world = World(document_count=30, gate=asyncio.Event(), open_for=13)
    async with driven(short_history_client, world) as driver:
        handle = await driver.start(options={"max_workers": 1})
        await until(lambda: world.waiting == 1)
        await handle.execute_update(BatchWorkflow.pause, request())
        world.gate.set()
        progress = await driver.reaches(BatchState.PAUSED)

        description = await until_async(lambda: continued(handle))
        assert progress.counts.pending > 0
        assert (await description.memo())["progress"]["state"] == "paused"
        assert (await driver.reaches(BatchState.PAUSED)).counts == progress.counts
        await handle.execute_update(BatchWorkflow.resume, request())
        assert (await handle.result()).counts == Counts(total=30, done=30)


async def continued(handle):
    """The description of a later run, once there is one."""
    first = await handle.fetch_history()
    description = await handle.describe()
    started = first.events[0].workflow_execution_started_event_attributes
    return description if started.continued_execution_run_id else None


async def test_an_open_batch_that_grows_quickly_is_shown_once_a_second(client):
    """A signal costs its history no memo of its own, and what came last is shown too."""
    async with driven(client, World()) as driver:
        handle = await driver.start(open=True, submitted_count=1)
        await driver.reaches(BatchState.PENDING)
        for document_count in range(2, 32):
            await handle.signal(BatchWorkflow.added, AddedRequest(document_count=document_count))

        async def shows_all():
            memo = await (await handle.describe()).memo()
            return True if memo["progress"]["counts"]["total"] == 31 else None

        await until_async(shows_all)
        shown, now = [], None
        for event in (await handle.fetch_history()).events:
            if event.HasField("workflow_task_started_event_attributes"):
                now = event.event_time.ToDatetime()
            elif event.HasField("workflow_properties_modified_event_attributes"):
                shown.append(now)
        assert len(shown) > 1
        assert all(later - earlier >= SHORTEST_INTERVAL for earlier, later in pairwise(shown))
