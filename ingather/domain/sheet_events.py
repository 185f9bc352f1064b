"""What is told of a batch of sheets: the contract's words, and the order in which they may come."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from ingather.domain.event_stream import one_line
from ingather.models.sheets import SheetStage, StageEvent

_ORDER = tuple(SheetStage)
_RANKS = {stage: min(number, _ORDER.index(SheetStage.COMPLETED)) for number, stage in enumerate(_ORDER)}
"""``completed`` and ``failed`` are both the end."""
_SHARES: Mapping[SheetStage, tuple[float, float]] = {
    SheetStage.UPLOADING: (0.0, 10.0),
    SheetStage.EXTRACTING: (10.0, 15.0),
    SheetStage.ORGANIZING_QR: (15.0, 30.0),
    SheetStage.PROCESSING_SHEETS: (30.0, 92.0),
    SheetStage.COLLECTING_RESULTS: (92.0, 94.0),
    SheetStage.GENERATING_CSV: (94.0, 96.0),
    SheetStage.LOADING_DATABASE: (96.0, 98.0),
    SheetStage.CLEANUP: (98.0, 99.9),
    SheetStage.COMPLETED: (100.0, 100.0),
}
_RANKS_A_ROUND = 16


def rank(event: StageEvent) -> int:
    """Where an event stands in its batch's life: those of one stage of one round share a rank, later ones have higher."""
    return event.retry_round * _RANKS_A_ROUND + _RANKS[event.stage]


def whole_percentage(stage: SheetStage, percentage: float) -> float:
    """How much of the whole batch is done. A failed one stands where nobody can tell: at 0."""
    begin, end = _SHARES.get(stage, (0.0, 0.0))
    return round(begin + (end - begin) * percentage / 100, 1)


def share_of(processed: int, total: int) -> float:
    """A percentage; all of nothing is 100."""
    return round(100 * processed / total, 1) if total else 100.0


def encoded(event: StageEvent, at: datetime) -> bytes:
    """The event as JSON on one line, without what is known only where it is kept: ``elapsed_seconds`` and ``sequence``."""
    said: dict[str, Any] = {
        "stage": event.stage.value,
        "message": event.message,
        "progress_percentage": event.progress_percentage,
        "sheets_total": event.sheets_total,
        "sheets_processed": event.sheets_processed,
        "timestamp": at.astimezone(UTC).isoformat(),
        "batch_id": event.batch_id,
        "retry_round": event.retry_round,
    }
    if event.error_details is not None:
        said["error_details"] = event.error_details
    return one_line(orjson.dumps({**event.facts, **said}))


def completed_body(body: bytes, elapsed_seconds: int, sequence: int) -> bytes:
    """What ``encoded`` left open, filled in."""
    return b'%s,"elapsed_seconds":%d,"sequence":%d}' % (body[:-1], max(0, elapsed_seconds), sequence)


def uploaded_chunk(
    batch_id: str, *, received: int, total: int, size_bytes: int, began_at: datetime, mark: str | None = None
) -> StageEvent:
    """A chunk of an upload arrived, the ``received``-th of ``total``; ``size_bytes`` of it.

    ``mark`` names the chunk, where the count may be the same for two of them.
    """
    return StageEvent(
        batch_id=batch_id,
        stage=SheetStage.UPLOADING,
        mark=mark or f"uploading/{received}",
        message=f"Chunk {received}/{total} uploaded ({size_bytes / 1024 / 1024:.2f}MB)",
        progress_percentage=share_of(received, total),
        began_at=began_at,
    )
