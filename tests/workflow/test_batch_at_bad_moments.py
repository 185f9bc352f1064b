"""A batch that is steered at the worst moments: while it opens, while it closes, while parts of it are gone."""

import asyncio
import contextlib
from datetime import timedelta

import pytest
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from ingather.models.batch import BatchState, Counts
from ingather.models.document import DocumentStatus
from ingather.models.messages import IngestDocumentOutput, PriorityRequest
from tests.support.batch_driver import BatchDriver, driven, retry
from tests.support.fake_activities import DONE, World, failed
from tests.support.waiting import until, until_async
from workflows.batch import BatchWorkflow
from workflows.options import LAST_INDEX

SOME_TIME = 60
"""Seconds: what takes longer hangs, also on a busy machine."""


async def cancelled(driver: BatchDriver) -> Counts:
    """Wait until the batch closed as cancelled; answers the counts it closed with."""
    with pytest.raises(WorkflowFailureError):
        await asyncio.wait_for(driver.handle.result(), SOME_TIME)
    assert driver.world.closed is not None
    assert driver.world.closed.summary.state is BatchState.CANCELLED
    return driver.world.closed.summary.counts


async def test_cancel_while_the_manifest_is_made_ends_the_batch_although_a_retry_waits(client):
    """A retry that came too early is refused by the cancel; it does not keep the batch open for ever."""
    world = World(manifest_gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.calls["build_manifest"] == 1)
        waiting = asyncio.create_task(handle.execute_update(BatchWorkflow.retry, retry()))
        await asyncio.sleep(0.3)

        await handle.cancel()

        assert await cancelled(driver) == Counts(total=3, cancelled=3)
        with pytest.raises(WorkflowUpdateFailedError) as caught:
            await waiting
        assert isinstance(caught.value.cause, ApplicationError)
        assert caught.value.cause.details[0]["current_status"] == "cancelling"


async def test_a_cancel_holds_when_the_manifest_is_finished_all_the_same(client):
    """The manifest that was made between the request and its arrival does not swallow the cancel."""
    world = World(manifest_gate=asyncio.Event(), ignores_cancel=True)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.calls["build_manifest"] == 1)

        await handle.cancel()

        assert await cancelled(driver) == Counts(total=3, cancelled=3)
        assert world.started == []


