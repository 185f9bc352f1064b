"""What statistics and lists of a user with very many jobs take, over HTTP.  .venv/bin/python -m bench.job_statistics

A real stack: the catalog holds ten thousand jobs, and Temporal those of them that have not ended. They are given to a
queue that nobody serves, so that they stand as they are while it is measured. Two rounds: few of the jobs open, and half.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uuid_utils
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.contrib.pydantic import pydantic_data_converter

from ingather.adapters.sql import SqlCatalog, migrate
from ingather.logging import configure_logging
from ingather.models.batch import (
    BatchProgress,
    BatchRecord,
    BatchSpec,
    BatchState,
    Counts,
    SourceProgress,
)
from ingather.models.engine import BATCH_WORKFLOW, MEMO_PROGRESS
from ingather.models.identity import DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME, workflow_id_for
from ingather.models.messages import BatchInput
from ingather.stack.local import LocalStack

ENDS = (BatchState.COMPLETED, BatchState.COMPLETED_WITH_FAILURES, BatchState.FAILED, BatchState.CANCELLED)
RUNNING, PAUSED = 4, 20
"""Of the jobs that have not ended; half of the others wait for their start, half for a place."""
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
UNSERVED = "bench-nobody"
STARTS_AT_ONCE = 50
PAUSE_SECONDS = 1.1
"""Longer than the API remembers what it asked of Temporal."""


def job(number: int, pick: random.Random) -> BatchRecord:
    """One of two users' jobs, with two selections of files."""
    batch_id = str(uuid_utils.uuid7())
    spec = BatchSpec(
        batch_id=batch_id,
        tenant_id=DEFAULT_TENANT_ID,
        name=f"Spectra of field {number}",
        created_by="vera" if number % 10 else "jocelyn",
        contract="sources",
        metadata={"description": "Everything that was taken in the night. " * 10},
        submitted_count=40,
        hold=True,
    )
    half = Counts(total=20, pending=20)
    kinds = pick.sample(["google_drive", "s3", "local_directory", "http"], 2)
    return BatchRecord(
        batch_id=batch_id,
        tenant_id=DEFAULT_TENANT_ID,
        spec=spec,
        state=BatchState.PENDING,
        counts=Counts(total=40, pending=40),
        sources=tuple(SourceProgress(name=kind, source_type=kind, counts=half, connection_id=kind) for kind in kinds),
        name=spec.name,
        priority=pick.randint(1, 4),
        created_at=NOON + timedelta(seconds=number),
    )


def ended(record: BatchRecord, pick: random.Random) -> BatchRecord:
    """The same, over."""
    failed, seconds = pick.randint(0, 5), pick.uniform(1, 90)
    done = Counts(total=20, done=20 - failed, failed=failed)
    return record.model_copy(
        update={
            "state": pick.choice(ENDS),
            "counts": Counts(total=40, done=40 - 2 * failed, failed=2 * failed),
            "version": 9,
            "sources": tuple(each.model_copy(update={"counts": done}) for each in record.sources),
            "started_at": record.created_at,
            "ended_at": record.created_at + timedelta(seconds=seconds),
            "ran_ms": round(seconds * 1_000),
        }
    )


def states_of_open(number: int) -> list[BatchState]:
    """The oldest run, which were started first; behind them very many wait."""
    waiting = [(BatchState.PENDING, BatchState.QUEUED)[place % 2] for place in range(number - RUNNING - PAUSED)]
    return [*[BatchState.RUNNING] * RUNNING, *[BatchState.PAUSED] * PAUSED, *waiting][:number]


async def open_in_temporal(client: Client, record: BatchRecord, state: BatchState) -> None:
    """As its workflow would show itself in this state."""
    is_waiting = state in {BatchState.PENDING, BatchState.QUEUED}
    counts = record.counts if is_waiting else Counts(total=40, done=10, failed=2, pending=28)
    progress = BatchProgress(state=state, counts=counts, priority=record.priority, created_at=record.created_at)
    await client.start_workflow(
        BATCH_WORKFLOW,
        BatchInput(spec=record.spec),
        id=workflow_id_for(record.batch_id),
        task_queue=UNSERVED,
        memo={MEMO_PROGRESS: progress.model_dump(mode="json")},
        search_attributes=TypedSearchAttributes(
            [
                SearchAttributePair(SearchAttributeKey.for_keyword("TenantId"), DEFAULT_TENANT_ID),
                SearchAttributePair(SearchAttributeKey.for_keyword("BatchState"), state.value),
            ]
        ),
    )


