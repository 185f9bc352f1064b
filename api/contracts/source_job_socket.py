"""Contract D's WebSocket: all of a user's jobs, or one of them, as they happen.

A socket follows each job that does something as a stream would (``api.streams``), so what a thousand sockets watch is
asked for once. Jobs that wait are looked up once a second for all sockets of a tenant. Every message carries the cursor
of everything sent so far: a client that comes again with it misses nothing.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Annotated, Any

import orjson
import structlog
from fastapi import APIRouter, Query, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from activities.failures import described
from api.access import Caller, public
from api.contracts.source_job_body import CONTRACT
from api.contracts.source_job_messages import MAX_POSITIONS, Positions, SocketWording, job_update, lines_of, message
from api.contracts.source_jobs import JOB_NOT_FOUND, find_job, whose
from api.credentials import credential_of
from api.dependencies import ApiParts
from api.resources import BatchSnapshot
from api.service.open_batches import Interest, OpenJob
from api.streams.clients import StreamClient
from api.streams.event_streams import EventStreams
from api.streams.origins import is_welcome_origin
from ingather.models.batch import BatchRecord, BatchState
from ingather.models.errors import (
    DependencyError,
    IngatherError,
    RateLimitedError,
    ScopeMissingError,
    TooManyStreamsError,
    UnauthorizedError,
)

log = structlog.get_logger(__name__)

COOKIE = "ingather_token"
"""A browser that cannot send headers with a WebSocket may have its key or token here."""
AUTHENTICATION_SECONDS = 5.0
MAX_MESSAGE_BYTES = 64 * 1024
SEND_SECONDS = 20.0
"""A client that takes nothing for so long is left."""
WELCOME_SECONDS = 10.0
"""Between two looks at the credential of an open socket."""
MOST_WAITING = 200
"""Jobs that wait, the newest, which a socket is told of when it opens."""
MOST_ENDED = 200
"""Jobs that ended while a client was away, those that did so last, which a resumed socket is told of."""
MOST_REMEMBERED = 1_000
"""Jobs that ended which an open socket knows of."""
_SLACK = timedelta(seconds=10)

GOING_AWAY, POLICY, TOO_BIG, TRY_LATER = 1001, 1008, 1009, 1013
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY = 4401, 4403, 4404, 4429
_DRAINING = "The server goes away: come again with the last cursor."
FOLLOWED_IN_LINE = 20
"""Jobs that wait for a place, those that have waited longest, which are followed as if they ran: one of them is next."""

router = APIRouter(prefix="/batch", tags=["source jobs"])


class _CloseError(Exception):
    """Ends the socket with a code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason[:120]


@router.websocket("/ws/{user_id}")
@public
async def watch_jobs(
    socket: WebSocket,
    user_id: str,
    job_id: Annotated[str | None, Query()] = None,
    after: Annotated[str | None, Query()] = None,
) -> None:
    """Who may is asked here and not at the door: a refusal needs an open socket to be told with its own code."""
    parts: ApiParts = socket.app.state.parts
    if not is_welcome_origin(socket.headers, parts.allowed_origins):
        log.warning("socket.refused", reason="origin")
        await socket.close(POLICY)
        return
    await socket.accept()
    try:
        await _serve(socket, parts, user_id, job_id, after)
    except _CloseError as end:
        log.info("socket.closed", code=end.code, reason=end.reason)
        await _close(socket, end.code, end.reason)
    except WebSocketDisconnect:
        pass
    except Exception as error:  # noqa: BLE001  # a traceback ends in the message, which may quote what was sent
        log.error("socket.failed", **described(error))  # noqa: TRY400
        await _close(socket, 1011, "internal error")


async def _serve(socket: WebSocket, parts: ApiParts, user_id: str, job_id: str | None, after: str | None) -> None:
    streams: EventStreams = socket.app.state.streams
    try:
        caller, credential = await _admitted(socket, parts, streams.hub.drain_begun)
        caller = caller.acting_as(user_id)
        record = await find_job(parts, caller, job_id) if job_id else None
        client = await parts.gate.count_socket(caller, credential)
        streams.sockets.opened(caller.tenant_id, client)
    except IngatherError as error:
        raise _refusal(error) from error
    try:
        positions = Positions.of(after) if after else None
        tenant_id = record.tenant_id if record else caller.tenant_id
        job = record.batch_id if record else None
        await JobSocket(socket, parts, streams, caller, tenant_id, job, positions, client).run()
    finally:
        streams.socket_closed(caller.tenant_id, client)


