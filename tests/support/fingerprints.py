"""The command sequence of a workflow: what a replay compares, in words a person can read."""

import itertools

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory

from ingather.models.identity import child_workflow_id_for, workflow_id_for
from tests.support.batch_driver import driven
from tests.support.batch_scenarios import Scenario
from tests.support.slow_accounts import SlowAccounts
from workflows.place import ASKS_AGAIN
from workflows.visibility import SHOWS_GROWTH

_OF_THE_CLOCK = (ASKS_AGAIN.encode(), SHOWS_GROWTH.encode())

_COMMANDS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED: "cancel activity",
    EventType.EVENT_TYPE_TIMER_STARTED: "start timer",
    EventType.EVENT_TYPE_TIMER_CANCELED: "cancel timer",
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED: "signal another workflow",
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: "start child",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "complete",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "end as cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "fail",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continue as new",
}


def fingerprint(history: WorkflowHistory) -> list[str]:
    """Commands in order: activities by name, accepted updates by name. What depends on the clock is left out: how many
    memos and search attributes there are and whether one must wait, and whether the line answers before a batch sets its
    timer."""
    words: list[str] = []
    timers: set[int] = set()
    for event in history.events:
        if any(name in event.user_metadata.summary.data for name in _OF_THE_CLOCK):
            timers.add(event.event_id)
        elif event.timer_canceled_event_attributes.started_event_id in timers:
            continue
        elif event.HasField("activity_task_scheduled_event_attributes"):
            words.append(event.activity_task_scheduled_event_attributes.activity_type.name)
        elif event.HasField("workflow_execution_update_accepted_event_attributes"):
            accepted = event.workflow_execution_update_accepted_event_attributes
            words.append(f"update {accepted.accepted_request.input.name}")
        elif event.event_type in _COMMANDS:
            words.append(_COMMANDS[event.event_type])
    return words


def without_repeats(words: list[str]) -> list[str]:
    """The same word in a row is one: a short history ends a run a document sooner or later, as signals happen to come."""
    return [word for word, _ in itertools.groupby(words)]


async def play(client: Client, scenario: Scenario) -> list[WorkflowHistory]:
    """Play a scenario; answers the history of every run of its workflow, oldest first, and of the children that belong to it."""
    world = scenario.world()
    accounts = SlowAccounts() if scenario.asks_slowly else None
    async with driven(client, world, limits=scenario.limits, accounts=accounts) as driver:
        await scenario.play(driver)
        runs = [
            (execution.start_time, execution.run_id)
            async for execution in client.list_workflows(f"WorkflowId = '{workflow_id_for(driver.batch_id)}'")
        ]
        histories = [
            await client.get_workflow_handle(workflow_id_for(driver.batch_id), run_id=run_id).fetch_history()
            for _, run_id in sorted(runs)
        ]
        for index in scenario.children:
            child = client.get_workflow_handle(child_workflow_id_for(driver.batch_id, index, 0))
            histories.append(await child.fetch_history())
        return histories
