"""The API in this process with one job over sources that does what a test says, and its real streams."""

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

from api.streams.clients import OpenStreams
from api.streams.session import StreamSession
from api.streams.wording import Wording
from ingather.adapters.memory.event_log import InMemoryEventLog
from ingather.models.batch import BatchRecord, BatchState
from ingather.models.messages import JournalEntry
from ingather.settings import Settings
from tests.support.api import ApiInProcess, EngineStandIn, api_in_process
from tests.support.asgi_socket import AsgiSocket, asgi_socket
from tests.support.house import House
from tests.support.scripted_batch import ScriptedBatch
from tests.support.source_jobs import DRIVE, FOLDER, connect

OWNER = "anonymous"
"""Whose the job is."""


class Streams:
    """The streams of one process around one scripted batch: the real hub and sessions."""

    def __init__(self, house: House) -> None:
        self.hub = house.hub
        self.sockets = OpenStreams(per_tenant=None)
        self._house = house

    async def follow(self, _record: BatchRecord, wording: Wording) -> AsyncIterator[bytes]:
        session = StreamSession(self._house.batch.key, wording, hub=self.hub, log=self._house.log, told=False)
        async with aclosing(session.frames()) as frames:
            async for chunk in frames:
                yield chunk

    def socket_closed(self, tenant_id: str, client: str) -> None:
        self.sockets.closed(tenant_id, client)


class ShownBatch(ScriptedBatch):
    """One whose progress the engine's stand-in shows as it goes."""

    engine: EngineStandIn | None = None

    def _note(self, entry: JournalEntry) -> None:
        super()._note(entry)
        if self.engine is not None:
            self.engine.open[self.key.batch_id] = self.live

    async def close(self, state: BatchState = BatchState.COMPLETED) -> None:
        await super().close(state)
        if self.engine is not None:
            self.engine.open.pop(self.key.batch_id, None)


class JobWorld:
    """The API, and one job of three files that does what a test says."""

    def __init__(self, api: ApiInProcess, batch: ShownBatch, house: House) -> None:
        self.api, self.batch, self.house = api, batch, house

    @property
    def job_id(self) -> str:
        return self.batch.key.batch_id

    def open(
        self, path: str = f"/batch/ws/{OWNER}", headers: Mapping[str, str] | None = None, **query: Any
    ) -> AbstractAsyncContextManager[AsgiSocket]:
        return asgi_socket(self.api.app, path, headers, **query)


@asynccontextmanager
async def job_world(**settings: Any) -> AsyncIterator[JobWorld]:
    """A world with these settings, and two connections, ``drive`` and ``shelf``."""
    async with api_in_process(Settings(**settings)) as api:
        await connect(api, "drive", DRIVE)
        await connect(api, "shelf", FOLDER)
        batch = ShownBatch(str(uuid.uuid4()), document_count=3, catalog=api.catalog, contract="sources")
        await batch.create()
        house = House(batch, InMemoryEventLog())
        api.app.state.streams = Streams(house)
        api.engine.specs[batch.key.batch_id] = (await batch.record()).spec
        batch.engine = api.engine
        api.engine.open[batch.key.batch_id] = batch.live
        try:
            yield JobWorld(api, batch, house)
        finally:
            await house.close()
