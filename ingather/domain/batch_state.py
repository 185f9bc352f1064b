"""Which state a batch ends in, and whether an end still counts."""

from ingather.models.batch import BatchProblem, BatchRecord, BatchState, BatchSummary, Counts


def final_state(counts: Counts, problem: BatchProblem | None, *, was_cancelled: bool = False) -> BatchState:
    """Cancelled when a document was, or the batch before it had any; failed when none succeeded, or it could not run."""
    if counts.cancelled:
        return BatchState.CANCELLED
    if problem is not None or (counts.failed and counts.failed == counts.total):
        return BatchState.FAILED
    if was_cancelled and not counts.total:
        return BatchState.CANCELLED
    return BatchState.COMPLETED_WITH_FAILURES if counts.failed else BatchState.COMPLETED


def outlives(record: BatchRecord, summary: BatchSummary) -> bool:
    """Whether a batch has had a later end than this one, or was opened again since: who still tells this one comes too late."""
    is_open_again = record.version == summary.version and not record.state.is_final
    return record.version > summary.version or is_open_again
