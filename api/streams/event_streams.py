"""Everything a process needs to show batches to watchers, in one object that the application holds."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Self

import anyio
import orjson
from temporalio.client import Client

from api.engine import BatchEngine
from api.streams.announcing import Announcers
from api.streams.attendance import Attendance
from api.streams.clients import OpenStreams, StreamClient
from api.streams.closing import Settle
from api.streams.history import HistoryPage
from api.streams.hub import Hub
from api.streams.poller import PollerParts
from api.streams.reader import ProgressReader
from api.streams.session import READY_SECONDS, StreamSession
from api.streams.sse import StreamResponse, while_welcome
from api.streams.wording import Wording
from ingather.domain.event_cursor import Mode, Start, decide
from ingather.models.batch import BatchRecord, BatchState
from ingather.models.errors import EventLogUnavailableError
from ingather.models.events import BATCH_END_EVENTS
from ingather.ports.catalog import Catalog
from ingather.ports.event_log import EventLog, LogRange, StreamKey


class EventStreams:
    """Opens streams and history pages. ``start`` before the first, ``close`` at the end.

    Args:
        settle: writes down how a batch ended whose workflow was ended from outside.
        reader: told when a batch's state changes, so that it does not answer with older numbers.
        streams_per_tenant: streams of one tenant open at a time in this process.
        announcers: contracts whose batches are told whether or not anybody watches.
    """

    def __init__(
        self,
        client: Client,
        log: EventLog,
        catalog: Catalog,
        *,
        settle: Settle,
        reader: ProgressReader,
        streams_per_tenant: int = 500,
        announcers: Announcers | None = None,
    ) -> None:
        self.queries = reader.queries
        self._log = log
        parts = PollerParts(
            queries=self.queries,
            engine=BatchEngine(client),
            log=log,
            catalog=catalog,
            settle=settle,
            announcers=announcers or {},
        )
        self.hub = Hub(parts, reader.forget)
        self._attendance = Attendance(self.hub, catalog, frozenset(announcers)) if announcers else None
        self._attending: asyncio.Task[None] | None = None
        self._open = OpenStreams(streams_per_tenant)
        self.sockets = OpenStreams(per_tenant=None)
        """WebSockets; each may follow several batches."""
        self._all_closed = asyncio.Event()
        self._shutdown: anyio.Event | None = None
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to follow the log; call it on the event loop that serves requests."""
        self._shutdown = anyio.Event()
        self._watch = asyncio.create_task(self._drain_on_shutdown(self._shutdown), name="streams shutdown")
        self.hub.start()
        if self._attendance is not None:
            self._attending = asyncio.create_task(self._attendance.keep(), name="attendance")

    def attend(self, tenant_id: str, batch_id: str) -> None:
        """A batch that is to be told whether or not anybody watches has just begun: do not wait until it is found."""
        self.hub.attend(StreamKey(tenant_id, batch_id))

    @property
    def draining(self) -> bool:
        """This process is going away: not ready for more."""
        return self.hub.draining

    @property
    def open_count(self) -> int:
        """Streams and WebSockets open now."""
        return self._open.count + self.sockets.count

    async def drain(self, timeout_seconds: float = 4.0) -> None:
        """Say farewell on every stream and wait until they are closed. New ones get the farewell at once."""
        self.hub.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self.open_count:
                    self._all_closed.clear()
                    await self._all_closed.wait()

    async def close(self) -> None:
        """Stop following and give every lease back."""
        tasks = [task for task in (self._attending, self._watch) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.hub.close()

    async def open(
        self, record: BatchRecord, wording: Wording, client: StreamClient | None = None
    ) -> StreamResponse | None:
        """A stream of the batch in these words; None when the client has seen all of an ended batch.

        Raises ``TooManyStreamsError`` when the tenant, or the client, has all its streams open in this process.
        """
        key = _key(record)
        known = await self._told(record)
        if known is not None and wording.has_all(known.latest):
            return None
        assert self._shutdown is not None, "start() comes before open()"
        session = StreamSession(key, wording, hub=self.hub, log=self._log, told=known is not None)
        self._open.opened(key.tenant_id, client)
        frames = session.frames()
        if client is not None and client.is_welcome is not None:
            frames = while_welcome(frames, client.is_welcome)
        return StreamResponse(frames, shutdown=self._shutdown, on_closed=lambda: self._closed(key.tenant_id, client))

    def counted(
        self,
        tenant_id: str,
        frames: AsyncGenerator[bytes],
        client: StreamClient | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> StreamResponse:
        """A stream of frames that come from elsewhere, counted and ended as the others are.

        Raises ``TooManyStreamsError``.
        """
        assert self._shutdown is not None, "start() comes before counted()"
        self._open.opened(tenant_id, client)
        if client is not None and client.is_welcome is not None:
            frames = while_welcome(frames, client.is_welcome)
        return StreamResponse(
            frames, shutdown=self._shutdown, on_closed=lambda: self._closed(tenant_id, client), headers=headers
        )

    async def follow(self, record: BatchRecord, wording: Wording) -> AsyncGenerator[bytes]:
        """The same for a connection that carries more than one batch: encoded frames, uncounted."""
        key = _key(record)
        known = await self._told(record)
        if known is not None and wording.has_all(known.latest):
            return
        session = StreamSession(key, wording, hub=self.hub, log=self._log, told=known is not None)
        async with aclosing(session.frames()) as frames:
            async for chunk in frames:
                yield chunk

    def socket_closed(self, tenant_id: str, client: StreamClient) -> None:
        """One WebSocket less."""
        self.sockets.closed(tenant_id, client)
        if not self.open_count:
            self._all_closed.set()

    async def page(self, record: BatchRecord, cursor: int | None, limit: int) -> HistoryPage:
        """Up to ``limit`` events after ``cursor``, from the first one without one.

        Where the cursor cannot be served the page begins with the oldest event and says so.
        Raises ``EventLogUnavailableError``.
        """
        key = _key(record)
        if await self._told(record) is not None:
            return await self._page(key, cursor, limit, ended=True)
        async with self.hub.subscribe(key) as subscription:
            await subscription.ready(READY_SECONDS)
            return await self._page(key, cursor, limit, ended=subscription.batch_ended)

    async def _page(self, key: StreamKey, cursor: int | None, limit: int, *, ended: bool) -> HistoryPage:
        known = await self._log.range(key)
        start = decide(cursor or 0, known.oldest, known.latest, complete=known.complete)
        if start.mode is Mode.RESET:
            start = Start(Mode.RESET, max(known.oldest - 1, 0), start.reason)
        events = await self._log.read(key, start.after, limit)
        reached = events[-1].seq if events else start.after
        has_more = reached < known.latest
        return HistoryPage(events, known, start, has_more, ended=ended and not has_more)

    async def _told(self, record: BatchRecord) -> LogRange | None:
        """What the log holds, when the batch is over and all of it is told."""
        if not record.state.is_final:
            return None
        try:
            known = await self._log.range(_key(record))
            if not known.state or not BatchState(known.state).is_final:
                return None
            last = await self._log.read(_key(record), known.latest - 1, 1)
        except EventLogUnavailableError:
            return None
        if not last or last[0].type not in BATCH_END_EVENTS:
            return None
        # A retry that nobody watched has made the log's last event an old one.
        return known if orjson.loads(last[0].body)["data"]["version"] >= record.version else None

    def _closed(self, tenant_id: str, client: StreamClient | None) -> None:
        self._open.closed(tenant_id, client)
        if not self.open_count:
            self._all_closed.set()

    async def _drain_on_shutdown(self, shutdown: anyio.Event) -> None:
        # sse-starlette sets it when uvicorn was asked to stop; uvicorn itself would leave streams open.
        await shutdown.wait()
        self.hub.drain()


def _key(record: BatchRecord) -> StreamKey:
    return StreamKey(record.tenant_id, record.batch_id)
