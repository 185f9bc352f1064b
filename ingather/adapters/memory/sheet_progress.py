"""Progress of batches of sheets, in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ingather.domain.sheet_events import completed_body, encoded, rank
from ingather.models.sheets import SheetStage, StageEvent, ToldEvent
from ingather.ports.sheet_progress import KEPT_SECONDS, MOST_EVENTS


@dataclass(slots=True)
class _Log:
    began_at: datetime
    told_at: datetime
    events: list[ToldEvent] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)
    number: int = 0
    rank: int = -1
    stage: SheetStage | None = None


def _now() -> datetime:
    return datetime.now(UTC)


class InMemorySheetProgress:
    """Keeps what ``RedisSheetProgress`` keeps, as long as it does, by the clock it is given."""

    def __init__(self, *, now: Callable[[], datetime] = _now, most_events: int = MOST_EVENTS) -> None:
        self._now = now
        self._most_events = most_events
        self._logs: dict[str, _Log] = {}
        self._listeners: list[asyncio.Queue[str]] = []

    async def tell(self, event: StageEvent) -> bool:
        now = self._now()
        log = self._log(event.batch_id)
        if log is None:
            log = _Log(min(event.began_at, now), now)
        since = (now - log.told_at).total_seconds()
        is_too_soon = log.stage is event.stage and since < event.at_most_every
        if event.mark in log.marks or rank(event) < log.rank or is_too_soon:
            return False
        self._logs[event.batch_id] = log
        log.marks.add(event.mark)
        log.number, log.rank, log.stage, log.told_at = log.number + 1, rank(event), event.stage, now
        elapsed = int((now - log.began_at).total_seconds())
        log.events.append(ToldEvent(number=log.number, body=completed_body(encoded(event, now), elapsed, log.number)))
        del log.events[: -self._most_events]
        for listener in self._listeners:
            listener.put_nowait(event.batch_id)
        return True

    async def read(self, batch_id: str, after: int = 0, limit: int = 1_000) -> list[ToldEvent]:
        log = self._log(batch_id)
        return [event for event in log.events if event.number > after][:limit] if log else []

    async def latest(self, batch_id: str) -> ToldEvent | None:
        log = self._log(batch_id)
        return log.events[-1] if log else None

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[str]]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.append(queue)

        async def names() -> AsyncIterator[str]:
            while True:
                yield await queue.get()

        try:
            yield names()
        finally:
            self._listeners.remove(queue)

    def clear(self) -> None:
        """Everything is forgotten: ``FLUSHALL``."""
        self._logs.clear()

    async def close(self) -> None:
        """Nothing to release."""

    def _log(self, batch_id: str) -> _Log | None:
        log = self._logs.get(batch_id)
        if log is not None and (self._now() - log.told_at).total_seconds() > KEPT_SECONDS:
            del self._logs[batch_id]
            return None
        return log
