"""One run of the fork server as the worker sees it: its process, what it is told, what it tells."""

import asyncio
import json
import shutil
import socket
import tempfile
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from ingather.adapters.parser_confinement import Confinement
from ingather.adapters.parser_server import ServerSettings
from ingather.adapters.parser_server_start import start_server
from ingather.adapters.parser_wire import FORK, KILL, ORDER, Exit

log = structlog.get_logger(__name__)

_STARTUP_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0


@dataclass(slots=True, eq=False)
class Child:
    """One parser process as the worker sees it."""

    number: int
    sock: socket.socket
    ended: "asyncio.Future[Exit | None]"
    """How it ended; None when its server took it along."""
    admitted: bool = False
    """Counts towards the processes that may work; a spare does not yet, one set aside no longer."""
    set_aside: bool = False
    """Its document takes unusually long: others need not wait for it."""
    called_off: bool = False
    """It is ended for the sake of others, through no fault of its document."""
    niceness: int | None = None
    """What it was set to since it was forked; None for that of all the others."""
    is_favoured: bool = False
    """That is the worker's own."""
    documents: int = 0
    pid: int | None = None


class ServerListener(Protocol):
    """Who hears from a fork server."""

    def server_ready(self) -> None:
        """It can fork now."""
        ...

    def child_ended(self, child: Child) -> None:
        """A process has ended; where it was idle, unasked."""
        ...

    def server_lost(self, *, was_ready: bool, status: int | None) -> None:
        """The server ended unasked, and its children with it."""
        ...


class ServerLink:
    """Starts a fork server when made.

    Args:
        settings: what it is started with.
        page_fd: the page of memory its children tell their stages in.
        listener: told what happens, on the event loop.
    """

    def __init__(self, settings: ServerSettings, page_fd: int, listener: ServerListener) -> None:
        self.ready = False
        self.confinement = Confinement()
        self.children: dict[int, Child] = {}
        """Those that live, by number."""
        self._listener = listener
        self._folder = tempfile.mkdtemp(prefix="ingather-parsers-")
        self._process, self._control = start_server(settings, page_fd, self._folder)
        self._listening = asyncio.create_task(self._listen(), name="parser-server")

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def fork(self, number: int) -> Child:
        """Order a child. It can be given a document before it exists: its socket keeps the request."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        child = Child(number, ours, asyncio.get_running_loop().create_future())
        self.children[number] = child
        with theirs:
            self._order(FORK, number, theirs)
        return child

    def kill(self, child: Child) -> None:
        """End a child whatever it does."""
        if not child.ended.done():
            self._order(KILL, child.number)

    async def stop(self) -> None:
        """End the server and its children, and wait until it has."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._control.close()
        if not self.ready:
            self._process.kill()
        deadline = asyncio.get_running_loop().time() + _STOP_SECONDS
        while self._process.poll() is None:
            if asyncio.get_running_loop().time() > deadline:
                self._process.kill()
            await asyncio.sleep(0.005)
        self._tidy_up()

    def _order(self, kind: bytes, number: int, sock: socket.socket | None = None) -> None:
        fds = [sock.fileno()] if sock is not None else []
        try:
            socket.send_fds(self._control, [ORDER.pack(kind, number)], fds)
        except OSError:
            # It is gone, or deaf, which its listener is about to find out.
            self._process.kill()

    async def _listen(self) -> None:
        buffer = b""
        try:
            while more := await self._receive():
                *lines, buffer = (buffer + more).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))
        except (OSError, ValueError, TimeoutError) as error:
            log.warning("parser_server.disconnected", error=str(error))
        self._process.kill()
        self._process.wait()
        self._control.close()
        log.warning("parser_server.lost", status=self._process.returncode, was_ready=self.ready)
        self._tidy_up()
        self._listener.server_lost(was_ready=self.ready, status=self._process.returncode)

    async def _receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        if self.ready:
            return await loop.sock_recv(self._control, 65_536)
        async with asyncio.timeout(_STARTUP_SECONDS):
            return await loop.sock_recv(self._control, 65_536)

    def _hear(self, said: dict[str, Any]) -> None:
        match said["event"]:
            case "ready":
                self.ready = True
                self.confinement = Confinement(said["in_force"], said["missing"])
                log.info("parser_server.started", pid=self.pid, threads=said["threads"], confined_by=said["in_force"])
                if said["missing"]:
                    log.warning("parser_server.confined_in_part", missing=said["missing"])
                self._listener.server_ready()
            case "forked":
                self.children[said["child"]].pid = said["pid"]
            case "exited":
                child = self.children.pop(said["child"])
                if not child.ended.done():
                    child.ended.set_result(Exit(**said["exit"]))
                self._listener.child_ended(child)

    def _tidy_up(self) -> None:
        for child in self.children.values():
            if not child.ended.done():
                child.ended.set_result(None)
        shutil.rmtree(self._folder, ignore_errors=True)
