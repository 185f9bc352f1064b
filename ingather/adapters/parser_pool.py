"""The pool: how many parser processes there are, which are free, who waits for one, and what replaces a dead one.

All of it happens on one event loop, so no lock is needed: between two awaits nothing changes. One
child more than may work is kept ready, so a child that dies or retires is replaced in the same
instant; the order for the next one goes out with it.
"""

import asyncio
import json
import os
import socket
import subprocess
from collections import deque
from dataclasses import dataclass, field
from mmap import PAGESIZE, mmap
from typing import Any, Final

import structlog

from ingather.adapters.parser_server import ServerSettings
from ingather.adapters.parser_server_start import anonymous_page, start_server
from ingather.adapters.parser_wire import FORK, KILL, ORDER, Exit
from ingather.models.errors import DependencyError

log = structlog.get_logger(__name__)

_STARTUP_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0
_STARTS_BEFORE_GIVING_UP: Final = 3
_STILLBORN_BEFORE_PAUSE: Final = 20
_STILLBORN_PAUSE_SECONDS: Final = 2.0


@dataclass(slots=True, eq=False)
class Child:
    """One parser process as the worker sees it."""

    number: int
    sock: socket.socket
    ended: "asyncio.Future[Exit | None]"
    """How it ended; None when its server took it along."""
    admitted: bool = False
    """Counts towards the processes that may work; a spare does not yet."""
    documents: int = 0
    pid: int | None = None


@dataclass(slots=True)
class _Server:
    """One run of the fork server."""

    process: "subprocess.Popen[bytes]"
    control: socket.socket
    listener: "asyncio.Task[None] | None" = None
    ready: bool = False
    children: dict[int, Child] = field(default_factory=dict)


