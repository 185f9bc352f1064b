"""The words for a batch: counts that add up, options that fit, states that end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ingather.models.batch import BatchProgress, BatchSpec, BatchState, Counts, ProcessingOptions
from ingather.models.identity import DEFAULT_TENANT_ID

PARTS = ("pending", "in_flight", "done", "failed", "skipped", "cancelled")
BATCH = "0192f0c1-2345-7abc-8def-0123456789ab"


@given(st.lists(st.integers(0, 50), min_size=6, max_size=6), st.integers(-3, 3))
def test_counts_that_do_not_add_up_cannot_be_said(numbers, error):
    """A document lost or counted twice is refused where it is written, not noticed later."""
    parts = dict(zip(PARTS, numbers, strict=True))
    total = sum(numbers) + error
    if error:
        with pytest.raises(ValidationError, match="do not add up"):
            Counts(total=total, **parts)
        return
    counts = Counts(total=total, **parts)
    assert counts.ended == total - counts.pending - counts.in_flight


def test_four_states_are_ends():
    """Everything else may still change."""
    ends = {state for state in BatchState if state.is_final}
    assert {state.value for state in ends} == {"completed", "completed_with_failures", "failed", "cancelled"}


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 100, "chunk_overlap": 100},
        {"chunk_overlap": -1},
        {"chunk_size": 49},
        {"quality_threshold": 1.01},
        {"max_workers": 49},
        {"max_workers": 0},
        {"timeout_seconds": 0},
        {"timeout_seconds": 3_601},
        {"chunk_sise": 100},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    """Misspelt ones too: silence would run the batch with the default."""
    with pytest.raises(ValidationError):
        ProcessingOptions(**options)


@pytest.mark.parametrize("change", [{"priority": 0}, {"priority": 6}, {"name": "n" * 256}, {"submitted_count": -1}])
def test_a_spec_keeps_its_limits(change):
    """They hold whichever door a batch comes through."""
    fields = {"batch_id": BATCH, "tenant_id": DEFAULT_TENANT_ID, "name": "b", "submitted_count": 1}
    with pytest.raises(ValidationError):
        BatchSpec(**(fields | change))


def test_models_cannot_be_changed():
    """What travelled through history stays what it was."""
    progress = BatchProgress(state=BatchState.RUNNING, counts=Counts())
    with pytest.raises(ValidationError):
        progress.version = 3
