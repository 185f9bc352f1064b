"""Every path through a tenant's waiting line as a short story, for recorded histories and their fingerprints."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from temporalio.client import Client, WorkflowHistory

from tests.support.placed_batches import PlacedWorkflow, Tenant, placed
from tests.support.waiting import until_async


@dataclass(frozen=True)
class PlacesScenario:
    """What batches of one tenant do, and how long the line lets its holders alone."""

    play: Callable[[Tenant], Awaitable[None]]
    check_seconds: float = 600.0
    short_history: bool = False
    is_exact: bool = True
    """It gives the same commands each time. How many signals the server hands out together varies under load."""


async def turns(tenant: Tenant) -> None:
    """By age, then by priority; one leaves the line."""
    first = await tenant.submit()
    await tenant.runs(first)
    batches = [first]
    for number, priority in enumerate((3, 1, 5)):
        batches.append(await tenant.submit(priority=priority))
        await tenant.waits(batches[-1], behind=number)
    first, old, urgent, last = batches
    await tenant.batch(last).cancel()
    await tenant.waits(old, behind=1)
    for ended, following in itertools.pairwise((first, urgent, old)):
        await tenant.ends(ended)
        await tenant.runs(following)
    await tenant.ends(old)


async def dead_holder(tenant: Tenant) -> None:
    """Terminated with its place; the check finds it."""
    dead = await tenant.submit()
    await tenant.runs(dead)
    following = await tenant.submit()
    await tenant.waits(following, behind=0)
    await tenant.batch(dead).terminate("killed by a scenario")
    await tenant.runs(following)
    await tenant.ends(following)


async def dead_in_line(tenant: Tenant) -> None:
    """Terminated before its turn: there is nobody to tell."""
    first = await tenant.submit()
    await tenant.runs(first)
    dead = await tenant.submit()
    await tenant.waits(dead, behind=0)
    await tenant.batch(dead).terminate("killed by a scenario")
    await tenant.ends(first)


async def moved(tenant: Tenant) -> None:
    """A new priority for one in line."""
    first = await tenant.submit()
    await tenant.runs(first)
    old = await tenant.submit()
    await tenant.waits(old, behind=0)
    young = await tenant.submit()
    await tenant.waits(young, behind=1)
    before = (await tenant.seen()).order
    await tenant.batch(young).signal(PlacedWorkflow.reprioritise, 1)

    async def has_moved() -> bool | None:
        return True if (await tenant.seen()).order != before else None

    await until_async(has_moved)
    for ended, following in itertools.pairwise((first, young, old)):
        await tenant.ends(ended)
        await tenant.runs(following)
    await tenant.ends(old)


async def told_twice(tenant: Tenant) -> None:
    """The first word was lost."""
    batch = await tenant.submit(deaf=True, patience=0.5)
    await tenant.runs(batch)
    await tenant.ends(batch)


async def many(tenant: Tenant) -> None:
    """More than one short history holds."""
    batches = [await tenant.submit() for _ in range(25)]
    await asyncio.gather(*map(tenant.runs_and_ends, batches))


PLACES_SCENARIOS = {
    "places_turns": PlacesScenario(turns),
    "places_dead_holder": PlacesScenario(dead_holder, check_seconds=3.0),
    "places_dead_in_line": PlacesScenario(dead_in_line),
    "places_moved": PlacesScenario(moved),
    "places_told_twice": PlacesScenario(told_twice),
    "places_continue_as_new": PlacesScenario(many, short_history=True, is_exact=False),
}


async def play_places(client: Client, scenario: PlacesScenario) -> list[WorkflowHistory]:
    """Play a scenario; answers the history of every run of the line, oldest first."""
    async with placed(client, max_jobs=1, check_seconds=scenario.check_seconds) as tenant:
        await scenario.play(tenant)
        await tenant.line.result()
        return await histories_of(client, tenant.line.id)


async def histories_of(client: Client, workflow_id: str) -> list[WorkflowHistory]:
    """Every run of a workflow, oldest first."""
    runs = [
        (execution.start_time, execution.run_id)
        async for execution in client.list_workflows(f"WorkflowId = '{workflow_id}'")
    ]
    return [await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history() for _, run_id in sorted(runs)]
