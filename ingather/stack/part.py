"""What the supervisor knows of a part, and how a single one is run for tests and tools."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from ingather.stack.errors import PartFailedError
from ingather.stack.process import Command, Process, last_lines


class Part(Protocol):
    """A process with an opinion on when it is ready and how long it may take to stop."""

    @property
    def name(self) -> str:
        """Short and unique within the stack; names the log file."""
        ...

    @property
    def grace_seconds(self) -> float:
        """From SIGTERM to SIGKILL."""
        ...

    def command(self) -> Command:
        """Write what the process needs to find (configuration, folders) and say how to run it."""
        ...

    async def wait_ready(self, pid: int) -> None:
        """Return once the process ``pid`` of this part does its work; the caller sets the time limit."""
        ...

    def clean_up(self) -> None:
        """Remove what the process leaves behind outside the data directory."""
        ...


async def start(part: Part, timeout_seconds: float = 30.0) -> Process:
    """Start a part and wait until it is ready; raises ``PartFailedError`` with the end of its log."""
    command = part.command()
    process = Process(command)
    try:
        await wait_until_ready(part, process, timeout_seconds)
    except BaseException:
        await process.stop(0.5)
        part.clean_up()
        raise
    return process


async def wait_until_ready(part: Part, process: Process, timeout_seconds: float) -> None:
    """Return when the part is ready; raises ``PartFailedError`` when it ends or takes too long."""
    ready = asyncio.ensure_future(part.wait_ready(process.pid))
    ended = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({ready, ended}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not ready.cancelled():
            ready.result()
            return
        what = f"ended with status {ended.result()}" if ended.done() else f"was not ready after {timeout_seconds:g} s"
        path = process.command.log_path
        raise PartFailedError(f"{part.name} {what}. The end of {path}:\n{last_lines(path)}")
    finally:
        ready.cancel()
        ended.cancel()


@asynccontextmanager
async def running(part: Part, timeout_seconds: float = 30.0) -> AsyncIterator[Process]:
    """One part on its own, stopped at the end and not restarted."""
    process = await start(part, timeout_seconds)
    try:
        yield process
    finally:
        await process.stop(part.grace_seconds)
        part.clean_up()
