"""How long a death is felt: worker, API, Temporal, Redis and S3 are killed in turn.  .venv/bin/python -m bench.recovery

Each part is killed (SIGKILL) in the middle of a batch and started again a second later. Seconds count from
that start. *Next* is the first document whose attempt began after the kill and that a client sees as done;
*in flight* is the last of those that were being worked on when the part died.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client

from bench.latency import cancel_seconds
from bench.workload import Workload, small_texts
from ingather.logging import configure_logging
from ingather.models.identity import workflow_id_for
from ingather.stack.local import LocalStack
from ingather.stack.supervisor import Backoff

PARTS = ("worker-1", "api", "temporal", "redis", "s3")
PAUSE = timedelta(seconds=1)
"""Between a part's death and its next start."""
DOCUMENTS = 400
DOCUMENT_BYTES = 40_000
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Recovery:
    """What one death cost. Seconds from the part's next start."""

    part: str
    next_seconds: float
    in_flight_seconds: float
    in_flight: int
    done: int
    documents: int
    retried: int
    """Documents that took more than one attempt."""


class _Batch:
    """One batch, seen by a client that is patient while the API is away."""

    def __init__(self, client: httpx.AsyncClient, batch_id: str) -> None:
        self._client = client
        self.batch_id = batch_id

    async def now(self) -> dict[str, Any]:
        while True:
            try:
                answer = await self._client.get(f"/v1/batches/{self.batch_id}")
                if answer.status_code == 200:
                    return dict(answer.json())
            except httpx.TransportError:
                pass
            await asyncio.sleep(_POLL_SECONDS)

    async def until_done(self, count: int) -> datetime:
        """When a client saw that more than ``count`` documents are done, from a worker's own mouth."""
        while True:
            batch = await self.now()
            if batch["ended_at"] or (batch["counts"]["done"] > count and not batch["stale"]):
                return datetime.now(UTC)
            await asyncio.sleep(_POLL_SECONDS)

    async def ended(self) -> dict[str, Any]:
        while not (batch := await self.now())["ended_at"]:  # noqa: ASYNC110  # nobody could set an event
            await asyncio.sleep(_POLL_SECONDS * 4)
        return batch

    async def report(self) -> list[dict[str, Any]]:
        answer = await self._client.get(f"/v1/batches/{self.batch_id}/report")
        return [json.loads(line) for line in answer.raise_for_status().text.splitlines()]


async def kill_and_watch(stack: LocalStack, client: httpx.AsyncClient, part: str, workload: Workload) -> Recovery:
    """Kill a part when a third of a batch is done, and see it through to its end."""
    batch = _Batch(client, await submit(client, workload))
    await batch.until_done(len(workload.files) // 3)
    worked_on = await _worked_on(stack, batch.batch_id)
    os.kill(stack.pids[part], signal.SIGKILL)
    killed_at = datetime.now(UTC)
    await asyncio.sleep(0.3)  # what was done before is counted by now
    counted = (await batch.now())["counts"]["done"] if part not in ("api", "temporal") else 0
    seen_at = await batch.until_done(counted)
    ended = await batch.ended()
    lines = await batch.report()
    restarted_at = killed_at + PAUSE
    later = [_time(line["ended_at"]) for line in lines if _time(line["started_at"]) > killed_at]
    next_at = max(seen_at, min(later)) if later else seen_at
    in_flight = [_time(line["ended_at"]) for line in lines if line["ordinal"] in worked_on]
    return Recovery(
        part=part,
        next_seconds=_seconds(restarted_at, next_at),
        in_flight_seconds=_seconds(restarted_at, max(in_flight, default=restarted_at)),
        in_flight=len(in_flight),
        done=ended["counts"]["done"],
        documents=len(workload.files),
        retried=sum(line["attempts"] > 1 for line in lines),
    )


async def submit(client: httpx.AsyncClient, workload: Workload) -> str:
    """Id of a new batch of the workload's files."""
    parts = [("files", (path.name, path.read_bytes())) for path in workload.files]
    spec = {"name": workload.name, "options": {"skip_existing": False}}
    answer = await client.post("/v1/batches", files=parts, data={"spec": json.dumps(spec)})
    return str(answer.raise_for_status().json()["id"])


async def _worked_on(stack: LocalStack, batch_id: str) -> set[int]:
    """Ordinals of the documents that a worker has in its hands, by Temporal's own account."""
    temporal = await Client.connect(stack.temporal.address)
    description = await temporal.get_workflow_handle(workflow_id_for(batch_id)).describe()
    started = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    ids = [each.activity_id for each in description.raw_description.pending_activities if each.state == started]
    return {int(name.split("-")[1]) for name in ids if name.startswith("doc-")}


def _time(text: str | None) -> datetime:
    return datetime.fromisoformat(text) if text else datetime.min.replace(tzinfo=UTC)


def _seconds(start: datetime, end: datetime) -> float:
    """0 where it was over before the part was back: nobody waited for it."""
    return max(0.0, round((end - start).total_seconds(), 2))


async def measure(parts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Every part, ``rounds`` times, and a cancel."""
    recoveries: list[Recovery] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        backoff = Backoff(first=PAUSE.total_seconds(), longest=PAUSE.total_seconds())
        async with (
            LocalStack(scratch / "stack", backoff=backoff) as stack,
            httpx.AsyncClient(base_url=stack.api.url, timeout=60, trust_env=False) as client,
        ):
            warm = _Batch(client, await submit(client, small_texts(scratch / "warm", 50, seed=0)))
            await warm.ended()
            for number, part in enumerate(part for _ in range(rounds) for part in parts):
                folder_of_texts = scratch / f"texts-{number}"
                workload = small_texts(folder_of_texts, DOCUMENTS, seed=number + 1, size_bytes=DOCUMENT_BYTES)
                recoveries.append(await kill_and_watch(stack, client, part, workload))
                print(recoveries[-1], flush=True)
            cancel = await asyncio.to_thread(_cancel, stack.api.url, scratch)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "recoveries": [asdict(recovery) for recovery in recoveries],
        "medians": {part: _medians([each for each in recoveries if each.part == part]) for part in parts},
        "cancel_seconds": cancel,
    }


def _medians(recoveries: list[Recovery]) -> dict[str, float]:
    return {
        "next_seconds": statistics.median(each.next_seconds for each in recoveries),
        "in_flight_seconds": statistics.median(each.in_flight_seconds for each in recoveries),
        "worst_next_seconds": max(each.next_seconds for each in recoveries),
        "worst_in_flight_seconds": max(each.in_flight_seconds for each in recoveries),
    }


def _cancel(url: str, scratch: Path) -> float:
    time.sleep(1)
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        return round(cancel_seconds(client, small_texts(scratch / "cancel", 60, seed=99, size_bytes=1_000_000)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    configure_logging("json", "error")
    print(json.dumps(asyncio.run(measure(arguments.parts, arguments.rounds)), indent=2))


if __name__ == "__main__":
    main()
