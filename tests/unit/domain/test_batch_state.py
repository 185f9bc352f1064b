"""Which state a batch ends in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingather.domain.batch_state import final_state
from ingather.models.batch import BatchProblem, BatchState, Counts

PROBLEM = BatchProblem(code="batch_too_large", message="Too many.")


@pytest.mark.parametrize(
    ("numbers", "problem", "state"),
    [
        ({}, None, BatchState.COMPLETED),
        ({"done": 3}, None, BatchState.COMPLETED),
        ({"skipped": 3}, None, BatchState.COMPLETED),
        ({"done": 2, "failed": 1}, None, BatchState.COMPLETED_WITH_FAILURES),
        ({"skipped": 2, "failed": 1}, None, BatchState.COMPLETED_WITH_FAILURES),
        ({"failed": 3}, None, BatchState.FAILED),
        ({"failed": 3}, PROBLEM, BatchState.FAILED),
        ({}, PROBLEM, BatchState.FAILED),
        ({"done": 2, "cancelled": 1}, None, BatchState.CANCELLED),
        ({"failed": 2, "cancelled": 1}, None, BatchState.CANCELLED),
    ],
)
def test_the_end_follows_from_the_counts(numbers, problem, state):
    """Cancelled before failed, failed only where nothing succeeded."""
    assert final_state(Counts(total=sum(numbers.values()), **numbers), problem) is state


@pytest.mark.parametrize(
    ("numbers", "state"),
    [({}, BatchState.CANCELLED), ({"done": 3}, BatchState.COMPLETED), ({"failed": 1}, BatchState.FAILED)],
)
def test_a_cancel_counts_where_it_left_something_undone(numbers, state):
    """Or came before there was anything to do; what was all done by then keeps its end."""
    assert final_state(Counts(total=sum(numbers.values()), **numbers), None, was_cancelled=True) is state


@given(*(st.integers(0, 5) for _ in range(4)))
def test_every_end_is_final(done, failed, skipped, cancelled):
    """No combination leaves a closed batch looking alive."""
    total = done + failed + skipped + cancelled
    counts = Counts(total=total, done=done, failed=failed, skipped=skipped, cancelled=cancelled)
    assert final_state(counts, None).is_final
