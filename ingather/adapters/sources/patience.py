"""How long sources behind HTTP are waited for."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a source is waited for before its error goes on."""

    attempts: int = 6
    first_wait_seconds: float = 0.5
    """Each further wait is twice as long, up to the longest; half of it is chance, so that waiters do not come together."""
    longest_wait_seconds: float = 32.0
    timeout_seconds: float = 60.0
    """Between two pieces of an answer."""

    def wait_after(self, attempt: int) -> float:
        """Seconds before the next attempt, where the source does not say."""
        whole: float = min(self.longest_wait_seconds, self.first_wait_seconds * 2 ** (attempt - 1))
        return whole * random.uniform(0.5, 1.0)


FOR_BATCHES = Patience()
FOR_PEOPLE = Patience(attempts=2, longest_wait_seconds=2.0, timeout_seconds=15.0)
"""Somebody waits for the answer, and had rather know."""
