"""From what happened to what watchers are told: journal entries become events, a cursor becomes a decision.

Pure functions and one small fold. The poller brings journal pages and catalog rows; the
streams bring cursors; neither knows the other's rules.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from ingather.models.batch import BatchProgress, BatchState
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.events import BATCH_END_EVENTS, Event, EventType
from ingather.models.identity import file_id_for
from ingather.models.messages import DocumentHeartbeat, JournalEntry, JournalKind

MAX_SEQ_DIGITS = 15
"""A longer cursor is nobody's: it would not even be exact in JavaScript."""

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
_WAITING = frozenset({BatchState.PENDING, BatchState.QUEUED})


# --- Events ---------------------------------------------------------------------------------


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
    ended: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Status and attempts last told of each ended document, by ordinal."""
    running: dict[int, datetime] = field(default_factory=dict)
    """When each document that is in flight was started."""
    version: int = 0
    """Version of the batch in the last event that ended it."""
    horizon: datetime | None = None
    """What happened before was told by events that are no longer there."""

    def tell(self, entries: Sequence[JournalEntry], first: int, records: Mapping[int, DocumentRecord]) -> list[Draft]:
        """Drafts of journal entries, the first of them at position ``first``."""
        drafts = (self._draft(entry, first + index + 1, records) for index, entry in enumerate(entries))
        return [draft for draft in drafts if draft is not None]

    def tell_missed(self, records: Iterable[DocumentRecord], journal_next: int, now: datetime) -> list[Draft]:
        """Drafts of what the catalog knows and no event has told, oldest first: ends, and starts where their time is known."""
        drafts = []
        for record in records:
            if record.status in _DOCUMENT_ENDS and not self._was_told(record, record.ended_at or now):
                if record.started_at is not None and record.ordinal not in self.running:
                    start = JournalEntry(kind=JournalKind.STARTED, at=record.started_at, ordinal=record.ordinal)
                    drafts.append(self._document(start, DocumentStatus.IN_FLIGHT, record, journal_next))
                at = record.ended_at or now
                end = JournalEntry(kind=JournalKind.ENDED, at=at, ordinal=record.ordinal, status=record.status)
                drafts.append(self._document(end, record.status, record, journal_next))
        # Stable, so a start stays before the end of the same moment.
        return sorted(drafts, key=lambda draft: draft.time)

    def _was_told(self, record: DocumentRecord, at: datetime) -> bool:
        told = self.ended.get(record.ordinal)
        if told is None:
            return self.horizon is not None and at < self.horizon
        return told == (record.status.value, record.attempts)

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
            self._note(data["ordinal"], data["status"], data["attempts"], datetime.fromisoformat(event["time"]))
        elif type_ in BATCH_END_EVENTS:
            self.version = orjson.loads(body)["data"]["version"]

    def _draft(self, entry: JournalEntry, journal_next: int, records: Mapping[int, DocumentRecord]) -> Draft | None:
        if entry.kind is JournalKind.STATE:
            return self.tell_state(entry.state, entry.at, journal_next) if entry.state else None
        status = entry.status if entry.kind is JournalKind.ENDED else DocumentStatus.IN_FLIGHT
        if entry.ordinal is None or status not in _DOCUMENT_EVENTS:
            return None
        return self._document(entry, status, records.get(entry.ordinal), journal_next)

    def _document(
        self, entry: JournalEntry, status: DocumentStatus, record: DocumentRecord | None, journal_next: int
    ) -> Draft:
        ordinal = entry.ordinal or 0
        data = document_data(self.batch_id, ordinal, status, record, entry.code)
        self._note(ordinal, data["status"], data["attempts"], entry.at)
        return Draft(_DOCUMENT_EVENTS[status], entry.at, data, journal_next, self.state)

    def _note(self, ordinal: int, status: str, attempts: int, at: datetime) -> None:
        if status == DocumentStatus.IN_FLIGHT.value:
            self.running[ordinal] = at
            self.ended.pop(ordinal, None)
        else:
            self.running.pop(ordinal, None)
            self.ended[ordinal] = (status, attempts)


def state_event(previous: BatchState | None, state: BatchState) -> EventType | None:
    """The event that stands for a change of state; ``finalizing`` has none, and a repeated state neither."""
    if state is previous:
        return None
    if state in _GOING and previous in _HALTED:
        return EventType.BATCH_RESUMED
    return _STATE_EVENTS.get(state)


def document_data(
    batch_id: str, ordinal: int, status: DocumentStatus, record: DocumentRecord | None, code: str | None
) -> dict[str, Any]:
    """``data`` of a document's event.

    A record that is already past the status told here (the document was retried since) lends its
    name alone, so an event never mixes two attempts.
    """
    data: dict[str, Any] = {
        "document_id": file_id_for(batch_id, ordinal),
        "ordinal": ordinal,
        "filename": record.filename if record else None,
        "status": status.value,
        "attempts": record.attempts if record else 0,
    }
    if status is DocumentStatus.FAILED:
        data["error"] = {"code": code, "message": "", "stage": None, "action": ""}
    if record is None or record.status is not status:
        return data
    if record.error is not None:
        data["error"] = record.error.model_dump(mode="json", include={"code", "message", "stage", "action"})
    data["media_type"] = record.media_type
    data["size_bytes"] = record.size_bytes
    data["pages"] = record.page_count
    data["chunks"] = record.chunk_count
    data["warnings"] = list(record.warnings)
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


# --- Cursors --------------------------------------------------------------------------------


class Mode(StrEnum):
    """How a stream begins, as ``stream.open`` says."""

    SNAPSHOT = "snapshot"
    """No cursor: the whole batch, then what comes."""
    REPLAY = "replay"
    """Every event after the cursor, then what comes."""
    RESET = "reset"
    """The cursor cannot be served: the whole batch, then what comes."""
    WAITING = "waiting"
    """The event log cannot be read at the moment: the whole batch, the rest once it can."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream begins: events above ``after``, with the reason where it is not where the client asked."""

    mode: Mode
    after: int
    reason: str | None = None


