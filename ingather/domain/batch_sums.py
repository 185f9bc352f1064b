"""What of a batch is added up with others'."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta

from ingather.models.batch import SourceProgress


def documents_by_source(sources: Iterable[SourceProgress]) -> Counter[str]:
    """How many documents came from which type of source."""
    found: Counter[str] = Counter()
    for source in sources:
        found[source.source_type] += source.counts.total
    return found


def ran_ms(started_at: datetime | None, ended_at: datetime | None) -> int | None:
    """Milliseconds from a batch's first document to its end; None where it never began, or has not ended."""
    if started_at is None or ended_at is None:
        return None
    return max((ended_at - started_at) // timedelta(milliseconds=1), 0)
