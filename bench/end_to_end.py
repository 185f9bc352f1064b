"""Ingather from outside: files over HTTP into a running stack, timed until every one is done and searchable."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import Client

from bench.meters import PeakMemory, cpu_seconds, redis_calls, temporal_calls
from bench.workload import Workload
from ingather.models.identity import workflow_id_for


@dataclass(frozen=True)
class EndToEndResult:
    """One batch: times, and what its documents cost."""

    documents: int
    done: int
    submit_seconds: float
    """Until the 202."""
    seconds: float
    """From the first byte sent to the batch's end."""
    engine_seconds: float
    """From the batch's start to its end, as the batch tells it."""
    cpu_seconds: dict[str, float]
    peak_memory_bytes: dict[str, int]
    history_events: int
    history_bytes: int
    activities: int
    temporal_calls: dict[str, int]
    redis_calls: int
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Documents a second, submission included."""
        return self.documents / self.seconds


def run_batch(workload: Workload, stack: dict[str, Any], collection: str, *, packed: bool = False) -> EndToEndResult:
    """Submit a workload as one batch and wait for its end; ``packed`` lets its small documents share activities."""
    pids, ports = stack["pids"], stack["ports"]
    calls_before = temporal_calls(ports["temporal_metrics"])
    redis_before = redis_calls(stack["redis"]["url"])
    cpu_before = cpu_seconds(pids)
    with httpx.Client(base_url=stack["api"]["url"], timeout=120) as client, PeakMemory(pids) as memory:
        began = time.perf_counter()
        batch = _submit(client, workload.files, collection, packed=packed)
        submitted = time.perf_counter()
        asyncio.run(_end(stack["temporal"]["address"], batch["id"]))
        ended = time.perf_counter()
        batch = client.get(f"/v1/batches/{batch['id']}").raise_for_status().json()
    cpu_after = cpu_seconds(pids)
    calls_after = temporal_calls(ports["temporal_metrics"])
    history = asyncio.run(_history(stack["temporal"]["address"], batch["id"]))
    return EndToEndResult(
        documents=len(workload.files),
        done=batch["counts"]["done"],
        submit_seconds=submitted - began,
        seconds=ended - began,
        engine_seconds=_between(batch["started_at"], batch["ended_at"]),
        cpu_seconds={part: cpu_after[part] - cpu_before.get(part, 0.0) for part in cpu_after},
        peak_memory_bytes=dict(memory.peaks),
        history_events=history[0],
        history_bytes=history[1],
        activities=calls_after.get("RespondActivityTaskCompleted", 0)
        - calls_before.get("RespondActivityTaskCompleted", 0),
        temporal_calls={name: calls_after[name] - calls_before.get(name, 0) for name in calls_after},
        redis_calls=redis_calls(stack["redis"]["url"]) - redis_before,
        counts=batch["counts"],
    )


def _submit(client: httpx.Client, files: tuple[Path, ...], collection: str, *, packed: bool) -> dict[str, Any]:
    parts = [("files", (path.name, path.read_bytes())) for path in files]
    # Without skip_existing every round does all the work, as the pool does.
    spec = {"name": "bench", "collection": collection, "options": {"skip_existing": False, "pack_small": packed}}
    answer = client.post("/v1/batches", files=parts, data={"spec": json.dumps(spec)})
    answer.raise_for_status()
    return dict(answer.json())


async def _end(address: str, batch_id: str) -> None:
    """Return when the batch's report is written. Looks at its progress would cost it queries."""
    client = await Client.connect(address)
    await client.get_workflow_handle(workflow_id_for(batch_id)).result()


def _between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


async def _history(address: str, batch_id: str) -> tuple[int, int]:
    """Events and bytes of a batch's history, as the server counts them."""
    client = await Client.connect(address)
    description = await client.get_workflow_handle(workflow_id_for(batch_id)).describe()
    info = description.raw_description.workflow_execution_info
    return info.history_length, info.history_size_bytes
