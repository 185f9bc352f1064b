"""How often a batch shows itself, and how much it says."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ingather.models.batch import BatchProblem, BatchProgress, BatchState, Counts, SourceProgress
from ingather.models.engine import MEMO_PROGRESS
from ingather.models.errors import error_classes
from workflows.visibility import MEMO_BYTES, MemoPace, progress_memo

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def memos_of(seconds, changes_a_second=10):
    """How many memos a batch writes that changes all the time."""
    pace, count = MemoPace(), 0
    for tick in range(seconds * changes_a_second):
        now = NOON + timedelta(seconds=tick / changes_a_second)
        if pace.is_due(now):
            pace.wrote(now)
            count += 1
    return count


def test_a_short_batch_shows_itself_every_second():
    """However many documents end in one."""
    assert memos_of(40) == 40


@pytest.mark.parametrize(("hours", "most"), [(1, 250), (24, 380), (24 * 7, 460)])
def test_a_long_batch_does_not_fill_its_history_with_memos(hours, most):
    """The interval grows with the run, so that a week costs fewer than five hundred."""
    assert memos_of(hours * 3_600, changes_a_second=1) < most


@pytest.mark.parametrize(("hours", "minutes"), [(1, 2), (10, 16), (100, 160)])
def test_a_batch_is_still_shown_after_hours(hours, minutes):
    """What is shown is never older than a fortieth of what the batch has taken."""
    pace = MemoPace()
    pace.wrote(NOON)
    pace.wrote(NOON + timedelta(hours=hours))
    assert not pace.is_due(NOON + timedelta(hours=hours, minutes=minutes // 2))
    assert pace.is_due(NOON + timedelta(hours=hours, minutes=minutes))


def test_a_batch_paused_and_resumed_all_day_is_shown_no_less():
    """Changes of state are told whenever they come, and do not make the interval longer."""
    pace = MemoPace()
    for _ in range(20_000):
        pace.wrote(NOON)
    assert pace.is_due(NOON + timedelta(seconds=1))


def largest_progress():
    counts = Counts(total=1_000, done=1_000)
    return BatchProgress(
        state=BatchState.FINALIZING,
        counts=counts,
        in_flight=tuple(range(48)),
        sources=tuple(SourceProgress(name="漢" * 85, source_type="zip", counts=counts) for _ in range(20)),
        failures_by_code=dict.fromkeys(error_classes(), 1_000),
        problem=BatchProblem(code="batch_too_large", message="m" * 5_000, action="Split it."),
        created_at=NOON,
    )


def test_a_memo_stays_below_what_the_server_warns_at():
    """With every code, twenty archives with long names, and an endless problem."""
    memo = progress_memo(largest_progress())

    assert len(json.dumps(memo)) < 2_048
    assert MEMO_BYTES < 2_048


def test_a_memo_comes_back_as_the_progress_it_was_made_of():
    """What ``describe()`` answers is a snapshot like any other, without the documents in flight."""
    progress = BatchProgress(
        state=BatchState.RUNNING,
        counts=Counts(total=3, pending=1, in_flight=1, failed=1),
        version=7,
        in_flight=(2,),
        failures_by_code={"corrupt": 1},
        sources=(SourceProgress(name="a.zip", source_type="zip", counts=Counts(total=3, pending=3)),),
        created_at=NOON,
    )

    again = BatchProgress.model_validate(progress_memo(progress)[MEMO_PROGRESS])

    assert again == progress.model_copy(update={"in_flight": ()})


def test_a_memo_shows_zeros():
    """People read it in the Temporal UI."""
    memo = progress_memo(BatchProgress(state=BatchState.PENDING, counts=Counts()))
    assert memo[MEMO_PROGRESS]["counts"] == dict.fromkeys(Counts.model_fields, 0)
