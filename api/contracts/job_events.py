"""Contract A's events: a translation of a batch's own.

One of ours becomes none of theirs, one, or two. ``start`` comes before anything else, also for a job that never got
to run. Documents that were cancelled with their job have no event; those of a job that was cut short are failed.
"""

from collections.abc import Mapping
from typing import Any, Literal

import orjson

from ingather.domain.event_stream import one_line
from ingather.models.batch import BatchState, Counts
from ingather.models.events import BATCH_END_EVENTS, EventType
from ingather.ports.event_log import Announcement, LoggedEvent

JobStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]

_WAITING = frozenset({EventType.BATCH_CREATED, EventType.BATCH_QUEUED})
_SUCCESSES = frozenset({EventType.DOCUMENT_SUCCEEDED, EventType.DOCUMENT_SKIPPED})
_SILENT = frozenset({EventType.BATCH_PROGRESS, EventType.BATCH_PAUSING, EventType.BATCH_PAUSED})
_CLOSING = frozenset({BatchState.CANCELLING.value, BatchState.CANCELLED.value})
_NOTE = "job"
_BEGUN = b"begun"


def final_status(state: BatchState, counts: Counts) -> JobStatus:
    """How a job ended, or is about to: ``failed`` when at least one document was not taken in."""
    if state in {BatchState.CANCELLED, BatchState.CANCELLING}:
        return "cancelled"
    return "failed" if state is BatchState.FAILED or counts.failed or counts.cancelled else "completed"


def final_status_told(event: LoggedEvent) -> JobStatus:
    """The same, by the batch's last event."""
    data = orjson.loads(event.body)["data"]
    return final_status(BatchState(data["status"]), Counts(**data["counts"]))


class JobTeller:
    """Words one job's events, in order.

    Args:
        begun: ``start`` was told before.
    """

    def __init__(self, job_id: str, *, begun: bool) -> None:
        self._job_id = job_id
        self.begun = begun

    def tell(self, event: LoggedEvent) -> list[bytes]:
        """What the contract says of an event of ours: JSON objects, each on one line."""
        if event.type == EventType.BATCH_CREATED:
            self.begun = False  # a history that was lost is told from its beginning
        if event.type in _WAITING or event.type in _SILENT:
            return []
        ours = orjson.loads(event.body)
        told: list[bytes] = []
        if not self.begun and event.type != EventType.BATCH_CANCELLING:
            self.begun = True
            told.append(self._worded(ours, "start", "Job started."))
        match event.type:
            case kind if kind in BATCH_END_EVENTS:
                status = final_status_told(event)
                told.append(self._worded(ours, "cancel" if status == "cancelled" else "complete", status))
            case kind if kind in _SUCCESSES:
                told.append(self._about_document(ours, "progress", _success(kind, ours["data"])))
            case EventType.DOCUMENT_FAILED:
                told.append(self._about_document(ours, "fail", _failure(ours["data"])))
            case EventType.DOCUMENT_CANCELLED if event.state not in _CLOSING:
                told.append(self._about_document(ours, "fail", "The job was ended before this document was processed."))
        return told

    def _about_document(self, ours: Mapping[str, Any], kind: str, message: str) -> bytes:
        data = ours["data"]
        name = data.get("original_filename") or data["filename"]
        return self._worded(ours, kind, message, document_index=data["ordinal"], filename=name)

    def _worded(
        self,
        ours: Mapping[str, Any],
        kind: str,
        message: str,
        *,
        document_index: int | None = None,
        filename: str | None = None,
    ) -> bytes:
        event = {
            "job_id": self._job_id,
            "event_type": kind,
            "document_index": document_index,
            "filename": filename,
            "message": message,
            "timestamp": ours["time"],
        }
        return one_line(orjson.dumps(event))


class JobAnnouncer:
    """Announces a job's events at its channel, ``job:events:{job_id}``."""

    def __init__(self, job_id: str, notes: Mapping[str, bytes], *, was_told: bool) -> None:
        self._channel = f"job:events:{job_id}"
        self._teller = JobTeller(job_id, begun=was_told if _NOTE not in notes else notes[_NOTE] == _BEGUN)

    def announcements(self, event: LoggedEvent) -> list[Announcement]:
        return [Announcement(self._channel, body) for body in self._teller.tell(event)]

    def notes(self) -> dict[str, bytes]:
        return {_NOTE: _BEGUN if self._teller.begun else b""}


def _success(kind: str, data: Mapping[str, Any]) -> str:
    chunks = data.get("chunks")
    if kind == EventType.DOCUMENT_SKIPPED:
        return "This content was taken in before."
    return "Document processed." if chunks is None else f"Document processed: {chunks} chunk{'s' * (chunks != 1)}."


def _failure(data: Mapping[str, Any]) -> str:
    error = data.get("error") or {}
    return error.get("message") or f"The document failed: {error.get('code') or 'unknown'}."
