"""A parser process: one document after another until its socket closes. It may die at any line, and nobody is hurt."""

import contextlib
import math
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from ingather.adapters.parser_confinement import SandboxSettings, empty_folder
from ingather.adapters.parser_wire import CELL, STAGES, Refusal, Reply, prepared_head, receive_request, send_reply
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.models.errors import IngatherError
from ingather.ports.embedder import Embedder

_BLOATED_SHARE = 4
"""A process whose document took more than this part of its memory asks to be replaced: heaps rarely shrink."""
_PROCESSOR_GRACE_SECONDS = 1
_STAGE_NUMBERS = {stage: number for number, stage in enumerate(STAGES, 1)}
_BYTES_PER_RSS_UNIT = 1 if sys.platform == "darwin" else 1_024


Prepare = Callable[[PrepareRequest, Embedder | None, ParseLimits, Callable[[Stage], None]], PreparedDocument]
"""``prepare_document``, or what a test puts in its place."""


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What every parser process is held to."""

    memory_bytes: int
    niceness: int
    """Parsers yield the processor to the worker that watches them."""
    limits: ParseLimits
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)


@dataclass(frozen=True, slots=True)
class Work:
    """What every parser process does."""

    prepare: Prepare
    """``prepare_document``, or a test's stand-in."""
    embedder: Embedder | None
    settings: ChildSettings


def serve(sock: socket.socket, cell: memoryview, work: Work, peak_reset: int | None) -> NoReturn:
    """Prepare documents until there are no more, then exit.

    Args:
        sock: where requests come from and replies go to.
        cell: memory the worker sees (``CELL``).
        work: what to do with them.
        peak_reset: from ``open_peak_reset``.
    """

    def announce(stage: Stage) -> None:
        cell[0] = _STAGE_NUMBERS[stage]

    while (request := receive_request(sock)) is not None:
        _forget_last(peak_reset)
        used = time.process_time()
        CELL.pack_into(cell, 0, 0, int(used * 1_000_000))
        _limit_processor_time(used + request.timeout_seconds)
        reply = _prepared(request, work, announce)
        send_reply(sock, reply)
        if reply.outcome in ("out_of_memory", "failed"):
            break
        del request, reply
    os._exit(0)


def _prepared(request: PrepareRequest, work: Work, announce: Callable[[Stage], None]) -> Reply:
    try:
        prepared = work.prepare(request, work.embedder, work.settings.limits, announce)
    except IngatherError as error:
        if _comes_of_memory(error):
            return Reply("out_of_memory", retire=True, peak_memory_bytes=_peak_memory())
        told = Refusal(error.code, error.message, error.action, error.facts)
        return Reply("refused", retire=_bloated(work.settings), error=told)
    except MemoryError:
        return Reply("out_of_memory", retire=True, peak_memory_bytes=_peak_memory())
    except BaseException as error:  # noqa: BLE001 - Rust panics are no Exception, and none may leave this process
        # An error's message may quote the document, so only its type is told.
        return Reply("failed", retire=True, error=Refusal(type(error).__name__), peak_memory_bytes=_peak_memory())
    return Reply(
        "prepared", retire=_bloated(work.settings), prepared=prepared_head(prepared), artifact=prepared.artifact
    )


def _comes_of_memory(error: BaseException | None) -> bool:
    """A parser that takes every error for a damaged file takes its own want of memory for one, too."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _bloated(settings: ChildSettings) -> bool:
    return _peak_memory() > settings.memory_bytes // _BLOATED_SHARE


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _BYTES_PER_RSS_UNIT


def open_peak_reset() -> int | None:
    """What ``serve`` needs to measure each document's own memory peak; opened before the process is confined."""
    try:
        return os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return None


def _forget_last(peak_reset: int | None) -> None:
    """Let the memory peak, the last words and the temporary files be this document's own."""
    with contextlib.suppress(OSError):
        if peak_reset is not None:
            os.write(peak_reset, b"5")
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
    with contextlib.suppress(OSError):
        empty_folder()


def _limit_processor_time(seconds: float) -> None:
    """The kernel ends what burns its time, should the worker be too busy to. Threads burn it together."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds) + _PROCESSOR_GRACE_SECONDS, hard))
