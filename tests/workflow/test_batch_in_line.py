"""A batch and its tenant's waiting line: it runs when it is its turn, can be steered before, and always gives way after."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.service import RPCError

from ingather.domain.waiting_line import position_in
from ingather.models.batch import BatchState, Counts
from ingather.models.identity import places_workflow_id_for
from ingather.models.messages import BatchInput, PlaceLimits, PriorityRequest, SealRequest
from tests.support.batch_driver import BatchDriver, driven, request, retry
from tests.support.fake_activities import DONE, World, failed
from tests.support.waiting import until, until_async
from workflows.batch import BatchWorkflow
from workflows.places import PlacesWorkflow

ONE_PLACE = PlaceLimits(max_jobs=1, max_bytes=1_000, check_seconds=0.5)


@asynccontextmanager
async def beside(driver: BatchDriver) -> AsyncIterator[BatchDriver]:
    """Another batch of the same tenant, in the same world."""
    other = BatchDriver(driver.client, driver.world)
    try:
        yield other
    finally:
        await other.clean_up()


@asynccontextmanager
async def one_runs(client, **world: object) -> AsyncIterator[tuple[BatchDriver, BatchDriver]]:
    """The tenant's only place is taken by a batch whose documents wait at a gate; the second batch is not started."""
    gated = World(document_count=2, gate=asyncio.Event(), **world)
    async with driven(client, gated, limits=ONE_PLACE) as first, beside(first) as second:
        await first.start()
        await until(lambda: gated.waiting == 2)
        yield first, second


async def held_places(driver: BatchDriver) -> int:
    """How many places are taken; 0 where there is no line."""
    handle = driver.client.get_workflow_handle(places_workflow_id_for(driver.tenant_id))
    try:
        return (await handle.query(PlacesWorkflow.line, reject_condition=None)).held
    except RPCError:
        return 0


async def test_a_batch_is_queued_until_it_has_its_place(client):
    """Its manifest is made meanwhile; its documents start when the batch before it is through."""
    async with one_runs(client) as (first, second):
        handle = await second.start()
        progress = await second.reaches(BatchState.QUEUED)
        await until(lambda: first.world.calls["build_manifest"] == 2)
        assert (progress.waiting_for, progress.started_at, len(first.world.started)) == ("place", None, 2)

        first.world.gate.set()

        assert (await handle.result()).counts == Counts(total=2, done=2)
        assert (await first.handle.result()).counts == Counts(total=2, done=2)


async def test_a_queued_batch_is_cancelled_at_once(client):
    """It does not wait for its turn to be cancelled, and leaves the line."""
    async with one_runs(client) as (first, second):
        handle = await second.start()
        await second.reaches(BatchState.QUEUED)

        await handle.cancel()

        with pytest.raises(WorkflowFailureError):
            await handle.result()
        assert first.world.closed.summary.counts == Counts(total=2, cancelled=2)
        line = client.get_workflow_handle_for(PlacesWorkflow.run, places_workflow_id_for(first.tenant_id))
        assert (await line.query(PlacesWorkflow.line)).waiting == 0


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "no manifest"])
async def test_however_a_batch_ends_its_place_is_free(client, how):
    """The next batch runs at once, without a check having to find anything."""
    never = PlaceLimits(max_jobs=1, max_bytes=1_000, check_seconds=600)
    world = World(document_count=1, gate=asyncio.Event(), outcome=lambda *_: failed() if how == "failed" else DONE)
    async with driven(client, world, limits=never) as first, beside(first) as second:
        handle = await first.start(**({"pipeline": "unknown"} if how == "no manifest" else {}))
        if how != "no manifest":
            await until(lambda: world.waiting == 1)
        if how == "cancelled":
            await handle.cancel()
        world.gate.set()
        try:
            await handle.result()
        except WorkflowFailureError:
            assert how == "cancelled"

        assert (await (await second.start()).result()).counts.ended == 1


async def test_a_paused_batch_keeps_its_place(client):
    """Pause is no end: what was begun goes on first."""
    async with one_runs(client) as (first, second):
        await first.handle.execute_update(BatchWorkflow.pause, request())
        handle = await second.start()
        await second.reaches(BatchState.QUEUED)
        first.world.gate.set()
        await first.handle.execute_update(BatchWorkflow.resume, request())

        await first.handle.result()
        await handle.result()


async def test_a_batch_can_be_paused_before_its_turn(client):
    """Its place comes while it is paused; its documents start after resume."""
    async with one_runs(client) as (first, second):
        handle = await second.start()
        await second.reaches(BatchState.QUEUED)
        await handle.execute_update(BatchWorkflow.pause, request())
        assert (await second.reaches(BatchState.PAUSED)).waiting_for == "resume"
        first.world.gate.set()
        await first.handle.result()

        await handle.execute_update(BatchWorkflow.resume, request())

        assert (await handle.result()).counts.done == 2


