"""Keeps parts running: one that dies is started again, after a pause that grows while it keeps dying."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from ingather.stack.errors import StackError
from ingather.stack.part import Part, start
from ingather.stack.process import Process, last_lines, shorten_log

log = structlog.get_logger(__name__)

START_TIMEOUT_SECONDS = 90.0
_LOG_TENDING_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses before restarts: ``first`` seconds, doubled each time up to ``longest``.

    A part that ran for ``steady`` seconds after it was ready is trusted again: what kills it every now and then
    must not make it slower to come back each time.
    """

    first: float = 0.2
    longest: float = 20.0
    steady: float = 5.0

    def pause(self, deaths: int) -> float:
        """Seconds to wait after the ``deaths``-th death in a row, counted from 1."""
        return float(min(self.longest, self.first * 2 ** min(deaths - 1, 30)))


@dataclass(slots=True)
class _Watched:
    part: Part
    process: Process
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    restarts: int = 0


class Supervisor:
    """Runs parts until ``stop``. ``on_change`` is called whenever a process id has changed."""

    def __init__(self, on_change: Callable[[], None] = lambda: None, backoff: Backoff | None = None) -> None:
        self._on_change = on_change
        self._backoff = backoff or Backoff()
        self._watched: dict[str, _Watched] = {}

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the parts that run now."""
        return {name: w.process.pid for name, w in self._watched.items() if w.process.returncode is None}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each part was started again."""
        return {name: watched.restarts for name, watched in self._watched.items()}

    async def add(self, part: Part, timeout_seconds: float = START_TIMEOUT_SECONDS) -> None:
        """Start a part, return when it is ready, watch it from then on; raises ``PartFailedError``."""
        began = time.monotonic()
        process = await start(part, timeout_seconds)
        watched = self._watched[part.name] = _Watched(part, process)
        watched.tasks = [asyncio.create_task(self._watch(watched)), asyncio.create_task(_tend_log(watched))]
        log.debug("part.started", part=part.name, pid=process.pid, seconds=round(time.monotonic() - began, 2))
        self._announce()

    async def stop(self, names: Iterable[str]) -> None:
        """Stop these parts side by side, each within its own grace; unknown names are ignored."""
        chosen = [self._watched[name] for name in names if name in self._watched]
        await asyncio.gather(*(self._stop(watched) for watched in chosen))
        self._announce()

    async def stop_all(self) -> None:
        """Stop whatever still runs."""
        await self.stop(list(self._watched))

    async def _stop(self, watched: _Watched) -> None:
        for task in watched.tasks:
            task.cancel()
        await asyncio.gather(*watched.tasks, return_exceptions=True)
        await watched.process.stop(watched.part.grace_seconds)
        watched.part.clean_up()

    async def _watch(self, watched: _Watched) -> None:
        deaths = 0
        while True:
            began = time.monotonic()
            code = await watched.process.wait()
            watched.process.kill()  # what it left in its process group
            deaths = 1 if time.monotonic() - began >= self._backoff.steady else deaths + 1
            pause = self._backoff.pause(deaths)
            self._tell_death(watched, code, pause)
            await asyncio.sleep(pause)
            await self._start_again(watched)

    async def _start_again(self, watched: _Watched) -> None:
        try:
            watched.part.clean_up()
            watched.process = await start(watched.part, START_TIMEOUT_SECONDS)
        except (StackError, OSError) as error:
            # The watch goes on with the old, ended process: its next round waits longer and tries again.
            log.warning("part.restart_failed", part=watched.part.name, reason=str(error))
            return
        watched.restarts += 1
        log.warning("part.restarted", part=watched.part.name, pid=watched.process.pid, restarts=watched.restarts)
        self._announce()

    def _announce(self) -> None:
        """A full disk must not end the watch, or the stop of the other parts."""
        try:
            self._on_change()
        except OSError as error:
            log.warning("stack.not_announced", reason=str(error))

    def _tell_death(self, watched: _Watched, code: int, pause: float) -> None:
        path = watched.process.command.log_path
        log.warning(
            "part.ended",
            part=watched.part.name,
            status=code,
            restart_in_seconds=round(pause, 2),
            log=str(path),
            last_lines=last_lines(path, count=5),
        )


async def _tend_log(watched: _Watched) -> None:
    while True:
        await asyncio.sleep(_LOG_TENDING_SECONDS)
        # Where the disk is full there may be room the next time.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(shorten_log, watched.process.command.log_path)
