"""How often a batch shows itself, and how much it says."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from ingather.models.batch import BatchProblem, BatchProgress, BatchState, Counts, SourceProgress
from ingather.models.engine import MEMO_PROGRESS
from ingather.models.errors import error_classes
from workflows.visibility import MAX_MEMOS, MEMO_BYTES, MemoPace, progress_memo

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
    assert memos_of(60) == 60


@pytest.mark.parametrize(("hours", "most"), [(1, MAX_MEMOS), (24, MAX_MEMOS)])
def test_a_long_batch_does_not_fill_its_history_with_memos(hours, most):
    """The interval grows, and past five hundred there are no more."""
    assert memos_of(hours * 3_600, changes_a_second=1) <= most


def test_the_interval_doubles_every_hundred():
    """The first hundred take a hundred seconds, the second two hundred, and so on."""
    assert memos_of(100) == 100
    assert memos_of(100 + 200) == pytest.approx(200, abs=2)
    assert memos_of(100 + 200 + 400) == pytest.approx(300, abs=3)


def test_a_batch_paused_and_resumed_all_day_still_knows_the_time():
    """Changes of state are told past any number; the interval does not grow past what a clock can hold."""
    pace = MemoPace()
    for _ in range(20_000):
        pace.wrote(NOON)
    assert not pace.is_due(NOON + timedelta(days=1))


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