async def fill(described: dict[str, Any], jobs: int, still_open: int) -> Counter[str]:
    """Ended and open jobs; answers in which states the user's are."""
    pick, states, placed = random.Random(1), states_of_open(still_open), Counter[str]()
    client = await Client.connect(described["temporal"]["address"], data_converter=pydantic_data_converter)
    starting: set[asyncio.Task[None]] = set()
    migrate(described["catalog"]["url"])  # the API, which does the same, may not have come so far
    async with SqlCatalog(described["catalog"]["url"]) as catalog:
        await catalog.add_tenant(DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME)
        for number in range(jobs):
            record, place = job(number, pick), number - (jobs - still_open)
            if place < 0:
                record = ended(record, pick)
                state = record.state
            else:
                state = states[place]
                # In line is noted by a batch's own request for a place; what else it does is not.
                record = record.model_copy(
                    update={"state": BatchState.PENDING if state is BatchState.PENDING else BatchState.QUEUED}
                )
                starting.add(asyncio.create_task(open_in_temporal(client, record, state)))
            await catalog.add_batch(record)
            if record.spec.created_by == "vera":
                placed[state.value] += 1
            if len(starting) >= STARTS_AT_ONCE:
                await asyncio.gather(*starting)
                starting.clear()
    await asyncio.gather(*starting)
    return placed


def timed(ask: Callable[[], httpx.Response], times: int) -> dict[str, float]:
    """Milliseconds of one request, by many: one that finds what was asked a moment ago, and one that does not."""
    remembered, cold = [], []
    for number in range(2 * times):
        if number % 2 == 0:
            time.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        ask().raise_for_status()
        (remembered if number % 2 else cold).append((time.perf_counter() - began) * 1_000)
    return {
        "median_ms": round(statistics.median(cold), 1),
        "worst_ms": round(max(cold), 1),
        "asked_again_median_ms": round(statistics.median(remembered), 1),
    }


def measure(url: str, placed: Counter[str], times: int) -> dict[str, Any]:
    """Ask as a client does; what statistics say is held against what was made."""
    with httpx.Client(base_url=url, timeout=60) as http:

        def page(**body: Any) -> httpx.Response:
            return http.post("/batch/jobs/list", json={"user_id": "vera", "limit": 50, **body})

        def sums() -> httpx.Response:
            return http.get("/batch/statistics", params={"user_id": "vera"})

        while (said := sums().json())["by_status"]["running"] < RUNNING - 1:
            time.sleep(0.5)  # the last of them are about to be visible
        expected = {
            "pending": placed["pending"], "queued": placed["queued"], "running": placed["running"],
            "paused": placed["paused"], "completed": placed["completed"] + placed["completed_with_failures"],
            "failed": placed["failed"], "cancelled": placed["cancelled"], "retrying": 0,
        }  # fmt: skip
        total = sum(placed.values())
        return {
            "jobs_of_the_user": total,
            "open_jobs_of_the_user": total - sum(placed[state.value] for state in ENDS),
            "is_exact": said["by_status"] == expected and not said["stale"],
            "statistics": timed(sums, times),
            "first_page": timed(page, times),
            "last_page": timed(lambda: page(offset=total - 50), times),
            "running": timed(lambda: page(status_filter=["running"]), times),
            "waiting": timed(lambda: page(status_filter=["pending", "queued"]), times),
        }


async def main() -> None:
    """Start a stack for each round, fill it, ask, print a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--open", type=int, nargs="*", default=[100, 6_000], help="jobs that have not ended, by round")
    parser.add_argument("--times", type=int, default=30, help="how often each question is asked")
    arguments = parser.parse_args()
    # One client asks without a pause.
    os.environ["INGATHER_LIMITS__REQUESTS_PER_MINUTE"] = "100000"
    for still_open in arguments.open:
        with tempfile.TemporaryDirectory() as folder:
            async with LocalStack(Path(folder) / "stack") as stack:
                described = stack.describe()
                placed = await fill(described, arguments.jobs, still_open)
                figures = await asyncio.to_thread(measure, described["api"]["url"], placed, arguments.times)
        print(json.dumps({"jobs": arguments.jobs, **figures}, indent=2), flush=True)


if __name__ == "__main__":
    configure_logging("json", "warning")
    asyncio.run(main())
