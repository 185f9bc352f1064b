"""The pace of a batch, from looks at it."""

from datetime import UTC, datetime, timedelta

from ingather.domain.pace import Pace, completion_at

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)


def seen(*looks: tuple[float, int]) -> Pace:
    pace = Pace()
    for seconds, ended in looks:
        pace.note(NOON + timedelta(seconds=seconds), ended)
    return pace


def test_one_look_is_no_pace():
    """A pace needs two moments, and something that ended between them."""
    assert seen((0, 5)).per_second is None
    assert seen((0, 5), (10, 5)).per_second is None


def test_the_pace_is_what_ended_by_the_time_it_took():
    """Documents a second between the first look and the last."""
    assert seen((0, 10), (5, 30), (10, 60)).per_second == 5


def test_the_pace_follows_the_last_minute():
    """What went fast an hour ago says nothing about now."""
    assert seen((0, 0), (10, 10_000), (3_600, 10_100), (3_660, 10_160)).per_second == 1


def test_a_retry_starts_the_measure_anew():
    """Documents set back to pending are no documents lost."""
    assert seen((0, 10), (10, 100), (20, 40)).per_second is None
    assert seen((0, 10), (10, 100), (20, 40), (30, 60)).per_second == 2


def test_completion_is_what_remains_at_that_pace():
    """A hundred documents at two a second take fifty seconds."""
    assert completion_at(NOON, 100, 2) == NOON + timedelta(seconds=50)
    assert completion_at(NOON, 10**9, 1e-9) is None
