"""``make bench``: a plain process pool with a folder and with S3, the bare activities, and Ingather, in one run.

All do the same documents on the same cores, in turns, so that a machine whose speed drifts
changes the seconds but not the ratios.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.direct import run_direct
from bench.end_to_end import EndToEndResult, run_batch
from bench.meters import settle
from bench.pool import PoolResult, run_pool
from bench.workload import Workload, copies_of, corpus, small_texts
from ingather.logging import configure_logging
from ingather.stack.local import LocalStack

RESULTS = Path(__file__).parent / "results"

WORKLOADS = ["texts", "texts-packed", "corpus", "corpus-packed"]
UPKEEP_SECONDS = 15
"""An index is tidied up so long after the last write to it, at the latest: by the next round it is over."""
PACKED = {"texts-packed", "corpus-packed"}
"""Workloads whose batches let small documents share activities."""


@dataclass(frozen=True)
class Round:
    """One workload, four ways."""

    pool: PoolResult
    pool_s3: PoolResult
    direct: PoolResult
    ours: EndToEndResult


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every workload, ``rounds`` times, pool and Ingather in turns."""
    cores = os.cpu_count() or 1
    report: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": cores, "cpu": _cpu_name(), "python": platform.python_version()},
        "workloads": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        async with LocalStack(scratch / "stack") as stack:
            await asyncio.to_thread(_warm_stack, scratch, stack.describe())
            for name in arguments.workloads:
                rounds = [
                    await asyncio.to_thread(_round, name, number, scratch, stack.describe(), arguments)
                    for number in range(arguments.rounds)
                ]
                report["workloads"][name] = _summary([entry for entry in rounds if entry is not None])
    return report


def _warm_stack(scratch: Path, stack: dict[str, Any]) -> None:
    """A first small batch: model, pollers and caches are as in a stack that has been up for a while."""
    run_batch(small_texts(scratch / "warm", 50, seed=0), stack, "warm-up")


def _round(name: str, number: int, scratch: Path, stack: dict[str, Any], arguments: argparse.Namespace) -> Round | None:
    workload = _workload(name, number, scratch, arguments)
    if workload is None:
        print("corpus: not found, left out (INGATHER_CORPUS=FOLDER make bench)")
        return None
    cores = os.cpu_count() or 1
    packed = name in PACKED
    settle(UPKEEP_SECONDS)
    pool = run_pool(workload, scratch / "pool" / name / str(number), cores)
    settle()
    pool_s3 = run_pool(workload, stack["s3"], cores)
    settle()
    direct = run_direct(workload, scratch / "direct" / name / str(number), cores, packed=packed)
    settle()
    ours = run_batch(workload, stack, f"{name}-{number}", packed=packed)
    print(
        f"{name} {number + 1}: Ingather {ours.rate:.0f}/s, {ours.rate / pool.rate:.0%} of the pool ({pool.rate:.0f}/s),"
        f" {ours.rate / pool_s3.rate:.0%} of the pool into S3 ({pool_s3.rate:.0f}/s),"
        f" {ours.rate / direct.rate:.0%} of the activities ({direct.rate:.0f}/s); of {len(workload.files)}"
        f" {ours.done}, {pool.done}, {pool_s3.done} and {direct.done} done"
    )
    return Round(pool, pool_s3, direct, ours)


def _workload(name: str, number: int, scratch: Path, arguments: argparse.Namespace) -> Workload | None:
    if name.startswith("texts"):
        return small_texts(scratch / f"{name}-{number}", arguments.texts, seed=number + 1)
    found = corpus(arguments.corpus)
    if found is None or arguments.copies == 1:
        return found
    return copies_of(found, scratch / "copies", arguments.copies)


def _summary(rounds: list[Round]) -> dict[str, Any]:
    if not rounds:
        return {}
    last = rounds[-1].ours
    return {
        "documents": last.documents,
        "pool_per_second": [round(each.pool.rate, 1) for each in rounds],
        "pool_into_s3_per_second": [round(each.pool_s3.rate, 1) for each in rounds],
        "activities_per_second": [round(each.direct.rate, 1) for each in rounds],
        "ingather_per_second": [round(each.ours.rate, 1) for each in rounds],
        "of_pool_median": round(statistics.median(each.ours.rate / each.pool.rate for each in rounds), 3),
        "of_pool_into_s3_median": round(statistics.median(each.ours.rate / each.pool_s3.rate for each in rounds), 3),
        "of_activities_median": round(statistics.median(each.ours.rate / each.direct.rate for each in rounds), 3),
        "last_round": asdict(last),
    }


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=500, help="how many small texts")
    parser.add_argument("--corpus", type=Path, default=None, help="folder with files/ (default: INGATHER_CORPUS)")
    parser.add_argument("--copies", type=int, default=1, help="how often each document of the corpus, no two alike")
    parser.add_argument("--workloads", nargs="+", default=WORKLOADS, choices=WORKLOADS)
    parser.add_argument("--output", type=Path, default=None, help="JSON file for the figures")
    arguments = parser.parse_args()
    configure_logging("json", "warning")
    report = asyncio.run(measure(arguments))
    text = json.dumps(report, indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
