"""Every book of an ended batch, compared: what was lost, what is there twice, what failed without a reason."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from ingather.models.identity import DEFAULT_TENANT_ID
from tests.faults.stack import BreakableStack
from tests.support.running_stack import Json

ENDS = ("document.succeeded", "document.failed", "document.skipped", "document.cancelled")

BATCH_ENDS = ("batch.completed", "batch.failed", "batch.cancelled")


@dataclass
class Books:
    """What is wrong with a batch, by the word of its API, catalog, report, index and events."""

    lost: set[str] = field(default_factory=set)
    """Documents that some book does not know, or that never ended."""
    doubled: set[str] = field(default_factory=set)
    """Rows, chunks and events that are there twice."""
    wrong: list[str] = field(default_factory=list)
    """Books that contradict each other, and failures without code or message."""
    failed: Counter[str] = field(default_factory=Counter)
    """Failures by code."""

    @property
    def balance(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


async def audit(stack: BreakableStack, batch_id: str, count: int, *, events_kept: bool = True) -> Books:
    """Compare all books of an ended batch of ``count`` documents.

    Args:
        events_kept: whether the event log must still have everything; after a FLUSHALL it cannot.
    """
    books = Books()
    batch = await stack.visitor.ended(batch_id)
    documents = await stack.visitor.documents(batch_id)
    _compare_counts(books, batch, documents, count)
    _compare_report(books, await stack.visitor.report(batch_id), documents)
    _compare_index(books, await asyncio.to_thread(index_rows, stack, batch_id), documents, batch)
    _compare_events(books, await told(stack, batch_id), documents, kept=events_kept)
    return books


async def told(stack: BreakableStack, batch_id: str, seconds: float = 60) -> list[Json]:
    """Every event, once the last one says that the batch is over.

    A worker that dies between the catalog's last word and the workflow's leaves the story without
    its end until the next one has closed the workflow.
    """
    deadline = time.monotonic() + seconds
    while True:
        events = await stack.visitor.events(batch_id)
        if (events and events[-1]["type"] in BATCH_ENDS) or time.monotonic() > deadline:
            return events
        await asyncio.sleep(0.5)


def _compare_counts(books: Books, batch: Json, documents: list[Json], count: int) -> None:
    counts = batch["counts"]
    ended = counts["done"] + counts["failed"] + counts["skipped"] + counts["cancelled"]
    if ended != counts["total"] or counts["total"] != count:
        books.wrong.append(f"counts of the batch: {counts}")
    by_status = Counter(document["status"] for document in documents)
    if by_status != Counter({name: n for name, n in counts.items() if n and name != "total"}):
        books.wrong.append(f"the batch says {counts}, its documents {dict(by_status)}")
    ordinals = Counter(document["ordinal"] for document in documents)
    books.lost |= {f"row {ordinal}" for ordinal in set(range(count)) - set(ordinals)}
    books.doubled |= {f"row {ordinal}" for ordinal, times in ordinals.items() if times > 1}
    for document in documents:
        if document["status"] == "failed":
            error = document["error"] or {}
            books.failed[error.get("code", "")] += 1
            if not (error.get("code") and error.get("message")):
                books.wrong.append(f"document {document['ordinal']} failed without a reason")


def _compare_report(books: Books, lines: list[Json], documents: list[Json]) -> None:
    reported = [(line["ordinal"], line["status"]) for line in lines]
    known = [(document["ordinal"], document["status"]) for document in documents]
    if sorted(reported) != sorted(known):
        books.wrong.append(f"report and documents differ: {sorted(set(reported) ^ set(known))[:5]}")


def _compare_index(books: Books, rows: list[Json], documents: list[Json], batch: Json) -> None:
    books.doubled |= {f"chunk {row_id}" for row_id, n in Counter(row["id"] for row in rows).items() if n > 1}
    found = Counter(row["file_id"] for row in rows)
    for document in documents:
        expected = document["chunks"] if document["status"] == "done" else 0
        if found.pop(document["id"], 0) < expected:
            books.lost.add(f"chunks of document {document['ordinal']}")
    if found:
        books.wrong.append(f"chunks of {len(found)} documents that are not done")
    if len(rows) != sum(document["chunks"] for document in documents if document["status"] == "done"):
        books.wrong.append(f"{len(rows)} chunks in the index")
    if batch["indexed"] != batch["counts"]["done"]:
        books.wrong.append(f"{batch['indexed']} indexed of {batch['counts']['done']} done")


def _compare_events(books: Books, events: list[Json], documents: list[Json], *, kept: bool) -> None:
    numbers = [event["seq"] for event in events]
    first = numbers[0] if numbers else 1
    if numbers != list(range(first, first + len(numbers))):
        books.wrong.append("event numbers have gaps")
    if not events or events[-1]["type"] not in BATCH_ENDS:
        books.wrong.append("the story has no end")
    if kept and first != 1:
        books.wrong.append(f"events begin with {first}")
    ended = Counter(event["data"]["ordinal"] for event in events if event["type"] in ENDS)
    books.doubled |= {f"end of document {ordinal}" for ordinal, n in ended.items() if n > 1}
    if kept:
        untold = {document["ordinal"] for document in documents} - set(ended)
        books.lost |= {f"end of document {ordinal}" for ordinal in untold}


def index_rows(stack: BreakableStack, batch_id: str) -> list[Json]:
    """Every row the search index holds of a batch, read beside the running stack."""
    # LanceDB takes a second to import; a list of faults does without.
    import lancedb  # noqa: PLC0415

    connection = lancedb.connect(str(stack.directory.index))
    [name] = [name for name in connection.list_tables().tables if name.startswith(DEFAULT_TENANT_ID)]
    query = connection.open_table(name).search().where(f"batch_id = '{batch_id}'")
    rows: list[Json] = query.select(["id", "file_id", "ordinal"]).limit(1_000_000).to_list()
    return rows
