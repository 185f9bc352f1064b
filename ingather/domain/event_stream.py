"""How events read: states and documents put into words, envelopes encoded."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from ingather.models.batch import BatchProgress, BatchState
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.events import Event, EventType
from ingather.models.identity import file_id_for
from ingather.models.messages import DocumentHeartbeat, JournalEntry
from ingather.models.source import SourceRef

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

DOCUMENT_EVENTS = {
    DocumentStatus.IN_FLIGHT: EventType.DOCUMENT_STARTED,
    DocumentStatus.DONE: EventType.DOCUMENT_SUCCEEDED,
    DocumentStatus.FAILED: EventType.DOCUMENT_FAILED,
    DocumentStatus.SKIPPED: EventType.DOCUMENT_SKIPPED,
    DocumentStatus.CANCELLED: EventType.DOCUMENT_CANCELLED,
}

DOCUMENT_ENDS = frozenset(DOCUMENT_EVENTS) - {DocumentStatus.IN_FLIGHT}
_HALTED = frozenset({BatchState.PAUSING, BatchState.PAUSED})
_GOING = frozenset({BatchState.RUNNING, BatchState.RETRYING})
_WAITING = frozenset({BatchState.PENDING, BatchState.QUEUED})


@dataclass(frozen=True, slots=True)
class Draft:
    """An event that has no number yet."""

    type: EventType
    time: datetime
    data: dict[str, Any]
    state: BatchState | None
    """State of the batch after the event, as told."""


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
    if record is not None and record.original_filename is not None:
        data["original_filename"] = record.original_filename
    if record is not None and record.source is not None:
        data["source"] = source_data(record.source)
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


def source_data(source: SourceRef) -> dict[str, str]:
    """Which file of a connected source a document is."""
    return {
        "connection_id": source.connection_id,
        "source_type": source.source_type.value,
        "file_id": source.file_id,
    }


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
    batch_id: str,
    running: Mapping[int, datetime],
    beats: Mapping[int, DocumentHeartbeat],
    names: Mapping[int, str],
    sources: Mapping[int, SourceRef] | None = None,
) -> list[dict[str, Any]]:
    """The files being worked on, in order, with the stage each last reported."""
    known = sources or {}
    return [
        {
            "document_id": file_id_for(batch_id, ordinal),
            "ordinal": ordinal,
            "filename": beats[ordinal].filename if ordinal in beats else names.get(ordinal),
            "stage": beats[ordinal].stage.value if ordinal in beats else None,
            "started_at": since,
            **({"source": source_data(known[ordinal])} if ordinal in known else {}),
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
