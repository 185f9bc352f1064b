"""Documents prepared in supervised child processes: what a parser does there hurts nobody else."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog

from ingather.adapters.embedding import fill_vectors, restore_prepared
from ingather.adapters.parser_child import ChildSettings
from ingather.adapters.parser_pool import Child, ParserPool
from ingather.adapters.parser_server import ServerSettings
from ingather.adapters.parser_versions import pipeline_description
from ingather.adapters.parser_wire import STAGES, Exit, Reply, receive_reply, send_request
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.models.errors import (
    DependencyError,
    DocumentCorruptError,
    DocumentError,
    ParserCrashedError,
    ParserOutOfMemoryError,
    ParserTimeoutError,
    error_classes,
)
from ingather.ports.embedder import Embedder, RemoteEmbedder

log = structlog.get_logger(__name__)

_STAGE_POLL_SECONDS: Final = 0.1
_EXIT_REPORT_SECONDS: Final = 2.0
_ATTEMPTS: Final = 2
_LOST_SERVERS_TOLERATED: Final = 3
_NEARLY_ALL_MEMORY: Final = 0.8
"""A parser that dies having used this share of its memory died of it: allocators abort just below the limit."""
_SIGKILL: Final = 9


class _ChildDiedError(Exception):
    """The process ended, or gave up, with the document half done."""

    def __init__(self, stage: Stage | None, ended: Exit | None, *, error_type: str | None = None) -> None:
        super().__init__(error_type or "died")
        self.stage = stage
        self.ended = ended
        self.error_type = error_type


class _ServerLostError(Exception):
    """The fork server took the process along; the document is not to blame."""


class SupervisedPreparer:
    """A ``DocumentPreparer`` on long-lived child processes, one document at a time in each.

    Nothing is started before the first document, or ``start``. A process that dies is replaced
    at once, and its document tried once more in a fresh one. All methods belong to one event loop.

    Args:
        processes: how many work at one time; 0 takes one a core.
        memory_bytes: anonymous memory one process may have.
        recycle_after: documents a process handles before a fresh one takes over.
        embedder: the local model, cheap to pickle, loaded once before the processes are forked; None leaves
            the vectors to ``remote_embedder``.
        remote_embedder: fills in missing vectors (``embed``) where it is configured.
        limits: ``ParseLimits`` for every parser, its defaults when None.
        niceness: how much the processes yield to others.
        prepare: import path of the function they run; tests put their own there.
    """

    def __init__(
        self,
        *,
        processes: int = 0,
        memory_bytes: int = 2 * 1024**3,
        recycle_after: int = 500,
        embedder: Embedder | None = None,
        remote_embedder: RemoteEmbedder | None = None,
        limits: ParseLimits | None = None,
        niceness: int = 5,
        prepare: str = "ingather.adapters.prepare:prepare_document",
    ) -> None:
        self._memory_bytes = memory_bytes
        self._recycle_after = recycle_after
        self._embedder = embedder
        self._remote_embedder = remote_embedder
        child = ChildSettings(memory_bytes=memory_bytes, niceness=niceness, limits=limits or ParseLimits())
        settings = ServerSettings(prepare=prepare, embedder=embedder, child=child)
        self._pool = ParserPool(processes or os.cpu_count() or 1, settings)

    @property
    def description(self) -> dict[str, str]:
        """See the port."""
        model = self._embedder or self._remote_embedder
        return pipeline_description(model.name if model is not None else None)

    @property
    def pool(self) -> ParserPool:
        """The processes, for those who watch them."""
        return self._pool

    async def start(self) -> None:
        """Wait until a process is ready, so that the first document does not have to."""
        self._pool.give_back(await self._pool.take())

    async def prepare(self, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        """See the port. A stage that takes less than a tenth of a second may be announced when the next one began."""
        deaths: list[_ChildDiedError] = []
        lost = 0
        while True:
            child = await self._pool.take(fresh=bool(deaths))
            try:
                return await self._run(child, request, on_stage)
            except _ServerLostError as error:
                lost += 1
                if lost >= _LOST_SERVERS_TOLERATED:
                    raise DependencyError("parser processes keep being killed from outside") from error
            except _ChildDiedError as death:
                deaths.append(death)
                last = len(deaths) == _ATTEMPTS
                out_of_memory = self._ran_out_of_memory(death, last=last)
                log.warning("parser.died", out_of_memory=out_of_memory, attempt=len(deaths), **_facts(death))
                if out_of_memory:
                    raise self._out_of_memory_error(request, death) from death
                if last:
                    raise _crashed_error(request, death) from death

    async def embed(self, artifact: bytes) -> bytes:
        """See the port."""
        return await fill_vectors(artifact, self._remote_embedder)

    def restore(self, artifact: bytes) -> PreparedDocument:
        """See the port."""
        return restore_prepared(artifact)

    async def close(self) -> None:
        """See the port. Documents under way fail with ``DependencyError``."""
        await self._pool.close()

    async def _run(self, child: Child, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        child.documents += 1
        # A large document takes its time to get there: meanwhile the last one's stage is not this one's.
        self._pool.clear_stage(child)
        try:
            async with asyncio.timeout(request.timeout_seconds):
                with self._watched(child, on_stage) as announce:
                    await send_request(child.sock, request)
                    reply = await receive_reply(child.sock, max_body_bytes=self._memory_bytes)
        except TimeoutError as error:
            stage = self._stage(child)
            self._pool.kill(child)
            raise await self._timeout_error(child, request, stage) from error
        except OSError as error:
            stage = self._stage(child)
            self._pool.kill(child)
            ended = await self._exit_of(child)
            if ended is None:
                raise _ServerLostError from error
            raise _ChildDiedError(stage, ended) from error
        except BaseException:
            # Cancelled: whoever waited is gone, and native code listens to nothing but a kill.
            self._pool.kill(child)
            raise
        return self._concluded(child, reply, announce)

    def _concluded(self, child: Child, reply: Reply, announce: Callable[[Stage], None]) -> PreparedDocument:
        stage = self._stage(child)
        if reply.outcome in ("out_of_memory", "failed"):
            self._pool.kill(child)
            status = Exit(
                signal=0,
                status=1,
                peak_memory_bytes=reply.peak_memory_bytes,
                says_out_of_memory=reply.outcome == "out_of_memory",
            )
            raise _ChildDiedError(stage, status, error_type=(reply.error or {}).get("type"))
        if reply.retire or child.documents >= self._recycle_after:
            self._pool.retire(child)
        else:
            self._pool.give_back(child)
        if reply.outcome == "refused":
            raise _refusal(reply)
        prepared = reply.document()
        for name in prepared.timings_ms:
            announce(Stage(name))
        return prepared

    @contextlib.contextmanager
    def _watched(self, child: Child, on_stage: Callable[[Stage], None]) -> Iterator[Callable[[Stage], None]]:
        """Announce stages while they last; gives the function that announces those nobody saw, each once and in order."""
        loop = asyncio.get_running_loop()
        latest = 0

        def announce(stage: Stage) -> None:
            nonlocal latest
            if (number := STAGES.index(stage) + 1) > latest:
                latest = number
                on_stage(stage)

        timer: asyncio.TimerHandle

        def poll() -> None:
            nonlocal timer
            timer = loop.call_later(_STAGE_POLL_SECONDS, poll)
            if (stage := self._stage(child)) is not None:
                announce(stage)

        timer = loop.call_later(_STAGE_POLL_SECONDS, poll)
        try:
            yield announce
        finally:
            timer.cancel()

    def _stage(self, child: Child) -> Stage | None:
        number = self._pool.stage_number(child)
        return STAGES[number - 1] if 0 < number <= len(STAGES) else None

    async def _exit_of(self, child: Child) -> Exit | None:
        """How a process ended; None when its server went with it, or does not tell in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_REPORT_SECONDS):
                return await asyncio.shield(child.ended)
        return None

    async def _timeout_error(self, child: Child, request: PrepareRequest, stage: Stage | None) -> ParserTimeoutError:
        ended = await self._exit_of(child)
        where = stage.value if stage else "starting"
        return ParserTimeoutError(
            f"{request.filename} was still {where} after {request.timeout_seconds:g} s",
            stage=where,
            timeout_seconds=request.timeout_seconds,
            peak_memory_bytes=ended.peak_memory_bytes if ended else None,
        )

    def _ran_out_of_memory(self, death: _ChildDiedError, *, last: bool) -> bool:
        ended = death.ended
        if ended is None:
            return False
        # Our own kills end elsewhere. One SIGKILL may be an operator's; a second one on the same document is
        # the kernel's out-of-memory killer, which takes parsers first.
        return (
            ended.says_out_of_memory
            or ended.peak_memory_bytes >= _NEARLY_ALL_MEMORY * self._memory_bytes
            or (last and ended.signal == _SIGKILL)
        )

    def _out_of_memory_error(self, request: PrepareRequest, death: _ChildDiedError) -> ParserOutOfMemoryError:
        return ParserOutOfMemoryError(
            f"{request.filename} needs more memory than its parser may have ({self._memory_bytes:,} bytes)",
            memory_limit_bytes=self._memory_bytes,
            **_facts(death),
        )


def _crashed_error(request: PrepareRequest, death: _ChildDiedError) -> ParserCrashedError:
    facts = _facts(death)
    how = f"signal {facts['exit_signal']}" if facts.get("exit_signal") else facts.get("error_type") or "an early exit"
    return ParserCrashedError(f"parser died twice on {request.filename}, the last time of {how}", **facts)


def _facts(death: _ChildDiedError) -> dict[str, Any]:
    facts: dict[str, Any] = {"stage": death.stage.value if death.stage else "starting"}
    if death.ended is not None:
        facts |= {"exit_signal": death.ended.signal or None, "peak_memory_bytes": death.ended.peak_memory_bytes}
    if death.error_type:
        facts["error_type"] = death.error_type
    return facts


def _refusal(reply: Reply) -> DocumentError:
    told = reply.error or {}
    cls = error_classes().get(told.get("code", ""), DocumentCorruptError)
    if not issubclass(cls, DocumentError):
        cls = DocumentCorruptError
    return cls(str(told.get("message", "")), action=told.get("action"), **dict(told.get("facts") or {}))
