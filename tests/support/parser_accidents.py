"""Stand-ins for ``prepare_document`` that do to their process what broken documents do to native parsers.

A document's content says what happens: ``crash``, ``crash-unless-fresh <path>``, ``hang <path>``,
``hang-once <path>``, ``eat-memory``, ``allocate``, ``panic``, ``raise``, ``be-killed``, ``exit``, ``slow``; anything else is prepared as usual.
"""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.prepare import prepare_document
from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.ports.embedder import Embedder


class PanicException(BaseException):
    """What a panic in Rust looks like from Python."""


class _Documents:
    seen = 0
    """How many this process was given."""


def _crash_unless_fresh(argument: str) -> None:
    """Crash at the first attempt, and again where the second one runs in a process that had a document before."""
    marker = Path(argument)
    if not marker.exists() or _Documents.seen > 1:
        marker.touch()
        ctypes.string_at(0)


def _hang(argument: str) -> None:
    if argument:
        Path(argument).write_text(str(os.getpid()))
    while True:
        pass


def _hang_once(argument: str) -> None:
    if not Path(argument).exists():
        _hang(argument)


def _eat_memory(_argument: str) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(8 * 1024 * 1024))


def _fail_an_allocation(_argument: str) -> None:
    os.write(2, b"memory allocation of 99999999999 bytes failed\n")
    os.abort()


def _panic(_argument: str) -> None:
    raise PanicException("index out of bounds")


def _raise(_argument: str) -> None:
    raise RuntimeError("a parser's own bug")


_ACCIDENTS: dict[str, Callable[[str], object]] = {
    "crash": lambda _argument: ctypes.string_at(0),
    "crash-unless-fresh": _crash_unless_fresh,
    "hang": _hang,
    "hang-once": _hang_once,
    "eat-memory": _eat_memory,
    "allocate": _fail_an_allocation,
    "panic": _panic,
    "raise": _raise,
    "be-killed": lambda _argument: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda _argument: os._exit(3),
    "slow": lambda _argument: time.sleep(0.35),
}


def prepare(
    request: PrepareRequest, embedder: Embedder | None, limits: ParseLimits, on_stage: Callable[[Stage], None]
) -> PreparedDocument:
    """Have the accident the document asks for."""
    _Documents.seen += 1
    on_stage(Stage.DETECTING)
    on_stage(Stage.PARSING)
    command, _, argument = request.content[:500].decode("latin-1").partition(" ")
    if accident := _ACCIDENTS.get(command):
        accident(argument)
    if command == "slow":
        on_stage(Stage.CHUNKING)
        time.sleep(0.35)
    return prepare_document(request, embedder, limits, on_stage)
