"""One fault against one batch: struck, outlived, audited."""

import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from tests.faults.books import Books, audit
from tests.faults.faults import Fault, has_come
from tests.faults.stack import BreakableStack
from tests.support.running_stack import notes

LARGER = (1, 2, 4)
"""Times the documents of a fault: where a fast machine ends a batch before it is struck, the next one is longer."""


@dataclass(frozen=True)
class Verdict:
    """A line of the matrix, filled in."""

    fault: Fault
    recovered_seconds: float | None
    """From the end of the cause until a worker told of a document that was done since, or of the batch's end; None
    where the batch had ended by then."""
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
    """Submit a batch, let the fault strike at its moment, wait for the end, compare all books.

    A batch that had ended before it was struck has outlived nothing: a larger one takes its place.
    """
    for times in LARGER:
        larger = replace(fault, documents=times * fault.documents)
        verdict = await _outlive(stack, larger, f"{tag}-{times}")
        if verdict is not None:
            return verdict
    raise AssertionError(
        f"{fault.name}, {fault.moment}: the batch had ended before it was struck, also with {larger.documents} documents."
        " Give the fault more of them, or longer ones (tests/faults/faults.py)."
    )


async def _outlive(stack: BreakableStack, fault: Fault, tag: str) -> Verdict | None:
    """None where the batch had ended before it was struck."""
    visitor = stack.visitor
    batch_id = await visitor.submit(notes(fault.documents, tag, fault.words), collection=tag, options=fault.options)
    await visitor.until(batch_id, lambda batch: batch["ended_at"] or has_come(fault.moment, batch), 300)
    stack.struck_at = None
    try:
        await fault.strike(stack, batch_id)
    except AssertionError:
        # What the fault should have met may have been over.
        if await _was_missed(stack, batch_id):
            return None
        raise
    passed_at, passed = datetime.now(UTC), time.monotonic()
    done = (await visitor.batch(batch_id))["counts"]["done"]
    await visitor.until(
        batch_id, lambda batch: batch["ended_at"] or (not batch["stale"] and batch["counts"]["done"] > done), 300
    )
    recovered = time.monotonic() - passed
    if await _was_missed(stack, batch_id):
        return None
    batch = await visitor.ended(batch_id, 400)
    ended_at = datetime.fromisoformat(batch["ended_at"])
    took = ended_at - datetime.fromisoformat(batch["created_at"])
    books = await audit(stack, batch_id, fault.documents, events_kept=fault.events_kept)
    return Verdict(fault, None if ended_at <= passed_at else recovered, took.total_seconds(), books)


async def _was_missed(stack: BreakableStack, batch_id: str) -> bool:
    """Whether a batch had ended when it was struck; the stack is whole again, then, for the next one."""
    ended_at = (await stack.visitor.ended(batch_id, 400))["ended_at"]
    if stack.struck_at is not None and datetime.fromisoformat(ended_at) > stack.struck_at:
        return False
    await stack.is_whole()
    return True
