"""Messages that cross each other, an end or a beginning: what was answered for holds, and nothing is told twice."""

import asyncio
import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError, WorkflowUpdateStage
from temporalio.contrib.pydantic import pydantic_data_converter

from api.engine import BatchEngine
from ingather.domain.ledger import Ledger
from ingather.models.batch import BatchState, Counts
from ingather.models.engine import WORKFLOW_QUEUE
from ingather.models.errors import InvalidStateError
from ingather.models.identity import child_workflow_id_for, workflow_id_for
from ingather.models.messages import (
    AddedRequest,
    BatchInput,
    CarriedState,
    OutcomesPage,
    PriorityRequest,
    RequestPlaceInput,
    SealRequest,
    SteerRequest,
)
from tests.support.batch_driver import BatchDriver, driven, request, retry
from tests.support.fake_activities import DONE, World, failed
from tests.support.sheet_world import SheetWorld
from tests.support.waiting import until, until_async
from workflows.batch import BatchWorkflow
from workflows.children import ChildRun
from workflows.chunk import ChunkWorkflow
from workflows.documents import DocumentRun

HANGS = 30.0
"""Seconds after which what must come is taken to be lost."""


def carried(documents: int, **fields: object) -> CarriedState:
    """What an earlier run handed on."""
    ledger, failures = Ledger(documents).written()
    given = {"state": BatchState.RUNNING, "paused": False, "priority": 3} | fields
    return CarriedState(
        ledger=ledger,
        failures=failures,
        retry_round=0,
        version=7,
        journal_first=5,
        journal=(),
        handled_requests=(),
        created_at=datetime.now(UTC),
        **given,
    )


async def begun(driver, batch: BatchInput, signal: str = "", message: object = None) -> None:
    """Start a run; what is given is delivered with its start."""
    await driver.client.start_workflow(
        BatchWorkflow.run,
        batch,
        id=workflow_id_for(driver.batch_id),
        task_queue=WORKFLOW_QUEUE,
        start_signal=signal or None,
        start_signal_args=[message] if signal else [],
    )


async def test_a_message_in_the_first_moment_of_a_later_run_is_carried_out(client):
    """A resume that the server delivers with a run's start finds the batch paused, not new, and is not undone."""
    async with driven(client, World(document_count=3)) as driver:
        paused = carried(3, state=BatchState.PAUSED, paused=True)
        await begun(driver, BatchInput(spec=driver.spec(), carried=paused), "resume_signal", request())
        async with asyncio.timeout(HANGS):
            summary = await driver.handle.result()

        assert summary.counts == Counts(total=3, done=3)
        assert summary.version > 7


async def test_a_later_run_asks_for_its_place_with_its_new_priority(client):
    """A retry that comes while the report is written gives the place back, and asks anew."""
    world = World(
        document_count=2, report_gate=asyncio.Event(), outcome=lambda _, round_: failed() if round_ == 0 else DONE
    )
    async with driven(client, world) as driver:
        await begun(driver, BatchInput(spec=driver.spec(), carried=carried(2, priority=1)))
        await until(lambda: world.calls["finish_batch"] == 1)
        retrying = await driver.handle.start_update(
            BatchWorkflow.retry, retry(), wait_for_stage=WorkflowUpdateStage.ACCEPTED
        )
        world.report_gate.set()
        await retrying.result()
        await driver.handle.result()

        assert [asked.entry.priority for asked in await requested_places(driver.handle)] == [1]


async def requested_places(handle) -> list[RequestPlaceInput]:
    history = await handle.fetch_history()
    found = []
    for event in history.events:
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.activity_type.name == "request_place":
            found += await pydantic_data_converter.decode(scheduled.input.payloads, [RequestPlaceInput])
    return found


async def test_a_pause_in_the_first_moment_of_a_retry_is_told_once_the_batch_is_known(client):
    """It stands in the journal that goes on from the closed batch's, with the counts of that batch."""
    world = World(document_count=3, outcome=lambda n, round_: failed() if (n, round_) == (1, 0) else DONE)
    async with driven(client, world) as driver:
        first = await (await driver.start()).result()
        world.reopen_gate = asyncio.Event()
        await begun(driver, BatchInput(spec=driver.spec(), reopen=True), "retry_signal", retry())
        await until(lambda: world.calls["reopen_batch"] == 1)
        await driver.handle.signal("pause_signal", request())
        await asyncio.sleep(0.5)
        memo = await (await driver.handle.describe()).memo()
        early = await driver.handle.query(BatchWorkflow.outcomes, 4)
        world.reopen_gate.set()
        page = await until_async(lambda: told_of_its_pause(driver.handle))

        assert "progress" not in memo  # the batch that it is was not known
        assert (early.first, early.next, early.entries) == (4, 4, ())  # whoever reads on does not begin anew
        assert page.first > 0
        assert page.progress.counts == Counts(total=3, pending=1, done=2)
        assert page.progress.version > first.version
        await driver.handle.execute_update(BatchWorkflow.resume, request())
        assert (await driver.handle.result()).counts == Counts(total=3, done=3)


