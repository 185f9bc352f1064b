"""Keeping the process small while gigabytes pass through it."""

import asyncio
import ctypes
import gc
import sys
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES = 256 * 1024
_ARENAS = 2
_COLLECT_AFTER = (20_000, 20, 50)
"""New objects until a collection of the youngest, and how many of those until one of the older and of all."""


def return_large_buffers_to_the_system() -> None:
    """Tell glibc to map every large buffer on its own, and to use few arenas.

    By default it moves the border upwards with every large buffer that is freed, until the 8 MiB
    parts of an upload come from heaps that are never given back: 90 MB in small files left the
    process 200 MB larger. Elsewhere than with glibc nothing is done.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return
    mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
    mallopt(_M_ARENA_MAX, _ARENAS)


def spare_the_collector_what_stays() -> None:
    """Leave everything there is now out of Python's garbage collections: modules and classes live as long as the process.

    A full collection went through all of them and stopped the event loop for a third of a second; with
    two thousand streams open, for longer. So it also comes seldom: what requests leave behind is young.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


class Tidying:
    """Gives free pages back whenever so many bytes have passed through the process, in one request or in many.

    Parts of a file come to lie between what lives on, and leave holes there that the next ones do not fit into.
    """

    def __init__(self, worth_bytes: int = 16 * 1024 * 1024) -> None:
        self._worth_bytes = worth_bytes
        self._passed_bytes = 0
        self._broken_bytes = 0

    async def passed(self, size_bytes: int) -> None:
        """So many more have."""
        self._passed_bytes += size_bytes
        if self._passed_bytes > self._worth_bytes:
            self._passed_bytes = 0
            await asyncio.to_thread(return_free_pages_to_the_system)

    async def broke_off(self, size_bytes: int) -> None:
        """A request did, after so many bytes: an error and its frames hold each other, and what had just arrived."""
        self._broken_bytes += size_bytes
        if self._broken_bytes > self._worth_bytes:
            self._broken_bytes = 0
            gc.collect()
            await self.passed(self._worth_bytes)


def return_free_pages_to_the_system() -> None:
    """Give back what lies free between small things that live on: the chunks of an upload that ended. Takes some milliseconds."""
    malloc_trim = _glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    return function
