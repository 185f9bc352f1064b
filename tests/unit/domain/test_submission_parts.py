"""When a batch takes one more part."""

import pytest

from ingather.domain.submission_parts import MAX_PARTS, check_room, check_takes_more
from ingather.models.batch import BatchState, SubmissionTotals
from ingather.models.errors import BatchTooLargeError, InvalidStateError
from tests.support.catalog_records import submission_part

BATCH = "0192f0c1-2345-7abc-8def-0123456789ab"


@pytest.mark.parametrize("state", list(BatchState))
def test_a_batch_takes_parts_until_it_is_sealed_or_has_ended(state):
    """Whatever state it is in, a sealed batch refuses; an open one refuses once it has ended."""
    with pytest.raises(InvalidStateError) as refused:
        check_takes_more(state, is_sealed=True)
    assert refused.value.facts["current_status"] == state.value
    if state.is_final:
        with pytest.raises(InvalidStateError):
            check_takes_more(state, is_sealed=False)
    else:
        check_takes_more(state, is_sealed=False)


def test_a_batch_is_made_of_so_many_parts_at_most():
    """The manifest reads each of them, so their number is bounded as the documents are."""
    part = submission_part(BATCH, document_count=1)
    check_room(SubmissionTotals(part_count=MAX_PARTS - 1, document_count=5), part, 100)
    with pytest.raises(BatchTooLargeError):
        check_room(SubmissionTotals(part_count=MAX_PARTS, document_count=5), part, 100)


def test_the_refusal_names_the_limit_and_what_is_there():
    """Whoever hits the limit learns its name, its value and how full the batch is."""
    part = submission_part(BATCH, document_count=6)
    with pytest.raises(BatchTooLargeError) as refused:
        check_room(SubmissionTotals(part_count=1, document_count=95), part, 100)
    assert refused.value.facts == {"limit": "max_documents_per_batch", "limit_value": 100}
    assert "95" in refused.value.message
