"""What an audit event costs a document: outcomes written to a catalog with and without theirs, in turns.

    .venv/bin/python -m bench.audit [--documents 20000] [--rounds 5] [--url postgresql+psycopg://…]

As workers write them: one at a time from 48 activities, and sixteen at a time from twelve.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from ingather.adapters.sql import SqlCatalog, migrate
from ingather.domain.audit import documents_ingested
from ingather.models.batch import BatchRecord, BatchSpec, BatchState, Counts
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for

WAYS = {"one by one": (48, 1), "sixteen at a time": (12, 16)}
"""Writers at once, and documents a write."""


def outcomes(batch_id: str, count: int) -> list[DocumentRecord]:
    """Documents as the ingest pipeline leaves them."""
    now = datetime.now(UTC)
    return [
        DocumentRecord(
            file_id=file_id_for(batch_id, ordinal),
            tenant_id=DEFAULT_TENANT_ID,
            batch_id=batch_id,
            ordinal=ordinal,
            filename=f"document-{ordinal:06}.txt",
            collection="default",
            status=DocumentStatus.DONE,
            attempts=1,
            sha256=f"{ordinal:064x}",
            size_bytes=4_096,
            media_type="text/plain",
            chunk_count=6,
            quality=0.9,
            timings_ms={"fetching": 1.0, "parsing": 2.0, "embedding": 3.0, "writing": 4.0},
            fingerprint="f" * 64,
            started_at=now,
            ended_at=now,
        )
        for ordinal in range(count)
    ]


async def write(catalog: SqlCatalog, records: Sequence[DocumentRecord], writers: int, size: int, *, audited: bool):
    """Seconds and CPU seconds for all of them."""
    pieces = iter([records[start : start + size] for start in range(0, len(records), size)])

    async def writer() -> None:
        for piece in pieces:
            await catalog.save_outcomes(piece, documents_ingested(piece, "nightly import") if audited else ())

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(writer() for _ in range(writers)))
    return time.perf_counter() - began, time.process_time() - cpu


async def new_batch(catalog: SqlCatalog, count: int) -> list[DocumentRecord]:
    """Rows as the manifest leaves them, and what they become."""
    batch_id = str(uuid.uuid4())
    spec = BatchSpec(batch_id=batch_id, tenant_id=DEFAULT_TENANT_ID, name="bench", submitted_count=count)
    record = BatchRecord(
        batch_id=batch_id,
        tenant_id=DEFAULT_TENANT_ID,
        spec=spec,
        state=BatchState.RUNNING,
        counts=Counts(),
        name="bench",
        created_at=datetime.now(UTC),
    )
    await catalog.add_batch(record)
    records = outcomes(batch_id, count)
    blank = {"status": DocumentStatus.PENDING, "started_at": None, "ended_at": None}
    for start in range(0, count, 250):
        await catalog.add_documents([each.model_copy(update=blank) for each in records[start : start + 250]])
    return records


async def measure(url: str, count: int, rounds: int) -> None:
    migrate(url)
    async with SqlCatalog(url) as catalog:
        for name, (writers, size) in WAYS.items():
            taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            for number in range(2 * rounds):
                audited = number % 2 == 1
                records = await new_batch(catalog, count)
                taken[audited].append(await write(catalog, records, writers, size, audited=audited))
            for audited, times in taken.items():
                seconds = statistics.median(each[0] for each in times)
                cpu = statistics.median(each[1] for each in times)
                label = "with its event" if audited else "outcome alone"
                print(
                    f"{name:18} {label:15} {count / seconds:8,.0f} documents/s"
                    f" {cpu / count * 1e6:6.0f} µs CPU a document"
                )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--documents", type=int, default=20_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--url")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(given.url or f"sqlite:///{folder}/catalog.db", given.documents, given.rounds))


if __name__ == "__main__":
    main()