async def test_a_new_priority_reaches_the_line(client):
    """Of two that wait the one made more urgent is next."""
    async with one_runs(client) as (first, second), beside(first) as third:
        await second.start()
        await second.reaches(BatchState.QUEUED)
        await third.start()
        await third.reaches(BatchState.QUEUED)
        await third.handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="now", priority=1))
        line = client.get_workflow_handle_for(PlacesWorkflow.run, places_workflow_id_for(first.tenant_id))

        async def is_next() -> bool | None:
            seen = await line.query(PlacesWorkflow.line)
            return True if (seen.waiting, position_in(seen, third.batch_id)) == (2, 1) else None

        await until_async(is_next)
        first.world.gate.set()

        progress = await third.handle.result()
        assert progress.ended_at <= (await second.handle.result()).ended_at


async def test_a_held_batch_asks_when_it_is_started(client):
    """While it waits for ``start`` it is in nobody's way."""
    never = PlaceLimits(max_jobs=1, max_bytes=1_000, check_seconds=600)
    async with driven(client, World(), limits=never) as held, beside(held) as other:
        await held.start(hold=True)
        await held.reaches(BatchState.PENDING)

        await (await other.start()).result()
        assert await held_places(held) == 0

        await held.handle.execute_update(BatchWorkflow.start, request())
        assert (await held.handle.result()).counts.done == 3


async def test_bytes_in_flight_hold_a_batch_back(client):
    """A place is free, the bytes are not: the large batch waits until they are."""
    limits = PlaceLimits(max_jobs=4, max_bytes=1_000, check_seconds=0.5)
    world = World(document_count=1, gate=asyncio.Event())
    async with driven(client, world, limits=limits) as first, beside(first) as large, beside(first) as small:
        await first.start(submitted_bytes=600)
        await until(lambda: world.waiting == 1)
        await large.start(submitted_bytes=500)
        await large.reaches(BatchState.QUEUED)
        await small.start(submitted_bytes=400)
        await until(lambda: world.waiting == 2)
        assert (await large.reaches(BatchState.QUEUED)).counts.pending == 1

        world.gate.set()

        assert (await large.handle.result()).counts.done == 1


async def test_an_open_batch_asks_with_the_bytes_it_was_sealed_with(client):
    """What was handed in later counts as well."""
    limits = PlaceLimits(max_jobs=4, max_bytes=1_000, check_seconds=0.5)
    world = World(document_count=1, gate=asyncio.Event())
    async with driven(client, world, limits=limits) as first, beside(first) as late:
        await first.start(submitted_bytes=600)
        await until(lambda: world.waiting == 1)
        await late.start(open=True, submitted_count=0)
        await late.reaches(BatchState.PENDING)

        await late.handle.execute_update(
            BatchWorkflow.seal, SealRequest(request_id="seal", document_count=1, size_bytes=500)
        )
        progress = await late.reaches(BatchState.QUEUED)
        assert (progress.queued_at > progress.created_at, progress.started_at) == (True, None)
        world.gate.set()
        summary = await late.handle.result()
        assert (summary.counts.done, summary.queued_at) == (1, progress.queued_at)


async def test_a_closed_batch_waits_in_line_for_its_retry(client):
    """Opened again it has no right to its old place; its retry is answered at once and runs at its turn."""
    outcomes = {0: failed()}
    world = World(document_count=2, outcome=lambda ordinal, round_: DONE if round_ else outcomes.get(ordinal, DONE))
    async with driven(client, world, limits=ONE_PLACE) as first, beside(first) as other:
        await (await first.start()).result()
        world.gate = asyncio.Event()
        await other.start()
        await until(lambda: world.waiting == 2)

        answer = await first.reopen(retry())
        assert answer.affected == 1
        await first.reaches(BatchState.QUEUED)

        world.gate.set()
        assert (await first.handle.result()).counts == Counts(total=2, done=2)


async def test_a_batch_that_continues_as_new_keeps_its_place(short_history_client):
    """Its next run does not stand in line behind those that came meanwhile."""
    world = World(document_count=60, gate=asyncio.Event(), open_for=20)
    async with driven(short_history_client, world, limits=ONE_PLACE) as first, beside(first) as second:
        handle = await first.start(options={"max_workers": 2})
        await until(lambda: world.waiting > 0)  # one, where it drains for its next run already
        await second.start()
        await second.reaches(BatchState.QUEUED)
        world.gate.set()

        assert (await handle.result()).counts == Counts(total=60, done=60)
        await second.handle.result()
        assert sorted(world.started[:60]) == list(range(60))  # the second batch began after all of the first


async def test_what_was_added_to_an_open_batch_counts_over_a_continue_as_new(short_history_client):
    """Its next run knows the bytes too, should a retry that comes late ask for a place once more there."""
    world = World(document_count=40)
    async with driven(short_history_client, world) as driver:
        handle = await driver.start(open=True, submitted_count=0, options={"max_workers": 4})
        sealed = SealRequest(request_id="seal", document_count=40, size_bytes=500)
        await handle.execute_update(BatchWorkflow.seal, sealed)
        await handle.result()

        last = await short_history_client.get_workflow_handle(handle.id).fetch_history()
        started = last.events[0].workflow_execution_started_event_attributes
        assert started.continued_execution_run_id
        [batch] = await short_history_client.data_converter.decode_wrapper(started.input, [BatchInput])
        assert batch.spec.submitted_bytes == 500
