"""The pool: how many parser processes there are, which are free, who waits for one, and what replaces a dead one.

All of it happens on one event loop, so no lock is needed: between two awaits nothing changes. One
child more than may work is kept ready, so a child that dies or retires is replaced in the same
instant; the order for the next one goes out with it.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from mmap import PAGESIZE, mmap
from typing import Final

import structlog

from ingather.adapters.niceness import own_niceness, set_niceness
from ingather.adapters.parser_aside import Aside, held_bytes
from ingather.adapters.parser_confinement import Confinement
from ingather.adapters.parser_line import ParserLine
from ingather.adapters.parser_server import ServerSettings
from ingather.adapters.parser_server_link import Child, ServerLink
from ingather.adapters.parser_server_start import anonymous_page
from ingather.adapters.parser_wire import CELL
from ingather.models.errors import DependencyError

log = structlog.get_logger(__name__)

_STARTS_BEFORE_GIVING_UP: Final = 3
_STILLBORN_BEFORE_PAUSE: Final = 20
_STILLBORN_PAUSE_SECONDS: Final = 2.0


class ParserPool:
    """Parser processes to take and give back.

    Args:
        processes: how many may work at one time.
        settings: what the fork server is started with (``parser_server.ServerSettings``), picklable.
    """

    def __init__(self, processes: int, settings: ServerSettings) -> None:
        self._processes = processes
        self._settings = settings
        self._server: ServerLink | None = None
        self._page: mmap | None = None
        self._page_fd = -1
        self._next_number = 0
        self._idle: list[Child] = []
        self._spares: deque[Child] = deque()
        self._aside = Aside(processes, settings.child.memory_bytes)
        self._waiters: ParserLine[Child] = ParserLine()
        self._fresh_waiters: deque[asyncio.Future[Child]] = deque()
        self._failed_starts = 0
        self._stillborn = 0
        self._closed = False

    async def take(self, *, fresh: bool = False, documents: int = 1) -> Child:
        """A child nobody else has, for so many documents; ``fresh`` for one that never saw any.

        Raises ``DependencyError``.
        """
        if self._closed:
            raise _closed_error()
        self._ensure_started()
        if not fresh and self._idle and not self._waiters:
            return self._idle.pop()
        waiter: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        if fresh:
            self._fresh_waiters.append(waiter)
        else:
            self._waiters.join(waiter, documents)
        if fresh and self._idle:
            self.give_back(self._idle.pop())
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())
            raise

    def give_back(self, child: Child) -> None:
        """The child can take another document."""
        if child.ended.done() or self._closed:
            return
        if child.set_aside or child.called_off or child.is_favoured:
            self.kill(child)
            return
        if child.documents:
            self._stillborn = 0
            if any(not waiter.done() for waiter in self._fresh_waiters):
                self.kill(child)  # The spare that takes its place is what they wait for.
                return
        lines: tuple[deque[asyncio.Future[Child]] | ParserLine[Child], ...] = (self._fresh_waiters, self._waiters)
        for waiters in lines[1:] if child.documents else lines:
            while waiters:
                waiter = waiters.popleft()
                if not waiter.done():
                    waiter.set_result(child)
                    return
        self._idle.append(child)

    def kill(self, child: Child) -> None:
        """End a child whatever it does, or when it has done enough; another takes its place at once."""
        if self._server is not None:
            self._server.kill(child)
        child.sock.close()
        self._leave(child)

    def set_aside(self, child: Child) -> None:
        """Let another process work in a child's place while it goes on, where there is room for that."""
        if self._server is None or child.pid is None or not child.admitted:
            return
        held = held_bytes(child.pid, besides=self._server.pid)
        if self._aside.has_room(held):
            child.set_aside = True
            self._aside.put(child, held)
            self._uncount(child)
            self._top_up()

    def favour(self, child: Child) -> None:
        """Let a child's document go on beside the worker, not behind it, where this process may do that."""
        if self._set_niceness(child, own_niceness()):
            child.is_favoured = True

    def disfavour(self, child: Child) -> None:
        """Have one that was favoured stand behind the worker again. Where that fails it is not given back."""
        if child.is_favoured and self._set_niceness(child, own_niceness() + self._settings.child.niceness):
            child.is_favoured = False

    def keep_watch(self, child: Child, *, niceness: int | None) -> None:
        """See to a child that was set aside: what it holds, and its ``niceness`` where it has had its share.

        Where all those hold too much, the youngest is called off: it ends, and its document is to begin again.
        """
        if self._server is None or child.pid is None or child not in self._aside:
            return
        if niceness is not None:
            self._set_niceness(child, niceness)
        self._aside.put(child, held_bytes(child.pid, besides=self._server.pid))
        if (youngest := self._aside.call_off()) is not None:
            self.call_off(youngest)

    def call_off(self, child: Child) -> None:
        """End a child through no fault of its document: whoever waits for its answer learns that it ended so."""
        child.called_off = True
        if self._server is not None:
            self._server.kill(child)

    async def one_aside_leaves(self) -> None:
        """Wait until a document that was called off may begin again."""
        await self._aside.one_leaves()

    def progress(self, child: Child) -> tuple[int, float]:
        """Number of the stage the child's document is in, and the processor time in seconds it had when that began."""
        if self._page is None:
            return 0, 0.0
        stage, microseconds = CELL.unpack_from(self._page, _position(child))
        return stage, microseconds / 1_000_000

    def clear_progress(self, child: Child) -> None:
        """Forget the stage of the child's last document, before it gets its next one."""
        if self._page is not None:
            CELL.pack_into(self._page, _position(child), 0, 0)

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that live, spares included."""
        children = self._server.children.values() if self._server is not None else ()
        return [child.pid for child in children if child.pid is not None]

    @property
    def busy_pids(self) -> list[int]:
        """Process ids of those that have a document."""
        children = self._server.children.values() if self._server is not None else ()
        free = {*self._idle, *self._spares}
        return [child.pid for child in children if child.pid is not None and child not in free]

    @property
    def server_pid(self) -> int | None:
        """Process id of the fork server."""
        return self._server.pid if self._server is not None else None

    @property
    def confinement(self) -> Confinement:
        """How the processes are confined; empty before the server has started."""
        return self._server.confinement if self._server is not None else Confinement()

    async def close(self) -> None:
        """End every process and refuse whoever still waits."""
        self._closed = True
        self._refuse_waiters(_closed_error)
        if (server := self._server) is not None:
            self._server = None
            await server.stop()
        for child in [*self._idle, *self._spares]:
            child.sock.close()
        self._idle.clear()
        self._spares.clear()
        self._aside.clear()
        if self._page is not None:
            self._page.close()
            os.close(self._page_fd)
            self._page = None

    # --- Children ---------------------------------------------------------------------------

    def _leave(self, child: Child) -> None:
        """Take a child out of the count, whether its process is gone already or not."""
        self._discount(child)
        self._top_up()

    def _discount(self, child: Child) -> None:
        self._aside.remove(child)
        self._uncount(child)

    def _uncount(self, child: Child) -> None:
        if child in self._idle:
            self._idle.remove(child)
        if child in self._spares:
            self._spares.remove(child)
        child.admitted = False

    def _top_up(self) -> None:
        server = self._server
        if self._closed or server is None or not server.ready:
            return
        admitted = sum(child.admitted for child in server.children.values())
        while admitted < self._processes or not self._spares:
            if not self._spares:
                self._spares.append(self._fork(server))
            if admitted < self._processes:
                child = self._spares.popleft()
                child.admitted = True
                admitted += 1
                self.give_back(child)

    def _set_niceness(self, child: Child, niceness: int) -> bool:
        if child.pid is None or child.ended.done():
            return False
        if child.niceness != niceness and set_niceness(child.pid, niceness):
            child.niceness = niceness
        return child.niceness == niceness

    def _fork(self, server: ServerLink) -> Child:
        number, self._next_number = self._next_number, self._next_number + 1
        return server.fork(number)

    def child_ended(self, child: Child) -> None:
        """See ``ServerListener``."""
        if child in self._idle or child in self._spares:
            child.sock.close()
            if child.documents == 0:
                self._stillborn += 1
        if self._stillborn < _STILLBORN_BEFORE_PAUSE:
            self._leave(child)
            return
        # Something kills them before they can work; forking on would only burn the processor.
        self._stillborn = 0
        log.error("parser_processes.stillborn", pause_seconds=_STILLBORN_PAUSE_SECONDS)
        self._discount(child)
        self._refuse_waiters(lambda: _start_error("they die before their first document"))
        asyncio.get_running_loop().call_later(_STILLBORN_PAUSE_SECONDS, self._top_up)

    def _refuse_waiters(self, error: Callable[[], DependencyError]) -> None:
        waiting = [waiter for waiter in (*self._fresh_waiters, *self._waiters) if not waiter.done()]
        self._fresh_waiters.clear()
        self._waiters.clear()
        for waiter in waiting:
            waiter.set_exception(error())

    # --- The fork server --------------------------------------------------------------------

    def _ensure_started(self) -> None:
        if self._server is not None:
            return
        if self._page is None:
            self._page_fd = anonymous_page()
            self._page = mmap(self._page_fd, PAGESIZE)
        self._server = ServerLink(self._settings, self._page_fd, self)

    def server_ready(self) -> None:
        """See ``ServerListener``."""
        self._failed_starts = 0
        self._top_up()

    def server_lost(self, *, was_ready: bool, status: int | None) -> None:
        """See ``ServerListener``."""
        self._server = None
        for child in [*self._idle, *self._spares]:
            child.sock.close()
        self._idle.clear()
        self._spares.clear()
        self._aside.clear()
        self._failed_starts += 0 if was_ready else 1
        if self._failed_starts >= _STARTS_BEFORE_GIVING_UP:
            self._failed_starts = 0
            self._refuse_waiters(lambda: _start_error(f"the fork server ended with status {status}"))
        elif any(not waiter.done() for waiter in (*self._fresh_waiters, *self._waiters)):
            self._ensure_started()


def _closed_error() -> DependencyError:
    return DependencyError("parser processes are stopped: this worker is shutting down")


def _start_error(reason: str) -> DependencyError:
    return DependencyError(
        f"parser processes do not start: {reason}",
        action="Look at the worker's standard error for the reason, and check its memory limits.",
    )


def _position(child: Child) -> int:
    return child.number % (PAGESIZE // CELL.size) * CELL.size
