"""Which state a batch ends in."""

from ingather.models.batch import BatchProblem, BatchState, Counts


def final_state(counts: Counts, problem: BatchProblem | None) -> BatchState:
    """Cancelled when a document was; failed when none succeeded, or the batch could not run at all."""
    if counts.cancelled:
        return BatchState.CANCELLED
    if problem is not None or (counts.failed and counts.failed == counts.total):
        return BatchState.FAILED
    return BatchState.COMPLETED_WITH_FAILURES if counts.failed else BatchState.COMPLETED