async def _admitted(socket: WebSocket, parts: ApiParts, drain_begun: asyncio.Event) -> tuple[Caller, str | None]:
    """Who it is: by a header, a cookie, or the first message. Raises as ``Gate.admit`` and ``Gate.stranger``."""
    credential = credential_of(socket.headers) or socket.cookies.get(COOKIE)
    if credential is None and not parts.gate.is_open:
        async with parts.gate.stranger(socket):
            credential = await _first_word(socket, drain_begun)
    return await parts.gate.admit(socket, [], credential), credential


async def _first_word(socket: WebSocket, drain_begun: asyncio.Event) -> str:
    hearing, draining = asyncio.ensure_future(_received(socket)), asyncio.ensure_future(drain_begun.wait())
    try:
        await asyncio.wait({hearing, draining}, timeout=AUTHENTICATION_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if hearing.done():
            said = hearing.result()
        elif draining.done():
            raise _CloseError(GOING_AWAY, _DRAINING)
        else:
            raise UnauthorizedError("No credential came in time.")
    finally:
        hearing.cancel()
        draining.cancel()
    token = said.get("token")
    if said.get("type") != "authenticate" or not isinstance(token, str) or not token:
        raise UnauthorizedError("The first message must be {'type': 'authenticate', 'token': …}.")
    return token


def _refusal(error: IngatherError) -> _CloseError:
    match error:
        case UnauthorizedError():
            code = UNAUTHORIZED
        case ScopeMissingError():
            code = FORBIDDEN
        case RateLimitedError() | TooManyStreamsError():
            code = TOO_MANY
        case DependencyError():
            code = TRY_LATER
        case _:
            if error.http_status == 404:
                return _CloseError(NOT_FOUND, JOB_NOT_FOUND)
            code = POLICY
    return _CloseError(code, error.message)


# --- One open socket -------------------------------------------------------------------------------


@dataclass(slots=True)
class _Followed:
    """A job that is being sent, or was."""

    task: asyncio.Task[None]
    is_over: bool = False
    version: int = 0
    """Of the end that was sent."""
    sent: int | None = None
    """The last event that was, where the cursor no longer says so."""


@dataclass(slots=True)
class JobSocket:
    """What one client sees.

    Args:
        tenant_id: whose jobs they are.
        job_id: the one job it watches; None for all of its user's.
        resumed: what it had when it left; None for one that begins with its jobs as they are.
    """

    socket: WebSocket
    parts: ApiParts
    streams: EventStreams
    caller: Caller
    tenant_id: str
    job_id: str | None
    resumed: Positions | None
    client: StreamClient
    _positions: Positions = field(default_factory=Positions)
    _followed: dict[str, _Followed] = field(default_factory=dict)
    _has_looked: bool = False
    """Jobs that come now were not there before."""
    _waiting: dict[str, BatchState] = field(default_factory=dict)
    """Jobs that wait, with the state that was told last."""
    _sending: asyncio.Lock = field(default_factory=asyncio.Lock)
    _failed: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """Ends the socket when a job can no longer be sent."""
    _since: datetime = field(default_factory=lambda: datetime.now(UTC))
    """What was there before, the client knows or did not ask for."""

    async def run(self) -> None:
        """Until the client leaves. Raises ``_CloseError`` where it is left."""
        if self.resumed is not None:
            self._positions = Positions(self.resumed.since, dict(self.resumed.by_job))
            self._since = self.resumed.since
        user = self.caller.user
        ended, is_cut = await self._ended_meanwhile()
        said: dict[str, Any] = {"missed_events": True} if is_cut else {}
        await self._send(
            message("connection_established", user_id=user, job_id=self.job_id, resumed=bool(self.resumed), **said)
        )
        works: list[Callable[[], Awaitable[None]]] = [
            self._listen,
            partial(self._watch_jobs, ended),
            self._drain,
            self._stay_welcome,
        ]
        tasks = [asyncio.ensure_future(work()) for work in works]
        try:
            done, _ = await asyncio.wait([*tasks, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for first in done:
                first.result()
        finally:
            tasks += [each.task for each in self._followed.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._failed.done():
                self._failed.exception()

    # --- What the client says ------------------------------------------------------------------

    async def _listen(self) -> None:
        while True:
            said = await _received(self.socket)
            if said.get("type") == "ping":
                await self._send(message("pong"))
            # Anything else is of a later contract, or was said too late: it asks for nothing here.

    async def _drain(self) -> None:
        await self.streams.hub.drain_begun.wait()
        raise _CloseError(GOING_AWAY, _DRAINING)

    async def _stay_welcome(self) -> None:
        while True:
            await asyncio.sleep(WELCOME_SECONDS)
            if self.client.is_welcome is not None and not await self.client.is_welcome():
                raise _CloseError(UNAUTHORIZED, "The credential is no longer accepted.")

    # --- Which jobs ------------------------------------------------------------------------------

    async def _watch_jobs(self, ended: Sequence[str]) -> None:
        if self.resumed is not None:
            self._take_up(self.resumed, ended)
        elif self.job_id is not None:
            self._follow(self.job_id, None)
        async with self.parts.open_jobs.interest(self.tenant_id, self.caller.user) as interest:
            while True:
                await interest.changed.wait()
                interest.changed.clear()
                await self._look(interest)

    async def _look(self, interest: Interest) -> None:
        jobs = interest.jobs or {}
        if self.job_id is not None:
            jobs = {self.job_id: jobs[self.job_id]} if self.job_id in jobs else {}
        queued = [job.batch_id for job in jobs.values() if job.state is BatchState.QUEUED]
        far_back = frozenset(queued[: max(len(queued) - FOLLOWED_IN_LINE, 0)])
        waiting = [job for job in jobs.values() if job.state is BatchState.PENDING or job.batch_id in far_back]
        idle = frozenset(job.batch_id for job in waiting)
        for job in reversed(waiting if self._has_looked else waiting[:MOST_WAITING]):
            await self._tell_waiting(job)
        for job in jobs.values():
            if job.batch_id not in idle and self._is_news(job):
                self._follow(job.batch_id, self._beginning(job.batch_id))
        # What waited and is gone has ended without ever doing anything: its end is to be told.
        for batch_id in [each for each in self._waiting if each not in jobs]:
            self._follow(batch_id, self._beginning(batch_id))
        self._has_looked = True

    def _is_news(self, job: OpenJob) -> bool:
        """A job that runs, or has ended since this socket knows of jobs, or ended once more."""
        if not job.state.is_final:
            return True
        followed = self._followed.get(job.batch_id)
        if followed is None:
            return self._has_looked or job.batch_id in self._waiting
        return job.version > followed.version

    def _beginning(self, batch_id: str) -> int | None:
        """Where to read on: a job that was seen to wait, or came while the client was away, is told from its first event."""
        seen = self._positions.by_job.get(batch_id)
        if seen is None and batch_id in self._followed:
            seen = self._followed[batch_id].sent
        is_new = self._has_looked or self.resumed is not None
        return 0 if seen is None and is_new else seen

    async def _tell_waiting(self, job: OpenJob) -> None:
        followed = self._followed.get(job.batch_id)
        if followed is not None and not followed.is_over:
            return  # its events say it
        if self._waiting.get(job.batch_id) is not job.state:
            self._waiting[job.batch_id] = job.state
            await self._send(job_update(job.batch_id, job.state, job.counts))

    async def _ended_meanwhile(self) -> tuple[list[str], bool]:
        """Jobs that ended since the client left, the last of them, and whether there were more."""
        if self.resumed is None or self.job_id is not None:
            return [], False
        mine = replace(whose(self.caller), tenant_id=self.tenant_id)
        try:
            return await self.parts.jobs.ended_since(mine, self.resumed.since - _SLACK, MOST_ENDED)
        except DependencyError as error:
            raise _refusal(error) from error

    def _take_up(self, resumed: Positions, ended: Sequence[str]) -> None:
        """Go on with what the client had, and with what ended while it was away."""
        for batch_id, seq in resumed.by_job.items():
            if self.job_id in {None, batch_id}:
                self._follow(batch_id, seq)
        if self.job_id is not None:
            self._follow(self.job_id, resumed.by_job.get(self.job_id))
            return
        for batch_id in ended:
            self._follow(batch_id, resumed.by_job.get(batch_id, 0))

    # --- What they do ----------------------------------------------------------------------------

    def _follow(self, batch_id: str, after: int | None) -> None:
        known = self._followed.get(batch_id)
        if known is not None and not known.is_over:
            return
        self._waiting.pop(batch_id, None)
        task = asyncio.create_task(self._send_job(batch_id, after), name=f"socket of {batch_id}")
        self._followed[batch_id] = _Followed(task)
        task.add_done_callback(lambda ended: self._job_over(batch_id, ended))

    async def _send_job(self, batch_id: str, after: int | None) -> None:
        parts, tenant_id = self.parts, self.tenant_id

        async def snapshot() -> BatchSnapshot:
            return await parts.batches.snapshot(tenant_id, batch_id)

        record = await parts.batches.record(tenant_id, batch_id)
        if (record.spec.contract, record.spec.created_by) != (CONTRACT, self.caller.user):
            return  # a cursor may name anything
        if after == 0 and await self._runs_again(record, snapshot):
            after = None
        wording = SocketWording(batch_id, after, snapshot)
        if after is not None:
            with contextlib.suppress(DependencyError):
                await wording.look()
        async with contextlib.aclosing(self.streams.follow(record, wording)) as chunks:
            async for chunk in chunks:
                for seq, said in lines_of(chunk):
                    await self._send(said, batch_id, seq)
        self._followed[batch_id].version = wording.version
        if wording.has_lagged:
            raise _CloseError(TRY_LATER, "The client is too slow: come again with the last cursor.")

    async def _runs_again(self, record: BatchRecord, snapshot: Callable[[], Awaitable[BatchSnapshot]]) -> bool:
        """Whether a job had ended before the client came, and is told as it is: an end of then reads like one of now."""
        if record.created_at >= self._since:
            return False
        with contextlib.suppress(DependencyError):
            return (await snapshot()).progress.retry_round > 0
        return False

    def _job_over(self, batch_id: str, ended: asyncio.Task[None]) -> None:
        self._followed[batch_id].is_over = True
        if ended.cancelled():
            return
        error = ended.exception()
        if isinstance(error, DependencyError):
            error = _CloseError(TRY_LATER, error.message)
        if isinstance(error, IngatherError):
            return  # the job is no longer there
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)
        self._forget_some()

    def _forget_some(self) -> None:
        """Keep the cursor short: jobs that ended long before others need no place in it."""
        over = [each for each, followed in self._followed.items() if followed.is_over]
        for gone in over[: max(len(self._followed) - MOST_REMEMBERED, 0)]:
            del self._followed[gone]
        if not self._has_begun_all():
            return
        named = [each for each in over if each in self._positions.by_job]
        for gone in named[: max(len(self._positions.by_job) - MAX_POSITIONS // 2, 0)]:
            sent = self._positions.by_job.pop(gone)
            if gone in self._followed:
                self._followed[gone].sent = sent
            self._positions.since = datetime.now(UTC) - _SLACK

    def _has_begun_all(self) -> bool:
        """Whether cursors name every job that is being sent: one that has ended would else not be told to who comes again."""
        named = frozenset(islice(self._positions.by_job, MAX_POSITIONS))
        return all(followed.is_over or batch_id in named for batch_id, followed in self._followed.items())

    # --- Sending -----------------------------------------------------------------------------------

    async def _send(self, said: bytes, batch_id: str | None = None, seq: int = 0) -> None:
        """One message with the cursor behind it: both in one step, or a cursor would be ahead of what was sent."""
        async with self._sending:
            if batch_id is not None:
                self._positions.by_job[batch_id] = seq
            text = f'{said[:-1].decode()},"cursor":"{self._positions.cursor()}"}}'
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self.socket.send_text(text)
            except TimeoutError:
                raise _CloseError(TRY_LATER, "The client takes nothing.") from None


async def _received(socket: WebSocket) -> dict[str, Any]:
    """A client's next message. What is no JSON object says nothing."""
    event = await socket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", 1005))
    content = event.get("text") or event.get("bytes") or b""
    if len(content) > MAX_MESSAGE_BYTES:
        raise _CloseError(TOO_BIG, f"A message may have {MAX_MESSAGE_BYTES} bytes.")
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(SEND_SECONDS / 10):
                await socket.close(code, reason)
