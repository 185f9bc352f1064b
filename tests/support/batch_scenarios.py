"""Every path through a batch as a short, deterministic story: one document at a time, gates instead of clocks.

The recorder writes their histories, and the fingerprint test plays them again on today's code.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from temporalio.client import WorkflowFailureError, WorkflowUpdateStage
from temporalio.exceptions import ApplicationError

from ingather.models.batch import BatchProgress, BatchState
from ingather.models.identity import child_workflow_id_for
from ingather.models.messages import (
    PACK_KILLED,
    AddedRequest,
    IngestDocumentOutput,
    ListenerAdded,
    PlaceLimits,
    PriorityRequest,
    SealRequest,
)
from tests.support.batch_driver import PLACES, BatchDriver, request, retry
from tests.support.fake_activities import DONE, World, failed
from tests.support.sheet_world import SheetWorld
from tests.support.slow_accounts import hears_cancel
from tests.support.waiting import until, until_async
from workflows.batch import BatchWorkflow
from workflows.chunk import ChunkWorkflow

ONE_AT_A_TIME = {"max_workers": 1}


@dataclass(frozen=True)
class Scenario:
    """A world, what is done to a batch in it, and whether the server wants short histories."""

    play: Callable[[BatchDriver], Awaitable[None]]
    world: Callable[[], World] = field(default=World)
    short_history: bool = False
    children: Sequence[int] = ()
    """Children of its first round whose histories belong to it."""
    limits: PlaceLimits = PLACES
    """What its tenant may have running."""
    asks_slowly: bool = False
    """Its place is not answered before the story says so."""


async def run(driver: BatchDriver) -> None:
    await (await driver.start(options=ONE_AT_A_TIME)).result()


async def held(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME, hold=True)
    await driver.reaches(BatchState.PENDING)
    await until(lambda: driver.world.calls["read_manifest"] == 1)
    await handle.execute_update(BatchWorkflow.start, request())
    await handle.result()


async def pause_resume(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.pause, request())
    driver.world.gate.set()
    await driver.reaches(BatchState.PAUSED)
    await handle.execute_update(BatchWorkflow.resume, request())
    await handle.result()


async def heard(driver: BatchDriver) -> None:
    """Paused, resumed, ended, and opened again, while webhooks listen."""
    handle = await driver.start(options=ONE_AT_A_TIME, is_heard=True)
    await until(lambda: driver.world.waiting == 1)
    await _under_way(driver, "ingest_document")
    await handle.execute_update(BatchWorkflow.pause, request())
    await _under_way(driver, "ingest_document")
    driver.world.gate.set()
    await until(lambda: len(driver.world.news) == 2)
    # The one before is known to be told, so that the next is not kept until then.
    await _under_way(driver)
    await handle.execute_update(BatchWorkflow.resume, request())
    await handle.result()
    await driver.reopen(retry(), options=ONE_AT_A_TIME, is_heard=True)
    await driver.handle.result()


async def heard_later(driver: BatchDriver) -> None:
    """Somebody begins to listen before it starts."""
    handle = await driver.start(options=ONE_AT_A_TIME, hold=True)
    await driver.reaches(BatchState.PENDING)
    await until(lambda: driver.world.calls["read_manifest"] == 1)
    await handle.signal(BatchWorkflow.listener_added, ListenerAdded())
    await handle.execute_update(BatchWorkflow.start, request())
    await handle.result()


async def cancel(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.cancel()
    try:
        await handle.result()
    except WorkflowFailureError:
        return
    raise AssertionError("a cancelled batch closes as cancelled")


async def retry_running(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.retry, retry(codes=("corrupt",)))
    driver.world.gate.set()
    await handle.result()


async def reopen(driver: BatchDriver) -> None:
    await (await driver.start(options=ONE_AT_A_TIME)).result()
    await driver.reopen(retry())
    await driver.handle.result()


async def cancelled_early(driver: BatchDriver) -> None:
    """Cancelled while the manifest is made, and then run in full."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await _under_way(driver, "build_manifest")
    await handle.cancel()
    try:
        await handle.result()
    except WorkflowFailureError:
        driver.world.manifest_gate.set()
        await driver.reopen(retry(include_cancelled=True), options=ONE_AT_A_TIME)
        await driver.handle.result()


