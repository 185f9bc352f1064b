"""The fork server: a process that has imported every parser, has no thread, and only forks.

A worker cannot fork its parsers itself: it has threads, and a lock one of them holds at that moment stays
locked in the child for ever. Starting each parser from nothing takes more than a second. So one clean
process is started once, imports everything, loads the model, and is copied for each parser in
a millisecond; all copies share its memory until they write to it.

It is told what to fork and kill over a socket, tells how its children ended, and ends with its children
when the worker's end of that socket closes, however the worker ended.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import sys
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path
from typing import NoReturn

from ingather.adapters.parser_child import ChildSettings, Prepare, serve
from ingather.adapters.parser_wire import FORK, KILL, ORDER, Exit, exit_line, forked_line, ready_line
from ingather.ports.embedder import Embedder

_PR_SET_PDEATHSIG = 1
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


def main(control_fd: int, page_fd: int) -> NoReturn:
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
    server = _ForkServer(
        socket.socket(fileno=control_fd), page, getattr(module, function_name), settings.embedder, settings.child
    )
    server.run()
    os._exit(0)


class _ForkServer:
    def __init__(
        self, control: socket.socket, page: mmap, prepare: Prepare, embedder: Embedder | None, child: ChildSettings
    ) -> None:
        self._control = control
        self._page = page
        self._prepare = prepare
        self._embedder = embedder
        self._child = child
        self._libc = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._ids: dict[int, int] = {}
        """Child number by process id."""
        self._last_words: dict[int, int] = {}
        """File descriptor of what a child wrote to standard error, by child number."""

    def run(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the worker's to handle.
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        self._tell(ready_line(_thread_count()))
        while True:
            readable, _, _ = select.select([self._control, self._wake_read], [], [])
            if self._wake_read in readable:
                with contextlib.suppress(BlockingIOError):
                    self._wake_read.recv(4_096)
                self._reap()
            if self._control in readable and not self._obey():
                break
        for pid in self._ids:
            os.kill(pid, signal.SIGKILL)

    def _obey(self) -> bool:
        try:
            order, fds, _, _ = socket.recv_fds(self._control, ORDER.size, 1)
        except ConnectionError:
            return False
        if len(order) < ORDER.size:
            return False
        kind, child_id = ORDER.unpack(order)
        if kind == FORK:
            self._fork(child_id, fds[0])
        elif kind == KILL:
            for pid, number in self._ids.items():
                if number == child_id:  # Not reaped yet, so the process id is still its own.
                    os.kill(pid, signal.SIGKILL)
        return True

    def _fork(self, child_id: int, sock_fd: int) -> None:
        words_fd = os.memfd_create("last-words") if hasattr(os, "memfd_create") else os.open(os.devnull, os.O_RDWR)
        server_pid = os.getpid()
        pid = os.fork()
        if pid == 0:
            try:
                self._become_child(server_pid, words_fd)
                serve(
                    socket.socket(fileno=sock_fd),
                    memoryview(self._page)[child_id % len(self._page) :][:1],
                    self._prepare,
                    self._embedder,
                    self._child,
                )
            finally:
                os._exit(70)  # Reached only where serve itself failed; it exits by itself otherwise.
        os.close(sock_fd)
        self._ids[pid] = child_id
        self._last_words[child_id] = words_fd
        self._tell(forked_line(child_id, pid))

    def _become_child(self, server_pid: int, words_fd: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._libc is not None:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server_pid:
            os._exit(0)  # The server died before the line above took effect.
        for sock in (self._control, self._wake_read, self._wake_write):
            sock.close()
        os.dup2(words_fd, 1)
        os.dup2(words_fd, 2)
        os.close(words_fd)
        for fd in self._last_words.values():
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # Anonymous memory; unlike the address space it leaves out the libraries and the model all parsers share.
        resource.setrlimit(resource.RLIMIT_DATA, (self._child.memory_bytes, self._child.memory_bytes))
        os.nice(self._child.niceness)
        with contextlib.suppress(OSError):
            # Should the whole machine run out of memory, a parser goes before the worker.
            Path("/proc/self/oom_score_adj").write_text("800")

    def _reap(self) -> None:
        while self._ids:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child_id = self._ids.pop(pid)
            ended = Exit(
                signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
                status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
                peak_memory_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1_024),
                says_out_of_memory=self._spoke_of_memory(child_id),
                cpu_seconds=usage.ru_utime + usage.ru_stime,
            )
            self._tell(exit_line(child_id, ended))

    def _spoke_of_memory(self, child_id: int) -> bool:
        fd = self._last_words.pop(child_id)
        try:
            size = os.fstat(fd).st_size
            words = os.pread(fd, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
        finally:
            os.close(fd)
        return any(phrase in words for phrase in _ALLOCATOR_WORDS)

    def _tell(self, line: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self._control.sendall(line)


def _thread_count() -> int:
    """Threads of this process, native ones included; 1 where the system does not tell."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return 1