async def test_a_batch_cancelled_before_its_manifest_was_known_can_be_run_again_in_full(client):
    """What was submitted may have become any number of documents: the retry makes the manifest and runs them all."""
    world = World(document_count=5, manifest_gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(submitted_count=1)
        await until(lambda: world.calls["build_manifest"] == 1)
        await handle.cancel()
        assert await cancelled(driver) == Counts(total=1, cancelled=1)
        world.manifest_gate.set()

        answer = await driver.reopen(retry(include_cancelled=True), submitted_count=1)
        assert answer.affected == 5
        assert (await driver.handle.result()).counts == Counts(total=5, done=5)


async def test_a_batch_without_a_manifest_can_be_cancelled_again_while_it_is_opened(client):
    """It ends as it had ended; nothing is made that nobody wants any more."""
    world = World(document_count=5, manifest_gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(submitted_count=1)
        await until(lambda: world.calls["build_manifest"] == 1)
        await handle.cancel()
        await cancelled(driver)
        world.reopen_gate = asyncio.Event()
        waiting = asyncio.create_task(driver.reopen(retry(include_cancelled=True), submitted_count=1))
        await until(lambda: world.calls["reopen_batch"] == 1)

        await driver.handle.cancel()
        await asyncio.sleep(0.3)
        world.reopen_gate.set()

        assert await cancelled(driver) == Counts(total=1, cancelled=1)
        assert world.calls["build_manifest"] == 1
        with pytest.raises(WorkflowUpdateFailedError):
            await waiting


async def test_cancel_while_a_closed_batch_is_opened_keeps_how_it_had_ended(client):
    """Documents that were done stay done, whenever the cancel comes."""
    world = World(outcome=lambda ordinal, _: failed() if ordinal == 1 else DONE)
    async with driven(client, world) as driver:
        await (await driver.start()).result()
        world.reopen_gate = asyncio.Event()
        waiting = asyncio.create_task(driver.reopen(retry()))
        await until(lambda: world.calls["reopen_batch"] == 1)

        await driver.handle.cancel()
        await asyncio.sleep(0.3)
        world.reopen_gate.set()
        summary = await asyncio.wait_for(driver.handle.result(), SOME_TIME)

        assert summary.state is BatchState.COMPLETED_WITH_FAILURES
        assert summary.counts == Counts(total=3, done=2, failed=1)
        with pytest.raises(WorkflowUpdateFailedError):
            await waiting


async def test_cancel_while_names_are_read_again_counts_nothing_twice(client):
    """A batch opened again and cancelled before its documents are known keeps its ledger."""
    world = World(outcome=lambda ordinal, _: failed() if ordinal == 1 else DONE)
    async with driven(client, world) as driver:
        await (await driver.start()).result()
        world.page_gate = asyncio.Event()
        waiting = asyncio.create_task(driver.reopen(retry()))
        await until(lambda: world.calls["read_manifest"] == 2)

        await driver.handle.cancel()
        summary = await asyncio.wait_for(driver.handle.result(), SOME_TIME)

        assert summary.counts == Counts(total=3, done=2, failed=1)
        world.page_gate.set()
        with pytest.raises(WorkflowUpdateFailedError):
            await waiting


async def test_a_retry_while_the_report_is_written_takes_effect_after_it(client):
    """The report's last word reaches the catalog before the reset does, so that the reset is what remains."""
    world = World(outcome=lambda ordinal, round_: DONE if round_ or ordinal else failed(), report_gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.calls["finish_batch"] == 1)

        waiting = asyncio.create_task(handle.execute_update(BatchWorkflow.retry, retry()))
        await asyncio.sleep(0.3)
        world.report_gate.set()

        answer = await waiting
        # Its place was given back beside the report, so it asks for one again.
        assert (answer.affected, answer.state) == (1, BatchState.QUEUED)
        assert (await handle.result()).counts == Counts(total=3, done=3)
        assert world.ended == ["finish_batch", "reset_documents", "finish_batch"]


@pytest.mark.parametrize("ignores_cancel", [True, False])
async def test_a_cancel_while_the_report_is_written_lets_no_retry_run(client, ignores_cancel):
    """Whether the report stops or is finished all the same, the retry that waited for it starts nothing."""
    world = World(
        outcome=lambda ordinal, _: DONE if ordinal else failed(),
        report_gate=asyncio.Event(),
        ignores_cancel=ignores_cancel,
    )
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.calls["finish_batch"] == 1)
        waiting = asyncio.create_task(handle.execute_update(BatchWorkflow.retry, retry()))
        await asyncio.sleep(0.3)

        await handle.cancel()
        await asyncio.sleep(0.5)
        world.report_gate.set()
        await asyncio.wait([waiting, asyncio.create_task(_ended(driver))], timeout=SOME_TIME)

        waiting.exception()  # refused, or answered before the cancel took effect
        assert world.closed is not None
        assert world.started.count(0) == 1
        assert world.closed.summary.counts.done == 2


async def _ended(driver: BatchDriver) -> None:
    with contextlib.suppress(WorkflowFailureError):
        await driver.handle.result()


async def test_a_document_whose_worker_died_is_cancelled_with_its_batch(client):
    """While a batch is being cancelled, whatever ends without an outcome was stopped; it did not fail."""
    lost = ApplicationError("Object storage is away.", type="storage_unavailable")
    world = World(gate=asyncio.Event(), when_stopped=lost)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting == 3)

        await handle.cancel()

        assert await cancelled(driver) == Counts(total=3, cancelled=3)


async def test_cancelled_documents_are_chosen_by_ordinal_too(client):
    """Where ordinals are named, no other cancelled document runs again."""
    world = World(document_count=4, gate=asyncio.Event(), open_for=1)
    async with driven(client, world) as driver:
        handle = await driver.start(options={"max_workers": 1})
        await until(lambda: world.waiting == 1)
        await handle.cancel()
        assert await cancelled(driver) == Counts(total=4, done=1, cancelled=3)
        world.gate.set()

        answer = await driver.reopen(retry(ordinals=(0, 2), include_cancelled=True))

        assert answer.affected == 1
        assert (await driver.handle.result()).counts == Counts(total=4, done=2, cancelled=2)


