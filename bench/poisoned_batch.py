"""``python -m bench.poisoned_batch``: what poison costs the others of its batch, through the whole product.

Texts over HTTP into a running stack, packed and with one poisonous document in a thousand among them or without,
in turns. The poison is the same file each time, as it is where one broken program writes it, so whoever does not do
the same content twice at once waits for it as well; with ``--unlike`` no two are alike. The others' rate counts until the last of them is done; what is
left of the batch then is cancelled.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from bench.meters import settle
from bench.poison import MARK, POISONS
from bench.run import UPKEEP_SECONDS
from bench.workload import small_texts
from ingather.logging import configure_logging
from ingather.models.engine import ROLES
from ingather.stack import local
from ingather.stack.process import Command
from ingather.stack.roots import WorkerPart

_LOOK_SECONDS = 0.05
_ROOT = Path(__file__).parent.parent

Part = tuple[str, tuple[str, bytes]]


class PoisonedWorkerPart(WorkerPart):
    """A worker of the stack, with parsers that know poison."""

    def command(self) -> Command:
        argv = (sys.executable, "-m", "bench.poisoned_worker", "--roles", ",".join(ROLES))
        return Command(self.name, argv, self.log_path, self.environment, cwd=_ROOT)


def measure(stack: dict[str, Any], scratch: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every poison, ``rounds`` times, without and with it in turns."""
    report: dict[str, Any] = {"texts": arguments.texts, "one_in": arguments.one_in, "poisons": {}}
    with httpx.Client(base_url=stack["api"]["url"], timeout=120) as client:
        _seconds(client, _parts(small_texts(scratch / "warm", 200, seed=0).files))
        for poison in arguments.poisons:
            rounds = [_round(client, scratch, poison, number, arguments) for number in range(arguments.rounds)]
            report["poisons"][poison] = {
                "of_healthy_median": round(statistics.median(rounds), 3),
                "ratios": [round(ratio, 3) for ratio in rounds],
            }
    return report


def _round(client: httpx.Client, scratch: Path, poison: str, number: int, arguments: argparse.Namespace) -> float:
    files = small_texts(scratch / f"{poison}-{number}", arguments.texts, seed=number + 1).files
    healthy = _parts(files)
    poisoned = healthy[:]
    for place in reversed(range(arguments.one_in // 2, len(files), arguments.one_in)):
        content = MARK + poison.encode() + (f"\n{number}-{place}".encode() if arguments.unlike else b"")
        poisoned.insert(place, ("files", (f"poison-{place}.txt", content)))
    # Whichever goes second finds a warmer machine, so they take turns at that too.
    order = [healthy, poisoned] if number % 2 == 0 else [poisoned, healthy]
    seconds = {}
    for parts in order:
        settle(UPKEEP_SECONDS)
        seconds[len(parts)] = _seconds(client, parts, healthy=len(files))
    without, beside = seconds[len(healthy)], seconds[len(poisoned)]
    print(
        f"{poison} {number + 1}: {len(files) / without:.0f}/s without, {len(files) / beside:.0f}/s beside"
        f" {len(poisoned) - len(healthy)} ({without / beside:.0%})",
        flush=True,
    )
    return without / beside


def _parts(files: Sequence[Path]) -> list[Part]:
    return [("files", (path.name, path.read_bytes())) for path in files]


def _seconds(client: httpx.Client, parts: Sequence[Part], healthy: int | None = None) -> float:
    """Until so many are done, all where it is not said; what is left then is cancelled and waited for."""
    spec = {"name": "bench", "options": {"skip_existing": False, "pack_small": True}}
    began = time.perf_counter()
    batch = client.post("/v1/batches", files=parts, data={"spec": json.dumps(spec)}).raise_for_status().json()
    path = f"/v1/batches/{batch['id']}"
    while (seen := client.get(path).json())["counts"]["done"] < (healthy or len(parts)) and not seen["ended_at"]:
        time.sleep(_LOOK_SECONDS)
    seconds = time.perf_counter() - began
    client.post(f"{path}/cancel")
    while not client.get(path).json()["ended_at"]:
        time.sleep(_LOOK_SECONDS)
    return seconds


async def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same on a stack of its own."""
    local.WorkerPart = PoisonedWorkerPart  # type: ignore[misc]  # the stack's own workers know no poison
    with tempfile.TemporaryDirectory() as folder:
        async with local.LocalStack(Path(folder) / "stack") as stack:
            return await asyncio.to_thread(measure, stack.describe(), Path(folder), arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=3_000)
    parser.add_argument("--one-in", type=int, default=1_000, help="one poisonous document in so many")
    parser.add_argument("--unlike", action="store_true", help="no two poisonous documents with the same content")
    parser.add_argument("--poisons", nargs="+", default=list(POISONS), choices=list(POISONS))
    parser.add_argument("--output", type=Path, default=None, help="JSON file for the figures")
    arguments = parser.parse_args()
    configure_logging("json", "error")
    text = json.dumps(asyncio.run(run(arguments)), indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
