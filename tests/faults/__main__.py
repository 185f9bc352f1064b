"""``make faults``: every fault in turn, and a table of what it cost.  .venv/bin/python -m tests.faults --only worker"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ingather.logging import configure_logging
from ingather.machine import usable_cores
from tests.faults.faults import MATRIX, Fault
from tests.faults.stack import BreakableStack
from tests.faults.strike import Verdict, outlive

RESULTS = Path(__file__).parent.parent.parent / "bench" / "results"

HEAD = (
    "| fault | moment | documents | recovered in s | batch took s | lost | twice | failed |",
    "|---|---|---|---|---|---|---|---|",
)


async def run(faults: Sequence[Fault]) -> list[Verdict]:
    """All of them against one stack, which nobody repairs in between."""
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        async with BreakableStack(Path(folder) / "stack") as stack:
            await stack.visitor.ended(await stack.visitor.submit([("warm.txt", b"The first document of a stack.")]))
            print("\n".join(HEAD), flush=True)
            for number, fault in enumerate(faults):
                verdicts.append(await outlive(stack, fault, f"fault-{number}"))
                print(row(verdicts[-1]), flush=True)
                for line in problems(verdicts[-1]):
                    print(f"  {line}", flush=True)
    return verdicts


def row(verdict: Verdict) -> str:
    """Its line of the table."""
    fault = verdict.fault
    failed = ", ".join(f"{count} {code}" for code, count in verdict.failed.items()) or "0"
    cells = (
        fault.name,
        fault.moment,
        fault.documents,
        "ended meanwhile" if verdict.recovered_seconds is None else f"{verdict.recovered_seconds:.1f}",
        f"{verdict.ended_seconds:.1f}",
    )
    return "| " + " | ".join(map(str, (*cells, verdict.lost, verdict.doubled, failed))) + " |"


def problems(verdict: Verdict) -> list[str]:
    """What is wrong, in words; nothing when all books agree."""
    books = verdict.books
    return [*books.wrong, *sorted(books.lost)[:5], *sorted(books.doubled)[:5]]


def page(verdicts: Sequence[Verdict], load_before: float) -> str:
    """The table with what one must know to read it; ``load_before`` is the load average before the first fault."""
    load_after = os.getloadavg()[2]
    lines = [
        f"# Faults, {datetime.now(UTC).date().isoformat()}",
        "",
        f"{usable_cores()} cores, Python {platform.python_version()}, the whole embedded stack on them (`make faults`).",
        f"Load average: {load_before:.1f} before the first fault, {load_after:.1f} over the last 15 minutes at the end; above the",
        "number of cores the seconds are upper bounds.",
        "",
        "*Recovered*: seconds from the end of the cause (for a kill: from the kill) until a worker told of a document done",
        "since; *ended meanwhile* where the batch had ended before its cause did. Every batch ran when it was struck.",
        "*Lost* and *twice* compare the batch's counts, the catalog's rows, the report, the chunks in the index and the",
        "numbered events. Nobody did anything but watch.",
        "",
        *HEAD,
        *map(row, verdicts),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="faults whose name or moment contains this text")
    parser.add_argument("--skip", default="", help="faults to leave out, by the same")
    parser.add_argument("--output", type=Path, default=None, help="Markdown file for the table")
    arguments = parser.parse_args()
    configure_logging("json", "error")
    chosen = [
        fault
        for fault in MATRIX
        if arguments.only in f"{fault.name} {fault.moment}"
        and not (arguments.skip and arguments.skip in f"{fault.name} {fault.moment}")
    ]
    load_before = os.getloadavg()[0]
    verdicts = asyncio.run(run(chosen))
    if arguments.output:
        arguments.output.write_text(page(verdicts, load_before), encoding="utf-8")
    sys.exit(any(not verdict.books.balance for verdict in verdicts))


if __name__ == "__main__":
    main()
