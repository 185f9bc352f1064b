"""What happened is remembered for a while, and not without bound."""

from activities.lately import REMEMBERED_SECONDS, Lately


def test_what_was_noted_is_known_for_a_while():
    """From the last time on: it may have been a bad moment of the machine's."""
    now = [100.0]
    lately: Lately[str] = Lately(clock=lambda: now[0])
    lately.note("poison", "crashed")
    now[0] += REMEMBERED_SECONDS - 1
    assert lately.get("poison") == "crashed"
    assert "other" not in lately
    lately.note("poison", "hung")
    now[0] += REMEMBERED_SECONDS - 1
    assert lately.get("poison") == "hung"
    now[0] += 1
    assert "poison" not in lately


def test_only_the_latest_are_remembered():
    """A worker sees millions of contents in its life."""
    lately: Lately[bool] = Lately()
    for number in range(1_000):
        lately.note(str(number), True)
    lately.note("0", True)
    lately.note("one more", True)
    assert [key in lately for key in ("0", "1", "2", "999", "one more")] == [True, False, True, True, True]
