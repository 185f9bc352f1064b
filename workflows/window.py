"""A window of activities: at most N in flight, refilled as others end.

Workflow-safe: outcomes arrive through done-callbacks, in the order the server recorded
them, and nothing waits per document (every waiter's condition would be evaluated on every
activation).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from temporalio import workflow

T = TypeVar("T")

MAX_IN_FLIGHT = 48
"""Each finished activity buffers two events behind a workflow task, and past 100 the server fails that task."""


class Window(Generic[T]):
    """Activities in flight by key.

    Args:
        limit: how many may be in flight, at most ``MAX_IN_FLIGHT``.
        on_end: called with key and ended task; it must not raise.
    """

    def __init__(self, limit: int, on_end: Callable[[int, "asyncio.Task[T]"], None]) -> None:
        self._limit = min(limit, MAX_IN_FLIGHT)
        self._on_end = on_end
        self._tasks: dict[int, asyncio.Task[T]] = {}

    @property
    def has_room(self) -> bool:
        return len(self._tasks) < self._limit

    @property
    def keys(self) -> tuple[int, ...]:
        return tuple(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, key: int, handle: "workflow.ActivityHandle[T]") -> None:
        """Watch over an activity just started."""
        self._tasks[key] = handle
        handle.add_done_callback(lambda ended: self._ended(key, ended))

    def _ended(self, key: int, task: "asyncio.Task[T]") -> None:
        del self._tasks[key]
        self._on_end(key, task)

    def cancel(self, keys: Iterable[int] | None = None) -> None:
        """Ask activities to stop: all, or those named. Their ends still arrive one by one."""
        for key in self.keys if keys is None else keys:
            self._tasks[key].cancel()

    async def drained(self) -> None:
        """Wait until nothing is in flight."""
        await workflow.wait_condition(lambda: not self._tasks)
