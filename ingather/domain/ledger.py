"""The ledger of a batch: which document stands where, with counts that are exact by construction.

It is the workflow's own book-keeping: plain data, deterministic, two bytes a document in
memory, and a short text to carry over a continue-as-new.
"""

import base64
import zlib
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
_BYTES = {status: ord(letter) for status, letter in _LETTERS.items()}
_STATUSES = {byte: status for status, byte in _BYTES.items()}
_PENDING = _BYTES[DocumentStatus.PENDING]

_ENDS = (DocumentStatus.DONE, DocumentStatus.FAILED, DocumentStatus.SKIPPED, DocumentStatus.CANCELLED)

_PLAIN_LETTERS = 1_000
"""A longer ledger is written deflated: a million documents with one status take about 1 KB."""
_DEFLATED = "z"


class Ledger:
    """Status of every document by ordinal, and the failed ones by error code."""

    def __init__(self, document_count: int) -> None:
        self._statuses = bytearray([_PENDING]) * document_count
        self._tally = dict.fromkeys(DocumentStatus, 0) | {DocumentStatus.PENDING: document_count}
        self._codes = bytearray(document_count)
        """Number of each failed document's error code, 0 for none."""
        self._code_names: list[str] = [""]
        self._code_tally: list[int] = [0]
        self._cursor = 0

    @classmethod
    def load(cls, letters: str, failures: dict[str, str]) -> Self:
        """A ledger as ``letters()`` and ``failures()`` wrote it. Raises ``ValueError`` for anything else."""
        statuses = _inflated(letters)
        ledger = cls(0)
        ledger._statuses = statuses
        ledger._codes = bytearray(len(statuses))
        ledger._tally = {status: statuses.count(byte) for status, byte in _BYTES.items()}
        if sum(ledger._tally.values()) != len(statuses):
            raise ValueError("the ledger has a letter that stands for nothing")
        for code, bitmap in failures.items():
            for ordinal in decode_bitmap(bitmap):
                ledger._set_code(ordinal, code)
        return ledger

    def __len__(self) -> int:
        return len(self._statuses)

    def __getitem__(self, ordinal: int) -> DocumentStatus:
        return _STATUSES[self._statuses[ordinal]]

    def code(self, ordinal: int) -> str | None:
        """Error code of a failed document."""
        return self._code_names[self._codes[ordinal]] or None

    def move(self, ordinal: int, status: DocumentStatus, code: str | None = None) -> None:
        """Put a document into another status; ``code`` is the error code of a failed one."""
        self._tally[self[ordinal]] -= 1
        self._tally[status] += 1
        self._statuses[ordinal] = _BYTES[status]
        self._set_code(ordinal, code if status is DocumentStatus.FAILED else None)
        if status is DocumentStatus.PENDING:
            self._cursor = min(self._cursor, ordinal)

    def move_all(self, source: DocumentStatus, target: DocumentStatus, code: str | None = None) -> list[int]:
        """Put every document of one status into another; answers which. A million take a few milliseconds."""
        moved = list(self.where(source))
        if not moved:
            return moved
        if source is DocumentStatus.FAILED:
            self._codes = bytearray(len(self._statuses))
            self._code_tally = [0] * len(self._code_names)
        self._statuses = self._statuses.replace(bytes([_BYTES[source]]), bytes([_BYTES[target]]))
        self._tally[source] = 0
        self._tally[target] += len(moved)
        if target is DocumentStatus.FAILED and code:
            for ordinal in moved:
                self._set_code(ordinal, code)
        if target is DocumentStatus.PENDING:
            self._cursor = min(self._cursor, moved[0])
        return moved

    def _set_code(self, ordinal: int, code: str | None) -> None:
        if code and code not in self._code_names:
            self._code_names.append(code)
            self._code_tally.append(0)
        number = self._code_names.index(code) if code else 0
        self._code_tally[self._codes[ordinal]] -= 1
        self._code_tally[number] += 1
        self._codes[ordinal] = number

    def next_pending(self) -> int | None:
        """The lowest pending ordinal; None when nothing waits."""
        found = self._statuses.find(_PENDING, self._cursor)
        self._cursor = found if found >= 0 else len(self._statuses)
        return found if found >= 0 else None

    def where(self, status: DocumentStatus, start: int = 0) -> Iterator[int]:
        """Ordinals in a status, rising, from ``start`` on."""
        wanted = _BYTES[status]
        ordinal = self._statuses.find(wanted, start)
        while ordinal >= 0:
            yield ordinal
            ordinal = self._statuses.find(wanted, ordinal + 1)

    def failed(self, codes: Sequence[str] = (), ordinals: Sequence[int] = ()) -> Iterator[int]:
        """Failed ordinals that match every filter given."""
        wanted = frozenset(ordinals)
        for ordinal in self.where(DocumentStatus.FAILED):
            if (not codes or self.code(ordinal) in codes) and (not wanted or ordinal in wanted):
                yield ordinal

    def cancelled(self, ordinals: Sequence[int] = ()) -> Iterator[int]:
        """Cancelled ordinals: those named, or all."""
        wanted = frozenset(ordinals)
        return (ordinal for ordinal in self.where(DocumentStatus.CANCELLED) if not wanted or ordinal in wanted)

    def reset(
        self,
        codes: Sequence[str] = (),
        ordinals: Sequence[int] = (),
        *,
        include_cancelled: bool = False,
        include_done: bool = False,
    ) -> list[int]:
        """Back to pending: failed documents that match every filter, and cancelled ones where asked for; answers which.

        With ``include_done`` every document that has ended.
        """
        if include_done:
            return sorted(ordinal for status in _ENDS for ordinal in self.move_all(status, DocumentStatus.PENDING))
        if codes or ordinals:
            chosen = list(self.failed(codes, ordinals))
            chosen += self.cancelled(ordinals) if include_cancelled else ()
            for ordinal in chosen:
                self.move(ordinal, DocumentStatus.PENDING)
            return sorted(chosen)
        chosen = self.move_all(DocumentStatus.FAILED, DocumentStatus.PENDING)
        if include_cancelled:
            chosen += self.move_all(DocumentStatus.CANCELLED, DocumentStatus.PENDING)
        return sorted(chosen)

    def apply(self, ordinals: Sequence[int], letters: str, failures: dict[str, str]) -> None:
        """Take in how these documents ended, as another ledger of just them wrote it."""
        part = Ledger.load(letters, failures)
        for position, ordinal in enumerate(ordinals):
            self.move(ordinal, part[position], part.code(position))

    def count(self, status: DocumentStatus) -> int:
        return self._tally[status]

    @property
    def counts(self) -> Counts:
        return Counts(total=len(self._statuses), **{status.value: number for status, number in self._tally.items()})

    @property
    def failures_by_code(self) -> dict[str, int]:
        """How many documents failed with each code, most frequent first."""
        named = zip(self._code_names[1:], self._code_tally[1:], strict=True)
        return dict(sorted(((code, n) for code, n in named if n), key=lambda item: (-item[1], item[0])))

    def sources(self, slices: Iterable[SourceSlice]) -> tuple[SourceProgress, ...]:
        """The same counts, source by source."""
        return tuple(
            SourceProgress(
                name=part.name,
                source_type=part.source_type,
                connection_id=part.connection_id,
                counts=self._counts_of(part.first_ordinal, part.first_ordinal + part.document_count),
            )
            for part in slices
        )

    def _counts_of(self, start: int, end: int) -> Counts:
        numbers = {status.value: self._statuses.count(byte, start, end) for status, byte in _BYTES.items()}
        return Counts(total=sum(numbers.values()), **numbers)

    def letters(self) -> str:
        """One letter a document, by ordinal; deflated where that would be long."""
        if len(self._statuses) <= _PLAIN_LETTERS:
            return self._statuses.decode("ascii")
        return _DEFLATED + base64.b64encode(zlib.compress(self._statuses)).decode("ascii")

    def failures(self) -> dict[str, str]:
        """Failed ordinals by error code, as bitmaps."""
        by_code: dict[str, list[int]] = {}
        for ordinal in self.where(DocumentStatus.FAILED):
            if code := self.code(ordinal):
                by_code.setdefault(code, []).append(ordinal)
        return {code: encode_bitmap(by_code[code]) for code in sorted(by_code)}


def _inflated(letters: str) -> bytearray:
    if not letters.startswith(_DEFLATED):
        return bytearray(letters.encode("ascii"))
    try:
        return bytearray(zlib.decompress(base64.b64decode(letters[1:], validate=True)))
    except zlib.error as error:
        raise ValueError("the ledger is cut or damaged") from error
