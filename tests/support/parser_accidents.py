"""Stand-ins for ``prepare_document`` that do to their process what broken and hostile documents do to native parsers.

A document's content names the deed (``_DEEDS``), with its argument after a space; anything else is
prepared as usual. One that tries what its confinement should refuse answers with how that ended:
the name of the error, or ``did it``.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NoReturn

from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.prepare import prepare_document
from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.ports.embedder import Embedder

DID_IT = "did it"
MIB = 1024 * 1024


class PanicException(BaseException):
    """What a panic in Rust looks like from Python."""


class _Process:
    documents = 0
    """How many this process was given."""
    kept: ClassVar[list[object]] = []


# --- Dying --------------------------------------------------------------------------------


def _hang(_argument: str) -> NoReturn:
    while True:
        pass


def _hang_in_native_code(_argument: str) -> None:
    """No signal handler of Python's ever runs again: the interpreter is inside one call."""
    libc = ctypes.CDLL(None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    libc.sleep(3_600)


def _burn_in_native_code(_argument: str) -> None:
    """One call that holds the interpreter's lock for hours."""
    _ = pow(3, 10**10)


def _sleep(argument: str) -> None:
    time.sleep(float(argument))


def _hold_memory(argument: str) -> None:
    """After so many seconds so many MiB, for so many seconds."""
    after, mebibytes, seconds = argument.split()
    time.sleep(float(after))
    _Process.kept.append(b"\xff" * (int(mebibytes) * MIB))
    time.sleep(float(seconds))


def _eat_memory(_argument: str) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(8 * MIB))


def _eat_shared_memory(_argument: str) -> None:
    while True:
        shared = mmap.mmap(-1, 64 * MIB)
        _Process.kept.append(shared)
        shared.write(bytes(64 * MIB))


def _fail_an_allocation(_argument: str) -> None:
    os.write(2, b"memory allocation of 99999999999 bytes failed\n")
    os.abort()


def _panic(_argument: str) -> None:
    raise PanicException("index out of bounds")


def _raise(_argument: str) -> None:
    raise RuntimeError("a parser's own bug")


def _write_to_the_worker(argument: str) -> None:
    """Bytes on the line to the worker that are no answer, and a frame that announces too much."""
    garbage = {
        "noise": b"\xff" * 4_096,
        "json": b"\x04\0\0\0" + bytes(8) + b"null",
        "huge": b"\x01\0\0\0" + b"\xff" * 8,
    }
    for fd in range(3, 64):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as line:
            line.sendall(garbage[argument])
    time.sleep(60)


def _cut_shared_memory(_argument: str) -> None:
    """Make everything shorter that is open, the page among it that the worker reads stages from."""
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            os.ftruncate(fd, 0)


# --- Reaching out -------------------------------------------------------------------------


def _write_file(argument: str) -> None:
    Path(argument).write_text("here I was")


def _read_file(argument: str) -> None:
    Path(argument).read_bytes()


def _connect(argument: str) -> None:
    with socket.create_connection(("127.0.0.1", int(argument)), timeout=2):
        pass


