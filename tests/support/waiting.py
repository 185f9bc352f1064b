"""Waiting for something to become true, with an end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Return when the condition holds; fail loudly when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {seconds} s")
        await asyncio.sleep(0.01)


async def until_async(answer: Callable[[], Awaitable[T | None]], seconds: float = 60.0) -> T:
    """Ask until there is an answer; fail loudly when there never is."""
    deadline = time.monotonic() + seconds
    while True:
        found = await answer()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"no answer within {seconds} s")
        await asyncio.sleep(0.05)
