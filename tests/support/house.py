"""The streams of one API process (or several) around a scripted batch."""

import asyncio

from api.streams.announcing import Announcers
from api.streams.hub import Hub
from api.streams.session import StreamSession
from api.streams.wording import OurWording, Wording
from ingather.domain.event_cursor import parse_cursor
from ingather.ports.event_log import EventLog
from tests.support.scripted_batch import ScriptedBatch
from tests.support.watching import Watcher


class House:
    """One API process (or several) around a batch."""

    def __init__(self, batch: ScriptedBatch, log: EventLog, announcers: Announcers | None = None) -> None:
        self.batch = batch
        self.log = log
        self.announcers = announcers
        self.changed: list[str] = []
        self.hubs: list[Hub] = []
        self.watchers: list[Watcher] = []
        self.hub = self.open_hub()

    def open_hub(self) -> Hub:
        hub = Hub(self.batch.parts(self.log, self.announcers), self.changed.append)
        hub.start()
        self.hubs.append(hub)
        return hub

    def session(
        self,
        cursor: str | None = None,
        *,
        hub: Hub | None = None,
        told: bool = False,
        wording: Wording | None = None,
    ) -> StreamSession:
        words = wording or OurWording(parse_cursor(cursor), self.render)
        return StreamSession(self.batch.key, words, hub=hub or self.hub, log=self.log, told=told)

    def watch(
        self,
        cursor: str | None = None,
        *,
        hub: Hub | None = None,
        told: bool = False,
        wording: Wording | None = None,
    ) -> Watcher:
        watcher = Watcher(self.session(cursor, hub=hub, told=told, wording=wording).frames())
        self.watchers.append(watcher)
        return watcher

    async def render(self) -> dict[str, object]:
        return {"id": self.batch.key.batch_id, "counts": self.batch.counts.model_dump()}

    async def close(self) -> None:
        for watcher in self.watchers:
            await watcher.leave()
        await asyncio.gather(*(hub.close() for hub in self.hubs))
