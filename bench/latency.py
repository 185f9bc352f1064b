"""How soon a person sees and steers: events, pause, cancel.  .venv/bin/python -m bench.latency"""

import asyncio
import json
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
from httpx_sse import connect_sse

from bench.workload import Workload, small_texts
from ingather.logging import configure_logging
from ingather.stack.local import LocalStack

PAUSES = 5
DOCUMENT_ENDS = ("document.succeeded", "document.failed", "document.skipped", "document.cancelled")


def _submit(client: httpx.Client, workload: Workload) -> str:
    parts = [("files", (path.name, path.read_bytes())) for path in workload.files]
    spec = {"name": workload.name, "options": {"skip_existing": False}}
    answer = client.post("/v1/batches", files=parts, data={"spec": json.dumps(spec)})
    return str(answer.raise_for_status().json()["id"])


def _control(client: httpx.Client, batch_id: str, action: str) -> float:
    began = time.perf_counter()
    client.post(f"/v1/batches/{batch_id}/{action}").raise_for_status()
    return time.perf_counter() - began


def event_latencies(client: httpx.Client, workload: Workload) -> list[float]:
    """Seconds from a document's end, as the workflow noted it, to its event at a client."""
    batch_id = _submit(client, workload)
    seen: list[float] = []
    with connect_sse(client, "GET", f"/v1/batches/{batch_id}/events", timeout=120) as source:
        for event in source.iter_sse():
            if event.event in DOCUMENT_ENDS:
                seen.append((datetime.now(UTC) - datetime.fromisoformat(event.json()["time"])).total_seconds())
            elif event.event == "stream.end":
                break
    return seen


def pause_seconds(client: httpx.Client, workload: Workload) -> list[float]:
    """Seconds until each of some pauses of a busy batch is acknowledged."""
    batch_id = _submit(client, workload)
    taken: list[float] = []
    for _ in range(PAUSES):
        time.sleep(0.5)
        taken.append(_control(client, batch_id, "pause"))
        _control(client, batch_id, "resume")
    _control(client, batch_id, "cancel")
    return taken


def cancel_seconds(client: httpx.Client, workload: Workload) -> float:
    """Seconds from a cancel with the window full to the batch's end: work stopped, index flushed, report written."""
    batch_id = _submit(client, workload)
    time.sleep(3)
    began = time.perf_counter()
    _control(client, batch_id, "cancel")
    while client.get(f"/v1/batches/{batch_id}").raise_for_status().json()["ended_at"] is None:
        time.sleep(0.05)
    return time.perf_counter() - began


def _measure(url: str, scratch: Path) -> dict[str, float]:
    with httpx.Client(base_url=url, timeout=60) as client:
        event_latencies(client, small_texts(scratch / "warm", 50, seed=0))
        events = event_latencies(client, small_texts(scratch / "events", 400, seed=1))
        pauses = pause_seconds(client, small_texts(scratch / "pauses", 900, seed=2))
        cancel = cancel_seconds(client, small_texts(scratch / "cancel", 60, seed=3, size_bytes=1_000_000))
    centiles = statistics.quantiles(events, n=100)
    return {
        "events": len(events),
        "event_p50_seconds": round(centiles[49], 3),
        "event_p95_seconds": round(centiles[94], 3),
        "event_p99_seconds": round(centiles[98], 3),
        "pause_median_seconds": round(statistics.median(pauses), 3),
        "pause_worst_seconds": round(max(pauses), 3),
        "cancel_seconds": round(cancel, 3),
    }


async def main() -> None:
    """Start a stack, measure, print one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        began = time.perf_counter()
        async with LocalStack(scratch / "stack") as stack:
            ready = time.perf_counter() - began
            figures = await asyncio.to_thread(_measure, stack.describe()["api"]["url"], scratch)
    print(json.dumps({"ready_seconds": round(ready, 2), **figures}, indent=2))


if __name__ == "__main__":
    configure_logging("json", "warning")
    asyncio.run(main())