class ParserPool:
    """Parser processes to take and give back.

    Args:
        processes: how many may work at one time.
        settings: what the fork server is started with (``parser_server.ServerSettings``), picklable.
    """

    def __init__(self, processes: int, settings: ServerSettings) -> None:
        self._processes = processes
        self._settings = settings
        self._server: _Server | None = None
        self._page: mmap | None = None
        self._page_fd = -1
        self._next_number = 0
        self._idle: list[Child] = []
        self._spares: deque[Child] = deque()
        self._waiters: deque[asyncio.Future[Child]] = deque()
        self._failed_starts = 0
        self._stillborn = 0
        self._closed = False

    async def take(self, *, fresh: bool = False) -> Child:
        """A child nobody else has; ``fresh`` for one that never saw a document. Raises ``DependencyError``."""
        while True:
            child = await self._take_any(first=fresh)
            if not fresh or child.documents == 0:
                return child
            self.retire(child)

    def give_back(self, child: Child) -> None:
        """The child can take another document."""
        if child.ended.done() or self._closed:
            return
        if child.documents:
            self._stillborn = 0
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(child)
                return
        self._idle.append(child)

    def retire(self, child: Child) -> None:
        """Let a child end by itself, now that it has nothing to do; another takes its place at once."""
        child.sock.close()
        self._leave(child)

    def kill(self, child: Child) -> None:
        """End a child whatever it does; another takes its place at once."""
        if not child.ended.done():
            self._order(KILL, child.number)
        child.sock.close()
        self._leave(child)

    def stage_number(self, child: Child) -> int:
        """What the child wrote into its cell of the shared page."""
        return self._page[child.number % PAGESIZE] if self._page is not None else 0

    def clear_stage(self, child: Child) -> None:
        """Forget the stage of the child's last document, before it gets its next one."""
        if self._page is not None:
            self._page[child.number % PAGESIZE] = 0

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that live, spares included."""
        children = self._server.children.values() if self._server is not None else ()
        return [child.pid for child in children if child.pid is not None]

    @property
    def server_pid(self) -> int | None:
        """Process id of the fork server."""
        return self._server.process.pid if self._server is not None else None

    async def close(self) -> None:
        """End every process and refuse whoever still waits."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(_closed_error())
        self._waiters.clear()
        if (server := self._server) is not None:
            await self._stop(server)
        for child in [*self._idle, *self._spares]:
            child.sock.close()
        self._idle.clear()
        self._spares.clear()
        if self._page is not None:
            self._page.close()
            os.close(self._page_fd)
            self._page = None

    # --- Children ---------------------------------------------------------------------------

    async def _take_any(self, *, first: bool) -> Child:
        if self._closed:
            raise _closed_error()
        self._ensure_started()
        if self._idle and not self._waiters:
            return self._idle.pop()
        waiter: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(waiter.result())
            raise

    def _leave(self, child: Child) -> None:
        """Take a child out of the count, whether its process is gone already or not."""
        self._discount(child)
        self._top_up()

    def _discount(self, child: Child) -> None:
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

    def _fork(self, server: _Server) -> Child:
        """Order a child. It can be given a document before it exists: its socket keeps the request."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        number, self._next_number = self._next_number, self._next_number + 1
        child = Child(number, ours, asyncio.get_running_loop().create_future())
        server.children[number] = child
        with theirs:
            self._order(FORK, number, theirs)
        return child

    def _order(self, kind: bytes, number: int, sock: socket.socket | None = None) -> None:
        if self._server is None:
            return
        fds = [sock.fileno()] if sock is not None else []
        try:
            socket.send_fds(self._server.control, [ORDER.pack(kind, number)], fds)
        except OSError:
            # It is gone, or deaf, which its listener is about to find out.
            self._server.process.kill()

    def _bury(self, child: Child) -> None:
        """A process has ended; where it was idle, unasked."""
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
        self._refuse_waiters("they die before their first document")
        asyncio.get_running_loop().call_later(_STILLBORN_PAUSE_SECONDS, self._top_up)

    def _refuse_waiters(self, reason: str) -> None:
        waiting = [waiter for waiter in self._waiters if not waiter.done()]
        self._waiters.clear()
        for waiter in waiting:
            waiter.set_exception(
                DependencyError(
                    f"parser processes do not start: {reason}",
                    action="Look at the worker's standard error for the reason, and check its memory limits.",
                )
            )

    # --- The fork server --------------------------------------------------------------------

    def _ensure_started(self) -> None:
        if self._server is not None:
            return
        if self._page is None:
            self._page_fd = anonymous_page()
            self._page = mmap(self._page_fd, PAGESIZE)
        process, ours = start_server(self._settings, self._page_fd)
        self._server = server = _Server(process, ours)
        server.listener = asyncio.create_task(self._listen(server), name="parser-server")

    async def _listen(self, server: _Server) -> None:
        loop = asyncio.get_running_loop()
        buffer = b""
        try:
            while more := await self._receive(loop, server):
                *lines, buffer = (buffer + more).split(b"\n")
                for line in lines:
                    self._hear(server, json.loads(line))
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("parser_server.disconnected", error=str(error))
        if not self._closed:
            self._lost(server)

    async def _receive(self, loop: asyncio.AbstractEventLoop, server: _Server) -> bytes:
        if server.ready:
            return await loop.sock_recv(server.control, 65_536)
        async with asyncio.timeout(_STARTUP_SECONDS):
            return await loop.sock_recv(server.control, 65_536)

    def _hear(self, server: _Server, said: dict[str, Any]) -> None:
        match said["event"]:
            case "ready":
                server.ready = True
                self._failed_starts = 0
                log.info("parser_server.started", pid=server.process.pid, threads=said["threads"])
                self._top_up()
            case "forked":
                server.children[said["child"]].pid = said["pid"]
            case "exited":
                child = server.children.pop(said["child"])
                if not child.ended.done():
                    child.ended.set_result(Exit(**said["exit"]))
                self._bury(child)

    def _lost(self, server: _Server) -> None:
        """The server ended unasked, and its children with it."""
        server.process.kill()
        server.process.wait()
        server.control.close()
        log.warning("parser_server.lost", status=server.process.returncode, was_ready=server.ready)
        self._server = None
        for child in [*self._idle, *self._spares]:
            child.sock.close()
        self._idle.clear()
        self._spares.clear()
        for child in server.children.values():
            if not child.ended.done():
                child.ended.set_result(None)
        self._failed_starts += 0 if server.ready else 1
        if self._failed_starts >= _STARTS_BEFORE_GIVING_UP:
            self._failed_starts = 0
            self._refuse_waiters(f"the fork server ended with status {server.process.returncode}")
        elif any(not waiter.done() for waiter in self._waiters):
            self._ensure_started()

    async def _stop(self, server: _Server) -> None:
        if server.listener is not None:
            server.listener.cancel()
            await asyncio.gather(server.listener, return_exceptions=True)
        server.control.close()
        if not server.ready:
            server.process.kill()
        deadline = asyncio.get_running_loop().time() + _STOP_SECONDS
        while server.process.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                server.process.kill()
            await asyncio.sleep(0.005)
        for child in server.children.values():
            if not child.ended.done():
                child.ended.set_result(None)
        self._server = None


def _closed_error() -> DependencyError:
    return DependencyError("parser processes are stopped: this worker is shutting down")
