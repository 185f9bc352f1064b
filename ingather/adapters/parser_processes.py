"""Documents prepared in supervised child processes: what a parser does there hurts nobody else."""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from ingather.adapters.embedding import fill_vectors, restore_prepared
from ingather.adapters.parser_child import ChildSettings
from ingather.adapters.parser_confinement import SandboxSettings
from ingather.adapters.parser_deaths import (
    CalledOffError,
    ChildDiedError,
    Death,
    ServerLostError,
    error_of,
    sent_back,
)
from ingather.adapters.parser_pool import ParserPool
from ingather.adapters.parser_server import ServerSettings
from ingather.adapters.parser_server_link import Child
from ingather.adapters.parser_versions import pipeline_description
from ingather.adapters.parser_wire import STAGES, Exit, Refusal, Reply, ReplyReader, is_silent, sent_along
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.models.engine import LARGE_BYTES
from ingather.models.errors import (
    DependencyError,
    DocumentCorruptError,
    DocumentError,
    ParserKilledError,
    error_classes,
)
from ingather.ports.embedder import Embedder, RemoteEmbedder

log = structlog.get_logger(__name__)

_STAGE_POLL_SECONDS: Final = 0.05
_EXIT_REPORT_SECONDS: Final = 2.0
_LOST_SERVERS_TOLERATED: Final = 3
_UNUSUAL: Final = 8
"""A document that takes this many times as long as others do is set aside."""
_LEAST_PATIENCE_SECONDS: Final = 0.1
_PATIENCE_BESIDE_LONG_SECONDS: Final = 0.5
"""The same while a long document keeps its place: one more process would take of its share of the cores."""
_WEIGHT_OF_LATEST: Final = 0.05
_FAIR_SECONDS_A_MEGABYTE: Final = 2.0
_FAIR_SECONDS: Final = 10.0
"""How long a document set aside has its share of the cores for its size, and at the most: left what others do not
want, a long one would only end when they all have, and a batch with it.
"""
_BEHIND, _LAST = 10, 19
"""Niceness of one that takes longer."""
_GARBAGE: Final = "garbage_answer"


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
        sandbox: what they may touch, all that a platform can refuse when None.
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
        sandbox: SandboxSettings | None = None,
        prepare: str = "ingather.adapters.prepare:prepare_document",
    ) -> None:
        self._memory_bytes = memory_bytes
        self._recycle_after = recycle_after
        self._embedder = embedder
        self._remote_embedder = remote_embedder
        child = ChildSettings(
            memory_bytes=memory_bytes,
            niceness=niceness,
            limits=limits or ParseLimits(),
            sandbox=sandbox or SandboxSettings(),
        )
        settings = ServerSettings(prepare=prepare, embedder=embedder, child=child)
        processes = processes or os.cpu_count() or 1
        self._pool = ParserPool(processes, settings)
        self._second_chances = asyncio.Semaphore(processes)
        self._usual_seconds = 0.1
        self._bearable_seconds = 0.1
        """The same, with those that were stopped for taking long: where all do, it is not unusual."""
        self._keepers: set[Child] = set()
        self._most_keepers = processes // 2

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
        """See the port. A stage that takes less than a twentieth of a second may be announced when the next one began."""
        while True:
            (outcome,) = await self._outcomes([request], lambda _position, stage: on_stage(stage))
            if isinstance(outcome, PreparedDocument):
                return outcome
            if not isinstance(outcome, ParserKilledError) or outcome.facts["quarantined"]:
                raise outcome
            request = replace(request, kills=request.kills + 1)

    async def prepare_many(
        self,
        requests: Sequence[PrepareRequest],
        on_stage: Callable[[int, Stage], None],
        on_outcome: Callable[[int, PreparedDocument | DocumentError], None] | None = None,
    ) -> list[PreparedDocument | DocumentError]:
        """See the port."""
        return await self._outcomes(requests, on_stage, on_outcome)

    async def embed(self, artifact: bytes) -> bytes:
        """See the port."""
        return await fill_vectors(artifact, self._remote_embedder)

    def restore(self, artifact: bytes) -> PreparedDocument:
        """See the port."""
        return restore_prepared(artifact)

    async def close(self) -> None:
        """See the port. Documents under way fail with ``DependencyError``."""
        await self._pool.close()

    async def _outcomes(
        self,
        requests: Sequence[PrepareRequest],
        on_stage: Callable[[int, Stage], None],
        on_outcome: Callable[[int, PreparedDocument | DocumentError], None] | None = None,
    ) -> list[PreparedDocument | DocumentError]:
        """Give every document its one chance, in as many processes as that takes."""
        outcomes: list[PreparedDocument | DocumentError] = []
        lost = 0

        def conclude(outcome: PreparedDocument | DocumentError) -> None:
            outcomes.append(outcome)
            if on_outcome is not None:
                on_outcome(len(outcomes) - 1, outcome)

        while len(outcomes) < len(requests):
            try:
                async with self._chance(requests[len(outcomes)]):
                    await self._begin(requests, len(outcomes), on_stage, conclude)
            except CalledOffError as error:
                if requests[len(outcomes)].patience_seconds is not None:
                    conclude(sent_back(requests[len(outcomes)], error.stage))
                    continue
                # In line once more, where its time stands still.
                on_stage(len(outcomes), Stage.WAITING)
                await self._pool.one_aside_leaves()
            except ServerLostError as error:
                lost += 1
                if lost >= _LOST_SERVERS_TOLERATED:
                    raise DependencyError("parser processes keep being killed from outside") from error
            except ChildDiedError as error:
                killed = error_of(error.death, requests[len(outcomes)], memory_bytes=self._memory_bytes)
                killed.__cause__ = error
                log.warning("parser.died", code=killed.code, **killed.facts)
                conclude(killed)
        return outcomes

    def _chance(self, request: PrepareRequest) -> contextlib.AbstractAsyncContextManager[None]:
        """Second chances are given to as many at a time as processes may work: each has its share of the processors."""
        return self._second_chances if request.kills else contextlib.nullcontext()

    async def _begin(
        self,
        requests: Sequence[PrepareRequest],
        first: int,
        on_stage: Callable[[int, Stage], None],
        conclude: Callable[[PreparedDocument | DocumentError], None],
    ) -> None:
        """Take a child that hears, and have it prepare all from ``first`` on as far as it gets."""
        while True:
            child = await self._pool.take(fresh=requests[first].kills > 0, documents=len(requests) - first)
            if is_silent(child.sock):
                break
            self._pool.kill(child)
        await self._converse(child, requests, first, on_stage, conclude)

    async def _converse(
        self,
        child: Child,
        requests: Sequence[PrepareRequest],
        first: int,
        on_stage: Callable[[int, Stage], None],
        conclude: Callable[[PreparedDocument | DocumentError], None],
    ) -> None:
        """Have a child prepare all from ``first`` on. Its death ends the conversation, not what was answered before."""
        pending = requests[first:]
        child.documents += len(pending)
        # A large document takes its time to get there: meanwhile the last one's stage is not this one's.
        self._pool.clear_progress(child)
        reader = ReplyReader(child.sock, max_body_bytes=self._memory_bytes // 2)
        retire = False
        try:
            async with sent_along(child.sock, pending):
                for position, request in enumerate(pending, first):
                    async with asyncio.timeout(request.timeout_seconds):
                        with self._watched(child, request, partial(on_stage, position)) as announce:
                            reply = await reader.receive()
                    conclude(_outcome(reply, self._stage(child), announce))
                    retire = retire or reply.retire
                    if child.set_aside or child.called_off:
                        break  # Those after it need not go on where it had to, nor where the end is on its way.
        except (ChildDiedError, OSError, ValueError) as error:
            stage, begun = self._stage(child), self._pool.progress(child)[1]
            self._pool.kill(child)
            raise await self._death(child, stage, begun, error) from error
        except BaseException:
            # Cancelled: whoever waited is gone, and native code listens to nothing but a kill.
            self._pool.kill(child)
            raise
        self._release(child, retire=retire)

    def _release(self, child: Child, *, retire: bool) -> None:
        if retire or child.documents >= self._recycle_after:
            self._pool.kill(child)
        else:
            self._pool.give_back(child)

    async def _death(
        self, child: Child, stage: Stage | None, begun: float, error: Exception
    ) -> ChildDiedError | ServerLostError | CalledOffError:
        """Why a conversation broke off; the child was killed by now, if it lived."""
        if child.called_off:
            return CalledOffError(stage)
        if isinstance(error, ChildDiedError):
            return error
        ended = await self._exit_of(child)
        used = ended.cpu_seconds - begun if ended is not None else 0.0
        if isinstance(error, TimeoutError):
            return ChildDiedError(Death(stage, ended, cpu_seconds=used, timed_out=True))
        if isinstance(error, (ConnectionAbortedError, ValueError)):
            return ChildDiedError(Death(stage, ended, cpu_seconds=used, error_type=_GARBAGE, killed=True))
        return ServerLostError() if ended is None else ChildDiedError(Death(stage, ended, cpu_seconds=used))

    @contextlib.contextmanager
    def _watched(
        self, child: Child, request: PrepareRequest, on_stage: Callable[[Stage], None]
    ) -> Iterator[Callable[[Stage], None]]:
        """Announce stages while they last, and let nobody wait for a document that takes unusually long.

        Gives the function that announces those stages nobody saw, each once and in order.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
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
            self._see_to(child, request, loop.time() - began)

        timer = loop.call_later(_STAGE_POLL_SECONDS, poll)
        try:
            yield announce
            self._learn(loop.time() - began)
            self._pool.disfavour(child)
        finally:
            timer.cancel()
            self._keepers.discard(child)

    def _learn(self, took_seconds: float) -> None:
        self._usual_seconds += (took_seconds - self._usual_seconds) * _WEIGHT_OF_LATEST
        self._bearable_seconds += (took_seconds - self._bearable_seconds) * _WEIGHT_OF_LATEST

    def _see_to(self, child: Child, request: PrepareRequest, took_seconds: float) -> None:
        """Do something about a document that takes longer than others do, so that they need not wait for it."""
        is_beside_long = self._keepers and child not in self._keepers
        least = _PATIENCE_BESIDE_LONG_SECONDS if is_beside_long else _LEAST_PATIENCE_SECONDS
        overdue = took_seconds - max(least, _UNUSUAL * self._usual_seconds)
        if overdue <= 0 or child.called_off:
            return
        patience = request.patience_seconds
        if patience is not None and took_seconds > max(patience, _UNUSUAL * self._bearable_seconds):
            self._pool.call_off(child)
            self._bearable_seconds += (min(took_seconds, patience) - self._bearable_seconds) * _WEIGHT_OF_LATEST
            return
        fair = min(_FAIR_SECONDS, _FAIR_SECONDS_A_MEGABYTE * len(request.content) / 1_000_000)
        if overdue <= fair and self._keeps_its_place(child):
            if len(request.content) >= LARGE_BYTES:
                self._pool.favour(child)
            return
        self._keepers.discard(child)
        self._pool.disfavour(child)
        self._pool.set_aside(child)
        # A second chance is a fairer one: the first may have failed for being at the end of the line.
        behind = _BEHIND if request.kills else _LAST
        self._pool.keep_watch(child, niceness=behind if overdue > fair else None)

    def _keeps_its_place(self, child: Child) -> bool:
        """Whether a long document may go on among those that work: half of them must be there for others."""
        if child in self._keepers:
            return True
        if child.set_aside or len(self._keepers) >= self._most_keepers:
            return False
        self._keepers.add(child)
        return True

    def _stage(self, child: Child) -> Stage | None:
        number, _ = self._pool.progress(child)
        return STAGES[number - 1] if 0 < number <= len(STAGES) else None

    async def _exit_of(self, child: Child) -> Exit | None:
        """How a process ended; None when its server went with it, or does not tell in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_REPORT_SECONDS):
                return await asyncio.shield(child.ended)
        return None


def _outcome(reply: Reply, stage: Stage | None, announce: Callable[[Stage], None]) -> PreparedDocument | DocumentError:
    """The document's end as its process tells it; ``ChildDiedError`` where the process gave up with it."""
    if reply.outcome in ("out_of_memory", "failed"):
        out_of_memory = reply.outcome == "out_of_memory"
        ended = Exit(0, 1, peak_memory_bytes=reply.peak_memory_bytes, says_out_of_memory=out_of_memory)
        raise ChildDiedError(Death(stage, ended, error_type=reply.error.code if reply.error else None))
    if reply.outcome == "refused":
        return _refusal(reply.error or Refusal(DocumentCorruptError.code))
    prepared = reply.document()
    for name in prepared.timings_ms:
        announce(Stage(name))
    return prepared


def _refusal(told: Refusal) -> DocumentError:
    cls = error_classes().get(told.code, DocumentCorruptError)
    if not issubclass(cls, DocumentError) or issubclass(cls, ParserKilledError):
        cls = DocumentCorruptError
    error = cls(told.message, action=told.action)
    error.facts.update(told.facts)
    return error
