"""Thousands of people watch twenty batches: how late events come, what the API takes.  .venv/bin/python -m bench.watchers

A real stack, real sockets. The clients are a process of their own (``bench.watching_clients``).
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from bench.workload import Workload, small_texts
from ingather.logging import configure_logging
from ingather.stack.local import LocalStack

_METERS = ("ingather_batches_followed", "ingather_batch_queries_total", "ingather_event_log_reads_total")
SAMPLE_SECONDS = 0.25


class ApiMeter:
    """Memory and CPU of the API process, without the search process beside it."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.peak = 0

    def resident(self) -> int:
        """Bytes now; the peak is kept."""
        now = int(self._process.memory_info().rss)
        self.peak = max(self.peak, now)
        return now

    def cpu(self) -> float:
        """Seconds so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def family(self) -> int:
        """Bytes of the process and its children."""
        return self.resident() + sum(int(child.memory_info().rss) for child in self._process.children(recursive=True))


def submit_held(client: httpx.Client, workload: Workload, *, max_workers: int) -> str:
    """A batch that waits for its start."""
    parts = [("files", (path.name, path.read_bytes())) for path in workload.files]
    spec = {"name": workload.name, "hold": True, "options": {"skip_existing": False, "max_workers": max_workers}}
    answer = client.post("/v1/batches", files=parts, data={"spec": json.dumps(spec)})
    return str(answer.raise_for_status().json()["id"])


def meters(client: httpx.Client) -> dict[str, float]:
    """What the streams themselves count."""
    lines = [line.split(" ") for line in client.get("/metrics").text.splitlines() if line.startswith(_METERS)]
    return {name: float(value) for name, value in lines}


def start_clients(url: str, batch_ids: list[str], watchers: int) -> subprocess.Popen[str]:
    """The clients' process, once every stream is open."""
    parts = urlsplit(url)
    command = [sys.executable, "-m", "bench.watching_clients", "--host", str(parts.hostname), "--port", str(parts.port)]
    clients = subprocess.Popen([*command, "--watchers", str(watchers), *batch_ids], stdout=subprocess.PIPE, text=True)
    assert clients.stdout is not None
    assert clients.stdout.readline() == "ready\n"
    return clients


def measure(url: str, api_pid: int, scratch: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Open all streams on held batches, let the batches run, gather the figures."""
    meter = ApiMeter(api_pid)
    with httpx.Client(base_url=url, timeout=60) as client:
        batch_ids = [
            submit_held(
                client,
                small_texts(scratch / str(number), arguments.documents, seed=number),
                max_workers=arguments.max_workers,
            )
            for number in range(arguments.batches)
        ]
        idle = meter.resident()
        clients = start_clients(url, batch_ids, arguments.watchers)
        watched, cpu, before, began = meter.resident(), meter.cpu(), meters(client), time.perf_counter()
        for batch_id in batch_ids:
            client.post(f"/v1/batches/{batch_id}/start").raise_for_status()
        while clients.poll() is None:
            meter.resident()
            time.sleep(SAMPLE_SECONDS)
        seconds = time.perf_counter() - began
        after, family = meters(client), meter.family()
        states = [client.get(f"/v1/batches/{batch_id}").json()["status"] for batch_id in batch_ids]
    assert clients.stdout is not None
    seen = json.loads(clients.stdout.read())
    return {
        "watchers": arguments.watchers,
        "batches": arguments.batches,
        "documents": arguments.batches * arguments.documents,
        "batches_completed": states.count("completed"),
        "seconds": round(seconds, 1),
        "documents_per_second": round(arguments.batches * arguments.documents / seconds, 1),
        "events_delivered_per_second": round(seen["events_received"] / seconds),
        **seen,
        "pollers": round(before["ingather_batches_followed"]),
        "queries_per_batch_and_second": round(
            (after["ingather_batch_queries_total"] - before["ingather_batch_queries_total"])
            / arguments.batches
            / seconds,
            2,
        ),
        "log_reads_per_second": round(
            (after["ingather_event_log_reads_total"] - before["ingather_event_log_reads_total"]) / seconds, 1
        ),
        "api_idle_bytes": idle,
        "api_watched_bytes": watched,
        "api_peak_bytes": meter.peak,
        "api_and_search_bytes": family,
        "api_bytes_per_watcher": round((watched - idle) / arguments.watchers),
        "api_cpu_share_of_a_core": round((meter.cpu() - cpu) / seconds, 2),
    }


async def main() -> None:
    """Start a stack, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--watchers", type=int, default=2_000)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--documents", type=int, default=60, help="small texts of each batch")
    parser.add_argument("--max-workers", type=int, default=1, help="documents of a batch in flight at once")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.environ["INGATHER_LIMITS__STREAMS_PER_CLIENT"] = str(arguments.watchers)
    os.environ["INGATHER_LIMITS__MAX_CONCURRENT_JOBS"] = str(arguments.batches)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        async with LocalStack(scratch / "stack") as stack:
            described = stack.describe()
            figures = await asyncio.to_thread(
                measure, described["api"]["url"], described["pids"]["api"], scratch, arguments
            )
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    configure_logging("json", "warning")
    asyncio.run(main())
