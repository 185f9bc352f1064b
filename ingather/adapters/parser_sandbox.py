"""What a parser process may touch: decided once when its fork server starts, in force before it reads a byte.

A parser may be taken over by the document it reads. So beyond its limits of memory and time it runs as
a user of its own (where the worker is root), without network, without processes or programs of its
own, reading only its own code and writing only to a small folder of its own. Each of these is tried
out in a process made for that; what the platform refuses is left out and told, and work goes on.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, NoReturn

from ingather.adapters import parser_kernel as kernel
from ingather.adapters.parser_confinement import (
    MIB,
    Confinement,
    Doors,
    Facility,
    Plan,
    Room,
    SandboxSettings,
    StepError,
    confine,
    opened,
    reason_of,
    run_step,
)

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
_LIMITS: Final = {"limits": "memory, processor time, open files, size of a file"}


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
        self._plan = Plan()
        self._doors = Doors()

    def open(self) -> Confinement:
        """Leave what the whole server can leave, then find out what its children can do on top."""
        if sys.platform != "linux":
            self._missing = {facility.value: f"not on {sys.platform}" for facility in Facility}
            return Confinement(_LIMITS, self._missing)
        for facility in self._settings.without:
            self._missing[facility.value] = "left out"
        with contextlib.suppress(OSError):
            kernel.adopt_orphans()
        self._folder.chmod(0o711)
        self._plan = self._with_namespaces(self._first_plan())
        self._doors = Doors(tuple(opened([*_READABLE, *_code_folders()])), tuple(opened(_WRITABLE)))
        while (failed := self._tried_out()) is not None:
            poorer = self._without(failed)
            if poorer == self._plan:
                break  # Nothing is left to leave out: whatever fails then is no part of the confinement.
            self._plan = poorer
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

    def enter(self, room: Room, *, memory_bytes: int) -> None:
        """In a new process: confine it for good. Raises ``StepError`` where a part that was found to work does not."""
        size = self._settings.temporary_bytes
        confine(room, self._plan, self._doors, temporary_bytes=size, memory_bytes=memory_bytes)

    def clear(self, room: Room) -> None:
        """The process has ended."""
        with contextlib.suppress(OSError):
            if self._plan.temporary:
                kernel.unmount(str(room.path))
        shutil.rmtree(room.path, ignore_errors=True)

    def close(self) -> None:
        """Every process has ended, or is about to."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _first_plan(self) -> Plan:
        def wanted(facility: Facility) -> bool:
            return facility not in self._settings.without

        plan = Plan(
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

    def _with_namespaces(self, plan: Plan) -> Plan:
        """Leave the network and the mounts of the others, with all processes to come."""
        if os.geteuid() != 0 and (plan.network or plan.temporary):
            with contextlib.suppress(OSError):
                _become_own_administrator()
        network = plan.network and self._works(Facility.NETWORK, lambda: kernel.unshare(kernel.CLONE_NEWNET))
        temporary = plan.temporary and self._works(Facility.TEMPORARY, _have_own_mounts)
        return replace(plan, network=network, temporary=temporary)

    def _works(self, facility: Facility, action: Callable[[], None]) -> bool:
        try:
            action()
        except OSError as error:
            self._missing[facility] = reason_of(error)
            return False
        return True

    def _tried_out(self) -> StepError | None:
        """Confine a process and see how far it gets."""
        try:
            room = self.make_room(0)
        except OSError as error:
            return StepError(Facility.TEMPORARY if self._plan.temporary else Facility.USER, reason_of(error))
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
        return StepError(*failed) if failed != "fine" else None

    def _try_out(self, room: Room, answer: int) -> NoReturn:
        said: object = "fine"
        try:
            self.enter(room, memory_bytes=0)
            run_step("reading", _read_own_code)
        except StepError as error:
            said = [error.step, error.reason]
        except BaseException as error:  # noqa: BLE001 - whatever it is, this process ends here and the server goes on
            said = [Facility.CALLS, type(error).__name__]
        finally:
            os.write(answer, json.dumps(said).encode())
            os._exit(0)

    def _without(self, failed: StepError) -> Plan:
        plan = self._plan
        if failed.step == "reading" and plan.first_user is not None and plan.files and not plan.reads_by_capability:
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
        said = dict(_LIMITS)
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


def _become_own_administrator() -> None:
    """Enter a user namespace where this user, and no other, is known; there it may have namespaces of its own."""
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _have_own_mounts() -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.keep_mounts_private()


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


def main() -> None:
    """Tell as one line of JSON how parsers started by this user on this machine would be confined."""
    with tempfile.TemporaryDirectory(prefix="ingather-parsers-") as folder:
        found = Sandbox(SandboxSettings(), Path(folder)).open()
    sys.stdout.write(json.dumps({"in_force": found.in_force, "missing": found.missing}) + "\n")


if __name__ == "__main__":
    main()
