"""Who gets the next place: by priority, then age, within a number of batches and of bytes.

A batch whose bytes do not fit beside those that run lets smaller ones behind it go first, but
only ``MAX_PASSED_OVER`` times; then the line stands until it fits. So a large batch leaves
places idle for a while at most, and is never overtaken for ever. One that is larger than the
limit runs alone.
"""

import base64
import uuid
from collections.abc import Iterable
from datetime import datetime

from ingather.models.messages import MAX_WAITING, PlaceEntry, PlaceHolder, PlaceLimits, PlacesLine

MAX_PASSED_OVER = 8

_ID_BYTES = 16


class WaitingLine:
    """Holders and waiting batches of one tenant. Every batch is in it once.

    Args:
        holders: batches that have a place.
        waiting: batches that wait for one, in any order.
    """

    def __init__(self, holders: Iterable[PlaceEntry] = (), waiting: Iterable[PlaceEntry] = ()) -> None:
        self._holders = {entry.batch_id: entry for entry in holders}
        self._waiting = {entry.batch_id: entry for entry in waiting}

    @property
    def holders(self) -> tuple[PlaceEntry, ...]:
        return tuple(self._holders.values())

    @property
    def waiting(self) -> tuple[PlaceEntry, ...]:
        """The next one first."""
        return tuple(sorted(self._waiting.values(), key=_turn))

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    @property
    def is_empty(self) -> bool:
        """Nobody waits, nobody holds a place."""
        return not self._holders and not self._waiting

    @property
    def held_bytes(self) -> int:
        return sum(entry.submitted_bytes for entry in self._holders.values())

    def ask(self, entry: PlaceEntry) -> bool:
        """Put a batch in line; True when it has a place already.

        The same batch again keeps its age and takes the new priority. A batch that was opened
        again stands behind, and what its earlier life held is free. A full line takes nobody in.
        """
        held = self._holders.get(entry.batch_id)
        if held is not None and held.chain_id == entry.chain_id:
            return True
        self._holders.pop(entry.batch_id, None)
        known = self._waiting.get(entry.batch_id)
        if known is not None and known.chain_id == entry.chain_id:
            entry = entry.model_copy(update={"asked_at": known.asked_at, "passed_over": known.passed_over})
        if known is not None or len(self._waiting) < MAX_WAITING:
            self._waiting[entry.batch_id] = entry
        return False

    def release(self, holder: PlaceHolder) -> bool:
        """Take a batch out, wherever it stands; False when this life of it is not here."""
        for entries in (self._holders, self._waiting):
            found = entries.get(holder.batch_id)
            if found is not None and found.chain_id == holder.chain_id:
                del entries[holder.batch_id]
                return True
        return False

    def admit(self, limits: PlaceLimits) -> list[PlaceEntry]:
        """Give out every place that is free; answers who got one, in turn."""
        admitted: list[PlaceEntry] = []
        passed: list[PlaceEntry] = []
        for entry in self.waiting:
            if len(self._holders) >= limits.max_jobs:
                break
            if self._holders and self.held_bytes + entry.submitted_bytes > limits.max_bytes:
                if entry.passed_over >= MAX_PASSED_OVER:
                    break
                passed.append(entry)
                continue
            self._holders[entry.batch_id] = self._waiting.pop(entry.batch_id)
            admitted.append(entry)
            passed = [self._pass_over(earlier) for earlier in passed]
            if any(earlier.passed_over >= MAX_PASSED_OVER for earlier in passed):
                break
        return admitted

    def _pass_over(self, entry: PlaceEntry) -> PlaceEntry:
        later = entry.model_copy(update={"passed_over": entry.passed_over + 1})
        self._waiting[entry.batch_id] = later
        return later

    def snapshot(self, most: int = MAX_WAITING) -> PlacesLine:
        """The line as others see it, with at most so many of its batches by name."""
        order = b"".join(uuid.UUID(entry.batch_id).bytes for entry in self.waiting[:most])
        return PlacesLine(
            held=len(self._holders), waiting=len(self._waiting), order=base64.b64encode(order).decode("ascii")
        )


def batches_in(line: PlacesLine) -> list[str]:
    """The batches that a line names, the next one first."""
    packed = base64.b64decode(line.order)
    return [str(uuid.UUID(bytes=packed[at : at + _ID_BYTES])) for at in range(0, len(packed), _ID_BYTES)]


def position_in(line: PlacesLine, batch_id: str) -> int | None:
    """Where a batch stands in line, from 1; None where the line does not name it."""
    packed, wanted = base64.b64decode(line.order), uuid.UUID(batch_id).bytes
    places = range(0, len(packed), _ID_BYTES)
    return next((at // _ID_BYTES + 1 for at in places if packed[at : at + _ID_BYTES] == wanted), None)


def _turn(entry: PlaceEntry) -> tuple[int, datetime, str]:
    return entry.priority, entry.asked_at, entry.batch_id