def parse_cursor(text: str | None) -> int | None:
    """The number in a cursor; None when there is no cursor, -1 when it cannot be read."""
    if text is None or text == "":
        return None
    digits = text.isascii() and text.isdigit() and len(text) <= MAX_SEQ_DIGITS
    return int(text) if digits else -1


def decide(cursor: int | None, oldest: int, latest: int, *, complete: bool) -> Start:
    """Where to begin for a client that has seen ``cursor``, given what the log holds.

    ``complete`` says that the oldest event is the first the batch ever had; only then can 0 be
    served. An empty log has ``oldest`` and ``latest`` 0.
    """
    if cursor is None:
        return Start(Mode.SNAPSHOT, latest)
    if cursor < 0:
        return Start(Mode.RESET, latest, "unreadable")
    if cursor == 0:
        return Start(Mode.REPLAY, max(oldest - 1, 0)) if complete or not latest else _trimmed(latest)
    if cursor > latest:
        return Start(Mode.RESET, latest, "unknown")
    return Start(Mode.REPLAY, cursor) if cursor >= oldest - 1 else _trimmed(latest)


def _trimmed(latest: int) -> Start:
    return Start(Mode.RESET, latest, "trimmed")


def gap(after: int, seq: int) -> bool:
    """Whether an event cannot directly follow the one a client saw last."""
    return seq != after + 1


def numbered(drafts: Iterable[Draft], batch_id: str, numbers: Iterator[int]) -> Iterator[tuple[Draft, Event]]:
    """Give drafts their numbers."""
    for draft in drafts:
        yield draft, Event(seq=next(numbers), type=draft.type, time=draft.time, batch_id=batch_id, data=draft.data)
