"""Record the histories that replay tests hold today's code against.

Run it after a change of the workflow's commands that is meant, and only where no batch can
be running on the old code:  .venv/bin/python -m tests.support.record_histories [SCENARIO…]

After a change behind ``workflow.patched`` move what was recorded before into a folder of its own first: histories in
folders are of batches that began on older code. They are replayed as the others are, and stay.
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.support import servers
from tests.support.batch_scenarios import SCENARIOS, Scenario
from tests.support.cleaning_scenarios import CLEANING_SCENARIOS, CleaningScenario, play_cleaning
from tests.support.delivery_scenarios import DELIVERY_SCENARIOS, play_delivery
from tests.support.fingerprints import fingerprint, play
from tests.support.places_scenarios import PLACES_SCENARIOS, PlacesScenario, play_places

HISTORIES = Path(__file__).parent.parent / "histories"
FINGERPRINTS = HISTORIES / "fingerprints.json"
SHORT_HISTORY = {"limit.historyCount.suggestContinueAsNew": "60"}


def _portable(history: str) -> str:
    """The history without stack traces: they name this machine's folders, and a replay does not read them."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cleaned(item) for name, item in value.items() if name != "stackTrace"}
        return [cleaned(item) for item in value] if isinstance(value, list) else value

    return json.dumps(cleaned(json.loads(history)), indent=2) + "\n"


async def _record(address: str, name: str, scenario: Scenario | PlacesScenario | CleaningScenario | None) -> list[str]:
    """A delivery's is made anew for each time it is played: it remembers its attempts."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    if isinstance(scenario, PlacesScenario):
        histories = await play_places(client, scenario)
    elif isinstance(scenario, CleaningScenario):
        histories = await play_cleaning(client, scenario)
    elif scenario is None:
        histories = await play_delivery(client, DELIVERY_SCENARIOS[name]())
    else:
        histories = await play(client, scenario)
    for number, history in enumerate(histories):
        suffix = f".{number}" if number else ""
        (HISTORIES / f"{name}{suffix}.json").write_text(_portable(history.to_json()))
    return [word for history in histories for word in fingerprint(history)]


def main(only: list[str]) -> None:
    everything = {**SCENARIOS, **PLACES_SCENARIOS, **CLEANING_SCENARIOS, **dict.fromkeys(DELIVERY_SCENARIOS)}
    scenarios = {name: each for name, each in everything.items() if not only or name in only}
    fingerprints: dict[str, list[str]] = json.loads(FINGERPRINTS.read_text()) if only else {}
    for old in HISTORIES.glob("*.json"):
        if old != FINGERPRINTS and (not only or old.name.split(".")[0] in only):
            old.unlink()
    with tempfile.TemporaryDirectory() as directory:
        for short in (False, True):
            server = servers.temporal_server(Path(directory) / str(short), **(SHORT_HISTORY if short else {}))
            with servers.started(server):
                for name, scenario in scenarios.items():
                    if getattr(scenario, "short_history", False) is short:
                        fingerprints[name] = asyncio.run(_record(server.address, name, scenario))
    FINGERPRINTS.write_text(json.dumps(fingerprints, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
