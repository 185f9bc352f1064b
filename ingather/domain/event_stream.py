"""From what happened to what watchers are told: journal entries become events.

Pure functions and one small fold; the poller brings journal pages and catalog rows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from ingather.models.batch import BatchProgress, BatchState
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.events import BATCH_END_EVENTS, Event, EventType
from ingather.models.identity import file_id_for
from ingather.models.messages import DocumentHeartbeat, JournalEntry, JournalKind

_STATE_EVENTS = {
    BatchState.PENDING: EventType.BATCH_CREATED,
    BatchState.QUEUED: EventType.BATCH_QUEUED,
    BatchState.RUNNING: EventType.BATCH_STARTED,
    BatchState.PAUSING: EventType.BATCH_PAUSING,
    BatchState.PAUSED: EventType.BATCH_PAUSED,
    BatchState.RETRYING: EventType.BATCH_RETRYING,
    BatchState.CANCELLING: EventType.BATCH_CANCELLING,
    BatchState.COMPLETED: EventType.BATCH_COMPLETED,
    BatchState.COMPLETED_WITH_FAILURES: EventType.BATCH_COMPLETED,
    BatchState.FAILED: EventType.BATCH_FAILED,
    BatchState.CANCELLED: EventType.BATCH_CANCELLED,
}

_DOCUMENT_EVENTS = {
    DocumentStatus.IN_FLIGHT: EventType.DOCUMENT_STARTED,
    DocumentStatus.DONE: EventType.DOCUMENT_SUCCEEDED,
    DocumentStatus.FAILED: EventType.DOCUMENT_FAILED,
    DocumentStatus.SKIPPED: EventType.DOCUMENT_SKIPPED,
    DocumentStatus.CANCELLED: EventType.DOCUMENT_CANCELLED,
}

_DOCUMENT_ENDS = frozenset(_DOCUMENT_EVENTS) - {DocumentStatus.IN_FLIGHT}
_HALTED = frozenset({BatchState.PAUSING, BatchState.PAUSED})
_GOING = frozenset({BatchState.RUNNING, BatchState.RETRYING})
_CLOCK_SKEW = timedelta(seconds=5)
"""How far the clocks of a worker and of Temporal may be apart."""
_WAITING = frozenset({BatchState.PENDING, BatchState.QUEUED})


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that has no number yet."""

    type: EventType
    time: datetime
    data: dict[str, Any]
    journal_next: int
    state: BatchState | None


