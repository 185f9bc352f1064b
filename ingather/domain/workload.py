"""How long the rest of a batch takes, by what each of its documents is: one large document outlasts a hundred small ones.

Every document costs something, and each of its bytes a little more. How much is learned from those that have ended; a
first guess about bytes is given up slowly, since the documents that end first are the small ones and know little of large ones.
Two things bound the end: all that is left, at the pace so far, and the document that will be ready last, which nobody can divide.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

GUESSED_SECONDS_PER_BYTE = 0.9e-6
"""What a byte of a text-heavy PDF or DOCX takes on one core, parsing, chunking and embedding together."""
_GUESS_WEIGHT_BYTES = 6_000_000
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


def remaining_seconds(
    documents: Sequence[DocumentWork], in_flight: Collection[int], elapsed_seconds: float
) -> float | None:
    """Seconds until the last of these has ended, in the order of their ordinals; None while nothing can be said."""
    ended = [document for document in documents if document.is_ended]
    if not ended or elapsed_seconds <= 0:
        return None
    ended_bytes = sum(document.size_bytes for document in ended)
    per_byte = _seconds_per_byte(ended, ended_bytes)
    shared_per_byte = min(per_byte / _LANES, _SHARE_OF_BYTES * elapsed_seconds / max(ended_bytes, 1))
    per_document = (elapsed_seconds - shared_per_byte * ended_bytes) / len(ended)
    everything, last, ahead = 0.0, 0.0, 0.0
    for document in sorted(documents, key=lambda each: each.ordinal):
        if document.is_ended:
            continue
        everything += per_document + shared_per_byte * document.size_bytes
        alone = per_byte * document.size_bytes + _LAST_STEPS_SECONDS
        if document.ordinal in in_flight:
            # Since when is not known here: taken as just begun, it is rather too late than too early.
            last = max(last, alone)
        else:
            last = max(last, ahead + alone)
            ahead += per_document
    return max(everything, last)


def _seconds_per_byte(ended: Sequence[DocumentWork], ended_bytes: int) -> float:
    busy_seconds = sum(document.busy_seconds for document in ended)
    guessed_seconds = GUESSED_SECONDS_PER_BYTE * _GUESS_WEIGHT_BYTES
    return (guessed_seconds + busy_seconds) / (_GUESS_WEIGHT_BYTES + ended_bytes)
