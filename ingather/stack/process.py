"""One child process: started in a session of its own, dying with us, logging to a file."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_POLL_SECONDS = 0.05
_LOG_KEPT_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Command:
    """How to run a part. ``environment`` is added to ours."""

    name: str
    argv: tuple[str, ...]
    """The first is an absolute path."""
    log_path: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    unset: tuple[str, ...] = ()
    """Variables of ours the part must not see."""


# Runs in the child before the part itself: the kernel shall kill it when we die. SIGKILL, since some
# parts take 15 s to honour SIGTERM and every part survives a kill anyway. A launcher rather than
# preexec_fn, because forking Python code beside threads can deadlock. Its last check covers our
# death between fork and prctl.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])
"""


def _dying_with_parent(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The same command, killed by the kernel when the thread that started it ends; Linux only.

    "The thread" is no slip: start processes from the main thread.
    """
    if sys.platform != "linux":
        return argv
    return (sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *argv)


class Process:
    """A running child. Its session is its own, so Ctrl-C at the terminal reaches only us."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self._popen = _spawn(command)
        self._swept = False

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Exit status (negative: the signal that ended it), or None while it runs."""
        return self._popen.poll()

    async def wait(self) -> int:
        """Wait for its end. Polls, which needs neither a thread nor a particular event loop."""
        while (code := self.returncode) is None:  # noqa: ASYNC110 - nobody else could set an event
            await asyncio.sleep(_POLL_SECONDS)
        return code

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL after the grace; whatever it left in its process group goes too."""
        try:
            if self.returncode is None:
                self._popen.send_signal(signal.SIGTERM)
                async with asyncio.timeout(grace_seconds):
                    await self.wait()
        except TimeoutError:
            log.debug("part.killed", part=self.command.name, grace_seconds=grace_seconds)
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group, at once; harmless when all of it has ended."""
        if self._swept:
            return  # the number may belong to somebody else by now
        self._swept = True
        with contextlib.suppress(ProcessLookupError, PermissionError):  # the group is empty
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()


def _spawn(command: Command) -> subprocess.Popen[bytes]:
    command.log_path.parent.mkdir(parents=True, exist_ok=True)
    shorten_log(command.log_path)
    inherited = {name: value for name, value in os.environ.items() if name not in command.unset}
    with command.log_path.open("ab") as log_file:
        return subprocess.Popen(
            _dying_with_parent(command.argv),
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            env={**inherited, **command.environment},
            cwd=command.cwd,
            start_new_session=True,
        )


def shorten_log(path: Path) -> None:
    """Set a log that has grown aside as its one older generation, also while its part writes to it.

    The part appends to the same open file, so it is copied and emptied, not renamed; lines written
    between the two are lost.
    """
    if path.exists() and path.stat().st_size > _LOG_KEPT_BYTES:
        shutil.copyfile(path, path.with_suffix(".1.log"))
        os.truncate(path, 0)


def last_lines(path: Path, count: int = 15, width: int = 300) -> str:
    """The end of a log, for the message about a part that failed."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 64 * 1024))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line[:width] for line in lines[-count:])