def _connect_locally(argument: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(argument)


def _fill_the_folder(_argument: str) -> None:
    """Files of a megabyte until the system refuses, or a gigabyte is there."""
    for number in range(1_024):
        Path(f"{number}.tmp").write_bytes(bytes(MIB))


def _write_one_large_file(_argument: str) -> None:
    with Path("large.tmp").open("wb") as large:
        large.writelines(bytes(MIB) for _ in range(1_024))


def _open_many_files(_argument: str) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(10_000):
            opened.enter_context(open("/dev/null", "rb"))  # noqa: PTH123 - one descriptor each, nothing more


def _fork_bomb(_argument: str) -> None:
    """A thousand processes, in sessions of their own, that all stay."""
    for _ in range(1_000):
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
            os._exit(0)


def _leave_a_grandchild(_argument: str) -> None:
    """A process in a session of its own, deaf to a polite signal, that survives its parent."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)
    os.wait()
    time.sleep(0.3)
    ctypes.string_at(0)


def _run_a_program(_argument: str) -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def _thread_bomb(_argument: str) -> None:
    for _ in range(10_000):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def _signal_others(argument: str) -> None:
    os.kill(int(argument), signal.SIGKILL)


def _lengthen_life(_argument: str) -> None:
    """Raise its own limits again."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (1_000_000, 1_000_000))


def _become_root(_argument: str) -> None:
    os.setuid(0)


_DEEDS: dict[str, Callable[[str], object]] = {
    "crash": lambda _argument: ctypes.string_at(0),
    "hang": _hang,
    "hang-natively": _hang_in_native_code,
    "burn-natively": _burn_in_native_code,
    "sleep": _sleep,
    "hold-memory": _hold_memory,
    "eat-memory": _eat_memory,
    "eat-shared-memory": _eat_shared_memory,
    "allocate": _fail_an_allocation,
    "panic": _panic,
    "raise": _raise,
    "be-killed": lambda _argument: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda _argument: os._exit(3),
    "slow": lambda _argument: time.sleep(0.35),
    "garbage": _write_to_the_worker,
    "grandchild": _leave_a_grandchild,
    "cut-shared-memory": _cut_shared_memory,
}
_ATTEMPTS: dict[str, Callable[[str], object]] = {
    "write": _write_file,
    "read": _read_file,
    "connect": _connect,
    "connect-locally": _connect_locally,
    "fill": _fill_the_folder,
    "large-file": _write_one_large_file,
    "open-files": _open_many_files,
    "fork-bomb": _fork_bomb,
    "run": _run_a_program,
    "thread-bomb": _thread_bomb,
    "signal": _signal_others,
    "lengthen-life": _lengthen_life,
    "become-root": _become_root,
}


def prepare(
    request: PrepareRequest, embedder: Embedder | None, limits: ParseLimits, on_stage: Callable[[Stage], None]
) -> PreparedDocument:
    """Do what the document asks for."""
    _Process.documents += 1
    on_stage(Stage.DETECTING)
    on_stage(Stage.PARSING)
    command, _, argument = request.content[:500].decode("latin-1").partition(" ")
    first_chance = command.removesuffix("-at-first")
    # In a fresh process the second chance goes well.
    if first_chance != command and (request.kills == 0 or _Process.documents > 1):
        command = first_chance
    if deed := _DEEDS.get(command):
        deed(argument)
    if command == "slow":
        on_stage(Stage.CHUNKING)
        time.sleep(0.35)
    if attempt := _ATTEMPTS.get(command):
        return _prepared(_outcome_of(attempt, argument), request, embedder, limits, on_stage)
    if command == "where":
        return _prepared(str(Path.cwd()), request, embedder, limits, on_stage)
    if command == "environment":
        return _prepared("\n".join(os.environ), request, embedder, limits, on_stage)
    if command == "left-over":
        return _prepared(f"{sum(1 for _ in Path().iterdir())} files", request, embedder, limits, on_stage)
    return prepare_document(request, embedder, limits, on_stage)


def _outcome_of(attempt: Callable[[str], object], argument: str) -> str:
    try:
        attempt(argument)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    except Exception as error:  # noqa: BLE001 - whatever refuses it
        return type(error).__name__
    return DID_IT


def _prepared(
    said: str,
    request: PrepareRequest,
    embedder: Embedder | None,
    limits: ParseLimits,
    on_stage: Callable[[Stage], None],
) -> PreparedDocument:
    answer = PrepareRequest(
        content=said.encode(),
        filename="said.txt",
        chunk_size=request.chunk_size,
        chunk_overlap=request.chunk_overlap,
        quality_threshold=0.0,
    )
    return prepare_document(answer, embedder, limits, on_stage)