async def told_of_its_pause(handle) -> OutcomesPage | None:
    """The journal, once it has the pause."""
    page = await handle.query(BatchWorkflow.outcomes, 0)
    return page if BatchState.PAUSED in [entry.state for entry in page.entries] else None


async def test_a_cancel_waits_for_children_that_are_being_started(client, low_limits, monkeypatch):
    """The server takes it before it knows them: each ends before the report all the same, and returns what it did."""
    sent, dispatched, dispatch = threading.Event(), threading.Event(), ChildRun._dispatch
    in_time: list[bool] = []

    def slowly(self: ChildRun) -> None:
        dispatch(self)
        if self._running and not dispatched.is_set():
            dispatched.set()
            in_time.append(sent.wait(1.5))

    monkeypatch.setattr(ChildRun, "_dispatch", slowly)
    world = World(document_count=40, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=4)
        await until(dispatched.is_set)
        await handle.cancel()
        sent.set()
        with pytest.raises(WorkflowFailureError):
            await handle.result()

        assert in_time == [True]
        assert world.closed.summary.counts == Counts(total=40, cancelled=40)
        events = [event.event_type for event in (await handle.fetch_history()).events]
        started = events.count(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED)
        ended = events.count(EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED)
        assert started == ended > 0


async def test_a_word_to_a_child_that_is_overtaken_changes_nothing(client, low_limits):
    """The server may deliver the pause after the resume that followed it."""
    world = World(document_count=11, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1, options={"max_workers": 1})
        await until(lambda: world.waiting == 1)
        child = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 0, 0))
        await child.signal(ChunkWorkflow.steer, SteerRequest(paused=False, priority=2, number=2))
        await child.signal(ChunkWorkflow.steer, SteerRequest(paused=True, priority=3, number=1))
        world.gate.set()
        async with asyncio.timeout(HANGS):
            assert (await handle.result()).counts == Counts(total=11, done=11)


