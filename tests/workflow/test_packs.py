"""Small documents share activities; each keeps its own outcome, and none takes its neighbours down."""

import asyncio
from itertools import chain

from temporalio.exceptions import ApplicationError

from ingather.models.batch import BatchState, Counts
from ingather.models.document import DocumentStatus
from ingather.models.messages import PACK_KILLED, PACK_RETRY_ALONE, IngestDocumentOutput, JournalKind
from tests.support.batch_driver import driven, request, retry
from tests.support.fake_activities import DONE, World, failed
from tests.support.waiting import until
from workflows.batch import BatchWorkflow

PACKED = {"options": {"pack_small": True}}


async def test_documents_of_a_batch_that_does_not_ask_run_alone(client):
    """One activity a document is the rule."""
    world = World(document_count=40, is_small=lambda _: True)
    async with driven(client, world) as driver:
        await (await driver.start()).result()

        assert world.packs == []
        assert sorted(world.started) == list(range(40))


async def test_only_small_documents_share_an_activity(client):
    """Large ones keep their own, and everything is indexed."""
    world = World(document_count=400, is_small=lambda ordinal: ordinal % 20 != 0)
    async with driven(client, world, sandbox=True) as driver:
        summary = await (await driver.start(**PACKED)).result()

        assert summary.counts == Counts(total=400, done=400)
        assert sorted(world.started) == list(range(0, 400, 20))
        packed = sorted(chain.from_iterable(world.packs))
        assert packed == [ordinal for ordinal in range(400) if ordinal % 20]
        assert max(map(len, world.packs)) == 16
        assert sorted(chain.from_iterable(world.indexed)) == list(range(400))


async def test_a_packed_batch_does_not_leave_its_index_to_its_end(client):
    """It is written in quarters, the first while others are parsed."""
    world = World(document_count=480, is_small=lambda _: True)
    async with driven(client, world) as driver:
        await (await driver.start(**PACKED)).result()

        assert [len(written) for written in world.indexed] == [120] * 4


async def test_a_short_batch_makes_packs_enough_to_occupy_its_workers(client):
    """Not one pack for one worker."""
    world = World(document_count=48, is_small=lambda _: True)
    async with driven(client, world) as driver:
        await (await driver.start(**PACKED)).result()

        assert len(world.packs) == 24


async def test_each_document_of_a_pack_keeps_its_own_outcome(client):
    """Done, failed with its code, or skipped."""
    outcomes = {3: failed("encrypted"), 5: failed("corrupt"), 7: IngestDocumentOutput(status=DocumentStatus.SKIPPED)}
    world = World(document_count=200, is_small=lambda _: True, pack_outcome=lambda ordinal: outcomes.get(ordinal, DONE))
    async with driven(client, world) as driver:
        handle = await driver.start(**PACKED)
        summary = await handle.result()

        assert summary.state is BatchState.COMPLETED_WITH_FAILURES
        assert summary.counts == Counts(total=200, done=197, failed=2, skipped=1)
        assert summary.failures_by_code == {"corrupt": 1, "encrypted": 1}
        entries = (await handle.query(BatchWorkflow.outcomes, 0)).entries
        ended = {entry.ordinal: entry.code for entry in entries if entry.kind is JournalKind.ENDED}
        assert (len(ended), ended[3], ended[5], ended[7]) == (200, "encrypted", "corrupt", None)


async def test_a_document_that_could_not_be_settled_in_its_pack_runs_alone(client):
    """And says how often it killed a parser before, so that it has as many chances as any other."""
    letters = {3: PACK_RETRY_ALONE, 5: PACK_KILLED}
    world = World(document_count=100, is_small=lambda _: True, pack_outcome=lambda ordinal: letters.get(ordinal, DONE))
    async with driven(client, world) as driver:
        summary = await (await driver.start(**PACKED)).result()

        assert summary.counts == Counts(total=100, done=100)
        assert sorted((each.ordinal, each.kills) for each in world.inputs) == [(3, 0), (5, 1)]
        assert sorted(chain.from_iterable(world.indexed)) == list(range(100))


