"""When a batch takes one more part of a submission, and when it does not."""

from ingather.models.batch import BatchState, SubmissionPart, SubmissionTotals
from ingather.models.errors import BatchTooLargeError, EmptyBatchError, InvalidStateError

MAX_PARTS = 10_000
"""Parts of one batch: each is an object that its manifest is made of."""


def check_takes_more(state: BatchState, *, is_sealed: bool) -> None:
    """Raises ``InvalidStateError`` for a batch that has ended or was sealed."""
    if state.is_final:
        raise InvalidStateError(
            f"The batch is {state.value}: it takes no more documents.", current_status=state.value, wanted="add"
        )
    if is_sealed:
        raise InvalidStateError(
            "The batch is sealed: it takes no more documents.", current_status=state.value, sealed=True, wanted="add"
        )


def check_sealable(state: BatchState, totals: SubmissionTotals) -> None:
    """Raises ``EmptyBatchError`` for a batch without documents, ``InvalidStateError`` for one that ended unsealed."""
    if state.is_final:
        raise InvalidStateError(
            f"The batch is {state.value}: it cannot be sealed any more.", current_status=state.value, wanted="seal"
        )
    if not totals.document_count:
        raise EmptyBatchError("The batch holds no document yet.", action="Add documents first, or cancel the batch.")


def check_room(totals: SubmissionTotals, part: SubmissionPart, max_documents: int | None) -> None:
    """Raises ``BatchTooLargeError`` where the part does not fit behind what is there."""
    if totals.part_count >= MAX_PARTS:
        raise BatchTooLargeError(
            f"A batch is made of at most {MAX_PARTS:,} requests.",
            action="Put more documents into each request.",
            limit="parts",
            limit_value=MAX_PARTS,
        )
    if max_documents is not None and totals.document_count + part.document_count > max_documents:
        raise BatchTooLargeError(
            f"A batch holds at most {max_documents:,} documents; this one has {totals.document_count:,} already.",
            limit="max_documents_per_batch",
            limit_value=max_documents,
        )
