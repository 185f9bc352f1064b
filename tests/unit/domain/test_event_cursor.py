"""A cursor becomes a decision."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingather.domain.event_cursor import Mode, decide, parse_cursor


@pytest.mark.parametrize(
    ("text", "cursor"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("17", 17),
        ("-1", -1),
        ("1.5", -1),
        ("x", -1),
        ("٣", -1),
        ("9" * 16, -1),
        (" 1", -1),
    ],
)
def test_a_cursor_is_a_plain_number(text: str | None, cursor: int | None) -> None:
    """Anything else is unreadable, which is answered, not refused."""
    assert parse_cursor(text) == cursor


@pytest.mark.parametrize(
    ("cursor", "oldest", "latest", "complete", "mode", "after"),
    [
        (None, 1, 9, True, Mode.SNAPSHOT, 9),
        (0, 1, 9, True, Mode.REPLAY, 0),
        (0, 1001, 1009, True, Mode.REPLAY, 1000),
        (0, 5, 9, False, Mode.RESET, 9),
        (0, 0, 0, False, Mode.REPLAY, 0),
        (9, 1, 9, True, Mode.REPLAY, 9),
        (4, 5, 9, False, Mode.REPLAY, 4),
        (3, 5, 9, False, Mode.RESET, 9),
        (10, 1, 9, True, Mode.RESET, 9),
        (7, 0, 0, False, Mode.RESET, 0),
        (500, 1001, 1009, True, Mode.RESET, 1009),
        (-1, 1, 9, True, Mode.RESET, 9),
    ],
)
def test_a_cursor_is_served_or_reset(
    *, cursor: int | None, oldest: int, latest: int, complete: bool, mode: Mode, after: int
) -> None:
    """In range: replay. Trimmed, unknown, unreadable: reset. None: snapshot. Zero: all, if all is there."""
    start = decide(cursor, oldest, latest, complete=complete)

    assert (start.mode, start.after) == (mode, after)
    assert (start.reason is not None) == (mode is Mode.RESET)


@given(st.integers(0, 40), st.integers(1, 20), st.integers(0, 20), st.booleans())
def test_a_replay_never_begins_with_a_gap(cursor: int, oldest: int, span: int, complete: bool) -> None:
    """Where a cursor is replayed, the next event is in the log, or there is none yet."""
    latest = oldest + span

    start = decide(cursor, oldest, latest, complete=complete)

    if start.mode is Mode.REPLAY:
        assert oldest - 1 <= start.after <= latest
        assert start.after == cursor or (cursor == 0 and complete)