async def test_a_missing_or_damaged_artifact_costs_only_its_own_document(client):
    """A document that cannot be made searchable fails; its neighbours in the micro-batch do not."""
    world = World(document_count=5, missing=frozenset({2}), unreadable=frozenset({3}))
    async with driven(client, world) as driver:
        summary = await (await driver.start()).result()

        assert summary.counts == Counts(total=5, done=3, failed=2)
        assert summary.failures_by_code == {"blob_not_found": 1, "artifact_unreadable": 1}


async def test_an_unknown_pipeline_fails_the_batch_with_a_reason(client):
    """A batch nobody knows how to run ends at once instead of failing its workflow task for ever."""
    world = World()
    async with driven(client, world) as driver:
        handle = await driver.start(pipeline="no-such-pipeline")
        summary = await asyncio.wait_for(handle.result(), SOME_TIME)

        assert summary.state is BatchState.FAILED
        assert summary.problem is not None
        assert "no-such-pipeline" in summary.problem.message
        assert world.calls["build_manifest"] == 0


async def test_a_closed_workflow_says_in_which_state_it_ended(client):
    """Memo and search attributes hold the final state and counts, so that lists need no report."""
    skipped = IngestDocumentOutput(status=DocumentStatus.SKIPPED)
    world = World(outcome=lambda ordinal, _: failed() if ordinal == 1 else skipped)
    async with driven(client, world) as driver:
        handle = await driver.start()
        summary = await handle.result()

        description = await handle.describe()
        memo = await description.memo()
        attributes = {pair.key.name: pair.value for pair in description.typed_search_attributes}
        assert memo["progress"]["state"] == attributes["BatchState"] == "completed_with_failures"
        assert memo["progress"]["version"] == summary.version
        assert attributes["DocumentsFailed"] == 1


async def test_failures_show_in_lists_while_the_batch_runs(client):
    """Whoever sorts batches by failures in the Temporal UI need not wait for their ends."""
    world = World(document_count=40, seconds=0.3, outcome=lambda ordinal, _: DONE if ordinal else failed())
    async with driven(client, world) as driver:
        handle = await driver.start(options={"max_workers": 2})

        async def shown():
            description = await handle.describe()
            attributes = {pair.key.name: pair.value for pair in description.typed_search_attributes}
            failures = attributes.get("DocumentsFailed")
            return attributes["BatchState"] if failures else None

        assert await until_async(shown) == "running"


async def test_a_message_while_the_report_is_written_does_not_hide_the_end(client):
    """What is shown last is the state the batch ended in, although the message made a version of its own."""
    world = World(report_gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.calls["finish_batch"] == 1)
        await asyncio.sleep(1.2)  # the next memo is due a second after the last

        message = PriorityRequest(request_id="urgent", priority=1)
        await handle.execute_update(BatchWorkflow.set_priority, message)
        world.report_gate.set()
        await handle.result()

        assert (await (await handle.describe()).memo())["progress"]["state"] == "completed"


async def test_a_cancelled_workflow_says_so_too(client):
    """The state a batch was cancelled into is found like any other."""
    world = World(gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting == 3)
        await handle.cancel()
        await cancelled(driver)

        assert (await (await handle.describe()).memo())["progress"]["state"] == "cancelled"


@pytest.mark.parametrize("error", [None, ApplicationError("away", type="index_unavailable")], ids=["stops", "fails"])
async def test_a_cancel_lets_no_two_index_writes_run_side_by_side(client, error):
    """The write that was told to stop has ended before the last one begins, which finds what that one left undone."""
    world = World(document_count=110, index_gate=asyncio.Event(), index_error=error, gate=asyncio.Event(), open_for=100)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.indexing == 1)

        await handle.cancel()

        assert await cancelled(driver) == Counts(total=110, done=100, cancelled=10)
        assert world.most_indexing == 1
        assert [len(ordinals) for ordinals in world.indexed] == [100]


async def test_a_cancel_does_not_wait_half_an_hour_for_an_index_that_is_away(client, monkeypatch):
    """What was finished and cannot be made searchable fails by a code that a retry can name."""
    monkeypatch.setitem(LAST_INDEX, "schedule_to_close_timeout", timedelta(seconds=1))
    world = World(document_count=110, index_is_away=True, gate=asyncio.Event(), open_for=100)
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.open_for == 0 and world.waiting == 10)

        await handle.cancel()
        await until(lambda: world.closed is not None)

        assert world.closed is not None
        assert world.closed.summary.counts == Counts(total=110, failed=100, cancelled=10)
        assert world.closed.summary.failures_by_code == {"index_unavailable": 100}