async def retry_while_reporting(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.calls["finish_batch"] == 1)
    update = await handle.start_update(BatchWorkflow.retry, retry(), wait_for_stage=WorkflowUpdateStage.ACCEPTED)
    driver.world.report_gate.set()
    await update.result()
    await handle.result()


async def cancel_while_reporting(driver: BatchDriver) -> None:
    """It ends as was being written."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.calls["finish_batch"] == 1)
    await handle.cancel()
    await until(lambda: driver.world.calls["finish_batch"] == 2)
    driver.world.report_gate.set()
    await handle.result()


async def manifest_refused(driver: BatchDriver) -> None:
    """Refused once the line has answered; a request still under way would be cancelled."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await _under_way(driver, "build_manifest")
    driver.world.manifest_gate.set()
    await handle.result()


async def packed(driver: BatchDriver) -> None:
    await (await driver.start(options=ONE_AT_A_TIME | {"pack_small": True})).result()


async def large_document(driver: BatchDriver) -> None:
    """Two at a time, the large one first: one at a time they would keep their order."""
    handle = await driver.start(options={"max_workers": 2})
    await until(lambda: driver.world.waiting == 2)
    driver.world.gate.set()
    await handle.result()


async def large(driver: BatchDriver) -> None:
    await (await driver.start(options=ONE_AT_A_TIME)).result()


async def large_cancel(driver: BatchDriver) -> None:
    """Paused and resumed through its child, then cancelled."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.pause, request())
    await _child_shows(driver, lambda progress: progress.state is BatchState.PAUSING)
    driver.world.gate.set()
    await driver.reaches(BatchState.PAUSED)
    driver.world.gate.clear()
    await handle.execute_update(BatchWorkflow.resume, request())
    await until(lambda: driver.world.waiting == 1)
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


async def opened_and_sealed(driver: BatchDriver) -> None:
    """More is added before the seal, and nobody knows of how much until then."""
    handle = await driver.start(options=ONE_AT_A_TIME, open=True, submitted_count=1)
    await driver.reaches(BatchState.PENDING)
    await handle.signal(BatchWorkflow.added, AddedRequest(document_count=2))
    await handle.execute_update(BatchWorkflow.seal, SealRequest(request_id="seal", document_count=3, size_bytes=30))
    await handle.result()


async def cancelled_empty(driver: BatchDriver) -> None:
    """An open batch is cancelled before it was given any document."""
    handle = await driver.start(open=True, submitted_count=0)
    await driver.reaches(BatchState.PENDING)
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


async def reprioritised(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="urgent", priority=1))
    driver.world.gate.set()
    await handle.result()


async def cancel_paused(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.pause, request())
    driver.world.gate.set()
    await driver.reaches(BatchState.PAUSED)
    await _under_way(driver)
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


async def cancel_queued(driver: BatchDriver) -> None:
    """Another batch of the tenant has the only place."""
    holder = BatchDriver(driver.client, driver.world)
    await holder.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    handle = await driver.start(options=ONE_AT_A_TIME)
    await driver.reaches(BatchState.QUEUED)
    await until(lambda: driver.world.calls["read_manifest"] == 2)
    await _under_way(driver)
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()
    driver.world.gate.set()
    await holder.handle.result()


async def cancel_asking(driver: BatchDriver) -> None:
    """In the moment in which it asks for its place."""
    accounts = driver.accounts
    assert accounts is not None
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: accounts.is_asked)
    await _under_way(driver, "request_place")
    await handle.cancel()
    await hears_cancel(handle)
    accounts.answers.set()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


async def large_paused(driver: BatchDriver) -> None:
    """A new priority while the child at work is still."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.pause, request())
    await _child_shows(driver, lambda progress: progress.state is BatchState.PAUSING)
    driver.world.gate.set()
    await driver.reaches(BatchState.PAUSED)
    await handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="urgent", priority=1))
    await _child_shows(driver, lambda progress: progress.priority == 1)
    await handle.execute_update(BatchWorkflow.resume, request())
    await handle.result()


