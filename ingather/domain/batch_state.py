"""Which state a batch ends in."""

from ingather.models.batch import BatchProblem, BatchState, Counts


def final_state(counts: Counts, problem: BatchProblem | None, *, was_cancelled: bool = False) -> BatchState:
    """Cancelled when a document was, or the batch before it had any; failed when none succeeded, or it could not run."""
    if counts.cancelled:
        return BatchState.CANCELLED
    if problem is not None or (counts.failed and counts.failed == counts.total):
        return BatchState.FAILED
    if was_cancelled and not counts.total:
        return BatchState.CANCELLED
    return BatchState.COMPLETED_WITH_FAILURES if counts.failed else BatchState.COMPLETED
