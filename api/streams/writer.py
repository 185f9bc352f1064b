"""From what is told to what is kept: numbers, encoding, one append, and a memory for the next poller."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from api.streams.announcing import Announcer, Announcers, Silence
from api.streams.numbers import EventNumbers
from ingather.domain.event_stream import Draft, encode, numbered
from ingather.domain.story import Story
from ingather.ports.catalog import Catalog
from ingather.ports.event_log import Announcement, EventLog, LoggedEvent, Notes, StreamKey

log = structlog.get_logger(__name__)


RENEWALS = 4
"""How often a lease is renewed within its time."""


class SupersededError(Exception):
    """Another poller has told on: what this one remembers no longer holds."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """An event that has its number, and what is published with it."""

    event: LoggedEvent
    announcements: list[Announcement]


class EventWriter:
    """Writes one batch's story into the log, and takes it up where another left it.

    A draft that was ``put`` is in the log after the next ``flush``, whatever fails in between:
    flush again. The story must not move on before.
    """

    def __init__(
        self,
        key: StreamKey,
        event_log: EventLog,
        catalog: Catalog,
        owner: str,
        lease_seconds: float,
        *,
        announcers: Announcers,
    ) -> None:
        self._key = key
        self._log = event_log
        self._catalog = catalog
        self._announcers = announcers
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._numbers = EventNumbers(catalog, key.batch_id)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget everything; ``restore`` comes next."""
        self.story = Story(self._key.batch_id)
        self.is_silent = False
        """Nothing is written: what happens now was told before, by events that are lost."""
        self._drafts: list[Draft] = []
        """Worded, but without a number yet."""
        self._outbox: deque[_Ready] = deque()
        """Numbered and encoded, not yet in the log: a number that was given is never given up."""
        self._announcer: Announcer = Silence()
        self._notes: Notes | None = None
        """What goes with the outbox."""
        self._notes_are_kept = False
        self._is_first = False
        self._is_restored = False
        self._renewed_at = 0.0

    @property
    def last_seq(self) -> int:
        """The number given last."""
        return self._numbers.last

    async def lead(self) -> bool:
        """Become or stay the one who writes; False while somebody else is.

        Raises ``SupersededError`` when somebody else tells on, or has: what is remembered here is of before.
        """
        now = time.monotonic()
        since = now - self._renewed_at
        if since < self._lease_seconds / RENEWALS:
            return True
        if not await self._log.elect(self._key, self._owner, self._lease_seconds):
            self._renewed_at = 0.0
            if self._is_restored:
                raise SupersededError
            return False
        if since > self._lease_seconds and self._is_restored:
            known = await self._log.range(self._key)
            if known.latest > self._numbers.last:
                raise SupersededError
        self._renewed_at = now
        return True

    async def restore(self) -> None:
        """Take up the story where the log has it, unless that was done."""
        if self._is_restored:
            return
        known = await self._log.range(self._key)
        notes = await self._log.notes(self._key)
        story = self._loaded(notes)
        was_told = await self._numbers.follow(known.latest, certain=known.certain and story is not None)
        self._is_first = not was_told
        # The log was lost: what it held is not told again while the batch runs, streams get a reset and a snapshot.
        self.is_silent = story is None and was_told
        self._announcer = await self._appointed(notes if story else {}, was_told=was_told)
        self.story = story or Story(self._key.batch_id)
        self._is_restored = True

    async def _appointed(self, notes: Mapping[str, bytes], *, was_told: bool) -> Announcer:
        if not self._announcers:
            return Silence()
        record = await self._catalog.get_batch(self._key.batch_id, self._key.tenant_id)
        appoint = self._announcers.get(record.spec.contract) if record else None
        # A history that is rebuilt because somebody asks for it is no news.
        is_over = record is not None and record.is_told and not notes
        return Silence() if appoint is None or is_over else appoint(self._key.batch_id, notes, was_told=was_told)

    @property
    def is_announced(self) -> bool:
        """Somebody listens, beside those who watch."""
        return not isinstance(self._announcer, Silence)

    def _loaded(self, notes: dict[str, bytes]) -> Story | None:
        try:
            return Story.load(self._key.batch_id, notes, datetime.now(UTC))
        except (ValueError, KeyError):
            log.warning("poller.notes_unreadable", batch_id=self._key.batch_id)
            return None

    def put(self, drafts: Sequence[Draft]) -> None:
        """Have drafts written by the next ``flush``."""
        if not self.is_silent:
            self._drafts += drafts

    def leave_gap(self) -> None:
        """Leave a number out: every watcher is told that something is missing, and gets a snapshot."""
        if not self.is_silent:
            self._numbers.leave_gap()
            self._is_first = False

    def speak(self) -> None:
        """What happens from now on was not told before."""
        if self.is_silent:
            self.is_silent = False
            self.leave_gap()

    async def flush(self) -> None:
        """Number and write what was put; a write whose answer was lost is recognised and not repeated."""
        if self._drafts:
            numbers = await self._numbers.take(len(self._drafts))
            for draft, event in numbered(self._drafts, self._key.batch_id, numbers):
                state = draft.state.value if draft.state else ""
                logged = LoggedEvent(event.seq, event.type.value, encode(event), state)
                self._outbox.append(_Ready(logged, self._announcer.announcements(logged)))
            self._drafts.clear()
        # The end of a large batch takes longer to tell than a lease lasts.
        if self._outbox and not await self.lead():
            raise SupersededError
        while self._outbox:
            if self._notes is None:
                whole = not self._notes_are_kept
                self._notes = Notes({**self.story.notes(whole=whole), **self._announcer.notes()}, whole)
            events = [ready.event for ready in self._outbox]
            is_written = await self._log.append(
                self._key,
                self._owner,
                events,
                notes=self._notes,
                first=self._is_first,
                announcements=[each for ready in self._outbox for each in ready.announcements],
            )
            if is_written:
                self._written(events[-1].seq)
            else:
                await self._settle_refusal()

    def _written(self, last: int) -> None:
        while self._outbox and self._outbox[0].event.seq <= last:
            self._outbox.popleft()
        self._notes = None
        self._notes_are_kept = True
        self._is_first = False

    async def _settle_refusal(self) -> None:
        if not await self._log.elect(self._key, self._owner, self._lease_seconds):
            raise SupersededError
        known = await self._log.range(self._key)
        oldest = self._outbox[0].event
        if known.latest < oldest.seq:
            # Lease or notes were gone (an emptied Redis): the numbers are still free, the notes go as a whole.
            self._notes, self._notes_are_kept = None, False
            return
        there = await self._log.read(self._key, oldest.seq - 1, 1)
        if not there or there[0].body != oldest.body:
            raise SupersededError
        self._written(known.latest)
