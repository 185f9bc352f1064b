"""Record the histories that replay tests hold today's code against.

Run it after a change of the workflow's commands that is meant, and only where no batch can
be running on the old code:  .venv/bin/python -m tests.support.record_histories
"""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from tests.support import servers
from tests.support.batch_scenarios import SCENARIOS, Scenario
from tests.support.fingerprints import fingerprint, play
from tests.support.places_scenarios import PLACES_SCENARIOS, PlacesScenario, play_places

HISTORIES = Path(__file__).parent.parent / "histories"
SHORT_HISTORY = {"limit.historyCount.suggestContinueAsNew": "60"}


def _portable(history: str) -> str:
    """The history without stack traces: they name this machine's folders, and a replay does not read them."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: cleaned(item) for name, item in value.items() if name != "stackTrace"}
        return [cleaned(item) for item in value] if isinstance(value, list) else value

    return json.dumps(cleaned(json.loads(history)), indent=2) + "\n"


async def _record(address: str, name: str, scenario: Scenario | PlacesScenario) -> list[str]:
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    if isinstance(scenario, PlacesScenario):
        histories = await play_places(client, scenario)
    else:
        histories = await play(client, scenario)
    for number, history in enumerate(histories):
        suffix = f".{number}" if number else ""
        (HISTORIES / f"{name}{suffix}.json").write_text(_portable(history.to_json()))
    return [word for history in histories for word in fingerprint(history)]


def main() -> None:
    HISTORIES.mkdir(exist_ok=True)
    for old in HISTORIES.glob("*.json"):
        old.unlink()
    fingerprints: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for short in (False, True):
            server = servers.temporal_server(Path(directory) / str(short), **(SHORT_HISTORY if short else {}))
            with servers.started(server):
                for name, scenario in {**SCENARIOS, **PLACES_SCENARIOS}.items():
                    if scenario.short_history is short:
                        fingerprints[name] = asyncio.run(_record(server.address, name, scenario))
    (HISTORIES / "fingerprints.json").write_text(json.dumps(fingerprints, indent=1) + "\n")


if __name__ == "__main__":
    main()
