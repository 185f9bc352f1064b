"""Who works beside those that may work: processes whose documents take unusually long, as far as memory goes."""

import asyncio
import contextlib
from pathlib import Path
from typing import Final

from ingather.adapters.parser_server_link import Child

_PLACES_A_PROCESS: Final = 4
_KIB: Final = 1024


class Aside:
    """Children set aside, eldest first.

    As many as may work are always let be: each has a memory limit of its own. More than these, up to four times as
    many, are as long as all together hold no more than these might. A child that loops holds next to nothing, so a
    number of them fit; of those that grow the youngest are called off, to begin again when another is through.

    Args:
        processes: how many may work at one time.
        memory_bytes: anonymous memory one of them may have.
    """

    def __init__(self, processes: int, memory_bytes: int) -> None:
        self._processes = processes
        self._budget_bytes = processes * memory_bytes
        self._held: dict[Child, int | None] = {}
        self._waiting: list[asyncio.Future[None]] = []

    def __contains__(self, child: Child) -> bool:
        return child in self._held

    def has_room(self, held_bytes: int | None) -> bool:
        """Whether one more may be set aside that holds so much; None where the platform does not tell."""
        if len(self._held) < self._processes:
            return True
        if held_bytes is None or len(self._held) >= self._processes * _PLACES_A_PROCESS:
            return False
        return self._total_bytes() + held_bytes <= self._budget_bytes

    def put(self, child: Child, held_bytes: int | None) -> None:
        """Set a child aside, or learn what one that was holds by now."""
        self._held[child] = held_bytes

    def call_off(self) -> Child | None:
        """Give the youngest up, where they hold more than they may together.

        Who was called off before is not told: there is no more room than there was.
        """
        if len(self._held) <= self._processes or self._total_bytes() <= self._budget_bytes:
            return None
        youngest, _ = self._held.popitem()
        return youngest

    def remove(self, child: Child) -> None:
        """A child is through."""
        if child in self._held:
            del self._held[child]
            self._wake()

    def clear(self) -> None:
        """All are gone."""
        self._held.clear()
        self._wake()

    async def one_leaves(self) -> None:
        """Wait until another document may have better luck than one that was called off."""
        if len(self._held) < self._processes:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _total_bytes(self) -> int:
        # One that tells nothing, where the platform does, has just ended.
        return sum(held or 0 for held in self._held.values())

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()


def held_bytes(pid: int, *, besides: int) -> int | None:
    """Memory of a process, without files, beyond what it got from the one it was forked from; None where nobody tells."""
    own, inherited = _anonymous_bytes(pid), _anonymous_bytes(besides)
    return None if own is None or inherited is None else max(0, own - inherited)


def _anonymous_bytes(pid: int) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        found = [fields[name].split()[0] for name in ("RssAnon", "RssShmem", "VmSwap") if name in fields]
        return sum(int(kibibytes) for kibibytes in found) * _KIB if found else None
    return None
