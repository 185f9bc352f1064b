"""A window of activities: at most N in flight, refilled as others end.

Workflow-safe: outcomes arrive through done-callbacks, in the order the server recorded
them, and nothing waits per document (every waiter's condition would be evaluated on every
activation).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from temporalio import workflow

T = TypeVar("T")

MAX_IN_FLIGHT = 48
"""Each finished activity buffers two events behind a workflow task, and past 100 the server fails that task."""


class Window:
    """Activities in flight by key.

    Args:
        limit: how many may be in flight, at most ``MAX_IN_FLIGHT``.
    """

    def __init__(self, limit: int) -> None:
        self._limit = min(limit, MAX_IN_FLIGHT)
        self._tasks: dict[int, asyncio.Task[Any]] = {}

    @property
    def has_room(self) -> bool:
        return len(self._tasks) < self._limit

    @property
    def keys(self) -> tuple[int, ...]:
        return tuple(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, key: int, handle: "workflow.ActivityHandle[T]", on_end: Callable[["asyncio.Task[T]"], None]) -> None:
        """Watch over an activity just started; ``on_end`` hears of its end, and must not raise."""
        self._tasks[key] = handle
        handle.add_done_callback(lambda ended: self._ended(key, ended, on_end))

    def _ended(self, key: int, task: "asyncio.Task[T]", on_end: Callable[["asyncio.Task[T]"], None]) -> None:
        del self._tasks[key]
        on_end(task)

    def cancel(self, keys: Iterable[int] | None = None) -> None:
        """Ask activities to stop: all, or those named. Their ends still arrive one by one."""
        for key in self.keys if keys is None else keys:
            self._tasks[key].cancel()

    async def drained(self) -> None:
        """Wait until nothing is in flight."""
        await workflow.wait_condition(lambda: not self._tasks)
