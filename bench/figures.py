"""All figures of docs/reference/performance.md: run the benches, keep what they say, draw it.

    python -m bench.figures                     # everything, about half an hour on two cores
    python -m bench.figures --only recovery latency
    python -m bench.figures --only              # draw again from what is there

Each bench runs in a process of its own, one after the other; what it prints last, one JSON object, is kept in
``bench/results/performance/``. The plots need matplotlib:  uv sync --inexact --group figures
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "performance"
PLOTS = Path(__file__).parent.parent / "docs" / "reference" / "performance"

BENCHES = {
    "throughput": ["bench.run", "--rounds", "5", "--texts", "2000", "--workloads", "texts-packed", "corpus-packed"],
    "noop": ["bench.orchestration", "--documents", "20000", "--pipeline", "noop"],
    "hundred-thousand": ["bench.orchestration", "--documents", "100000", "--pipeline", "noop"],
    "million": ["bench.million"],
    "latency": ["bench.latency"],
    "recovery": ["bench.recovery", "--rounds", "3"],
    "fairness": ["bench.fairness"],
    "watchers": ["bench.watchers"],
    "poison": ["bench.poison", "--rounds", "2", "--texts", "1500"],
    "poisoned-batch": ["bench.poisoned_batch", "--rounds", "3"],
}
"""The command of each, as a person types it after ``python -m``."""

_INK, _AIM = "#1f4e79", "#b5533c"


def last_object(text: str) -> dict[str, Any]:
    """The JSON object that a bench printed last."""
    start = text.rindex("\n{\n") + 1 if "\n{\n" in text else text.index("{")
    return dict(json.loads(text[start:]))


def measure(name: str) -> None:
    """Run one bench and keep what it says, also of one that dies of a native library when it has said all."""
    command = [sys.executable, "-m", *BENCHES[name]]
    print("python -m", " ".join(BENCHES[name]), flush=True)
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if "{" not in answer.stdout:
        sys.exit(f"{name} ended with {answer.returncode} and said no figures")
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(last_object(answer.stdout), indent=2) + "\n")


Bars = list[tuple[str, float]]


def _rates(found: dict[str, Any]) -> Bars:
    return [
        (f"{name}, of {what}", entry[f"of_{key}_median"] * 100)
        for name, entry in found["workloads"].items()
        for what, key in (("a pool into S3", "pool_into_s3"), ("a pool into a folder", "pool"))
    ]


def _quarters(found: dict[str, Any]) -> Bars:
    return [(f"quarter {n + 1}", rate) for n, rate in enumerate(found["documents_per_second_by_quarter"])]


def _cpu(found: dict[str, Any]) -> Bars:
    return [(part, ms) for part, ms in found["cpu_ms_per_document"].items()]


def _recoveries(found: dict[str, Any]) -> Bars:
    return [
        (f"{part}, {what}", times[f"{key}_seconds"])
        for part, times in found["medians"].items()
        for what, key in (("next document", "next"), ("those in flight", "in_flight"))
    ]


def _latencies(found: dict[str, Any]) -> Bars:
    return [(f"event p{n}", found[f"event_p{n}_seconds"] * 1_000) for n in (50, 95, 99)] + [
        ("pause, median", found["pause_median_seconds"] * 1_000),
        ("pause, worst", found["pause_worst_seconds"] * 1_000),
    ]


def _watched(found: dict[str, Any]) -> Bars:
    return [(f"event p{n}", found[f"event_p{n}_seconds"] * 1_000) for n in (50, 95, 99)]


def _poisoned(found: dict[str, Any]) -> Bars:
    return [
        (f"{workload}, {poison}", entry["of_healthy_median"] * 100)
        for workload, poisons in found["workloads"].items()
        for poison, entry in poisons.items()
    ]


def _poisoned_batches(found: dict[str, Any]) -> Bars:
    return [(poison, entry["of_healthy_median"] * 100) for poison, entry in found["poisons"].items()]


def _fairness(found: dict[str, Any]) -> Bars:
    """Its aim follows from the rounds alone, so it is a bar."""
    aim = found["aim"] * statistics.median(found["alone_seconds"])
    alone = [(f"alone {n + 1}", seconds) for n, seconds in enumerate(found["alone_seconds"])]
    beside = [(f"beside {n + 1}", seconds) for n, seconds in enumerate(found["beside_seconds"])]
    return [*alone, *beside, (f"aim: {found['aim']:g} times alone", aim)]


def _memory(found: dict[str, Any]) -> Bars:
    last = found["memory_mib_by_quarter"][-1]
    first = found["memory_mib_by_quarter"][0]
    return [
        (f"{part}, {when}", sizes[part])
        for part in ("workers", "api", "temporal")
        for when, sizes in (("first quarter", first), ("last quarter", last))
    ]


PLOTTED: dict[str, tuple[str, str, str, Callable[[dict[str, Any]], Bars], float | None]] = {
    "throughput": ("throughput", "Documents a second, of a plain process pool's", "%", _rates, 75),
    "noop-rate": ("noop", "20,000 documents that only pass through", "documents a second", _quarters, 400),
    "noop-cpu": ("noop", "What passing through costs", "CPU milliseconds a document", _cpu, 4),
    "memory": ("hundred-thousand", "Memory while 100,000 documents run", "MiB", _memory, None),
    "recovery": (
        "recovery",
        "After SIGKILL: until documents end again",
        "seconds after its next start",
        _recoveries,
        None,
    ),
    "latency": ("latency", "While 400 texts run", "milliseconds", _latencies, None),
    "watchers": ("watchers", "Events at 2,000 watchers of 20 batches", "milliseconds", _watched, 1_000),
    "poison": ("poison", "Rate of the others with one poisonous document in a hundred", "%", _poisoned, 90),
    "poisoned-batch": (
        "poisoned-batch",
        "Rate of the others with three poisonous texts among 3,000, through the whole product",
        "%",
        _poisoned_batches,
        90,
    ),
    "fairness": (
        "fairness",
        "A small batch, alone and beside a tenant with 5,000 documents",
        "seconds",
        _fairness,
        None,
    ),
}
"""Plot → bench, title, unit, what of it, and the aim."""


def draw() -> None:
    """A plot of everything that was measured."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # an optional library

    PLOTS.mkdir(parents=True, exist_ok=True)
    for name, (bench, title, unit, bars_of, aim) in PLOTTED.items():
        path = RESULTS / f"{bench}.json"
        if not path.exists():
            print(f"{name}: not measured yet, left out")
            continue
        bars = bars_of(json.loads(path.read_text()))
        figure = Figure(figsize=(7, 0.6 + 0.36 * len(bars)), layout="constrained")
        axes = figure.subplots()
        drawn = axes.barh([label for label, _ in bars], [value for _, value in bars], color=_INK, height=0.62)
        axes.bar_label(drawn, fmt="%.4g", padding=4, fontsize=9)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        if aim is not None:
            axes.axvline(aim, color=_AIM, linewidth=1, linestyle="--")
        axes.set_title(title, loc="left", fontsize=11)
        axes.set_xlabel(unit + ("" if aim is None else f" (dashed: {aim:g}, the aim)"), fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
        figure.savefig(PLOTS / f"{name}.svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(BENCHES), default=list(BENCHES))
    for name in parser.parse_args().only:
        measure(name)
    draw()


if __name__ == "__main__":
    main()
