"""The last word about a batch of sheets, or about an upload that did not become one."""

from datetime import datetime
from typing import Literal

from ingather.models.batch import BatchState, BatchSummary, Counts
from ingather.models.sheets import SheetStage, StageEvent

SheetBatchStatus = Literal["pending", "processing", "completed", "failed", "cancelled"]

_WAITING = frozenset({BatchState.PENDING, BatchState.QUEUED})
_STATUSES: dict[BatchState, SheetBatchStatus] = {
    BatchState.COMPLETED: "completed",
    BatchState.COMPLETED_WITH_FAILURES: "completed",
    BatchState.FAILED: "failed",
    BatchState.CANCELLED: "cancelled",
    BatchState.CANCELLING: "cancelled",
}

_LOST_UPLOAD = "The upload was not finished in time and was removed. Please restart upload."


def status_of(state: BatchState) -> SheetBatchStatus:
    """The batch's state in the contract's words. Sheets that cannot be read do not fail it."""
    return _STATUSES.get(state, "pending" if state in _WAITING else "processing")


def end_event(summary: BatchSummary, began_at: datetime) -> StageEvent:
    """``completed``, or ``failed`` with why. The same for whoever tells it, so it is told once."""
    counts = summary.counts
    why = _why(summary)
    return StageEvent(
        batch_id=summary.batch_id,
        stage=SheetStage.FAILED if why else SheetStage.COMPLETED,
        mark=f"{summary.retry_round}/end/{summary.version}",
        message=why or _success(counts),
        progress_percentage=100.0,
        sheets_total=counts.total,
        sheets_processed=counts.processed,
        error_details=why,
        facts={"sheets_failed": counts.failed, "version": summary.version},
        retry_round=summary.retry_round,
        began_at=began_at,
    )


def lost_upload_event(batch_id: str, began_at: datetime) -> StageEvent:
    """``failed``, of an upload that was not finished and never became a batch."""
    return StageEvent(
        batch_id=batch_id,
        stage=SheetStage.FAILED,
        mark="0/end/upload",
        message=_LOST_UPLOAD,
        progress_percentage=100.0,
        error_details=_LOST_UPLOAD,
        began_at=began_at,
    )


def _success(counts: Counts) -> str:
    failed = f", {counts.failed} of them could not be read" if counts.failed else ""
    return f"Batch processing completed: {counts.total} sheets{failed}"


def _why(summary: BatchSummary) -> str | None:
    match summary.state:
        case BatchState.CANCELLED:
            return "The batch was cancelled."
        case BatchState.FAILED if summary.problem is not None:
            return summary.problem.message
        case BatchState.FAILED:
            codes = ", ".join(f"{code}: {count}" for code, count in sorted(summary.failures_by_code.items()))
            return f"None of the {summary.counts.total} sheets could be read ({codes})."
        case _:
            return None
