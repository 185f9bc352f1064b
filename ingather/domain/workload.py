"""How long the rest of a batch takes, by what each of its documents is: one large document outlasts a hundred small ones.

Every document costs something, and each of its bytes a little more. How much is learned from those that have ended; a
first guess about bytes is given up slowly, since the documents that end first are the small ones and know little of large ones.
Two things bound the end: all that is left, at the pace so far, and the document that will be ready last, which nobody can divide.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

GUESSED_SECONDS_PER_BYTE = 1e-6
"""What a byte of a text-heavy PDF or DOCX takes on one core, parsing, chunking and embedding together."""
_GUESS_WEIGHT_BYTES = 8_000_000
"""The guess counts as much as so many bytes that were measured."""
_SHARE_OF_BYTES = 0.5
"""At most this share of the time so far is put down to bytes; the rest to there being a document at all."""
_LANES = 2
"""Documents that are parsed at a time, at least."""
_LAST_STEPS_SECONDS = 0.2
"""Indexing the last document and closing the batch."""


@dataclass(frozen=True, slots=True)
class DocumentWork:
    """A document, as far as its cost goes."""

    ordinal: int
    size_bytes: int
    is_ended: bool
    busy_seconds: float = 0.0
    """What an ended one kept a parser busy for."""


class Workload:
    """A batch's documents, looked at from time to time: those that are under way are remembered with when they must have begun."""

    def __init__(self) -> None:
        self._begins: dict[int, float] = {}
        """Expected begin of documents in flight, on the caller's clock."""

    def remaining_seconds(
        self, documents: Sequence[DocumentWork], in_flight: Collection[int], elapsed_seconds: float, now: float
    ) -> float | None:
        """Seconds until the last of these has ended; None while nothing can be said.

        Documents are begun in the order of their ordinals. ``now`` is a clock in seconds, the same at every look.
        """
        ended = [document for document in documents if document.is_ended]
        if not ended or elapsed_seconds <= 0:
            return None
        ended_bytes = sum(document.size_bytes for document in ended)
        per_byte = _seconds_per_byte(ended, ended_bytes)
        shared_per_byte = min(per_byte / _LANES, _SHARE_OF_BYTES * elapsed_seconds / max(ended_bytes, 1))
        per_document = (elapsed_seconds - shared_per_byte * ended_bytes) / len(ended)
        everything, last = 0.0, now
        begins, self._begins = self._begins, {}
        left = sorted((document for document in documents if not document.is_ended), key=lambda each: each.ordinal)
        for place, document in enumerate(left):
            begin = begins.get(document.ordinal, now + place * per_document)
            if document.ordinal in in_flight:
                # Handed out, which is not yet begun; when its turn came was best known when it was first seen.
                self._begins[document.ordinal] = begin
            everything += per_document + shared_per_byte * document.size_bytes
            last = max(last, begin + per_byte * document.size_bytes + _LAST_STEPS_SECONDS)
        return max(everything, last - now)


def _seconds_per_byte(ended: Sequence[DocumentWork], ended_bytes: int) -> float:
    busy_seconds = sum(document.busy_seconds for document in ended)
    guessed_seconds = GUESSED_SECONDS_PER_BYTE * _GUESS_WEIGHT_BYTES
    return (guessed_seconds + busy_seconds) / (_GUESS_WEIGHT_BYTES + ended_bytes)