async def test_a_signal_that_its_state_does_not_allow_may_be_sent_again(client):
    """A pause of a batch that is held is ignored; the same one, sent when it runs, pauses it."""
    world = World(document_count=4, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(hold=True, options={"max_workers": 1})
        await driver.reaches(BatchState.PENDING)
        pause = request()
        await handle.signal("pause_signal", pause)
        await handle.execute_update(BatchWorkflow.start, request())
        await until(lambda: world.waiting == 1)
        assert (await handle.execute_update(BatchWorkflow.pause, pause)).state is BatchState.PAUSING

        world.gate.set()
        await driver.reaches(BatchState.PAUSED)
        await handle.execute_update(BatchWorkflow.resume, request())
        await handle.result()


async def test_no_seal_is_taken_once_a_cancel_is_under_way(client):
    """The report counts what was there when it was written."""
    world = World(report_gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(open=True, submitted_count=1)
        await driver.reaches(BatchState.PENDING)
        await handle.signal(BatchWorkflow.added, AddedRequest(document_count=2))
        await handle.cancel()
        await until(lambda: world.calls["finish_batch"] == 1)
        seal = SealRequest(request_id="late", document_count=5)
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(BatchWorkflow.seal, seal)
        await handle.signal("seal_signal", seal)
        world.report_gate.set()
        with pytest.raises(WorkflowFailureError):
            await handle.result()

        assert world.closed.summary.counts == Counts(total=2, cancelled=2)
        memo = await (await handle.describe()).memo()
        assert memo["progress"]["counts"]["total"] == 2


@pytest.mark.parametrize("pipeline", ["ingest", "sheets"])
async def test_a_cancel_after_the_last_word_changes_nothing(client, pipeline):
    """The catalog has the end, and what follows is under way: that end is the only one, and the last."""
    world = SheetWorld(audit_gate=asyncio.Event()) if pipeline == "sheets" else World(audit_gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(hold=True, pipeline=pipeline)
        await driver.reaches(BatchState.PENDING)
        await handle.execute_update(BatchWorkflow.start, request())
        await until(lambda: bool(world.reports))  # the batch waits for the record of its start
        await handle.cancel()
        await until_async(lambda: asked_to_stop(handle))
        world.audit_gate.set()
        summary = await handle.result()

        assert summary.state is BatchState.COMPLETED
        assert set(world.reports) == {summary.version}
        if isinstance(world, SheetWorld):
            assert set(world.concluded) == {"completed"}  # told again is told once: the version is the same


async def test_a_cancel_while_the_last_word_is_written_changes_nothing(client):
    """It may be in the catalog and with listeners by then; the batch ends so, and takes no retry any more."""
    world = World(report_gate=asyncio.Event(), outcome=lambda ordinal, _: failed() if ordinal == 1 else DONE)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.calls["finish_batch"] == 1)
        before = await handle.query(BatchWorkflow.progress)
        await handle.cancel()
        await until_async(lambda: asked_to_stop(handle))
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(BatchWorkflow.retry, retry())
        world.report_gate.set()
        summary = await handle.result()

        assert (summary.state, summary.counts) == (BatchState.COMPLETED_WITH_FAILURES, before.counts)
        assert set(world.reports) == {summary.version} == {before.version + 1}


async def asked_to_stop(handle) -> bool | None:
    """Whether the run has seen that it was cancelled."""
    events = [event.event_type for event in (await handle.fetch_history()).events]
    if EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED not in events:
        return None
    after = events[events.index(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED) :]
    return True if EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED in after else None


async def test_a_cancel_begins_no_further_page_of_sheets(client):
    """Pages that end well although they were asked to stop do not go on with the next."""
    world = SheetWorld(code_gate=asyncio.Event(), page_count=40, ignores_cancel=True)
    async with driven(client, world) as driver:
        handle = await driver.start(pipeline="sheets")
        await until(lambda: world.looking == 8)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()

    assert len(world.pages) <= 8


async def test_a_retry_is_refused_where_no_worker_has_heard_of_a_cancel_yet(client):
    """As a signal it would be ignored, or be undone by the cancel, and be answered for all the same."""
    driver = BatchDriver(client, World())
    handle = await driver.start()
    engine = BatchEngine(client, update_timeout=timedelta(seconds=0.3))
    try:
        await engine.cancel(driver.batch_id, request())
        for message in (
            engine.send(driver.batch_id, "retry", retry()),
            engine.reopen(driver.spec(), datetime.now(UTC), retry()),
        ):
            with pytest.raises(InvalidStateError, match="being cancelled"):
                await message
        events = [event.event_type for event in (await handle.fetch_history()).events]
        assert EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED not in events
    finally:
        await driver.clean_up()


@pytest.mark.parametrize(("documents", "at_work"), [(8, 8), (12, 5)])
async def test_documents_whose_end_comes_with_the_cancel_have_ended(
    client, low_limits, monkeypatch, documents, at_work
):
    """A batch that was busy hears of both in one task, itself or in a child; they are done, and found."""
    is_held, held, heard = threading.Event(), threading.Event(), threading.Event()
    dispatch, in_time = DocumentRun._dispatch, []

    def slowly(self: DocumentRun) -> None:
        dispatch(self)
        if is_held.is_set() and not held.is_set():
            held.set()
            in_time.append(heard.wait(1.8))

    monkeypatch.setattr(DocumentRun, "_dispatch", slowly)
    world = World(document_count=documents, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(children_at_once=1)
        await until(lambda: world.waiting == at_work)
        is_held.set()
        urgent = PriorityRequest(request_id="urgent", priority=1)
        steering = asyncio.create_task(handle.execute_update(BatchWorkflow.set_priority, urgent))
        await until(held.is_set)
        world.gate.set()
        await until(lambda: world.in_flight == 0)
        await asyncio.sleep(0.2)  # their answers are with the server
        await cancelled_everywhere(driver, documents)
        heard.set()
        await steering
        with contextlib.suppress(WorkflowFailureError):
            await handle.result()

        assert in_time == [True]
        assert world.closed.summary.counts == Counts(total=documents, done=at_work, cancelled=documents - at_work)
        assert sum(map(len, world.indexed)) == at_work


async def cancelled_everywhere(driver, documents: int) -> None:
    """Cancel a batch; its child too, which would hear of it when its own task is over."""
    await driver.handle.cancel()
    if documents > 10:
        await driver.client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 0, 0)).cancel()
