"""One fault against one batch: struck, outlived, audited."""

import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from tests.faults.books import Books, audit
from tests.faults.faults import Fault, has_come
from tests.faults.stack import BreakableStack
from tests.support.running_stack import notes


@dataclass(frozen=True)
class Verdict:
    """A line of the matrix, filled in."""

    fault: Fault
    recovered_seconds: float
    """From the end of the cause until a worker told of a document that was done since, or of the batch's end."""
    ended_seconds: float
    """From its creation to its end, by its own word."""
    books: Books

    @property
    def lost(self) -> int:
        return len(self.books.lost)

    @property
    def doubled(self) -> int:
        return len(self.books.doubled)

    @property
    def failed(self) -> Counter[str]:
        return self.books.failed


async def outlive(stack: BreakableStack, fault: Fault, tag: str) -> Verdict:
    """Submit a batch, let the fault strike at its moment, wait for the end, compare all books."""
    visitor = stack.visitor
    files = notes(fault.documents, tag, fault.words)
    batch_id = await visitor.submit(files, collection=tag, options=fault.options)
    await visitor.until(batch_id, lambda batch: batch["ended_at"] or has_come(fault.moment, batch), 300)
    await fault.strike(stack, batch_id)
    passed = time.monotonic()
    done = (await visitor.batch(batch_id))["counts"]["done"]
    await visitor.until(
        batch_id, lambda batch: batch["ended_at"] or (not batch["stale"] and batch["counts"]["done"] > done), 300
    )
    recovered = time.monotonic() - passed
    batch = await visitor.ended(batch_id, 400)
    took = datetime.fromisoformat(batch["ended_at"]) - datetime.fromisoformat(batch["created_at"])
    books = await audit(stack, batch_id, fault.documents, events_kept=fault.events_kept)
    return Verdict(fault, recovered, took.total_seconds(), books)
