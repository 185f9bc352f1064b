"""The fork server: a process that has imported every parser, has no thread, and only forks.

A worker cannot fork its parsers itself: it has threads, and a lock one of them holds at that moment stays
locked in the child for ever. Starting each parser from nothing takes more than a second. So one clean
process is started once, imports everything, loads the model, and is copied for each parser in
a millisecond; all copies share its memory until they write to it.

It is told what to fork and kill over a socket, tells how its children ended, and ends with its children
when the worker's end of that socket closes, however the worker ended.
"""

import contextlib
import gc
import importlib
import os
import pickle
import select
import signal
import socket
import sys
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import NoReturn

from ingather.adapters import parser_kernel as kernel
from ingather.adapters.niceness import own_niceness, set_niceness
from ingather.adapters.parser_child import ChildSettings, Work, open_peak_reset, serve
from ingather.adapters.parser_confinement import Room
from ingather.adapters.parser_sandbox import Sandbox
from ingather.adapters.parser_wire import CELL, FORK, KILL, ORDER, Exit, exit_line, forked_line, ready_line
from ingather.ports.embedder import Embedder

_LAST_WORDS_BYTES = 64 * 1024
_ALLOCATOR_WORDS = (
    b"memory allocation of",
    b"bad_alloc",
    b"out of memory",
    b"Out of memory",
    b"Cannot allocate memory",
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What the server is started with; the worker pickles it."""

    prepare: str
    """Import path ``module:function`` of what each parser runs, ``prepare_document`` outside tests."""
    embedder: Embedder | None
    child: ChildSettings


def main(control_fd: int, page_fd: int, folder: str) -> NoReturn:
    """Serve until the worker is gone. The settings come pickled on standard input: from our own parent only."""
    settings: ServerSettings = pickle.load(sys.stdin.buffer)  # noqa: S301 - see the docstring
    module_name, _, function_name = settings.prepare.partition(":")
    module = importlib.import_module(module_name)
    if settings.embedder is not None:
        settings.embedder.embed(["Load the model before the first fork."])
    if warm_up := getattr(module, "warm_up", None):
        warm_up(settings.embedder)
    gc.collect()
    gc.freeze()  # The collector would write to every object and so copy every shared page.
    page = mmap(page_fd, 0)
    os.close(page_fd)
    work = Work(getattr(module, function_name), settings.embedder, settings.child)
    server = _ForkServer(socket.socket(fileno=control_fd), page, work, Sandbox(settings.child.sandbox, Path(folder)))
    server.run()
    os._exit(0)


@dataclass(frozen=True, slots=True)
class _Forked:
    """A child as its server knows it."""

    number: int
    words_fd: int
    """What it writes to standard error."""
    room: Room


class _ForkServer:
    def __init__(self, control: socket.socket, page: mmap, work: Work, sandbox: Sandbox) -> None:
        self._control = control
        self._page = page
        self._work = work
        self._sandbox = sandbox
        self._children: dict[int, _Forked] = {}
        """By process id."""

    def run(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle.
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        confinement = self._sandbox.open()
        self._tell(ready_line(_thread_count(), in_force=confinement.in_force, missing=confinement.missing))
        while True:
            readable, _, _ = select.select([self._control, self._wake_read], [], [])
            if self._wake_read in readable:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4_096)
                self._reap()
            if self._control in readable and not self._obey():
                break
        for pid, child in self._children.items():
            _kill(pid)
            self._sandbox.clear(child.room)
        self._kill_orphans()
        self._sandbox.close()

    def _obey(self) -> bool:
        try:
            order, fds, _, _ = socket.recv_fds(self._control, ORDER.size, 1)
        except ConnectionError:
            return False
        if len(order) < ORDER.size:
            return False
        kind, number = ORDER.unpack(order)
        if kind == FORK:
            self._fork(number, fds[0])
        elif kind == KILL:
            for pid, child in self._children.items():
                if child.number == number:  # Not reaped yet, so the process id is still its own.
                    _kill(pid)
        return True

    def _fork(self, number: int, sock_fd: int) -> None:
        server_pid = os.getpid()
        try:
            room = self._sandbox.make_room(number)
            words_fd = os.memfd_create("last-words") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
            pid = os.fork()
        except OSError:
            # Out of processes, descriptors or room: the worker tries again, and gives up where that does not help.
            os.close(sock_fd)
            self._tell(exit_line(number, Exit(0, os.EX_OSERR, peak_memory_bytes=0, says_out_of_memory=False)))
            return
        if pid == 0:
            self._be_child(server_pid, _Forked(number, words_fd, room), sock_fd)
        os.close(sock_fd)
        self._children[pid] = _Forked(number, words_fd, room)
        self._tell(forked_line(number, pid))

    def _be_child(self, server_pid: int, me: _Forked, sock_fd: int) -> NoReturn:
        work = self._work
        try:
            self._leave_server(me.words_fd)
            peak_reset = open_peak_reset()
            self._sandbox.enter(me.room, memory_bytes=work.settings.memory_bytes)
            if sys.platform == "linux":
                kernel.die_with_parent(signal.SIGKILL)
            if os.getppid() != server_pid:
                os._exit(0)  # The server died before the line above took effect.
            position = me.number % (len(self._page) // CELL.size) * CELL.size
            cell = memoryview(self._page)[position : position + CELL.size]
            serve(socket.socket(fileno=sock_fd), cell, work, peak_reset)
        finally:
            os._exit(os.EX_SOFTWARE)  # Reached only where serve itself failed; it exits by itself otherwise.

    def _leave_server(self, words_fd: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for sock in (self._control, self._wake_read, self._wake_write):
            sock.close()
        os.dup2(words_fd, 1)
        os.dup2(words_fd, 2)
        os.close(words_fd)
        for child in self._children.values():
            os.close(child.words_fd)
        # A session of its own: one signal reaches whatever it starts, as long as that does not leave it.
        os.setsid()
        # Than the worker, which may have been started with a niceness of its own.
        set_niceness(os.getpid(), own_niceness() + self._work.settings.niceness)
        with contextlib.suppress(OSError):
            # Should the whole machine run out of memory, a parser goes before the worker.
            Path("/proc/self/oom_score_adj").write_text("800")

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            if (child := self._children.pop(pid, None)) is None:
                continue  # somebody's orphan
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)  # what it started and left
            ended = Exit(
                signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
                peak_memory_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1_024),
                says_out_of_memory=_spoke_of_memory(child.words_fd),
                cpu_seconds=usage.ru_utime + usage.ru_stime,
            )
            self._tell(exit_line(child.number, ended))
            self._sandbox.clear(child.room)
        self._kill_orphans()

    def _kill_orphans(self) -> None:
        """End what a dead parser left behind in a session of its own: it is ours now, and no parser."""
        with contextlib.suppress(OSError):
            for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
                if int(pid) not in self._children:
                    os.kill(int(pid), signal.SIGKILL)

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self._control.sendall(line)


def _kill(pid: int) -> None:
    """A process and what it started. It may not have its own group yet, or may be waited for already."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def _spoke_of_memory(words_fd: int) -> bool:
    try:
        size = os.fstat(words_fd).st_size
        words = os.pread(words_fd, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
    finally:
        os.close(words_fd)
    return any(phrase in words for phrase in _ALLOCATOR_WORDS)


def _thread_count() -> int:
    """Threads of this process, native ones included; 1 where the system does not tell."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 1