async def large_steered(driver: BatchDriver) -> None:
    """A retry and a priority that reach the child at work."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.retry, retry(codes=("corrupt",)))
    await until(lambda: len(driver.world.resets) == 1)
    await handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="urgent", priority=1))
    await _child_shows(driver, lambda progress: progress.priority == 1)
    driver.world.gate.set()
    await handle.result()


async def large_child_lost(driver: BatchDriver) -> None:
    """Somebody terminates a child, and another takes its documents."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await driver.client.get_workflow_handle(child_workflow_id_for(driver.batch_id, 0, 0)).terminate("by an operator")
    await until(lambda: len(driver.world.packs) > 1)
    driver.world.gate.set()
    await handle.result()


async def large_poison_cancelled(driver: BatchDriver) -> None:
    """The child of what packs sent back hears of a priority; then the batch is cancelled."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: len(driver.world.inputs) == 2 and driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="urgent", priority=1))
    await _child_shows(driver, lambda progress: progress.priority == 1, index=5)
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


async def _child_shows(driver: BatchDriver, is_so: Callable[[BatchProgress], bool], *, index: int = 0) -> None:
    """Wait until a child's own progress fits."""
    child = driver.client.get_workflow_handle(child_workflow_id_for(driver.batch_id, index, 0))

    async def shown() -> bool | None:
        return True if is_so(await child.query(ChunkWorkflow.progress)) else None

    await until_async(shown)


async def _under_way(driver: BatchDriver, *activities: str) -> None:
    """Wait until exactly these activities of the batch are under way, and it knows of all that ended.

    A batch asks for its place while its manifest is made. Which of the two ends first is chance, and so are the commands
    that follow, unless a story waits for the one.
    """

    async def settled() -> bool | None:
        seen = (await driver.handle.describe()).raw_description
        if seen.HasField("pending_workflow_task"):
            return None
        pending = sorted(each.activity_type.name for each in seen.pending_activities)
        return True if pending == sorted(activities) else None

    await until_async(settled)


def _small_documents(count: int, **fields: object) -> World:
    return World(document_count=count, is_small=lambda _: True, **fields)


def _one_runs_alone(ordinal: int) -> str | IngestDocumentOutput:
    return PACK_KILLED if ordinal == 3 else DONE


def _one_fails(ordinal: int) -> IngestDocumentOutput:
    return failed() if ordinal == 3 else DONE


def _gated(open_for: int = 1) -> World:
    return World(gate=asyncio.Event(), open_for=open_for)


def _first_round_fails(ordinal: int) -> Callable[[int, int], object]:
    return lambda own, round_: failed() if own == ordinal and round_ == 0 else DONE


async def texts(driver: BatchDriver) -> None:
    """In no line: a client waits for its few texts."""
    await (await driver.start(options=ONE_AT_A_TIME, pipeline="text")).result()


async def texts_cancelled(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME, pipeline="text")
    await until(lambda: driver.world.waiting == 1)
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


async def sheets(driver: BatchDriver) -> None:
    await (await driver.start(options=ONE_AT_A_TIME, pipeline="sheets")).result()


async def sheets_reopened(driver: BatchDriver) -> None:
    await sheets(driver)
    await driver.reopen(retry(), options=ONE_AT_A_TIME, pipeline="sheets")
    await driver.handle.result()


async def sheets_refused(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME, pipeline="sheets")
    await _under_way(driver, "extract_sheets")
    driver.world.manifest_gate.set()
    await handle.result()


async def sheets_cancelled_early(driver: BatchDriver) -> None:
    handle = await driver.start(options=ONE_AT_A_TIME, pipeline="sheets")
    await until(lambda: driver.world.looking == 2)
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


