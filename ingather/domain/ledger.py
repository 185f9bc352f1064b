"""The ledger of a batch: which document stands where, with counts that are exact by construction.

It is the workflow's own book-keeping: plain data, deterministic, small enough to carry
over a continue-as-new as one letter a document.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from ingather.domain.bitmap import decode_bitmap, encode_bitmap
from ingather.models.batch import Counts, SourceProgress, SourceSlice
from ingather.models.document import DocumentStatus

_LETTERS = {
    DocumentStatus.PENDING: "p",
    DocumentStatus.IN_FLIGHT: "i",
    DocumentStatus.DONE: "d",
    DocumentStatus.FAILED: "f",
    DocumentStatus.SKIPPED: "s",
    DocumentStatus.CANCELLED: "c",
}
_STATUSES = {letter: status for status, letter in _LETTERS.items()}


class Ledger:
    """Status of every document by ordinal, and the failed ones by error code."""

    def __init__(self, document_count: int) -> None:
        self._statuses = [DocumentStatus.PENDING] * document_count
        self._tally = dict.fromkeys(DocumentStatus, 0) | {DocumentStatus.PENDING: document_count}
        self._codes: dict[int, str] = {}
        self._cursor = 0

    @classmethod
    def load(cls, letters: str, failures: dict[str, str]) -> Self:
        """A ledger as ``letters()`` and ``failures()`` wrote it."""
        ledger = cls(len(letters))
        for ordinal, letter in enumerate(letters):
            ledger.move(ordinal, _STATUSES[letter])
        for code, bitmap in failures.items():
            for ordinal in decode_bitmap(bitmap):
                ledger._codes[ordinal] = code
        return ledger

    def __len__(self) -> int:
        return len(self._statuses)

    def __getitem__(self, ordinal: int) -> DocumentStatus:
        return self._statuses[ordinal]

    def move(self, ordinal: int, status: DocumentStatus, code: str | None = None) -> None:
        """Put a document into another status; ``code`` is the error code of a failed one."""
        self._tally[self._statuses[ordinal]] -= 1
        self._tally[status] += 1
        self._statuses[ordinal] = status
        if status is DocumentStatus.FAILED and code is not None:
            self._codes[ordinal] = code
        else:
            self._codes.pop(ordinal, None)
        if status is DocumentStatus.PENDING:
            self._cursor = min(self._cursor, ordinal)

    def next_pending(self) -> int | None:
        """The lowest pending ordinal; None when nothing waits."""
        while self._cursor < len(self._statuses):
            if self._statuses[self._cursor] is DocumentStatus.PENDING:
                return self._cursor
            self._cursor += 1
        return None

    def where(self, status: DocumentStatus) -> Iterator[int]:
        """Ordinals in a status, rising."""
        return (ordinal for ordinal, own in enumerate(self._statuses) if own is status)

    def failed(self, codes: Sequence[str] = (), ordinals: Sequence[int] = ()) -> Iterator[int]:
        """Failed ordinals that match every filter given."""
        wanted = frozenset(ordinals)
        for ordinal in self.where(DocumentStatus.FAILED):
            if (not codes or self._codes.get(ordinal) in codes) and (not wanted or ordinal in wanted):
                yield ordinal

    def cancelled(self, ordinals: Sequence[int] = ()) -> Iterator[int]:
        """Cancelled ordinals: those named, or all."""
        wanted = frozenset(ordinals)
        return (ordinal for ordinal in self.where(DocumentStatus.CANCELLED) if not wanted or ordinal in wanted)

    def count(self, status: DocumentStatus) -> int:
        return self._tally[status]

    @property
    def counts(self) -> Counts:
        return Counts(total=len(self._statuses), **{status.value: number for status, number in self._tally.items()})

    @property
    def failures_by_code(self) -> dict[str, int]:
        """How many documents failed with each code, most frequent first."""
        tally: dict[str, int] = {}
        for ordinal in sorted(self._codes):
            code = self._codes[ordinal]
            tally[code] = tally.get(code, 0) + 1
        return dict(sorted(tally.items(), key=lambda item: (-item[1], item[0])))

    def sources(self, slices: Iterable[SourceSlice]) -> tuple[SourceProgress, ...]:
        """The same counts, source by source."""
        return tuple(
            SourceProgress(
                name=part.name,
                source_type=part.source_type,
                counts=_tally(self._statuses[part.first_ordinal : part.first_ordinal + part.document_count]),
            )
            for part in slices
        )

    def letters(self) -> str:
        """One letter a document, by ordinal."""
        return "".join(_LETTERS[status] for status in self._statuses)

    def failures(self) -> dict[str, str]:
        """Failed ordinals by error code, as bitmaps."""
        by_code: dict[str, list[int]] = {}
        for ordinal in sorted(self._codes):
            by_code.setdefault(self._codes[ordinal], []).append(ordinal)
        return {code: encode_bitmap(by_code[code]) for code in sorted(by_code)}


def _tally(statuses: Sequence[DocumentStatus]) -> Counts:
    numbers = dict.fromkeys(DocumentStatus, 0)
    for status in statuses:
        numbers[status] += 1
    return Counts(total=len(statuses), **{status.value: number for status, number in numbers.items()})
