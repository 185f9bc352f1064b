"""What a parser process may touch: decided once when its fork server starts, in force before it reads a byte.

A parser may be taken over by the document it reads. So beyond its limits of memory and time it runs as
a user of its own (where the worker is root), without network, without processes or programs of its
own, reading only its own code and writing only to a small folder of its own. Each of these is tried
out in a process made for that; what the platform refuses is left out and told, and work goes on.
"""

import contextlib
import json
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from ingather.adapters import parser_kernel as kernel

T = TypeVar("T")

MIB: Final = 1024 * 1024
_OPEN_FILES: Final = 128
_THREADS: Final = 32
_TEMPORARY_FILES: Final = 1_000
_FIRST_USER: Final = 2_000_000_000
_USERS_A_SERVER: Final = 1_024
_NOBODY: Final = 65_534
_READABLE: Final = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc/fonts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/mime.types",
    "/dev/urandom",
    "/dev/zero",
    "/sys/devices/system/cpu",
)
_WRITABLE: Final = ("/dev/null",)


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
class _Plan:
    first_user: int | None = None
    user_count: int = 1
    reads_by_capability: bool = False
    """Its user may not read its code, so it keeps the right to read what Landlock lets it."""
    network: bool = False
    temporary: bool = False
    files: bool = False
    calls: bool = False


