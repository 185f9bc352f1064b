"""A short memory in this process."""

import time
from collections import OrderedDict

MOST_WORDS = 10_000


class InMemoryShortMemory:
    """Forgets the oldest where there are too many."""

    def __init__(self) -> None:
        self._words: OrderedDict[str, tuple[str, float]] = OrderedDict()

    async def remember(self, key: str, word: str, seconds: int) -> None:
        self._words[key] = word, time.monotonic() + seconds
        self._words.move_to_end(key)
        while len(self._words) > MOST_WORDS:
            self._words.popitem(last=False)

    async def recall(self, key: str) -> str | None:
        word, until = self._words.get(key, ("", 0.0))
        return word if time.monotonic() < until else None

    async def close(self) -> None:
        self._words.clear()