SCENARIOS = {
    "run": Scenario(run),
    "held": Scenario(held),
    "pause_resume": Scenario(pause_resume, _gated),
    "cancel": Scenario(cancel, _gated),
    "heard": Scenario(heard, lambda: World(gate=asyncio.Event(), open_for=1, outcome=_first_round_fails(1))),
    "heard_later": Scenario(heard_later),
    "retry": Scenario(retry_running, lambda: World(gate=asyncio.Event(), open_for=1, outcome=_first_round_fails(0))),
    "reopen": Scenario(reopen, lambda: World(outcome=_first_round_fails(1))),
    "cancelled_early": Scenario(cancelled_early, lambda: World(manifest_gate=asyncio.Event())),
    "retry_while_reporting": Scenario(
        retry_while_reporting, lambda: World(report_gate=asyncio.Event(), outcome=_first_round_fails(1))
    ),
    "cancel_while_reporting": Scenario(cancel_while_reporting, lambda: World(report_gate=asyncio.Event())),
    "manifest_refused": Scenario(
        manifest_refused,
        lambda: World(
            manifest_gate=asyncio.Event(),
            manifest_error=ApplicationError("Too many.", type="batch_too_large", non_retryable=True),
        ),
    ),
    "packed": Scenario(packed, lambda: _small_documents(30, pack_outcome=_one_runs_alone)),
    "large_document": Scenario(
        large_document, lambda: World(document_count=4, is_large=lambda ordinal: ordinal == 3, gate=asyncio.Event())
    ),
    "packed_in_quarters": Scenario(packed, lambda: _small_documents(120)),
    "large": Scenario(large, lambda: _small_documents(1_001, pack_outcome=_one_runs_alone), children=(0, 5)),
    "large_poison_cancelled": Scenario(
        large_poison_cancelled,
        # Sixteen packs in each of four children, and one document alone.
        lambda: _small_documents(1_001, pack_outcome=_one_runs_alone, gate=asyncio.Event(), open_for=65),
        children=(0, 5),
    ),
    "large_cancel": Scenario(
        large_cancel, lambda: _small_documents(1_001, gate=asyncio.Event(), open_for=1), children=(0,)
    ),
    "open": Scenario(opened_and_sealed),
    "cancelled_empty": Scenario(cancelled_empty),
    "priority": Scenario(reprioritised, _gated),
    "cancel_paused": Scenario(cancel_paused, _gated),
    "cancel_queued": Scenario(
        cancel_queued,
        lambda: World(gate=asyncio.Event()),
        limits=PlaceLimits(max_jobs=1, max_bytes=1_000_000, check_seconds=60),
    ),
    "large_steered": Scenario(
        large_steered,
        lambda: _small_documents(1_001, gate=asyncio.Event(), open_for=1, pack_outcome=_one_fails),
        children=(0,),
    ),
    "cancel_asking": Scenario(cancel_asking, asks_slowly=True),
    "large_paused": Scenario(
        large_paused, lambda: _small_documents(1_001, gate=asyncio.Event(), open_for=1), children=(0,)
    ),
    "large_child_lost": Scenario(large_child_lost, lambda: _small_documents(1_001, gate=asyncio.Event())),
    "large_reopen": Scenario(reopen, lambda: _small_documents(1_001, pack_outcome=_one_fails), children=(0,)),
    "texts": Scenario(texts),
    "texts_cancelled": Scenario(texts_cancelled, _gated),
    "sheets": Scenario(sheets, SheetWorld),
    "sheets_reopened": Scenario(sheets_reopened, lambda: SheetWorld(outcome=_first_round_fails(1))),
    "sheets_refused": Scenario(
        sheets_refused,
        lambda: SheetWorld(
            manifest_gate=asyncio.Event(),
            manifest_error=ApplicationError("Encrypted.", type="archive_encrypted", non_retryable=True),
        ),
    ),
    "sheets_cancelled_early": Scenario(sheets_cancelled_early, lambda: SheetWorld(code_gate=asyncio.Event())),
    "continue_as_new": Scenario(run, lambda: World(document_count=30), short_history=True),
}
