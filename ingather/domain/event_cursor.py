"""Where a stream begins: a cursor and what the log holds become a decision."""

from dataclasses import dataclass
from enum import StrEnum

MAX_SEQ_DIGITS = 15
"""A longer cursor is nobody's: it would not even be exact in JavaScript."""


class Mode(StrEnum):
    """How a stream begins, as ``stream.open`` says."""

    SNAPSHOT = "snapshot"
    """No cursor: the whole batch, then what comes."""
    REPLAY = "replay"
    """Every event after the cursor, then what comes."""
    RESET = "reset"
    """The cursor cannot be served: the whole batch, then what comes."""
    WAITING = "waiting"
    """The event log cannot be read at the moment: the whole batch, the rest once it can."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream begins: events above ``after``, with the reason where it is not where the client asked."""

    mode: Mode
    after: int
    reason: str | None = None


def parse_cursor(text: str | None) -> int | None:
    """The number in a cursor; None when there is no cursor, -1 when it cannot be read."""
    if text is None or text == "":
        return None
    digits = text.isascii() and text.isdigit() and len(text) <= MAX_SEQ_DIGITS
    return int(text) if digits else -1


def decide(cursor: int | None, oldest: int, latest: int, *, complete: bool) -> Start:
    """Where to begin for a client that has seen ``cursor``, given what the log holds.

    ``complete`` says that the oldest event is the first the batch ever had; only then can 0 be
    served. An empty log has ``oldest`` and ``latest`` 0.
    """
    if cursor is None:
        return Start(Mode.SNAPSHOT, latest)
    if cursor < 0:
        return Start(Mode.RESET, latest, "unreadable")
    if cursor == 0:
        return Start(Mode.REPLAY, max(oldest - 1, 0)) if complete or not latest else _trimmed(latest)
    if cursor > latest:
        return Start(Mode.RESET, latest, "unknown")
    return Start(Mode.REPLAY, cursor) if cursor >= oldest - 1 else _trimmed(latest)


def _trimmed(latest: int) -> Start:
    return Start(Mode.RESET, latest, "trimmed")


def gap(after: int, seq: int) -> bool:
    """Whether an event cannot directly follow the one a client saw last."""
    return seq != after + 1
