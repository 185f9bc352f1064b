"""The same events as JSON, a page at a time."""

from dataclasses import dataclass

import orjson

from ingather.domain.event_cursor import Mode, Start
from ingather.ports.event_log import LoggedEvent, LogRange


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Events after a cursor, oldest first."""

    events: list[LoggedEvent]
    known: LogRange
    start: Start
    has_more: bool
    ended: bool
    """The batch is over, and this page reaches its last event."""

    def encode(self) -> bytes:
        """The page as JSON; the events' bodies are passed on as they were logged."""
        after = self.events[-1].seq if self.events else self.start.after
        head = orjson.dumps(
            {
                "has_more": self.has_more,
                "next_cursor": str(after),
                "oldest_seq": self.known.oldest,
                "latest_seq": self.known.latest,
                "reset": self.start.reason if self.start.mode is Mode.RESET else None,
                "ended": self.ended,
            }
        )
        return b'{"data":[' + b",".join(event.body for event in self.events) + b"]," + head[1:]
