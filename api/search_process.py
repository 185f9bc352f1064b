"""Search in a process of its own, so that the one that takes uploads and steers batches stays small and quick.

Index and model take more memory than all the rest of the API, and their work is CPU. The process
is started in the background, answers one question at a time over a pipe, is started again when it
dies, and goes when its parent does: the pipe's end is its end.
"""

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import structlog

from activities.failures import described
from api.service.search import LocalSearch, SearchBackend, local_or_none
from ingather.bootstrap import build_embedder, build_index, build_other_embedders
from ingather.logging import configure_logging
from ingather.models.content import Chunk
from ingather.models.errors import IndexUnavailableError, IngatherError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.search import SearchHit, SearchQuery
from ingather.ports.embedder import Vectors
from ingather.settings import Settings

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 30.0
STOP_SECONDS = 2.0
WARM_UP_DELAY_SECONDS = 3.0
"""Everything else that starts goes first."""

_WARM_UP = SearchQuery(tenant_id=DEFAULT_TENANT_ID, text="warm up", limit=1)


class SearchProcess:
    """A ``SearchBackend`` in a child process. ``open_backend`` is called there and must be importable by name."""

    def __init__(self, settings: Settings, open_backend: Callable[[Settings], SearchBackend]) -> None:
        self._settings = settings
        self._open_backend = open_backend
        self._turn = asyncio.Lock()
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._warming: asyncio.Task[None] | None = None
        self._is_closing = False

    def warm_up(self) -> None:
        """Start the process in the background, and let it load index and model before the first who asks."""
        self._warming = asyncio.create_task(self._warm(), name="search warm-up")

    async def search(self, query: SearchQuery, vector: Vectors | None) -> list[SearchHit]:
        hits: list[SearchHit] = await self._ask("search", query, vector)
        return hits

    async def count(self, tenant_id: str) -> int:
        count: int = await self._ask("count", tenant_id)
        return count

    async def read_text(self, artifact: bytes) -> str:
        text: str = await self._ask("read_text", artifact)
        return text

    async def read_chunks(self, artifact: bytes, first: int, limit: int, page: int | None) -> tuple[list[Chunk], bool]:
        found: tuple[list[Chunk], bool] = await self._ask("read_chunks", artifact, first, limit, page)
        return found

    async def check(self) -> None:
        """Fine while it is starting or answering: nobody else needs to wait for that."""
        if (self._warming is None or self._warming.done()) and not self._turn.locked():
            await self._ask("check")

    async def close(self) -> None:
        """Nobody waits for an answer any more; the first one, while index and model are loaded, takes seconds."""
        self._is_closing = True
        if self._turn.locked() and self._process is not None:
            self._process.kill()
        if self._warming is not None:
            self._warming.cancel()
            await asyncio.gather(self._warming, return_exceptions=True)
        await asyncio.to_thread(self._stop)

    async def _warm(self) -> None:
        await asyncio.sleep(WARM_UP_DELAY_SECONDS)
        with contextlib.suppress(IngatherError):
            await self._ask("search", _WARM_UP, None)

    async def _ask(self, name: str, *arguments: Any) -> Any:
        async with self._turn:
            # A caller that goes away, however often it is told to, must not leave its answer in the pipe for the next one.
            asking = asyncio.create_task(asyncio.to_thread(self._exchange, name, arguments))
            is_gone = False
            while not asking.done():
                try:
                    await asyncio.shield(asking)
                except asyncio.CancelledError:
                    is_gone = True
            answer = asking.result()
        if is_gone:
            raise asyncio.CancelledError
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _exchange(self, name: str, arguments: tuple[Any, ...]) -> Any:
        for is_last in (False, True):
            pipe = self._running()
            if self._is_closing:
                break
            try:
                pipe.send((name, arguments))
                if pipe.poll(ANSWER_SECONDS):
                    return pipe.recv()
            except (EOFError, OSError):
                if not self._is_closing:
                    log.warning("search.process_died", exit_code=self._process.exitcode if self._process else None)
                self._stop()
                if is_last or self._is_closing:
                    break
            else:
                log.warning("search.process_hung", seconds=ANSWER_SECONDS)
                self._stop()
                break
        return IndexUnavailableError("The search process did not answer; it is started again.")

    def _running(self) -> Connection:
        if self._pipe is not None and self._process is not None and self._process.is_alive():
            return self._pipe
        self._stop()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve, args=(theirs, self._settings, self._open_backend), name="ingather-search", daemon=True
        )
        process.start()
        theirs.close()
        self._process, self._pipe = process, ours
        return ours

    def _stop(self) -> None:
        process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


def open_local_backend(settings: Settings) -> SearchBackend:
    """Index and model of the settings, in this process. A model behind HTTP stays with the caller."""
    others = {name: local for name, each in build_other_embedders(settings).items() if (local := local_or_none(each))}
    return LocalSearch(build_index(settings), local_or_none(build_embedder(settings)), others)


def serve(pipe: Connection, settings: Settings, open_backend: Callable[[Settings], SearchBackend]) -> None:
    """The child: one question, one answer, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pipe
    configure_logging(settings.log.format, settings.log.level)
    with asyncio.Runner() as runner, contextlib.suppress(EOFError, OSError):
        backend = runner.run(_opened(settings, open_backend))
        while True:
            name, arguments = pipe.recv()
            pipe.send(runner.run(_answer(getattr(backend, name)(*arguments))))


async def _opened(settings: Settings, open_backend: Callable[[Settings], SearchBackend]) -> SearchBackend:
    return open_backend(settings)


async def _answer(question: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await question
    except IngatherError as error:
        return error
    except Exception as error:  # noqa: BLE001  # whoever asked is told
        # A traceback ends in the message, which may quote what was searched for, or found.
        log.error("search.failed", **described(error))  # noqa: TRY400
        return IndexUnavailableError("The index could not answer.", reason=type(error).__name__)
