"""Counting requests, so that nobody takes more than a share."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """So many in so many seconds."""

    name: str
    """In the ``RateLimit`` headers."""
    quota: int
    window_seconds: int = 60


@dataclass(frozen=True, slots=True)
class RateState:
    """Where a subject stands after a hit."""

    policy: RatePolicy
    is_allowed: bool
    remaining: int
    reset_seconds: float
    """Until at least one more is allowed, or the window begins anew."""


class RateLimiter(Protocol):
    """Counters shared by every process."""

    async def hit(self, policy: RatePolicy, subject: str) -> RateState | None:
        """Count one. None when the counters cannot be reached: then nobody is held up. Never raises."""
        ...

    async def close(self) -> None: ...
