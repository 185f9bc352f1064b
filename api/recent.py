"""Answers that are good for a moment: asked for once, shared by everybody who asks meanwhile."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from ingather.models.errors import EngineUnavailableError

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Kept = TypeVar("Kept")

REMEMBERED = 1_000


class Recent(Generic[Key, Value]):
    """Remembers answers by key for some seconds. One question a key is under way at a time.

    Args:
        ask: gives the answer; may be slow, may raise.
        seconds: how long an answer is good.
        silent_seconds: how long an ``EngineUnavailableError`` is; other errors are not remembered.
    """

    def __init__(self, ask: Callable[[Key], Awaitable[Value]], seconds: float, silent_seconds: float = 0.0) -> None:
        self._ask = ask
        self._seconds = seconds
        self._silent_seconds = silent_seconds
        self._known: OrderedDict[Key, tuple[float, Value]] = OrderedDict()
        self._silent: OrderedDict[Key, tuple[float, EngineUnavailableError]] = OrderedDict()
        self._asking: dict[Key, asyncio.Task[Value]] = {}

    async def get(self, key: Key) -> Value:
        """The answer, at most ``seconds`` old. Raises what the question raises."""
        known = self._known.get(key)
        if known is not None and time.monotonic() - known[0] < self._seconds:
            return known[1]
        silent = self._silent.get(key)
        if silent is not None and time.monotonic() - silent[0] < self._silent_seconds:
            raise silent[1].with_traceback(None)
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._refresh(key))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        # One caller that goes away must not take the answer from the others.
        return await asyncio.shield(task)

    def last(self, key: Key) -> Value | None:
        """The last answer, however old; None before the first."""
        known = self._known.get(key)
        return known[1] if known is not None else None

    async def _refresh(self, key: Key) -> Value:
        try:
            value = await self._ask(key)
        except EngineUnavailableError as error:
            _remember(self._silent, key, error)
            raise
        self._silent.pop(key, None)
        _remember(self._known, key, value)
        return value

    def _asked(self, key: Key, done: "asyncio.Task[Value]") -> None:
        del self._asking[key]
        if not done.cancelled():
            done.exception()  # seen, also where every caller has gone away


def _remember(known: OrderedDict[Key, tuple[float, Kept]], key: Key, what: Kept) -> None:
    known[key] = (time.monotonic(), what)
    known.move_to_end(key)
    while len(known) > REMEMBERED:
        known.popitem(last=False)
