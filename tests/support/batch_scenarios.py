"""Every path through a batch as a short, deterministic story: one document at a time, gates instead of clocks.

The recorder writes their histories, and the fingerprint test plays them again on today's code.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from temporalio.client import WorkflowFailureError, WorkflowUpdateStage
from temporalio.exceptions import ApplicationError

from ingather.models.batch import BatchState
from ingather.models.messages import PACK_KILLED, IngestDocumentOutput
from tests.support.batch_driver import BatchDriver, request, retry
from tests.support.fake_activities import DONE, World, failed
from tests.support.waiting import until
from workflows.batch import BatchWorkflow

ONE_AT_A_TIME = {"max_workers": 1}


@dataclass(frozen=True)
class Scenario:
    """A world, what is done to a batch in it, and whether the server wants short histories."""

    play: Callable[[BatchDriver], Awaitable[None]]
    world: Callable[[], World] = field(default=World)
    short_history: bool = False
    with_child: bool = False
    """Its first child's history belongs to it."""


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
    await until(lambda: driver.world.calls["build_manifest"] == 1)
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


async def manifest_refused(driver: BatchDriver) -> None:
    await (await driver.start(options=ONE_AT_A_TIME)).result()


async def packed(driver: BatchDriver) -> None:
    await (await driver.start(options=ONE_AT_A_TIME | {"pack_small": True})).result()


async def large(driver: BatchDriver) -> None:
    await (await driver.start(options=ONE_AT_A_TIME)).result()


async def large_cancel(driver: BatchDriver) -> None:
    """Paused and resumed through its child, then cancelled."""
    handle = await driver.start(options=ONE_AT_A_TIME)
    await until(lambda: driver.world.waiting == 1)
    await handle.execute_update(BatchWorkflow.pause, request())
    driver.world.gate.set()
    await driver.reaches(BatchState.PAUSED)
    driver.world.gate.clear()
    await handle.execute_update(BatchWorkflow.resume, request())
    await until(lambda: driver.world.waiting == 1)
    await handle.cancel()
    with contextlib.suppress(WorkflowFailureError):
        await handle.result()


def _small_documents(count: int, **fields: object) -> World:
    return World(document_count=count, is_small=lambda _: True, **fields)


def _one_runs_alone(ordinal: int) -> str | IngestDocumentOutput:
    return PACK_KILLED if ordinal == 3 else DONE


def _gated(open_for: int = 1) -> World:
    return World(gate=asyncio.Event(), open_for=open_for)


def _first_round_fails(ordinal: int) -> Callable[[int, int], object]:
    return lambda own, round_: failed() if own == ordinal and round_ == 0 else DONE


SCENARIOS = {
    "run": Scenario(run),
    "held": Scenario(held),
    "pause_resume": Scenario(pause_resume, _gated),
    "cancel": Scenario(cancel, _gated),
    "retry": Scenario(retry_running, lambda: World(gate=asyncio.Event(), open_for=1, outcome=_first_round_fails(0))),
    "reopen": Scenario(reopen, lambda: World(outcome=_first_round_fails(1))),
    "cancelled_early": Scenario(cancelled_early, lambda: World(manifest_gate=asyncio.Event())),
    "retry_while_reporting": Scenario(
        retry_while_reporting, lambda: World(report_gate=asyncio.Event(), outcome=_first_round_fails(1))
    ),
    "manifest_refused": Scenario(
        manifest_refused,
        lambda: World(manifest_error=ApplicationError("Too many.", type="batch_too_large", non_retryable=True)),
    ),
    "packed": Scenario(packed, lambda: _small_documents(30, pack_outcome=_one_runs_alone)),
    "large": Scenario(large, lambda: _small_documents(1_001, pack_outcome=_one_runs_alone), with_child=True),
    "large_cancel": Scenario(
        large_cancel, lambda: _small_documents(1_001, gate=asyncio.Event(), open_for=1), with_child=True
    ),
    "continue_as_new": Scenario(run, lambda: World(document_count=30), short_history=True),
}