class _StepError(Exception):
    def __init__(self, step: str, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


class Sandbox:
    """Belongs to a fork server, which opens it before its first fork.

    Args:
        settings: what a process may have.
        folder: an empty folder, for the processes' own ones.
    """

    def __init__(self, settings: SandboxSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._missing: dict[str, str] = {}
        self._plan = _Plan()
        self._readable: list[int] = []
        self._writable: list[int] = []

    # --- In the fork server ---------------------------------------------------------------

    def open(self) -> Confinement:
        """Leave what the whole server can leave, then find out what its children can do on top."""
        if sys.platform != "linux":
            self._missing = {facility.value: f"not on {sys.platform}" for facility in Facility}
            return Confinement({}, self._missing)
        for facility in self._settings.without:
            self._missing[facility.value] = "left out"
        with contextlib.suppress(OSError):
            kernel.adopt_orphans()
        self._folder.chmod(0o711)
        self._plan = self._with_namespaces(self._first_plan())
        self._readable = _opened([*_READABLE, *_code_folders()])
        self._writable = _opened(_WRITABLE)
        while (failed := self._tried_out()) is not None:
            self._plan = self._without(failed)
        return Confinement(
            {str(name): how for name, how in self._described().items()},
            {str(name): why for name, why in self._missing.items()},
        )

    def make_room(self, number: int) -> Room:
        """A folder and a user for the next process."""
        plan = self._plan
        user = plan.first_user + number % plan.user_count if plan.first_user is not None else None
        path = self._folder / str(number)
        path.mkdir(mode=0o700)
        owner = os.getuid() if user is None else user
        if plan.temporary:
            size = self._settings.temporary_bytes
            kernel.mount_memory(str(path), size_bytes=size, inodes=_TEMPORARY_FILES, owner=owner)
        elif user is not None:
            os.chown(path, owner, owner)
        return Room(path, user)

    def clear(self, room: Room) -> None:
        """The process has ended."""
        with contextlib.suppress(OSError):
            if self._plan.temporary:
                kernel.unmount(str(room.path))
        shutil.rmtree(room.path, ignore_errors=True)

    def close(self) -> None:
        """Every process has ended, or is about to."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _first_plan(self) -> _Plan:
        def wanted(facility: Facility) -> bool:
            return facility not in self._settings.without

        plan = _Plan(
            network=wanted(Facility.NETWORK),
            temporary=wanted(Facility.TEMPORARY),
            files=wanted(Facility.FILES),
            calls=wanted(Facility.CALLS),
        )
        if os.geteuid() != 0:
            self._missing.setdefault(Facility.USER, "the worker is not root")
        elif wanted(Facility.USER):
            # Every process its own user, other servers' processes counted, so that none can reach another.
            first = _FIRST_USER + os.getpid() % 65_536 * _USERS_A_SERVER
            plan = replace(plan, first_user=first, user_count=_USERS_A_SERVER)
        return plan

    def _with_namespaces(self, plan: _Plan) -> _Plan:
        wanted = kernel.CLONE_NEWNET * plan.network | kernel.CLONE_NEWNS * plan.temporary
        if not wanted:
            return plan
        try:
            if os.geteuid() == 0:
                kernel.unshare(wanted)
            else:
                user, group = os.geteuid(), os.getegid()
                kernel.unshare(wanted | kernel.CLONE_NEWUSER)
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
                Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
            if plan.temporary:
                kernel.keep_mounts_private()
        except OSError as error:
            for facility in (Facility.NETWORK, Facility.TEMPORARY):
                self._missing.setdefault(facility, _reason(error))
            return replace(plan, network=False, temporary=False)
        return plan

    def _tried_out(self) -> _StepError | None:
        """Confine a process and see how far it gets."""
        try:
            room = self.make_room(0)
        except OSError as error:
            return _StepError(Facility.TEMPORARY if self._plan.temporary else Facility.USER, _reason(error))
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._try_out(room, theirs)
        os.close(theirs)
        with os.fdopen(ours, "rb") as answer:
            said = answer.read(10_000)
        os.waitpid(pid, 0)
        self.clear(room)
        failed = json.loads(said) if said else [Facility.CALLS, "the process ended"]
        return _StepError(*failed) if failed != "fine" else None

    def _try_out(self, room: Room, answer: int) -> NoReturn:
        said: object = "fine"
        try:
            self.enter(room, memory_bytes=0)
            _run_step("reading", _read_own_code)
        except _StepError as error:
            said = [error.step, error.reason]
        except BaseException as error:  # noqa: BLE001 - whatever it is, this process ends here and the server goes on
            said = [Facility.CALLS, type(error).__name__]
        finally:
            os.write(answer, json.dumps(said).encode())
            os._exit(0)

    def _without(self, failed: _StepError) -> _Plan:
        plan = self._plan
        if failed.step == "reading" and plan.files and not plan.reads_by_capability:
            return replace(plan, reads_by_capability=True)
        self._missing.setdefault(Facility.USER if failed.step == "reading" else failed.step, failed.reason)
        match failed.step:
            case Facility.FILES:
                return replace(plan, files=False, reads_by_capability=False)
            case Facility.CALLS:
                return replace(plan, calls=False)
            case Facility.TEMPORARY:
                return replace(plan, temporary=False)
            case Facility.USER if plan.user_count > 1:
                del self._missing[Facility.USER]
                return replace(plan, first_user=_NOBODY, user_count=1)
            case _:
                return replace(plan, first_user=None, user_count=1, reads_by_capability=False)

    def _described(self) -> dict[str, str]:
        plan, size = self._plan, self._settings.temporary_bytes // MIB
        said = {"limits": "memory, processor time, open files, size of a file"}
        if plan.first_user is not None:
            said[Facility.USER] = f"{plan.first_user} and following" if plan.user_count > 1 else "nobody"
        if plan.network:
            said[Facility.NETWORK] = "an empty network namespace"
        if plan.temporary:
            said[Facility.TEMPORARY] = f"{size} MiB in memory"
        if plan.files:
            said[Facility.FILES] = f"Landlock {kernel.landlock_version()}"
        if plan.calls:
            said[Facility.CALLS] = "seccomp: no sockets, processes or programs"
        return said

    # --- In a parser process --------------------------------------------------------------

    def enter(self, room: Room, *, memory_bytes: int) -> None:
        """Confine this process for good. Raises where a part that was found to work does not."""
        plan = self._plan
        # A session of its own: one signal reaches whatever it starts, as long as that does not leave it.
        os.setsid()
        self._set_limits(memory_bytes, alone=room.user is not None)
        os.chdir(room.path)
        os.environ["TMPDIR"] = tempfile.tempdir = str(room.path)
        if sys.platform != "linux":
            return
        ruleset = _run_step(Facility.FILES, lambda: self._ruleset(room)) if plan.files else None
        for fd in (*self._readable, *self._writable):
            os.close(fd)
        if room.user is not None:
            user = room.user
            _run_step(Facility.USER, lambda: _change_user(user, keep=plan.reads_by_capability))
        kept = (kernel.CAP_DAC_READ_SEARCH,) if plan.reads_by_capability else ()
        _run_step(Facility.USER, lambda: kernel.limit_capabilities(*kept))
        with contextlib.suppress(OSError):
            kernel.forbid_new_privileges()
        if ruleset is not None:
            _run_step(Facility.FILES, lambda: kernel.landlock(ruleset))
            os.close(ruleset)
        if plan.calls:
            _run_step(Facility.CALLS, kernel.forbid_system_calls)

    def _set_limits(self, memory_bytes: int, *, alone: bool) -> None:
        _limit(resource.RLIMIT_CORE, 0)
        _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
        _limit(resource.RLIMIT_FSIZE, self._settings.temporary_bytes)
        if alone:  # It counts all that a user runs, so it is of use to one who runs nothing else.
            _limit(resource.RLIMIT_NPROC, _THREADS)
        if memory_bytes:
            space, data = _memory_now()
            # Anonymous memory on top of what libraries and model, which all parsers share, have taken or reserved.
            _limit(resource.RLIMIT_DATA, data + memory_bytes)
            # Shared memory counts as address space alone. Reserving is not using, so there is room to reserve.
            _limit(resource.RLIMIT_AS, space + 2 * memory_bytes)

    def _ruleset(self, room: Room) -> int:
        own = _opened([str(room.path)])
        itself = _opened(["/proc/self"])
        try:
            return kernel.landlock_ruleset([*self._readable, *itself], [*self._writable, *own])
        finally:
            for fd in (*own, *itself):
                os.close(fd)


def empty_folder() -> None:
    """Remove what a document left in the current folder, which is the process's own."""
    with os.scandir() as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108 - an entry is no Path, and this runs for every document


def _run_step(step: str, action: Callable[[], T]) -> T:
    try:
        return action()
    except OSError as error:
        raise _StepError(step, _reason(error)) from error


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


def _code_folders() -> list[str]:
    """Where Python and what this process has imported lie."""
    roots = {str(Path(prefix).resolve()) for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    files = [file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
    folders = {str(Path(file).resolve().parent) for file in files}
    within = tuple(root + os.sep for root in roots)
    return sorted(roots | {folder for folder in folders if not folder.startswith(within)})


def _read_own_code() -> None:
    for folder in _code_folders():
        os.listdir(folder)  # noqa: PTH208 - as an import does it
    with open(os.__file__, "rb") as code:  # noqa: PTH123 - as an import does it
        code.read(1)


def _opened(paths: Sequence[str]) -> list[int]:
    fds = []
    for path in paths:
        with contextlib.suppress(OSError):
            fds.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
    return fds


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
