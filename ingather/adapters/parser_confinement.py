"""How a parser process confines itself, before it reads a byte and for good.

Its fork server has found out what works here and made a plan of it (``parser_sandbox``); what is
in the plan and fails all the same ends the process.
"""

import contextlib
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from ingather.adapters import parser_kernel as kernel

T = TypeVar("T")

MIB: Final = 1024 * 1024
_OPEN_FILES: Final = 128
_THREADS: Final = 32


class Facility(StrEnum):
    """A part of the confinement that a platform may lack. The limits of ``setrlimit`` are everywhere."""

    USER = "user"
    """A user of its own that owns nothing, and so a limit of threads."""
    NETWORK = "network"
    """A network of its own, with nothing in it."""
    TEMPORARY = "temporary"
    """A temporary folder in memory, bounded as a whole."""
    FILES = "files"
    """Landlock: reads its own code, writes its temporary folder, nothing else."""
    CALLS = "calls"
    """Seccomp: no sockets, processes, programs, mounts."""


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """What each parser process may have."""

    temporary_bytes: int = 64 * MIB
    """Its temporary folder, and one file."""
    without: frozenset[Facility] = frozenset()
    """Left out although the platform may have it: for tests of what is left."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is in force, in words for people, and why the rest is not."""

    in_force: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Room:
    """What one process has to itself."""

    path: Path
    user: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the platform was found to have."""

    first_user: int | None = None
    user_count: int = 1
    reads_by_capability: bool = False
    """Its user may not read its code, so it keeps the right to read what Landlock lets it."""
    network: bool = False
    temporary: bool = False
    files: bool = False
    calls: bool = False


class StepError(Exception):
    """A step of the confinement was refused: a ``Facility``, or ``reading`` its own code."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Doors:
    """Folders and files a process may use, as descriptors (``O_PATH``) opened while everything could be."""

    readable: tuple[int, ...] = ()
    writable: tuple[int, ...] = ()


def confine(room: Room, plan: Plan, doors: Doors, *, temporary_bytes: int, memory_bytes: int) -> None:
    """Confine this process. Raises ``StepError`` where a part of the plan does not work."""
    _set_limits(temporary_bytes, memory_bytes, alone=room.user is not None)
    os.chdir(room.path)
    os.environ["TMPDIR"] = tempfile.tempdir = str(room.path)
    if sys.platform != "linux":
        return
    ruleset = run_step(Facility.FILES, lambda: _ruleset(room, doors)) if plan.files else None
    for fd in (*doors.readable, *doors.writable):
        os.close(fd)
    if room.user is not None:
        user = room.user
        run_step(Facility.USER, lambda: _change_user(user, keep=plan.reads_by_capability))
    with contextlib.suppress(OSError):
        kernel.limit_capabilities(*((kernel.CAP_DAC_READ_SEARCH,) if plan.reads_by_capability else ()))
    with contextlib.suppress(OSError):
        kernel.forbid_new_privileges()
    if ruleset is not None:
        run_step(Facility.FILES, lambda: kernel.landlock(ruleset))
        os.close(ruleset)
    if plan.calls:
        run_step(Facility.CALLS, kernel.forbid_system_calls)


def run_step(step: str, action: Callable[[], T]) -> T:
    """Name the step an ``OSError`` comes from."""
    try:
        return action()
    except OSError as error:
        raise StepError(step, reason_of(error)) from error


def _set_limits(temporary_bytes: int, memory_bytes: int, *, alone: bool) -> None:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    _limit(resource.RLIMIT_FSIZE, temporary_bytes)
    if alone:  # It counts all that a user runs, so it is of use to one who runs nothing else.
        _limit(resource.RLIMIT_NPROC, _THREADS)
    if memory_bytes:
        space, data = _memory_now()
        # Anonymous memory on top of what libraries and model, which all parsers share, have taken or reserved.
        _limit(resource.RLIMIT_DATA, data + memory_bytes)
        # Shared memory counts as address space alone. Reserving is not using, so there is room to reserve.
        _limit(resource.RLIMIT_AS, space + 2 * memory_bytes)


def _ruleset(room: Room, doors: Doors) -> int:
    own = opened([str(room.path)])
    itself = opened(["/proc/self"])
    try:
        return kernel.landlock_ruleset([*doors.readable, *itself], [*doors.writable, *own])
    finally:
        for fd in (*own, *itself):
            os.close(fd)


def _change_user(user: int, *, keep: bool) -> None:
    if keep:
        kernel.keep_capabilities()
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(OSError, ValueError):  # macOS does not know them all
        resource.setrlimit(which, (lowered, lowered))


def _memory_now() -> tuple[int, int]:
    """Bytes of address space and of anonymous memory this process has."""
    try:
        pages = [int(number) for number in Path("/proc/self/statm").read_text().split()]
    except OSError:
        return 0, 0
    return pages[0] * resource.getpagesize(), pages[5] * resource.getpagesize()


def opened(paths: Sequence[str]) -> list[int]:
    """Those paths that are there, as descriptors."""
    fds = []
    for path in paths:
        with contextlib.suppress(OSError):
            fds.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
    return fds


def reason_of(error: OSError) -> str:
    """The system's own words."""
    return error.strerror or type(error).__name__


def empty_folder() -> None:
    """Remove what a document left in the current folder, which is the process's own."""
    with os.scandir() as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108 - an entry is no Path, and this runs for every document
