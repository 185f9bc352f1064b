"""``python -m bench.poison``: what documents that kill their parsers cost the others.

The same documents go through the parser processes with and without poison among them, one in a
hundred unless ``--one-in`` says otherwise, in turns, so that a machine whose speed drifts changes
the seconds but not the ratio. Nothing but the parser processes runs, so nothing dilutes what a
death costs. The others' rate counts until the last of them is done; poison still under way then
is called off.
"""

import argparse
import asyncio
import ctypes
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.workload import Workload, corpus, small_texts
from ingather.adapters.parser_processes import SupervisedPreparer
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.prepare import prepare_document, warm_up
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.logging import configure_logging
from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.models.errors import DocumentError, ParserKilledError
from ingather.ports.embedder import Embedder

MEMORY_BYTES: Final = 2 * 1024**3
MARK: Final = b"\x00poison:"
_BLOCK_BYTES: Final = 16 * 1024 * 1024

__all__ = ["prepare", "warm_up"]  # the fork server asks this module for both


def _crash() -> None:
    ctypes.string_at(0)


def _eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(_BLOCK_BYTES))


def _loop() -> None:
    while True:
        pass


def _wait() -> None:
    time.sleep(3_600)


POISONS: Final[dict[str, Callable[[], None]]] = {
    "crash": _crash,
    "memory": _eat_memory,
    "loop": _loop,
    "wait": _wait,
}


def prepare(
    request: PrepareRequest, embedder: Embedder | None, limits: ParseLimits, on_stage: Callable[[Stage], None]
) -> PreparedDocument:
    """What the parser processes run: poison acts, anything else is prepared as ever."""
    if request.content.startswith(MARK):
        on_stage(Stage.PARSING)
        kind, _, _ = request.content.removeprefix(MARK).partition(b"\n")
        POISONS[kind.decode()]()
    return prepare_document(request, embedder, limits, on_stage)


@dataclass(frozen=True)
class Run:
    """One run over the documents."""

    seconds: float
    """Until the last healthy document was done."""
    healthy: int
    killed: int
    """Poison that ended by then."""
    slowest_seconds: float
    """The longest any healthy document took, from being handed in."""

    @property
    def rate(self) -> float:
        """Healthy documents a second."""
        return self.healthy / self.seconds


class Bench:
    """Parser processes as a worker has them.

    Args:
        processes: how many may work at one time.
        window: documents handed in at one time.
        timeout_seconds: wall clock of one document.
        one_in: how many documents to each poisonous one.
    """

    def __init__(self, processes: int, window: int, timeout_seconds: float, one_in: int) -> None:
        self._processes = processes
        self._window = window
        self._timeout_seconds = timeout_seconds
        self._one_in = one_in

    async def run(self, contents: Sequence[tuple[str, bytes]], poison: str | None) -> Run:
        """Prepare everything, poison in equal distances among it."""
        preparer = SupervisedPreparer(
            processes=self._processes,
            memory_bytes=MEMORY_BYTES,
            embedder=WordLlamaEmbedder(),
            prepare="bench.poison:prepare",
        )
        await preparer.start()
        try:
            return await self._run(preparer, contents, poison)
        finally:
            await preparer.close()

    async def _run(
        self, preparer: SupervisedPreparer, contents: Sequence[tuple[str, bytes]], poison: str | None
    ) -> Run:
        room = asyncio.Semaphore(self._window)
        killed = 0
        slowest = 0.0

        async def one(name: str, content: bytes) -> None:
            nonlocal killed, slowest
            began = time.perf_counter()
            request = PrepareRequest(content, name, 1_000, 200, 0.0, timeout_seconds=self._timeout_seconds)
            try:
                await preparer.prepare(request, lambda _stage: None)
            except ParserKilledError:
                killed += 1
                return
            except DocumentError:
                pass  # a corpus has its broken files
            finally:
                room.release()
            slowest = max(slowest, time.perf_counter() - began)

        healthy: list[asyncio.Task[None]] = []
        poisoned: list[asyncio.Task[None]] = []
        began = time.perf_counter()
        for number, (name, content) in enumerate(contents):
            await room.acquire()
            healthy.append(asyncio.create_task(one(name, content)))
            if poison is not None and number % self._one_in == self._one_in // 2:
                await room.acquire()
                poisoned.append(asyncio.create_task(one("poison.txt", MARK + poison.encode())))
        await asyncio.gather(*healthy)
        seconds = time.perf_counter() - began
        for task in poisoned:
            task.cancel()
        await asyncio.gather(*poisoned, return_exceptions=True)
        return Run(seconds, len(healthy), killed, slowest)


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every workload and poison, ``rounds`` times, without and with it in turns."""
    bench = Bench(os.cpu_count() or 1, 6 * (os.cpu_count() or 1), arguments.timeout, arguments.one_in)
    report: dict[str, Any] = {"timeout_seconds": arguments.timeout, "one_in": arguments.one_in, "workloads": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, workload in _workloads(Path(folder), arguments).items():
            contents = [(path.name, path.read_bytes()) for path in workload.files]
            await bench.run(contents[:50], None)
            report["workloads"][name] = {
                poison: await _compared(bench, contents, name, poison, arguments.rounds) for poison in arguments.poisons
            }
    return report


async def _compared(
    bench: Bench, contents: Sequence[tuple[str, bytes]], name: str, poison: str, rounds: int
) -> dict[str, Any]:
    ratios, slowest, killed = [], 0.0, 0
    for number in range(rounds):
        # Whichever goes second finds a warmer machine, so they take turns at that too.
        order = [None, poison] if number % 2 == 0 else [poison, None]
        runs = {which: await bench.run(contents, which) for which in order}
        ratios.append(runs[poison].rate / runs[None].rate)
        slowest, killed = max(slowest, runs[poison].slowest_seconds), runs[poison].killed
        print(
            f"{name}, {poison} {number + 1}: {runs[None].rate:.0f}/s without, {runs[poison].rate:.0f}/s with"
            f" ({ratios[-1]:.0%}); {killed} quarantined, slowest other {runs[poison].slowest_seconds:.2f} s",
            flush=True,
        )
    return {
        "documents": len(contents),
        "of_healthy_median": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "quarantined_in_the_last": killed,
        "slowest_other_seconds": round(slowest, 3),
    }


def _workloads(folder: Path, arguments: argparse.Namespace) -> dict[str, Workload]:
    found = {"texts": small_texts(folder / "texts", arguments.texts, seed=1)}
    if (real := corpus(arguments.corpus)) is not None:
        files = (real.files * (arguments.documents // len(real.files) + 1))[: arguments.documents]
        found["corpus"] = Workload(real.name, files)
    return {name: workload for name, workload in found.items() if name in arguments.workloads}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=3_000, help="how many small texts")
    parser.add_argument("--documents", type=int, default=400, help="how many documents of the corpus")
    parser.add_argument("--corpus", type=Path, default=None, help="folder with files/ (default: INGATHER_CORPUS)")
    parser.add_argument("--one-in", type=int, default=100, help="one poisonous document in so many")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds a document may take")
    parser.add_argument("--workloads", nargs="+", default=["texts", "corpus"])
    parser.add_argument("--poisons", nargs="+", default=list(POISONS), choices=list(POISONS))
    parser.add_argument("--output", type=Path, default=None, help="JSON file for the figures")
    arguments = parser.parse_args()
    configure_logging("json", "error")
    text = json.dumps(asyncio.run(measure(arguments)), indent=2)
    if arguments.output:
        arguments.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
