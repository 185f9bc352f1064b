"""What watchers of a batch see: one poller asks, one log keeps, one hub a process hands out."""

from api.streams.event_streams import EventStreams
from api.streams.reader import LiveProgress, ProgressReader

__all__ = ["EventStreams", "LiveProgress", "ProgressReader"]
