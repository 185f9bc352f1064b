"""The waiting line of a tenant, on the real server: nobody too many, nobody forgotten."""

import asyncio
import itertools

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from ingather.domain.waiting_line import position_in
from ingather.models.engine import MEMO_LINE
from ingather.models.messages import PlaceLimits, PlacesLine
from tests.support.placed_batches import PlacedWorkflow, Tenant, placed, workers_of
from tests.support.slow_accounts import SlowAccounts, hears_cancel
from tests.support.waiting import until, until_async


async def test_a_batch_runs_at_once_where_there_is_room(client):
    """The first batch of a tenant brings its line to life, takes a place, and the line ends with it."""
    async with placed(client, sandbox=True) as tenant:
        batch = await tenant.submit()
        await tenant.runs(batch)
        await tenant.ends(batch)

        await tenant.line.result()
        assert (await tenant.line.describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_the_next_in_line_gets_the_place_that_is_given_back(client):
    """No more than ``max_jobs`` run; each end lets the next one in, by priority and then age."""
    async with placed(client) as tenant:
        first = await tenant.submit()
        await tenant.runs(first)
        old = await tenant.submit()
        await tenant.waits(old, behind=0)
        young = await tenant.submit()
        await tenant.waits(young, behind=1)
        urgent = await tenant.submit(priority=1)
        await tenant.waits(urgent, behind=2)

        for ended, following in itertools.pairwise((first, urgent, old, young)):
            await tenant.ends(ended)
            await tenant.runs(following)
            assert (await tenant.seen()).held == 1


async def test_as_many_as_there_are_places_run_beside_each_other(client):
    """Two places, two batches; the third waits."""
    async with placed(client, max_jobs=2) as tenant:
        batches = [await tenant.submit() for _ in range(2)]
        for batch in batches:
            await tenant.runs(batch)
        third = await tenant.submit()
        await tenant.waits(third, behind=0)

        assert (await tenant.seen()).held == 2


async def test_bytes_in_flight_hold_a_batch_back_too(client):
    """A batch that does not fit beside the others waits, with places free; a smaller one behind it goes first."""
    async with placed(client, max_jobs=10, max_bytes=1_000) as tenant:
        running = await tenant.submit(submitted_bytes=700)
        await tenant.runs(running)
        large = await tenant.submit(submitted_bytes=400)
        await tenant.waits(large, behind=0)
        small = await tenant.submit(submitted_bytes=300)
        await tenant.runs(small)
        await tenant.waits(large, behind=0)

        await tenant.ends(running)
        await tenant.runs(large)


async def test_tenants_do_not_wait_for_each_other(client):
    """A place of one tenant is nothing to another."""
    async with placed(client) as one:
        await one.runs(await one.submit())
        other = Tenant(client)
        try:
            await other.runs(await other.submit())
        finally:
            await other.clean_up()


async def test_a_cancelled_batch_leaves_the_line_at_once(client):
    """Cancelling a batch that waits ends it without its turn, and nobody behind it waits longer."""
    async with placed(client) as tenant:
        first = await tenant.submit()
        await tenant.runs(first)
        cancelled = await tenant.submit()
        await tenant.waits(cancelled, behind=0)
        last = await tenant.submit()
        await tenant.waits(last, behind=1)

        await tenant.batch(cancelled).cancel()
        await tenant.waits(last, behind=0)
        await tenant.ends(first)
        await tenant.runs(last)


async def test_a_cancel_holds_that_comes_while_a_place_is_asked_for(client):
    """The request is carried out all the same, and does not swallow it: a cancelled batch never gets to run."""
    accounts = SlowAccounts()
    async with placed(client, accounts=accounts) as tenant:
        batch = await tenant.submit()
        await until(lambda: accounts.is_asked)

        await tenant.batch(batch).cancel()
        await hears_cancel(tenant.batch(batch))
        accounts.answers.set()

        with pytest.raises(WorkflowFailureError):
            await asyncio.wait_for(tenant.batch(batch).result(), 30)
        await tenant.line.result()


async def test_a_new_priority_moves_a_batch_in_the_line(client):
    """The last one becomes the next one, without asking anew by hand."""
    async with placed(client) as tenant:
        first = await tenant.submit()
        await tenant.runs(first)
        batches = [await tenant.submit() for _ in range(3)]
        await tenant.waits(batches[-1], behind=2)

        await tenant.batch(batches[-1]).signal(PlacedWorkflow.reprioritise, 1)

        async def moved() -> bool | None:
            return True if position_in(await tenant.seen(), batches[-1]) == 1 else None

        await until_async(moved)
        await tenant.ends(first)
        await tenant.runs(batches[-1])


async def test_the_place_of_a_terminated_batch_goes_to_the_next(client):
    """A batch that dies without a word is found by the check, once somebody waits for its place."""
    async with placed(client) as tenant:
        dead = await tenant.submit()
        await tenant.runs(dead)
        following = await tenant.submit()
        await tenant.waits(following, behind=0)

        await tenant.batch(dead).terminate("killed by a test")

        await tenant.runs(following)
        assert (await tenant.seen()).held == 1


async def test_a_batch_terminated_in_line_costs_nobody_its_turn(client):
    """When its turn comes there is nobody to tell, so the turn is the next one's."""
    async with placed(client, check_seconds=60) as tenant:
        first = await tenant.submit()
        await tenant.runs(first)
        dead = await tenant.submit()
        await tenant.waits(dead, behind=0)
        last = await tenant.submit()
        await tenant.waits(last, behind=1)

        await tenant.batch(dead).terminate("killed by a test")
        await tenant.ends(first)

        await tenant.runs(last)


async def test_a_holder_that_continues_as_new_keeps_its_place(client):
    """A new run of the same batch is the same batch: checks leave it alone."""
    async with placed(client) as tenant:
        first = await tenant.submit()
        await tenant.runs(first)
        waiting = await tenant.submit()
        await tenant.waits(waiting, behind=0)

        await tenant.batch(first).signal(PlacedWorkflow.renew)
        await tenant.runs(first)
        await asyncio.sleep(1.5)  # several checks

        await tenant.waits(waiting, behind=0)
        await tenant.ends(first)
        await tenant.runs(waiting)


async def test_a_word_that_was_lost_is_said_again(client):
    """A batch that waits too long asks again; the line answers that the place is its own."""
    async with placed(client) as tenant:
        batch = await tenant.submit(deaf=True, patience=0.5)

        await tenant.runs(batch)
        assert (await tenant.seen()).held == 1


async def test_a_line_that_was_terminated_is_made_again(client):
    """Those that waited ask again by themselves."""
    async with placed(client) as tenant:
        first = await tenant.submit()
        await tenant.runs(first)
        waiting = await tenant.submit(patience=0.5)
        await tenant.waits(waiting, behind=0)

        await tenant.line.terminate("killed by a test")

        await tenant.runs(waiting)


async def test_a_batch_opened_again_asks_for_a_place_again(client):
    """An ended batch has no place; its next life stands in line like any other."""
    async with placed(client) as tenant:
        again = await tenant.submit()
        await tenant.runs(again)
        await tenant.ends(again)
        other = await tenant.submit()
        await tenant.runs(other)

        await tenant.submit(batch_id=again)
        await tenant.waits(again, behind=0)
        await tenant.ends(other)
        await tenant.runs(again)


async def test_a_larger_limit_lets_waiting_batches_in(client):
    """A changed setting reaches the line with the next check: only the workers were started with it."""
    tenant = Tenant(client)
    try:
        async with workers_of(client, PlaceLimits(max_jobs=1, max_bytes=1, check_seconds=0.5)):
            await tenant.runs(await tenant.submit())
            waiting = await tenant.submit()
            await tenant.waits(waiting, behind=0)
        async with workers_of(client, PlaceLimits(max_jobs=2, max_bytes=1, check_seconds=0.5)):
            await tenant.runs(waiting)
    finally:
        await tenant.clean_up()


async def test_the_line_can_be_read_without_a_worker(client):
    """The memo names the first in line, in order, and counts the rest."""
    async with placed(client) as tenant:
        await tenant.runs(await tenant.submit())
        waiting = await tenant.submit()
        await tenant.waits(waiting, behind=0)
        urgent = await tenant.submit(priority=1)
        await tenant.waits(urgent, behind=1)

        async def shown() -> PlacesLine | None:
            memo = await (await tenant.line.describe()).memo_value(MEMO_LINE, None, type_hint=PlacesLine)
            return memo if memo is not None and memo.waiting == 2 else None

        line = await until_async(shown)
        assert (line.held, position_in(line, urgent), position_in(line, waiting)) == (1, 1, 2)


async def test_a_line_of_many_continues_as_new_and_forgets_nobody(short_history_client):
    """With a server that wants short histories the line changes runs often; every batch gets its turn."""
    async with placed(short_history_client, max_jobs=3) as tenant:
        batches = [await tenant.submit() for _ in range(48)]
        runs = set()

        async def run_and_end(batch: str) -> None:
            # All of them wait from the first moment on.
            await tenant.runs(batch, seconds=240)
            assert (await tenant.seen()).held <= 3
            runs.add((await tenant.line.describe()).run_id)
            await tenant.ends(batch)

        await asyncio.gather(*map(run_and_end, batches))

        await tenant.line.result()
        assert len(runs) > 2


async def test_a_crowd_that_asks_at_once_is_let_in_by_and_by(client):
    """Many requests in the same moment: all get their turn, never more at a time than there are places."""
    async with placed(client, max_jobs=4) as tenant:
        batches = await asyncio.gather(*(tenant.submit() for _ in range(20)))

        async def run_and_end(batch: str) -> None:
            await tenant.runs(batch)
            assert (await tenant.seen()).held <= 4
            await tenant.ends(batch)

        await asyncio.gather(*map(run_and_end, batches))

        await tenant.line.result()
