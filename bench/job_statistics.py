"""What statistics and lists of a user with very many jobs take.  .venv/bin/python -m bench.job_statistics

The catalog alone, in SQLite: what the API adds is one question to Temporal, and only while jobs of the tenant run.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uuid_utils

from ingather.adapters.sql import SqlCatalog, migrate
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, BatchSummary, Counts, SourceProgress
from ingather.models.identity import DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME
from ingather.ports.catalog import BatchFilter

ENDS = (BatchState.COMPLETED, BatchState.COMPLETED_WITH_FAILURES, BatchState.FAILED, BatchState.CANCELLED)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ROUNDS = 30


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


def end_of(record: BatchRecord, pick: random.Random) -> BatchSummary:
    """How it ended."""
    failed = pick.randint(0, 5)
    done = Counts(total=20, done=20 - failed, failed=failed)
    return BatchSummary(
        batch_id=record.batch_id,
        state=pick.choice(ENDS),
        counts=Counts(total=40, done=40 - 2 * failed, failed=2 * failed),
        version=9,
        sources=tuple(each.model_copy(update={"counts": done}) for each in record.sources),
        started_at=record.created_at,
        ended_at=record.created_at + timedelta(seconds=pick.uniform(1, 90)),
    )


async def timed(ask: Callable[[], Awaitable[Any]]) -> dict[str, float]:
    """Milliseconds of one question, by many."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await ask()
        taken.append((time.perf_counter() - began) * 1_000)
    return {"median_ms": round(statistics.median(taken), 2), "worst_ms": round(max(taken), 2)}


async def main() -> None:
    """Fill a catalog, ask, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--open", type=int, default=50, help="jobs that have not ended")
    arguments = parser.parse_args()
    pick = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder)}/catalog.db"
        migrate(url)
        async with SqlCatalog(url) as catalog:
            await catalog.add_tenant(DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME)
            for number in range(arguments.jobs):
                record = job(number, pick)
                await catalog.add_batch(record)
                if number < arguments.jobs - arguments.open:
                    await catalog.finish_batch(end_of(record, pick))
            mine = BatchFilter(DEFAULT_TENANT_ID, contract="sources", created_by="vera")
            all_users, recently = BatchFilter(DEFAULT_TENANT_ID, contract="sources"), datetime.now(UTC)
            tally = await catalog.tally_batches(mine)
            figures = {
                "jobs": arguments.jobs,
                "jobs_of_the_user": sum(tally.by_state.values()) + len(tally.open),
                "statistics": await timed(lambda: catalog.tally_batches(mine)),
                "first_page": await timed(lambda: catalog.list_batches(mine, 50)),
                "last_page": await timed(lambda: catalog.list_batches(mine, 50, arguments.jobs * 9 // 10 - 50)),
                "count": await timed(lambda: catalog.count_batches(mine)),
                "open_jobs_of_all_users": await timed(lambda: catalog.list_open(all_users, recently)),
            }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
