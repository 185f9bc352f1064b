"""The ledger of a batch: which document stands where, with counts that are exact by construction.

It is the workflow's own book-keeping: plain data, deterministic, a byte a document in memory, and a
short text to carry over a continue-as-new. A workflow task may not think for two seconds, so whatever
concerns many documents is done to all bytes at once, never document by document: a million take
milliseconds.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, compress, count
from typing import Self

from ingather.domain.bitmap import decode_bitmap, encode_flags
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
_MARKS = {status: ord(letter) for status, letter in _LETTERS.items()}
_STATUSES = {mark: status for status, mark in _MARKS.items()}
_PENDING = _MARKS[DocumentStatus.PENDING]
_FAILED = _MARKS[DocumentStatus.FAILED]
_CODE_MARKS = bytes(mark for mark in range(256) if mark not in _STATUSES)
"""What stands for *failed with this code*; there are a few dozen codes (``ingather.models.errors``)."""

_ENDS = (DocumentStatus.DONE, DocumentStatus.FAILED, DocumentStatus.SKIPPED, DocumentStatus.CANCELLED)

_PLAIN_LETTERS = 1_000
"""A longer ledger is written as one deflated text: a million documents with one status take about 1 KB."""
_DEFLATED = "z"
"""Deflated letters, with the failures beside them: the long form of earlier versions, still read."""
_DEFLATED_MARKS = "y"
"""Deflated names of the codes and marks."""


class Ledger:
    """Status of every document by ordinal, and the failed ones by error code."""

    def __init__(self, document_count: int) -> None:
        self._marks = bytearray([_PENDING]) * document_count
        """A byte a document: the letter of its status, or the mark of the code it failed with."""
        self._tally = [0] * 256
        """How many documents have each mark."""
        self._tally[_PENDING] = document_count
        self._mark_of: dict[str, int] = {}
        """Mark by error code, in the order in which codes were first seen."""
        self._code_of: dict[int, str] = {}
        self._cursor = 0

    @classmethod
    def load(cls, letters: str, failures: dict[str, str]) -> Self:
        """A ledger as ``written()`` wrote it, now or earlier. Raises ``ValueError`` for anything else."""
        ledger = cls(0)
        if letters.startswith(_DEFLATED_MARKS):
            names, _, marks = _inflated(letters[1:], base64.b85decode).partition(b"\n")
            for code in json.loads(names):
                ledger._code_mark(code)
        elif letters.startswith(_DEFLATED):
            marks = _inflated(letters[1:], partial(base64.b64decode, validate=True))
        else:
            marks = letters.encode("ascii")
        ledger._marks = bytearray(marks)
        for code, bitmap in failures.items():
            mark = ledger._code_mark(code)
            for ordinal in decode_bitmap(bitmap):
                ledger._marks[ordinal] = mark
        for mark in (*_STATUSES, *ledger._code_of):
            ledger._tally[mark] = ledger._marks.count(mark)
        if sum(ledger._tally) != len(ledger):
            raise ValueError("the ledger has a letter that stands for nothing")
        return ledger

    def __len__(self) -> int:
        return len(self._marks)

    def __getitem__(self, ordinal: int) -> DocumentStatus:
        return _STATUSES.get(self._marks[ordinal], DocumentStatus.FAILED)

    def code(self, ordinal: int) -> str | None:
        """Error code of a failed document."""
        return self._code_of.get(self._marks[ordinal])

    def move(self, ordinal: int, status: DocumentStatus, code: str | None = None) -> None:
        """Put a document into another status; ``code`` is the error code of a failed one."""
        mark = self._mark(status, code)
        self._tally[self._marks[ordinal]] -= 1
        self._tally[mark] += 1
        self._marks[ordinal] = mark
        if status is DocumentStatus.PENDING:
            self._cursor = min(self._cursor, ordinal)

    def move_all(self, source: DocumentStatus, target: DocumentStatus, code: str | None = None) -> list[int]:
        """Put every document of one status into another; answers which."""
        return self._replace(self._marks_of(source), self._mark(target, code))

    def _replace(self, marks: bytes, target: int) -> list[int]:
        """Give every document with one of these marks another; answers which, rising."""
        moved = self._with_marks(marks)
        if not moved:
            return moved
        self._marks = self._marks.translate(bytes.maketrans(marks, bytes([target]) * len(marks)))
        for mark in marks:
            self._tally[mark] = 0
        # As ``marks`` may have had the target among them, it is counted last.
        self._tally[target] = self._marks.count(target)
        if target == _PENDING:
            self._cursor = min(self._cursor, moved[0])
        return moved

    def _with_marks(self, marks: bytes, start: int = 0) -> list[int]:
        """Ordinals from ``start`` on that have one of these marks, rising."""
        if not any(self._tally[mark] for mark in marks):
            return []
        return list(compress(count(start), self._marks[start:].translate(_flags(marks))))

    def _mark(self, status: DocumentStatus, code: str | None) -> int:
        return self._code_mark(code) if code and status is DocumentStatus.FAILED else _MARKS[status]

    def _code_mark(self, code: str) -> int:
        """There is room for 250 codes; with one beyond them a document has failed without a code."""
        if code not in self._mark_of and len(self._mark_of) < len(_CODE_MARKS):
            mark = _CODE_MARKS[len(self._mark_of)]
            self._mark_of[code], self._code_of[mark] = mark, code
        return self._mark_of.get(code, _FAILED)

    def _marks_of(self, status: DocumentStatus) -> bytes:
        """All marks of one status."""
        return bytes((_MARKS[status], *(self._code_of if status is DocumentStatus.FAILED else ())))

    def next_pending(self) -> int | None:
        """The lowest pending ordinal; None when nothing waits."""
        found = self._marks.find(_PENDING, self._cursor)
        self._cursor = found if found >= 0 else len(self._marks)
        return found if found >= 0 else None

    def where(self, status: DocumentStatus, start: int = 0) -> Iterator[int]:
        """Ordinals in a status, rising, from ``start`` on."""
        if status is DocumentStatus.FAILED:
            yield from self._with_marks(self._marks_of(status), start)
            return
        # One by one: who asks for these mostly takes the first few.
        wanted = _MARKS[status]
        ordinal = self._marks.find(wanted, start)
        while ordinal >= 0:
            yield ordinal
            ordinal = self._marks.find(wanted, ordinal + 1)

    def failed(self, codes: Sequence[str] = (), ordinals: Sequence[int] = ()) -> Iterator[int]:
        """Failed ordinals that match every filter given."""
        return iter(self._chosen(self._failure_marks(codes), ordinals))

    def cancelled(self, ordinals: Sequence[int] = ()) -> Iterator[int]:
        """Cancelled ordinals: those named, or all."""
        return iter(self._chosen(self._marks_of(DocumentStatus.CANCELLED), ordinals))

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
            return self._replace(bytes(chain.from_iterable(map(self._marks_of, _ENDS))), _PENDING)
        marks = self._failure_marks(codes)
        if include_cancelled:
            marks += self._marks_of(DocumentStatus.CANCELLED)
        if not ordinals:
            return self._replace(marks, _PENDING)
        chosen = self._chosen(marks, ordinals)
        for ordinal in chosen:
            self.move(ordinal, DocumentStatus.PENDING)
        return chosen

    def _failure_marks(self, codes: Sequence[str]) -> bytes:
        """Marks of failed documents: of all, or of those with one of these codes."""
        if not codes:
            return self._marks_of(DocumentStatus.FAILED)
        return bytes(mark for code, mark in self._mark_of.items() if code in codes)

    def _chosen(self, marks: bytes, ordinals: Sequence[int]) -> list[int]:
        """Documents with one of these marks, rising: those named, or all."""
        if not ordinals:
            return self._with_marks(marks)
        named = sorted(frozenset(ordinals))
        return [ordinal for ordinal in named if 0 <= ordinal < len(self) and self._marks[ordinal] in marks]

    def apply(self, ordinals: Sequence[int], letters: str, failures: dict[str, str]) -> None:
        """Take in how these documents ended, as another ledger of just them wrote it."""
        part = Ledger.load(letters, failures)
        for position, ordinal in enumerate(ordinals):
            self.move(ordinal, part[position], part.code(position))

    def count(self, status: DocumentStatus) -> int:
        return sum(self._tally[mark] for mark in self._marks_of(status))

    @property
    def counts(self) -> Counts:
        return Counts(total=len(self._marks), **{status.value: self.count(status) for status in DocumentStatus})

    @property
    def failures_by_code(self) -> dict[str, int]:
        """How many documents failed with each code, most frequent first."""
        named = ((code, self._tally[mark]) for code, mark in self._mark_of.items())
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
        total = len(range(len(self._marks))[start:end])
        numbers = {
            status.value: self._marks.count(mark, start, end)
            for status, mark in _MARKS.items()
            if status is not DocumentStatus.FAILED
        }
        return Counts(total=total, failed=total - sum(numbers.values()), **numbers)

    def letters(self) -> str:
        """One letter a document, by ordinal."""
        codes = bytes(self._code_of)
        return self._marks.translate(bytes.maketrans(codes, bytes([_FAILED]) * len(codes))).decode("ascii")

    def failures(self) -> dict[str, str]:
        """Failed ordinals by error code, as bitmaps."""
        return {
            code: encode_flags(self._marks.translate(_flags([self._mark_of[code]])))
            for code in sorted(self.failures_by_code)
        }

    def written(self) -> tuple[str, dict[str, str]]:
        """All there is, to go on from with ``load``.

        Letters and failures; of a long ledger one deflated text, and no failures beside it. At worst a million documents
        that stand anywhere, and failed with any of twenty codes, are 480 KiB.
        """
        if len(self._marks) <= _PLAIN_LETTERS:
            return self.letters(), self.failures()
        names = sorted(self.failures_by_code)
        marks = bytes(self._mark_of[name] for name in names)
        # By name, so that two ledgers which say the same are written the same.
        plain = self._marks.translate(bytes.maketrans(marks, _CODE_MARKS[: len(marks)]))
        return _DEFLATED_MARKS + _deflated(json.dumps(names).encode() + b"\n" + plain), {}


def _flags(marks: Iterable[int]) -> bytes:
    """A table that makes each of these marks a one, and the others zeros."""
    table = bytearray(256)
    for mark in marks:
        table[mark] = 1
    return bytes(table)


def _deflated(data: bytes) -> str:
    """Either of two quick ways: one sees what repeats, the other is as short as can be where nothing does.

    Base85, since it must fit a payload, and is six per cent shorter than base64.
    """
    ways = (zlib.compressobj(1), zlib.compressobj(1, strategy=zlib.Z_RLE))
    return base64.b85encode(min((way.compress(data) + way.flush() for way in ways), key=len)).decode("ascii")


def _inflated(text: str, decoded: Callable[[str], bytes]) -> bytes:
    try:
        return zlib.decompress(decoded(text))
    except zlib.error as error:
        raise ValueError("the ledger is cut or damaged") from error
