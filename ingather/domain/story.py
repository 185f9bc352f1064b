"""What the events of a batch told so far: enough to word the next one, and to tell nothing twice.

A fold over journal pages and catalog rows, which the poller brings. ``notes`` puts it down
beside the events, and ``load`` brings another poller to the same point.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Self

import orjson

from ingather.domain.event_stream import DOCUMENT_ENDS, DOCUMENT_EVENTS, Draft, document_data, state_event
from ingather.domain.live_progress import ChildKey
from ingather.domain.told import Told
from ingather.models.batch import BatchState
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.messages import JournalEntry, JournalKind

_HEAD = "story"
_CLOCK_SKEW = timedelta(seconds=5)
"""How far the clocks of a worker and of Temporal may be apart."""
_FOR_GOOD = frozenset({DocumentStatus.DONE, DocumentStatus.SKIPPED})
"""No retry runs these again."""


class Story:
    """Told so far.

    Args:
        batch_id: whose story it is.
        told: what of its documents.
    """

    def __init__(self, batch_id: str, told: Told | None = None) -> None:
        self.batch_id = batch_id
        self.told = told or Told()
        self.state: BatchState | None = None
        self.version = 0
        """Version of the batch in the last event that ended it."""
        self.position = 0
        """Where to read on in the batch's journal."""
        self.children: dict[ChildKey, int] = {}
        """Where to read on in the journal of each child at work."""
        self.running: dict[int, datetime] = {}
        """When each document in flight was started, as far as its start was told by this story's teller."""
        self.cancelled_until: datetime | None = None
        """When the latest document was told as cancelled."""
        self._early: dict[int, tuple[DocumentStatus, datetime | None]] = {}
        """Ends told from the catalog whose journal entries may be still to come."""

    def tell(self, entries: Sequence[JournalEntry], records: Mapping[int, DocumentRecord]) -> list[Draft]:
        """Drafts of journal entries that follow each other."""
        last_ends = {entry.ordinal: index for index, entry in enumerate(entries) if entry.kind is JournalKind.ENDED}
        drafts = []
        for index, entry in enumerate(entries):
            record = records.get(entry.ordinal) if entry.ordinal is not None else None
            # A record knows one end only: the last.
            is_past = entry.kind is JournalKind.ENDED and last_ends[entry.ordinal] != index
            if draft := self._draft(entry, record, is_past=is_past or _is_later(record, entry)):
                drafts.append(draft)
        return drafts

    def tell_missed(self, records: Iterable[DocumentRecord], now: datetime, *, early: bool = False) -> list[Draft]:
        """Drafts of what the catalog knows and no event has told, oldest first.

        Ends, and starts where their time is known. ``early`` says that the journal is still to be
        read, and the catalog may be ahead of it.
        """
        drafts = []
        for record in records:
            if record.status not in DOCUMENT_ENDS or self.told.has(record) or self._is_outdated(record):
                continue
            is_running = self.told.status(record.ordinal) is DocumentStatus.IN_FLIGHT
            if record.started_at is not None and not is_running:
                start = JournalEntry(kind=JournalKind.STARTED, at=record.started_at, ordinal=record.ordinal)
                drafts.append(self._document(start, DocumentStatus.IN_FLIGHT, record))
            at = record.ended_at or now
            end = JournalEntry(kind=JournalKind.ENDED, at=at, ordinal=record.ordinal, status=record.status)
            drafts.append(self._document(end, record.status, record))
            if early:
                self._early[record.ordinal] = (record.status, record.ended_at)
        # Stable, so a start stays before the end of the same moment.
        return sorted(drafts, key=lambda draft: draft.time)

    def tell_state(self, state: BatchState, at: datetime, **data: Any) -> Draft | None:
        """The draft of a new state; None where no event stands for it."""
        previous, self.state = self.state, state
        kind = state_event(previous, state)
        return None if kind is None else Draft(kind, at, {"status": state.value, **data}, state)

    def pass_over(self, ordinals: Iterable[int]) -> None:
        """Leave out what happened to these documents; an announced gap stands for it."""
        for ordinal in ordinals:
            self.told.pass_over(ordinal)
            self.running.pop(ordinal, None)

    def begin_child(self, child: ChildKey) -> None:
        """A child's own journal is to be read from its first entry on."""
        self.children.setdefault(child, 0)

    def end_child(self, child: ChildKey) -> None:
        """There is nothing more to read of it."""
        self.children.pop(child, None)

    # --- Beside the events --------------------------------------------------------------------

    def notes(self, *, whole: bool) -> dict[str, bytes]:
        """What another teller must know after the events told now: all of it, or what changed since last asked."""
        head = {
            "state": self.state,
            "version": self.version,
            "position": self.position,
            "children": {str(child): position for child, position in self.children.items()},
            "until": self.told.until,
            "cancelled_until": self.cancelled_until,
        }
        return {_HEAD: orjson.dumps(head), **(self.told.notes() if whole else self.told.changes())}

    @classmethod
    def load(cls, batch_id: str, notes: Mapping[str, bytes], now: datetime) -> Self | None:
        """The story as ``notes`` put it down; None where nothing was. Raises ``ValueError`` for anything else."""
        if _HEAD not in notes:
            return None
        head = orjson.loads(notes[_HEAD])
        story = cls(batch_id, Told.load(notes))
        story.state = BatchState(head["state"]) if head["state"] else None
        story.version, story.position = head["version"], head["position"]
        story.children = {ChildKey.parse(name): position for name, position in head["children"].items()}
        story.told.until = datetime.fromisoformat(head["until"]) if head["until"] else None
        if head.get("cancelled_until"):
            story.cancelled_until = datetime.fromisoformat(head["cancelled_until"])
        # When they started is not noted: how long they have been in flight counts from now.
        story.running = dict.fromkeys(story.told.running(), now)
        return story

    # --- One entry --------------------------------------------------------------------------

    def _draft(self, entry: JournalEntry, record: DocumentRecord | None, *, is_past: bool) -> Draft | None:
        if entry.kind is JournalKind.STATE:
            return self.tell_state(entry.state, entry.at) if entry.state else None
        status = entry.status if entry.kind is JournalKind.ENDED else DocumentStatus.IN_FLIGHT
        if entry.ordinal is None or status not in DOCUMENT_EVENTS or self._was_told_early(entry, status, record):
            return None
        return self._document(entry, status, record, is_past=is_past)

    def _was_told_early(self, entry: JournalEntry, status: DocumentStatus, record: DocumentRecord | None) -> bool:
        ordinal = entry.ordinal or 0
        if ordinal not in self._early:
            return False
        is_same = record is not None and self._early[ordinal] == (record.status, record.ended_at)
        if not is_same or status in DOCUMENT_ENDS:
            del self._early[ordinal]
        return is_same

    def _is_outdated(self, record: DocumentRecord) -> bool:
        """Whether the batch's word on the document came after what the row says.

        A worker that writes an end and dies, or is cancelled, before it can answer leaves a row that its
        batch knows nothing of. The batch's word counts, and the row is put right when the batch ends.
        """
        told = self.told.status(record.ordinal)
        if told is DocumentStatus.CANCELLED and record.started_at is not None and self.cancelled_until is not None:
            return record.started_at <= self.cancelled_until
        return record.status is DocumentStatus.CANCELLED and told in _FOR_GOOD

    def _document(
        self, entry: JournalEntry, status: DocumentStatus, record: DocumentRecord | None, *, is_past: bool = False
    ) -> Draft:
        data = document_data(self.batch_id, entry, status, record, is_past=is_past)
        ordinal = data["ordinal"]
        self.told.note(ordinal, status, data.get("ended_at"))
        if status is DocumentStatus.CANCELLED:
            self.cancelled_until = max(self.cancelled_until or entry.at, entry.at)
        if status is DocumentStatus.IN_FLIGHT:
            self.running[ordinal] = entry.at
        else:
            self.running.pop(ordinal, None)
        return Draft(DOCUMENT_EVENTS[status], entry.at, data, self.state)


def _is_later(record: DocumentRecord | None, entry: JournalEntry) -> bool:
    """Whether a record is of an attempt after the journal entry, as far as two clocks can tell."""
    return record is not None and record.started_at is not None and record.started_at > entry.at + _CLOCK_SKEW


def ended_in(entry: JournalEntry, records: Iterable[DocumentRecord], *, is_last_round: bool) -> list[DocumentRecord]:
    """Records of a child's documents as it left them, without those that ran again since, in another child."""
    if is_last_round:
        return list(records)
    return [record for record in records if record.ended_at is not None and record.ended_at <= entry.at]
