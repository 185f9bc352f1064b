"""The words and the order of what is told of a batch of sheets."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ingather.domain.sheet_end import end_event, status_of
from ingather.domain.sheet_events import completed_body, encoded, rank, share_of, uploaded_chunk, whole_percentage
from ingather.models.batch import BatchProblem, BatchState, BatchSummary, Counts
from ingather.models.sheets import SheetStage
from tests.support.sheet_events import new_batch_id, stage_event

BEGAN = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
BATCH = new_batch_id()


def summary(state, *, done=0, failed=0, cancelled=0, **fields):
    counts = Counts(total=done + failed + cancelled, done=done, failed=failed, cancelled=cancelled)
    ended_at = BEGAN + timedelta(seconds=75.5)
    return BatchSummary(batch_id=BATCH, state=state, counts=counts, version=9, ended_at=ended_at, **fields)


def test_a_chunk_is_told_with_its_megabytes():
    """As the contract words it."""
    event = uploaded_chunk(BATCH, received=2, total=4, size_bytes=50 * 1024 * 1024, began_at=BEGAN)

    assert (event.stage, event.message) == (SheetStage.UPLOADING, "Chunk 2/4 uploaded (50.00MB)")
    assert event.progress_percentage == 50.0


def test_an_event_is_one_line_with_every_field():
    """Whatever is in a name; what the log alone knows is filled in there."""
    event = stage_event(BATCH, message="line\u2028break", sheets_total=3, facts={"group_code": "A"})
    body = completed_body(encoded(event, BEGAN), 17, 4)

    assert len(body.decode().splitlines()) == 1
    told = json.loads(body)
    assert told["message"] == "line\u2028break"
    assert (told["elapsed_seconds"], told["sequence"], told["group_code"]) == (17, 4, "A")
    assert told["timestamp"] == "2026-05-04T09:00:00+00:00"
    assert "error_details" not in told


def test_facts_never_take_the_place_of_a_promised_field():
    """A code that is called `stage` changes nothing."""
    event = stage_event(BATCH, facts={"stage": "completed"})
    assert json.loads(encoded(event, BEGAN))["stage"] == "extracting"


def test_stages_rank_in_their_order_and_rounds_follow_each_other():
    """The end of a round comes before everything of the next."""
    ranks = [rank(stage_event(BATCH, stage)) for stage in SheetStage if stage is not SheetStage.FAILED]
    assert ranks == sorted(set(ranks))
    assert rank(stage_event(BATCH, "failed")) == rank(stage_event(BATCH, "completed"))
    assert rank(stage_event(BATCH, "processing_sheets", retry_round=1)) > rank(stage_event(BATCH, "completed"))


def test_the_whole_never_goes_back_from_stage_to_stage():
    """From nothing to all."""
    stages = [stage for stage in SheetStage if stage is not SheetStage.FAILED]
    shares = [whole_percentage(stage, percentage) for stage in stages for percentage in (0, 50, 100)]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)


def test_all_of_nothing_is_done():
    """An upload of covers alone has no sheets."""
    assert (share_of(0, 0), share_of(1, 3)) == (100.0, 33.3)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (BatchState.QUEUED, "pending"),
        (BatchState.RUNNING, "processing"),
        (BatchState.PAUSED, "processing"),
        (BatchState.FINALIZING, "processing"),
        (BatchState.COMPLETED, "completed"),
        (BatchState.COMPLETED_WITH_FAILURES, "completed"),
        (BatchState.FAILED, "failed"),
        (BatchState.CANCELLED, "cancelled"),
    ],
)
def test_states_in_the_contracts_words(state, status):
    """Sheets that cannot be read do not fail a batch."""
    assert status_of(state) == status


def test_the_end_of_a_batch_with_unreadable_sheets_is_a_success_that_says_so():
    """Each of them failed alone."""
    event = end_event(summary(BatchState.COMPLETED_WITH_FAILURES, done=7, failed=2), BEGAN)

    assert event.stage is SheetStage.COMPLETED
    assert event.message == "Batch processing completed: 9 sheets, 2 of them could not be read"
    assert event.error_details is None


def test_a_batch_of_which_nothing_could_be_read_has_failed():
    """With the codes of what went wrong."""
    event = end_event(summary(BatchState.FAILED, failed=2, failures_by_code={"corrupt": 2}), BEGAN)

    assert (event.stage, event.error_details) == (
        SheetStage.FAILED,
        "None of the 2 sheets could be read (corrupt: 2).",
    )


def test_a_refused_upload_says_why():
    """In the words of the refusal."""
    problem = BatchProblem(code="archive_encrypted", message="Every file in archive 'a.zip' is encrypted.")
    assert end_event(summary(BatchState.FAILED, failed=1, problem=problem), BEGAN).error_details == problem.message


def test_a_cancelled_batch_ends_as_an_error():
    """What was not done is not counted as processed."""
    event = end_event(summary(BatchState.CANCELLED, done=1, cancelled=2), BEGAN)
    assert (event.stage, event.sheets_processed) == (SheetStage.FAILED, 1)
    assert event.error_details == "The batch was cancelled."


def test_the_end_has_the_same_mark_whoever_tells_it():
    """So it is told once."""
    ended = summary(BatchState.COMPLETED, done=1)
    assert end_event(ended, BEGAN).mark == end_event(ended, BEGAN).mark
