"""Yesterday's histories, today's code: a deploy must not break a batch that is running."""

import difflib
import json
from pathlib import Path

import pytest
from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from tests.support.batch_scenarios import SCENARIOS
from tests.support.cleaning_scenarios import CLEANING_SCENARIOS, play_cleaning
from tests.support.delivery_scenarios import DELIVERY_SCENARIOS, play_delivery
from tests.support.fingerprints import fingerprint, play, without_repeats
from tests.support.places_scenarios import PLACES_SCENARIOS, play_places
from workflows.batch import BatchWorkflow
from workflows.chunk import ChunkWorkflow
from workflows.places import PlacesWorkflow
from workflows.runner import sandboxed_runner
from workflows.upload_cleaning import UploadCleaningWorkflow
from workflows.webhook_delivery import WebhookDeliveryWorkflow

HISTORIES = Path(__file__).parent.parent / "histories"
FINGERPRINTS = HISTORIES / "fingerprints.json"

REMEDY = """
What it means: a batch that is running now would fail its next workflow task after this deploy, and hang.
What to do: guard the change with workflow.patched("…"), so that old histories take the old path. Where no batch
can be running on the old code, record the histories again, and say in the commit why that is safe:
    .venv/bin/python -m tests.support.record_histories
"""


def recorded_histories() -> list[Path]:
    return sorted(path for path in HISTORIES.rglob("*.json") if path != FINGERPRINTS)


@pytest.mark.parametrize("path", recorded_histories(), ids=lambda path: str(path.relative_to(HISTORIES)))
async def test_a_recorded_history_replays_without_a_difference(path):
    """The code of today makes the same commands, in the same order, from the history of yesterday."""
    replayer = Replayer(
        workflows=[BatchWorkflow, ChunkWorkflow, PlacesWorkflow, UploadCleaningWorkflow, WebhookDeliveryWorkflow],
        workflow_runner=sandboxed_runner(),
        data_converter=pydantic_data_converter,
    )
    history = WorkflowHistory.from_json(f"batch/{path.stem}", path.read_text())

    result = await replayer.replay_workflow(history, raise_on_replay_failure=False)

    assert result.replay_failure is None, f"{path.stem}: {result.replay_failure}\n{REMEDY}"


@pytest.fixture
def address(name, request) -> str:
    """The server a scenario wants. (Not looked up in the test: starting one needs an event loop of its own.)"""
    return request.getfixturevalue("short_history_address" if SCENARIOS[name].short_history else "temporal_address")


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_makes_the_commands_it_was_recorded_with(name, address):
    """Played again on today's code, each path through a batch gives the recorded sequence of commands."""
    scenario = SCENARIOS[name]
    client = await Client.connect(address, data_converter=pydantic_data_converter)

    histories = await play(client, scenario)

    _assert_same_commands(name, histories, is_exact=not scenario.short_history)


@pytest.mark.parametrize("name", [name for name, scenario in PLACES_SCENARIOS.items() if scenario.is_exact])
async def test_a_scenario_of_the_line_makes_the_commands_it_was_recorded_with(name, client):
    """The same for the waiting line of a tenant."""
    _assert_same_commands(name, await play_places(client, PLACES_SCENARIOS[name]))


@pytest.mark.parametrize("name", DELIVERY_SCENARIOS)
async def test_a_delivery_makes_the_commands_it_was_recorded_with(name, client):
    """The same for an event on its way to an endpoint."""
    _assert_same_commands(name, await play_delivery(client, DELIVERY_SCENARIOS[name]()))


@pytest.mark.parametrize("name", CLEANING_SCENARIOS)
async def test_a_cleaning_makes_the_commands_it_was_recorded_with(name, client):
    """The same for the cleaning of uploads."""
    _assert_same_commands(name, await play_cleaning(client, CLEANING_SCENARIOS[name]))


def _assert_same_commands(name: str, histories: list[WorkflowHistory], *, is_exact: bool = True) -> None:
    recorded = json.loads(FINGERPRINTS.read_text())[name]
    found = [word for history in histories for word in fingerprint(history)]
    if not is_exact:
        recorded, found = without_repeats(recorded), without_repeats(found)
    difference = "\n".join(difflib.unified_diff(recorded, found, "recorded", "now", lineterm=""))
    assert found == recorded, f"{name} makes other commands than before:\n{difference}\n{REMEDY}"
