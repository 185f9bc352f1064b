"""Events for those who listen elsewhere: a contract's own words, published as the event is written down.

A batch whose contract promises this is told whether or not anybody watches (``api.streams.attendance``).
"""

from collections.abc import Mapping
from typing import Protocol

from ingather.ports.event_log import Announcement, LoggedEvent


class Announcer(Protocol):
    """Puts one batch's events into the words of its contract, in order."""

    def announcements(self, event: LoggedEvent) -> list[Announcement]:
        """What is to be published with an event; asked once for each."""
        ...

    def notes(self) -> dict[str, bytes]:
        """What the next announcer of the batch must know; kept beside the event."""
        ...


class OpenAnnouncer(Protocol):
    """Makes the announcer of a batch."""

    def __call__(self, batch_id: str, notes: Mapping[str, bytes], /, *, was_told: bool) -> Announcer:
        """``notes`` are those of the last one; empty where nothing was told, or (``was_told``) where they were lost."""
        ...


Announcers = Mapping[str, OpenAnnouncer]
"""By contract."""


class Silence:
    """Nobody listens."""

    def announcements(self, _event: LoggedEvent) -> list[Announcement]:
        return []

    def notes(self) -> dict[str, bytes]:
        return {}
