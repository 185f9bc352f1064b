"""How fast a batch goes lately, and when it should be done at that pace."""

from collections import deque
from datetime import datetime, timedelta

WINDOW = timedelta(seconds=60)
"""A pace is measured over about a minute, so that it follows what happens now."""
SPACING = timedelta(seconds=1)


class Pace:
    """Documents that ended, seen from time to time."""

    def __init__(self) -> None:
        self._seen: deque[tuple[datetime, int]] = deque()
        self.was_interrupted = False
        """It stood still at some time, so the time since its start is not the time it took."""

    def note(self, at: datetime, ended: int) -> None:
        """So many had ended at this moment. Fewer than before means that a retry began: what was seen is forgotten."""
        if self._seen and ended < self._seen[-1][1]:
            self._seen.clear()
        if self._seen and at - self._seen[-1][0] < SPACING:
            return
        self._seen.append((at, ended))
        while len(self._seen) > 2 and at - self._seen[1][0] >= WINDOW:
            self._seen.popleft()

    def forget(self) -> None:
        """It stood still: what was seen before says nothing about what follows."""
        self._seen.clear()
        self.was_interrupted = True

    @property
    def per_second(self) -> float | None:
        """None while nothing ended between two looks."""
        if len(self._seen) < 2:
            return None
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_at - first_at).total_seconds() if last > first else None


def completion_at(now: datetime, remaining: int, per_second: float) -> datetime | None:
    """When so many documents are done at this pace; None past the end of the calendar."""
    try:
        return now + timedelta(seconds=remaining / per_second)
    except OverflowError:
        return None
