"""A batch of sheets: its stages around the documents, whatever happens to it."""

import asyncio

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from ingather.models.batch import BatchState
from tests.support.batch_driver import driven, retry
from tests.support.fake_activities import DONE, failed
from tests.support.sheet_world import SheetWorld
from tests.support.waiting import until

AFTER = ["collect_sheets", "write_sheet_csv", "load_sheets", "clean_up_sheets"]


async def test_the_stages_come_in_their_order(client):
    """Extract, look, organize; then the sheets; then collect, write, load, clean up; then the end is told, once."""
    async with driven(client, SheetWorld(page_count=11)) as driver:
        summary = await (await driver.start(pipeline="sheets")).result()

    world = driver.world
    assert sorted(world.pages) == list(range(11))
    assert world.calls["organize_sheets"] == 1
    assert sorted(world.started) == [0, 1, 2]
    assert world.steps == AFTER
    assert (world.ended, world.concluded) == (["finish_batch"], ["completed"])
    assert summary.state is BatchState.COMPLETED


async def test_sheets_of_a_task_are_not_looked_at_twice(client):
    """Where no code says what belongs together, the manifest is made at once."""
    async with driven(client, SheetWorld(reads_codes=False)) as driver:
        await (await driver.start(pipeline="sheets")).result()

    assert driver.world.pages == []
    assert driver.world.calls["organize_sheets"] == 1


async def test_only_sheets_with_text_go_to_the_index(client):
    """The others would only cost it time."""
    world = SheetWorld(outcome=lambda ordinal, _round: DONE.model_copy(update={"chunk_count": int(ordinal == 1)}))
    async with driven(client, world) as driver:
        await (await driver.start(pipeline="sheets")).result()

    assert world.indexed == [[1]]


async def test_a_retry_after_the_end_makes_the_results_again(client):
    """The failed sheet runs again, and the stages after the sheets with it; extraction does not."""
    world = SheetWorld(outcome=lambda ordinal, round_: failed() if (ordinal, round_) == (1, 0) else DONE)
    async with driven(client, world) as driver:
        first = await (await driver.start(pipeline="sheets")).result()
        await driver.reopen(retry(), pipeline="sheets")
        last = await driver.handle.result()

    assert first.state is BatchState.COMPLETED_WITH_FAILURES
    assert (last.state, last.retry_round) == (BatchState.COMPLETED, 1)
    assert world.calls["extract_sheets"] == 1
    assert world.steps == AFTER * 2
    assert world.concluded == ["completed_with_failures", "completed"]


async def test_a_cancel_while_codes_are_looked_for_stops_them(client):
    """Nothing is looked at any more, nothing runs, and the end is told."""
    async with driven(client, SheetWorld(code_gate=asyncio.Event(), page_count=20)) as driver:
        handle = await driver.start(pipeline="sheets")
        await until(lambda: driver.world.looking == 8)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError):
            await handle.result()

    assert (driver.world.looking, driver.world.pages, driver.world.started) == (0, [], [])
    assert driver.world.concluded == ["cancelled"]


async def test_an_upload_that_is_refused_fails_the_batch(client):
    """There are no results to collect; the end says why."""
    error = ApplicationError("Every file is encrypted.", type="archive_encrypted", non_retryable=True)
    async with driven(client, SheetWorld(manifest_error=error)) as driver:
        summary = await (await driver.start(pipeline="sheets")).result()

    assert (summary.state, summary.problem.code) == (BatchState.FAILED, "archive_encrypted")
    assert (driver.world.steps, driver.world.concluded) == ([], ["failed"])
