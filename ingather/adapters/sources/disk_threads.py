"""Threads in which one source's disk is read: a disk that hangs holds up nobody but those who read from it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

Answer = TypeVar("Answer")

_READERS: Final = 4
"""Of one source at one time."""


class DiskThreads:
    """No thread is started before the first read."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_READERS, thread_name_prefix="source")

    async def run(self, function: Callable[..., Answer], *arguments: object) -> Answer:
        """The function's answer, from a thread. Raises what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *arguments))

    def close(self) -> None:
        """Start nothing more. A read that hangs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
