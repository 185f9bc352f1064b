"""The progress of a large batch: what its parent knows, and what its children know better."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from ingather.models.batch import BatchProgress, BatchState, ChildProgress, Counts, SourceProgress
from ingather.models.messages import JournalEntry

SHOWN_IN_FLIGHT = 48


@dataclass(frozen=True, slots=True, order=True)
class ChildKey:
    """Which child of a batch."""

    index: int
    retry_round: int = 0

    @classmethod
    def of(cls, child: ChildProgress | JournalEntry) -> Self:
        """The child that a parent's answer speaks of."""
        index = child.index if isinstance(child, ChildProgress) else child.child
        return cls(index or 0, child.retry_round)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``ValueError`` for what ``str`` did not write."""
        index, _, retry_round = text.partition("/")
        return cls(int(index), int(retry_round))

    def __str__(self) -> str:
        return f"{self.index}/{self.retry_round}"


def merged(parent: BatchProgress, answers: Mapping[ChildKey, BatchProgress]) -> BatchProgress:
    """The parent's snapshot with its children's in it. Counts add up whichever children answered, and whenever.

    To the parent all documents of a running child are in flight. They leave that count for where
    the child has them; those of a child without an answer stay.
    """
    heard = [
        answer
        for child in parent.children
        if (answer := answers.get(ChildKey.of(child))) is not None and answer.counts.total == child.document_count
    ]
    if not heard or sum(answer.counts.total for answer in heard) > parent.counts.in_flight:
        return parent
    counts = _moved(parent.counts, heard)
    return parent.model_copy(
        update={
            "state": _state(parent, counts),
            "counts": counts,
            "children_version": sum(answer.version for answer in heard),
            "failures_by_code": _summed(parent.failures_by_code, heard),
            "in_flight": tuple(sorted(n for answer in heard for n in answer.in_flight))[:SHOWN_IN_FLIGHT],
            "sources": _sources(parent.sources, counts),
            "indexed": parent.indexed + sum(answer.indexed for answer in heard),
        }
    )


def is_newer(one: BatchProgress, other: BatchProgress) -> bool:
    """Whether a snapshot is of a later moment than another."""
    return (one.version, one.children_version) > (other.version, other.children_version)


def not_behind(progress: BatchProgress, known: BatchProgress) -> BatchProgress:
    """An answer in which children are missing, with the numbers that were known before where those were further on."""
    is_same_work = (progress.retry_round, progress.counts.total) == (known.retry_round, known.counts.total)
    if not is_same_work or progress.counts.ended >= known.counts.ended:
        return progress
    numbers = ("counts", "failures_by_code", "in_flight", "sources", "indexed")
    return progress.model_copy(update={name: getattr(known, name) for name in numbers})


def _moved(counts: Counts, heard: Iterable[BatchProgress]) -> Counts:
    numbers = counts.model_dump()
    for answer in heard:
        numbers["in_flight"] -= answer.counts.total
        for name, number in answer.counts.model_dump(exclude={"total"}).items():
            numbers[name] += number
    return Counts(**numbers)


def _state(parent: BatchProgress, counts: Counts) -> BatchState:
    # Children that pause do not end: the parent goes on counting their documents as in flight.
    is_still = parent.state is BatchState.PAUSING and counts.in_flight == 0
    return BatchState.PAUSED if is_still else parent.state


def _summed(failures: Mapping[str, int], heard: Iterable[BatchProgress]) -> dict[str, int]:
    """Most frequent first."""
    summed = dict(failures)
    for answer in heard:
        for code, number in answer.failures_by_code.items():
            summed[code] = summed.get(code, 0) + number
    return dict(sorted(summed.items(), key=lambda item: (-item[1], item[0])))


def _sources(sources: tuple[SourceProgress, ...], counts: Counts) -> tuple[SourceProgress, ...]:
    """Children do not know sources: of several, each shows a child's documents as in flight until the child ends."""
    if len(sources) != 1 or sources[0].counts.total != counts.total:
        return sources
    return (sources[0].model_copy(update={"counts": counts}),)