async def test_what_was_sent_back_waits_for_the_others(client):
    """It may take all the time there is: a dozen of them would otherwise have every place, and the others none."""
    world = World(
        document_count=400,
        is_small=lambda _: True,
        pack_outcome=lambda ordinal: PACK_RETRY_ALONE if ordinal < 20 else DONE,
        gate=asyncio.Event(),
        open_for=25,
    )
    async with driven(client, world) as driver:
        handle = await driver.start(**PACKED)
        await until(lambda: world.waiting == 12)
        assert len(world.packs) == 25
        world.gate.set()
        assert (await handle.result()).counts == Counts(total=400, done=400)


async def test_a_pack_that_fails_for_good_gives_each_document_its_own_chance(client):
    """Whatever was wrong with it."""
    broken = ApplicationError("a bug", type="internal_error", non_retryable=True)
    world = World(document_count=60, is_small=lambda ordinal: ordinal < 30, pack_error=broken)
    async with driven(client, world) as driver:
        summary = await (await driver.start(**PACKED)).result()

        assert summary.counts == Counts(total=60, done=60)
        assert sorted(world.started) == list(range(60))


async def test_a_cancel_counts_the_documents_of_packs_under_way_as_cancelled(client):
    """Those of packs that had ended stay done."""
    world = World(document_count=240, is_small=lambda _: True, gate=asyncio.Event(), open_for=3)
    async with driven(client, world) as driver:
        handle = await driver.start(**PACKED)
        await until(lambda: world.open_for == 0 and world.waiting == 12)
        await handle.cancel()
        await until(lambda: world.closed is not None)

        assert world.closed is not None
        assert world.closed.summary.counts == Counts(total=240, done=30, cancelled=210)


async def test_a_retried_document_runs_alone_and_is_forgiven(client):
    """What it killed before a person asked for it again no longer counts."""
    world = World(
        document_count=50,
        is_small=lambda _: True,
        pack_outcome=lambda ordinal: PACK_KILLED if ordinal == 4 else DONE,
        outcome=lambda _, round_: DONE if round_ else failed("parser_crashed"),
    )
    async with driven(client, world) as driver:
        await (await driver.start(**PACKED)).result()
        await driver.reopen(retry(codes=("parser_crashed",)), **PACKED)
        summary = await driver.handle.result()

        assert summary.counts == Counts(total=50, done=50)
        assert [(each.ordinal, each.retry_round, each.kills) for each in world.inputs] == [(4, 0, 1), (4, 1, 0)]


async def test_a_pause_lets_packs_in_flight_finish(client):
    """Their documents are counted in flight until then."""
    world = World(document_count=480, is_small=lambda _: True, gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start(**PACKED)
        await until(lambda: world.waiting == 12)
        answer = await handle.execute_update(BatchWorkflow.pause, request())
        assert answer.progress.counts.in_flight == 192
        world.gate.set()
        paused = await driver.reaches(BatchState.PAUSED)
        assert paused.counts == Counts(total=480, pending=288, done=192)
        await handle.execute_update(BatchWorkflow.resume, request())
        assert (await handle.result()).counts == Counts(total=480, done=480)


async def test_who_must_run_alone_does_so_over_a_continue_as_new(short_history_client):
    """What killed its parser in a pack comes into no other, and its kill counts, in whichever run it is its turn."""
    world = World(
        document_count=200, is_small=lambda _: True, pack_outcome=lambda n: PACK_KILLED if n % 3 == 0 else DONE
    )
    async with driven(short_history_client, world) as driver:
        handle = await driver.start(**PACKED)
        assert (await handle.result()).counts == Counts(total=200, done=200)

        runs = [run async for run in short_history_client.list_workflows(f"WorkflowId = '{handle.id}'")]
        assert len(runs) > 1
        assert sorted(chain.from_iterable(world.packs)) == list(range(200))
        assert sorted((each.ordinal, each.kills) for each in world.inputs) == [(n, 1) for n in range(0, 200, 3)]
