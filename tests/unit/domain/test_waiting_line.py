"""Whose turn it is: priority, age, jobs and bytes."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from ingather.domain.waiting_line import MAX_PASSED_OVER, WaitingLine, position_in
from ingather.models.messages import MAX_WAITING, PlaceEntry, PlaceHolder, PlaceLimits

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
ONE_JOB = PlaceLimits(max_jobs=1, max_bytes=1_000)
MANY_JOBS = PlaceLimits(max_jobs=100, max_bytes=1_000)


def entry(number: int, *, priority: int = 3, size: int = 0, life: str = "first") -> PlaceEntry:
    """The batch that asked as the ``number``-th."""
    return PlaceEntry(
        batch_id=str(uuid.UUID(int=number)),
        chain_id=f"{life}-{number}",
        priority=priority,
        submitted_bytes=size,
        asked_at=NOON + timedelta(seconds=number),
    )


def line_of(*entries: PlaceEntry) -> WaitingLine:
    line = WaitingLine()
    for each in entries:
        line.ask(each)
    return line


def numbers(entries) -> list[int]:
    return [uuid.UUID(each.batch_id).int for each in entries]


def test_the_oldest_goes_first():
    """Among equals the one that asked first is served first, in whatever order the requests arrive."""
    line = line_of(entry(2), entry(3), entry(1))

    assert numbers(line.admit(ONE_JOB)) == [1]
    assert numbers(line.waiting) == [2, 3]


def test_the_more_urgent_goes_before_the_older():
    """Priority comes before age."""
    line = line_of(entry(1), entry(2, priority=1), entry(3, priority=5))

    assert numbers(line.waiting) == [2, 1, 3]


def test_no_more_batches_than_places():
    """A place is given out once, and again when it came back."""
    line = line_of(*map(entry, range(6)))
    limits = PlaceLimits(max_jobs=4, max_bytes=1)

    assert numbers(line.admit(limits)) == [0, 1, 2, 3]
    assert line.admit(limits) == []

    line.release(entry(2))
    assert numbers(line.admit(limits)) == [4]


def test_asking_again_changes_nothing_but_the_priority():
    """A batch stands in line once; its age stays, its priority is the latest."""
    line = line_of(entry(1), entry(2), entry(3))
    later = entry(3, priority=1).model_copy(update={"asked_at": NOON + timedelta(hours=1)})

    assert line.ask(later) is False
    assert numbers(line.waiting) == [3, 1, 2]
    assert line.waiting[0].asked_at == entry(3).asked_at


def test_a_holder_that_asks_again_hears_that_it_has_its_place():
    """The first word may have been lost."""
    line = line_of(entry(1))
    line.admit(ONE_JOB)

    assert line.ask(entry(1)) is True
    assert (len(line.holders), line.waiting_count) == (1, 0)


def test_a_batch_opened_again_gives_up_what_its_earlier_life_held():
    """One workflow id has one open life: the place of the earlier one is free, and the new one stands in line."""
    line = line_of(entry(1), entry(2))
    line.admit(ONE_JOB)

    assert line.ask(entry(1, life="second")) is False
    assert numbers(line.admit(ONE_JOB)) == [1]
    assert line.holders[0].chain_id == "second-1"


def test_a_late_release_of_an_earlier_life_takes_nothing_away():
    """Only the life that holds a place can give it back."""
    line = line_of(entry(1, life="second"))
    line.admit(ONE_JOB)

    assert line.release(PlaceHolder(batch_id=entry(1).batch_id, chain_id="first-1")) is False
    assert numbers(line.holders) == [1]


def test_a_batch_that_leaves_the_line_is_gone():
    """A cancelled batch does not get a place it has no use for."""
    line = line_of(entry(1), entry(2))

    assert line.release(entry(1)) is True
    assert numbers(line.admit(MANY_JOBS)) == [2]


def test_a_smaller_limit_takes_no_place_away():
    """Those that run go on; nobody new is let in until there is room under the new limit."""
    line = line_of(*map(entry, range(3)))
    line.admit(PlaceLimits(max_jobs=2, max_bytes=1_000))

    assert line.admit(ONE_JOB) == []
    line.release(entry(0))
    assert line.admit(ONE_JOB) == []
    line.release(entry(1))
    assert numbers(line.admit(ONE_JOB)) == [2]


def test_bytes_in_flight_stay_within_the_limit():
    """Batches run side by side as long as their bytes fit together."""
    line = line_of(entry(1, size=600), entry(2, size=400), entry(3, size=1))

    assert numbers(line.admit(MANY_JOBS)) == [1, 2]
    assert line.held_bytes == 1_000


def test_a_batch_over_the_limit_runs_alone():
    """No batch is too large to ever run."""
    line = line_of(entry(1, size=5_000), entry(2, size=1))

    assert numbers(line.admit(MANY_JOBS)) == [1]
    assert line.admit(MANY_JOBS) == []

    line.release(entry(1))
    assert numbers(line.admit(MANY_JOBS)) == [2]


def test_small_batches_pass_a_large_one_only_so_often():
    """A large batch lets those go first that fit beside what runs, but its turn comes."""
    large = entry(2, size=800)
    line = line_of(entry(1, size=500), large, *(entry(number, size=10) for number in range(3, 30)))

    assert numbers(line.admit(MANY_JOBS)) == [1, *range(3, 3 + MAX_PASSED_OVER)]
    assert line.admit(MANY_JOBS) == []

    line.release(entry(1))
    assert numbers(line.admit(MANY_JOBS))[0] == 2


def test_what_a_batch_was_passed_over_is_kept_when_it_asks_again():
    """Asking again does not put a large batch back to the start of its patience."""
    line = line_of(entry(1, size=500), entry(2, size=800), entry(3, size=10))
    line.admit(MANY_JOBS)

    line.ask(entry(2, size=800))
    assert [each.passed_over for each in line.waiting] == [1]


def test_a_full_line_takes_nobody_in():
    """The line's state travels whole, so it has an end; those beyond it ask again."""
    line = line_of(*map(entry, range(MAX_WAITING + 1)))

    assert line.waiting_count == MAX_WAITING
    line.ask(entry(5, priority=1))
    assert numbers(line.waiting)[0] == 5


def test_the_snapshot_names_positions():
    """Who is third is third, and those beyond what is named have no number."""
    line = line_of(*map(entry, range(1, 6)))
    line.admit(ONE_JOB)

    seen = line.snapshot(most=3)
    assert (seen.held, seen.waiting) == (1, 4)
    assert [position_in(seen, entry(number).batch_id) for number in range(1, 6)] == [None, 1, 2, 3, None]


@pytest.mark.parametrize("field", ["holders", "waiting"])
def test_a_line_is_made_again_from_what_it_carried(field):
    """Continue-as-new keeps holders, waiting batches and their patience."""
    line = line_of(entry(1, size=900), entry(2, size=900), entry(3))
    line.admit(MANY_JOBS)

    again = WaitingLine(line.holders, line.waiting)
    assert getattr(again, field) == getattr(line, field)
