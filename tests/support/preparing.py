"""What tests of document preparers share: requests, patience, and parser processes that have accidents."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import psutil

from ingather.adapters.parser_processes import SupervisedPreparer
from ingather.domain import artifact
from ingather.models.content import PrepareRequest, Stage

MIB = 1024 * 1024
ACCIDENTS = "tests.support.parser_accidents:prepare"


def request(content: bytes, filename: str = "note.txt", **changes: object) -> PrepareRequest:
    values = {"chunk_size": 200, "chunk_overlap": 40, "quality_threshold": 0.0, **changes}
    return PrepareRequest(content=content, filename=filename, **values)


def ignore(stage: Stage) -> None:
    """Nobody watches."""


async def said(preparer: SupervisedPreparer, deed: str) -> str:
    """The text of the document that tells what came of a deed."""
    prepared = await preparer.prepare(request(deed.encode()), ignore)
    return artifact.read_text(prepared.artifact)


@asynccontextmanager
async def accident_prone(**settings: object) -> AsyncIterator[SupervisedPreparer]:
    """Parser processes that do what a document asks for (``parser_accidents``)."""
    preparer = SupervisedPreparer(**{"processes": 1, "prepare": ACCIDENTS, **settings})
    await preparer.start()
    try:
        yield preparer
    finally:
        await preparer.close()


async def eventually(condition: Callable[[], bool], *, within: float = 60.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        await asyncio.sleep(0.01)


async def busy_pid(preparer: SupervisedPreparer) -> int:
    """The process that works on the only document there is, once it has begun."""
    await eventually(lambda: len(preparer.pool.busy_pids) == 1)
    await asyncio.sleep(0.1)
    return preparer.pool.busy_pids[0]


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Processes that stand still meanwhile, whatever comes of the test; one that has ended by then is let go."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
