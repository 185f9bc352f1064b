"""What happened in this worker not long ago, by key."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

REMEMBERED_SECONDS: Final = 600.0
"""Not for longer: what became of it then may have been a bad moment of the machine's."""
_REMEMBERED: Final = 1_000


class Lately(Generic[Value]):
    """A bounded memory of the latest.

    Args:
        clock: seconds, rising.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted: OrderedDict[str, tuple[float, Value]] = OrderedDict()

    def note(self, key: str, value: Value) -> None:
        """This has just happened, whatever happened to it before."""
        self._noted[key] = self._clock() + REMEMBERED_SECONDS, value
        self._noted.move_to_end(key)
        if len(self._noted) > _REMEMBERED:
            self._noted.popitem(last=False)

    def get(self, key: str) -> Value | None:
        """What was noted of it last; None where that is long ago."""
        until, value = self._noted.get(key, (0.0, None))
        return value if until > self._clock() else None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.get(key) is not None