@dataclass(slots=True)
class Story:
    """What the events told so far: enough to word the next one, and to know which documents' ends were told.

    The same fold over the log's own events (``recall``) brings another poller to the same point.
    """

    batch_id: str
    state: BatchState | None = None
    ended: dict[int, tuple[str, datetime | None]] = field(default_factory=dict)
    """How and when each ended document ended, as last told, by ordinal; no time where the catalog was behind or ahead."""
    running: dict[int, datetime] = field(default_factory=dict)
    """When each document that is in flight was started."""
    early: set[int] = field(default_factory=set)
    """Documents whose end was told from the catalog while the batch runs: their journal entries may be still to come."""
    version: int = 0
    """Version of the batch in the last event that ended it."""
    horizon: datetime | None = None
    """What happened before was told by events that are no longer there."""

    def tell(self, entries: Sequence[JournalEntry], first: int, records: Mapping[int, DocumentRecord]) -> list[Draft]:
        """Drafts of journal entries, the first of them at position ``first``."""
        last_ends = {entry.ordinal: index for index, entry in enumerate(entries) if entry.kind is JournalKind.ENDED}
        drafts = []
        for index, entry in enumerate(entries):
            record = records.get(entry.ordinal) if entry.ordinal is not None else None
            # A record knows one end only: the last.
            is_past = entry.kind is JournalKind.ENDED and last_ends[entry.ordinal] != index
            if draft := self._draft(entry, first + index + 1, record, is_past=is_past or _is_later(record, entry)):
                drafts.append(draft)
        return drafts

    def tell_missed(self, records: Iterable[DocumentRecord], journal_next: int, now: datetime) -> list[Draft]:
        """Drafts of what the catalog knows and no event has told, oldest first.

        Ends, and starts where their time is known. The catalog may be ahead of the journal.
        """
        drafts = []
        for record in records:
            if record.status in _DOCUMENT_ENDS and not self._was_told(record, record.ended_at or now):
                if record.started_at is not None and record.ordinal not in self.running:
                    start = JournalEntry(kind=JournalKind.STARTED, at=record.started_at, ordinal=record.ordinal)
                    drafts.append(self._document(start, DocumentStatus.IN_FLIGHT, record, journal_next))
                at = record.ended_at or now
                end = JournalEntry(kind=JournalKind.ENDED, at=at, ordinal=record.ordinal, status=record.status)
                drafts.append(self._document(end, record.status, record, journal_next))
                self.early.add(record.ordinal)
        # Stable, so a start stays before the end of the same moment.
        return sorted(drafts, key=lambda draft: draft.time)

    def _was_told(self, record: DocumentRecord, at: datetime) -> bool:
        status, told_at = self.ended.get(record.ordinal, (None, None))
        if status is None:
            return self.horizon is not None and at < self.horizon
        return status == record.status.value and told_at in {None, record.ended_at}

    def tell_state(self, state: BatchState, at: datetime, journal_next: int, **data: Any) -> Draft | None:
        """The draft of a new state; None where no event stands for it."""
        previous, self.state = self.state, state
        kind = state_event(previous, state)
        if kind is None:
            return None
        return Draft(kind, at, {"status": state.value, **data}, journal_next, state)

    def recall(self, type_: str, state: str, body: bytes) -> None:
        """Take in an event that is already in the log."""
        if state:
            self.state = BatchState(state)
        if type_.startswith("document."):
            event = orjson.loads(body)
            data = event["data"]
            ended_at = data.get("ended_at")
            self._note(
                data, datetime.fromisoformat(event["time"]), datetime.fromisoformat(ended_at) if ended_at else None
            )
        elif type_ in BATCH_END_EVENTS:
            self.version = orjson.loads(body)["data"]["version"]

    def _draft(
        self, entry: JournalEntry, journal_next: int, record: DocumentRecord | None, *, is_past: bool
    ) -> Draft | None:
        if entry.kind is JournalKind.STATE:
            return self.tell_state(entry.state, entry.at, journal_next) if entry.state else None
        status = entry.status if entry.kind is JournalKind.ENDED else DocumentStatus.IN_FLIGHT
        if (
            entry.ordinal is None
            or status not in _DOCUMENT_EVENTS
            or self._was_told_early(entry.ordinal, status, record)
        ):
            return None
        return self._document(entry, status, record, journal_next, is_past=is_past)

    def _was_told_early(self, ordinal: int, status: DocumentStatus, record: DocumentRecord | None) -> bool:
        if ordinal not in self.early:
            return False
        is_same = record is not None and self.ended.get(ordinal) == (record.status.value, record.ended_at)
        if not is_same or status in _DOCUMENT_ENDS:
            self.early.discard(ordinal)
        return is_same

    def _document(
        self,
        entry: JournalEntry,
        status: DocumentStatus,
        record: DocumentRecord | None,
        journal_next: int,
        *,
        is_past: bool = False,
    ) -> Draft:
        data = document_data(self.batch_id, entry, status, record, is_past=is_past)
        self._note(data, entry.at, data.get("ended_at"))
        return Draft(_DOCUMENT_EVENTS[status], entry.at, data, journal_next, self.state)

    def _note(self, data: Mapping[str, Any], at: datetime, ended_at: datetime | None) -> None:
        ordinal, status = data["ordinal"], data["status"]
        if status == DocumentStatus.IN_FLIGHT.value:
            self.running[ordinal] = at
            self.ended.pop(ordinal, None)
        else:
            self.running.pop(ordinal, None)
            self.ended[ordinal] = (status, ended_at)


def _is_later(record: DocumentRecord | None, entry: JournalEntry) -> bool:
    """Whether a record is of an attempt after the journal entry, as far as two clocks can tell."""
    return record is not None and record.started_at is not None and record.started_at > entry.at + _CLOCK_SKEW


def state_event(previous: BatchState | None, state: BatchState) -> EventType | None:
    """The event that stands for a change of state; ``finalizing`` has none, and a repeated state neither."""
    if state is previous:
        return None
    if state in _GOING and previous in _HALTED:
        return EventType.BATCH_RESUMED
    return _STATE_EVENTS.get(state)


