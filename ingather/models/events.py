"""Events: one envelope for SSE data, WebSocket frames, JSON history and webhooks."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class EventType(StrEnum):
    """Never ``error``, ``open`` or ``message``: those names belong to EventSource itself."""

    BATCH_CREATED = "batch.created"
    BATCH_QUEUED = "batch.queued"
    BATCH_STARTED = "batch.started"
    BATCH_PROGRESS = "batch.progress"
    BATCH_PAUSING = "batch.pausing"
    BATCH_PAUSED = "batch.paused"
    BATCH_RESUMED = "batch.resumed"
    BATCH_RETRYING = "batch.retrying"
    BATCH_CANCELLING = "batch.cancelling"
    BATCH_COMPLETED = "batch.completed"
    BATCH_FAILED = "batch.failed"
    BATCH_CANCELLED = "batch.cancelled"
    DOCUMENT_STARTED = "document.started"
    DOCUMENT_SUCCEEDED = "document.succeeded"
    DOCUMENT_FAILED = "document.failed"
    DOCUMENT_SKIPPED = "document.skipped"
    DOCUMENT_CANCELLED = "document.cancelled"


class ControlFrame(StrEnum):
    """Frames about the stream itself. They carry no ``seq`` and move no cursor."""

    OPEN = "stream.open"
    SNAPSHOT = "stream.snapshot"
    RESET = "stream.reset"
    LAGGED = "stream.lagged"
    DRAINING = "stream.draining"
    END = "stream.end"


BATCH_END_EVENTS = frozenset({EventType.BATCH_COMPLETED, EventType.BATCH_FAILED, EventType.BATCH_CANCELLED})


class Event(BaseModel):
    """Something that happened to a batch. ``seq`` is gapless and never used twice for a batch."""

    model_config = ConfigDict(frozen=True)

    seq: int
    type: EventType
    time: datetime
    batch_id: str
    data: dict[str, Any]
