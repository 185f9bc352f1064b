"""What watchers were told of each document: one byte a document, kept beside the events.

Whoever goes on telling a batch's story reads it back, so it need not read the story again.
It is written in blocks: a batch of a million documents changes a few of them at a time.
"""

import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Self

from ingather.models.document import DocumentRecord, DocumentStatus

BLOCK_SIZE = 4_096
"""Documents in one note."""
_NOTE = "told:"

_NOTHING = 0
_PASSED_OVER = 6
_CODES = {
    DocumentStatus.IN_FLIGHT: 1,
    DocumentStatus.DONE: 2,
    DocumentStatus.FAILED: 3,
    DocumentStatus.SKIPPED: 4,
    DocumentStatus.CANCELLED: 5,
}
_STATUSES = {code: status for status, code in _CODES.items()}
_STATUS_BITS = 0b111
_TIMELESS = 0b1000
"""The end was told without the catalog's time for it."""

_OPEN = {_NOTHING, _CODES[DocumentStatus.IN_FLIGHT]}
_RETRIABLE = {_CODES[DocumentStatus.FAILED], _CODES[DocumentStatus.CANCELLED], _PASSED_OVER}
_ENDED = set(_CODES.values()) - _OPEN


def _marking(codes: set[int]) -> bytes:
    """A table for ``bytes.translate``: 1 for these codes, whatever their flags, else 0."""
    return bytes(1 if byte & _STATUS_BITS in codes else 0 for byte in range(256))


_MARK_OPEN = _marking(_OPEN)
_MARK_OPEN_OR_FAILED = _marking(_OPEN | {_CODES[DocumentStatus.FAILED]})
_MARK_OPEN_OR_RETRIABLE = _marking(_OPEN | _RETRIABLE)
_MARK_RUNNING = _marking({_CODES[DocumentStatus.IN_FLIGHT]})


class Told:
    """The last status told of each document, by ordinal."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._changed: set[int] = set()
        self.until: datetime | None = None
        """The latest end that was told, by the catalog's time."""

    def status(self, ordinal: int) -> DocumentStatus | None:
        """None where nothing was told, or the document was passed over."""
        return _STATUSES.get(self._at(ordinal) & _STATUS_BITS)

    def is_open(self, ordinal: int) -> bool:
        """No end was told, and none passed over."""
        return self._at(ordinal) & _STATUS_BITS in _OPEN

    def has(self, record: DocumentRecord) -> bool:
        """Whether the end that a record shows was told."""
        byte = self._at(record.ordinal)
        code = byte & _STATUS_BITS
        if code != _PASSED_OVER and code != _CODES.get(record.status):
            return False
        is_known = record.ended_at is None or bool(byte & _TIMELESS)
        return is_known or (self.until is not None and record.ended_at is not None and record.ended_at <= self.until)

    def note(self, ordinal: int, status: DocumentStatus, ended_at: datetime | None = None) -> None:
        """A document's start or end is told; ``ended_at`` is the catalog's time for an end."""
        byte = _CODES[status]
        if byte in _ENDED and ended_at is None:
            byte |= _TIMELESS
        self._put(ordinal, byte)
        if ended_at is not None:
            self.until = max(self.until or ended_at, ended_at)

    def pass_over(self, ordinal: int) -> None:
        """What happened to a document so far is not told; a later attempt will be."""
        self._put(ordinal, _PASSED_OVER)

    def unsettled(
        self, document_count: int, *, with_failed: bool = False, with_retriable: bool = False, with_all: bool = False
    ) -> Iterator[int]:
        """Documents whose end was not told, rising.

        Args:
            document_count: all of the batch's.
            with_failed: also those told as failed, which a retry may have run again while the batch ran.
            with_retriable: also all that a retry may have run again since the batch ended.
            with_all: also those that are done, which only a retry of everything runs again.
        """
        if with_all:
            yield from range(document_count)
            return
        table = _MARK_OPEN_OR_FAILED if with_failed else _MARK_OPEN
        marks = self._marks(document_count, _MARK_OPEN_OR_RETRIABLE if with_retriable else table)
        ordinal = marks.find(1)
        while ordinal >= 0:
            yield ordinal
            ordinal = marks.find(1, ordinal + 1)

    def count_unsettled(self, document_count: int) -> int:
        """How many documents' ends were not told."""
        return self._marks(document_count, _MARK_OPEN).count(1)

    def running(self) -> Iterator[int]:
        """Documents whose start was told, and no end since."""
        marks = self._bytes.translate(_MARK_RUNNING)
        ordinal = marks.find(1)
        while ordinal >= 0:
            yield ordinal
            ordinal = marks.find(1, ordinal + 1)

    # --- Kept beside the events -------------------------------------------------------------

    def changes(self) -> dict[str, bytes]:
        """Notes that changed since they were last asked for."""
        changed, self._changed = self._changed, set()
        return {f"{_NOTE}{block}": self._block(block) for block in sorted(changed)}

    def notes(self) -> dict[str, bytes]:
        """All of them."""
        self._changed.clear()
        return {f"{_NOTE}{block}": self._block(block) for block in range(-(-len(self._bytes) // BLOCK_SIZE))}

    @classmethod
    def load(cls, notes: Mapping[str, bytes]) -> Self:
        """What ``notes`` and later ``changes`` wrote. Raises ``ValueError`` for anything else."""
        told = cls()
        for name, note in notes.items():
            if name.startswith(_NOTE):
                told._load_block(int(name.removeprefix(_NOTE)), note)
        return told

    def _load_block(self, block: int, note: bytes) -> None:
        try:
            kept = zlib.decompress(note)
        except zlib.error as error:
            raise ValueError("a note of what was told is damaged") from error
        self._grow(block * BLOCK_SIZE + len(kept))
        self._bytes[block * BLOCK_SIZE : block * BLOCK_SIZE + len(kept)] = kept

    def _block(self, block: int) -> bytes:
        return zlib.compress(self._bytes[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE], level=1)

    def _at(self, ordinal: int) -> int:
        return self._bytes[ordinal] if ordinal < len(self._bytes) else _NOTHING

    def _put(self, ordinal: int, byte: int) -> None:
        self._grow(ordinal + 1)
        self._bytes[ordinal] = byte
        self._changed.add(ordinal // BLOCK_SIZE)

    def _grow(self, size: int) -> None:
        if size > len(self._bytes):
            self._bytes.extend(bytes(size - len(self._bytes)))

    def _marks(self, document_count: int, table: bytes) -> bytes:
        known = bytes(self._bytes[:document_count]).ljust(document_count, b"\0")
        return known.translate(table)
