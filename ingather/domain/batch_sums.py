"""What of a batch is added up with others'."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from ingather.models.batch import BatchSummary, SourceProgress


def documents_by_source(sources: Iterable[SourceProgress]) -> Counter[str]:
    """How many documents came from which type of source."""
    found: Counter[str] = Counter()
    for source in sources:
        found[source.source_type] += source.counts.total
    return found


def ran_ms(started_at: datetime | None, ended_at: datetime | None, rested_ms: int = 0) -> int | None:
    """Milliseconds from a batch's start to its end, without the rests before its retries; None where it never began, or has not ended."""
    if started_at is None or ended_at is None:
        return None
    return max((ended_at - started_at) // timedelta(milliseconds=1) - rested_ms, 0)


def rested_ms(closed: BatchSummary, now: datetime) -> int:
    """Milliseconds for which a batch that is opened again now has rested since its start, all rests together."""
    if closed.started_at is None or closed.ended_at is None:
        return closed.rested_ms
    return closed.rested_ms + max((now - closed.ended_at) // timedelta(milliseconds=1), 0)
