"""What carrying a document through costs: many documents as one batch, flat from the first to the last.

    python -m bench.orchestration [--documents 20000] [--pipeline noop|ingest]

``noop`` accounts for every document and does nothing else. Measured: documents a second, also by quarter of the batch; CPU
milliseconds a document by part; history events and bytes a document of the batch's workflow and of its children; resident
memory of each part after each quarter.
"""

import argparse
import asyncio
import base64
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from temporalio.client import Client

from bench.meters import PeakMemory, cpu_seconds, resident_bytes
from ingather.logging import configure_logging
from ingather.models.identity import workflow_id_for
from ingather.stack.local import LocalStack

QUARTERS = 4
_POLL_SECONDS = 0.1


def manifest(documents: int, pipeline: str) -> Iterator[bytes]:
    """The batch as NDJSON: a hundred bytes of text a document, no two alike."""
    spec = {"name": f"{documents} documents", "pipeline": pipeline, "collection": "bench"}
    yield json.dumps({"spec": spec}).encode() + b"\n"
    for number in range(documents):
        text = (
            f"Entry {number:07d} of the night log: dome closed, mirror at {number % 40} degrees, {number % 7} visitors."
        )
        content = base64.b64encode(text.encode()).decode()
        yield json.dumps({"filename": f"entry-{number:07d}.txt", "content": content}).encode() + b"\n"


class _Quarters:
    """When each quarter of the documents had ended, and what memory the parts had then."""

    def __init__(self, total: int, pids: dict[str, int]) -> None:
        self._total = total
        self._pids = pids
        self._marks: list[tuple[float, int]] = []
        self.memory: list[dict[str, int]] = []

    def look(self, at: float, ended: int) -> None:
        """Take in one reading."""
        while len(self._marks) < QUARTERS and ended >= self._total * (len(self._marks) + 1) // QUARTERS:
            self._marks.append((at, ended))
            self.memory.append({part: size // 2**20 for part, size in resident_bytes(self._pids).items()})

    def rates(self, began: float) -> list[float]:
        """Documents a second, quarter by quarter."""
        rates, before, counted = [], began, 0
        for at, ended in self._marks:
            if ended > counted:
                rates.append(round((ended - counted) / max(at - before, 1e-6), 1))
            before, counted = at, ended
        return rates


def measure(stack: dict[str, Any], documents: int, pipeline: str) -> dict[str, Any]:
    """Submit, wait, and answer the figures."""
    pids = stack["pids"]
    with httpx.Client(base_url=stack["api"]["url"], timeout=600) as client, PeakMemory(pids) as peak:
        cpu_before = cpu_seconds(pids)
        submitted_at = time.perf_counter()
        answer = client.post(
            "/v1/batches", content=manifest(documents, pipeline), headers={"Content-Type": "application/x-ndjson"}
        )
        batch = answer.raise_for_status().json()
        began, quarters = None, _Quarters(documents, pids)
        while batch["ended_at"] is None:
            time.sleep(_POLL_SECONDS)
            batch = client.get(f"/v1/batches/{batch['id']}").raise_for_status().json()
            now, counts = time.perf_counter(), batch["counts"]
            began = began or (now if counts["in_flight"] or counts["done"] else None)
            quarters.look(now, counts["done"] + counts["failed"] + counts["skipped"])
        ended = time.perf_counter()
        cpu_after = cpu_seconds(pids)
    began = began or submitted_at
    history = asyncio.run(_histories(stack["temporal"]["address"], batch["id"]))
    cpu = {part: round((cpu_after[part] - cpu_before.get(part, 0)) * 1_000 / documents, 3) for part in cpu_after}
    return {
        "pipeline": pipeline,
        "documents": documents,
        "counts": batch["counts"],
        "submit_to_first_document_seconds": round(began - submitted_at, 2),
        "documents_seconds": round(ended - began, 2),
        "documents_per_second": round(documents / (ended - began), 1),
        "documents_per_second_by_quarter": quarters.rates(began),
        "documents_per_second_with_submission": round(documents / (ended - submitted_at), 1),
        "cpu_ms_per_document": cpu | {"all": round(sum(cpu.values()), 3)},
        "memory_mib_by_quarter": quarters.memory,
        "peak_memory_mib": {part: size // 2**20 for part, size in peak.peaks.items()},
        **{name: value if "_per_" not in name else round(value / documents, 3) for name, value in history.items()},
    }


async def _histories(address: str, batch_id: str) -> dict[str, float]:
    """Events and bytes of the batch's workflow and of its children, as the server counts them."""
    client = await Client.connect(address)
    own = await client.get_workflow_handle(workflow_id_for(batch_id)).describe()
    info = own.raw_description.workflow_execution_info
    children = [each async for each in client.list_workflows(f"ParentWorkflowId = '{workflow_id_for(batch_id)}'")]
    sizes = [
        (await client.get_workflow_handle(child.id).describe()).raw_description.workflow_execution_info
        for child in children
    ]
    return {
        "parent_events": info.history_length,
        "parent_bytes": info.history_size_bytes,
        "children": len(sizes),
        "largest_child_events": max((each.history_length for each in sizes), default=0),
        "events_per_document": info.history_length + sum(each.history_length for each in sizes),
        "history_bytes_per_document": info.history_size_bytes + sum(each.history_size_bytes for each in sizes),
    }


async def main() -> None:
    """Start a stack, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--pipeline", default="noop", choices=["noop", "ingest"])
    arguments = parser.parse_args()
    # Nobody but a bench wants a pipeline that stores nothing.
    os.environ["INGATHER_ENGINE__ALLOW_NOOP"] = "true"
    with tempfile.TemporaryDirectory() as folder:
        async with LocalStack(Path(folder) / "stack") as stack:
            described = stack.describe()
            await asyncio.to_thread(measure, described, 200, "ingest")  # caches and pollers as in a stack long up
            figures = await asyncio.to_thread(measure, described, arguments.documents, arguments.pipeline)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    configure_logging("json", "warning")
    asyncio.run(main())