def document_data(
    batch_id: str, entry: JournalEntry, status: DocumentStatus, record: DocumentRecord | None, *, is_past: bool = False
) -> dict[str, Any]:
    """``data`` of a document's event.

    A record that is already past the status told here (the document was retried since) lends its
    name alone, so an event never mixes two attempts.
    """
    ordinal = entry.ordinal or 0
    data: dict[str, Any] = {
        "document_id": file_id_for(batch_id, ordinal),
        "ordinal": ordinal,
        "filename": record.filename if record else None,
        "status": status.value,
    }
    if status is DocumentStatus.FAILED:
        data["error"] = {"code": entry.code, "message": "", "stage": None, "action": ""}
    if record is None or record.status is not status or is_past:
        return data
    if record.error is not None:
        data["error"] = record.error.model_dump(mode="json", include={"code", "message", "stage", "action"})
    data |= {
        "attempts": record.attempts,
        "media_type": record.media_type,
        "size_bytes": record.size_bytes,
        "pages": record.page_count,
        "chunks": record.chunk_count,
        "warnings": list(record.warnings),
        "started_at": record.started_at,
        "ended_at": record.ended_at,
    }
    if record.duplicate_of is not None:
        data["duplicate_of"] = record.duplicate_of
    return data


def progress_data(progress: BatchProgress, files: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """``data`` of ``batch.progress``: absolute numbers, so one missed costs nothing."""
    return {
        "status": progress.state.value,
        "counts": progress.counts.model_dump(),
        "progress": share(progress),
        "failures_by_code": progress.failures_by_code,
        "indexed": progress.indexed,
        "retry_round": progress.retry_round,
        "version": progress.version,
        "files": list(files),
    }


def final_data(progress: BatchProgress) -> dict[str, Any]:
    """``data`` of a batch's last event, beside ``status``."""
    problem = progress.problem.model_dump() if progress.problem else None
    return {
        "counts": progress.counts.model_dump(),
        "progress": share(progress),
        "failures_by_code": progress.failures_by_code,
        "retry_round": progress.retry_round,
        "version": progress.version,
        "problem": problem,
    }


def live_files(
    batch_id: str, running: Mapping[int, datetime], beats: Mapping[int, DocumentHeartbeat], names: Mapping[int, str]
) -> list[dict[str, Any]]:
    """The files being worked on, in order, with the stage each last reported."""
    return [
        {
            "document_id": file_id_for(batch_id, ordinal),
            "ordinal": ordinal,
            "filename": beats[ordinal].filename if ordinal in beats else names.get(ordinal),
            "stage": beats[ordinal].stage.value if ordinal in beats else None,
            "started_at": since,
        }
        for ordinal, since in sorted(running.items())
    ]


def share(progress: BatchProgress) -> float:
    """How much of a batch has ended, 0 to 1."""
    counts = progress.counts
    if not counts.total:
        return 1.0 if progress.state.is_final else 0.0
    return round(counts.ended / counts.total, 4)


def is_waiting(progress: BatchProgress) -> bool:
    """Nothing can change by itself: no document is in flight and none may start."""
    return progress.counts.in_flight == 0 and (progress.state in _WAITING or progress.state in _HALTED)


def encode(event: Event) -> bytes:
    """The envelope as JSON on one line, UTF-8.

    JSON escapes CR, LF and NUL. The Unicode line separators are legal in JSON, but some clients
    split lines at them, so they are escaped too.
    """
    wire = {
        "id": str(event.seq),
        "seq": event.seq,
        "type": event.type.value,
        "time": event.time,
        "batch_id": event.batch_id,
        "data": event.data,
    }
    return one_line(orjson.dumps(wire, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC))


def time_of(body: bytes) -> datetime:
    """When an encoded event happened."""
    return datetime.fromisoformat(orjson.loads(body)["time"])


def one_line(body: bytes) -> bytes:
    """JSON that no client can take for more than one line."""
    for raw, escaped in ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029")):
        if raw in body:
            body = body.replace(raw, escaped)
    return body


def numbered(drafts: Iterable[Draft], batch_id: str, numbers: Iterator[int]) -> Iterator[tuple[Draft, Event]]:
    """Give drafts their numbers."""
    for draft in drafts:
        yield draft, Event(seq=next(numbers), type=draft.type, time=draft.time, batch_id=batch_id, data=draft.data)
