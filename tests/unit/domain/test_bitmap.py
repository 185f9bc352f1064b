"""Sets of ordinals as bitmaps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingather.domain.bitmap import decode_bitmap, encode_bitmap, encode_flags


@given(st.sets(st.integers(0, 5_000)))
def test_a_set_comes_back_in_rising_order(ordinals):
    """Whatever the order it was written in."""
    assert list(decode_bitmap(encode_bitmap(ordinals))) == sorted(ordinals)


@given(st.lists(st.integers(0, 300)))
def test_the_same_set_is_always_the_same_text(ordinals):
    """Order and repetition leave no trace, so that replays agree."""
    assert encode_bitmap(ordinals) == encode_bitmap(sorted(set(ordinals), reverse=True))


@given(st.sets(st.integers(0, 5_000)))
def test_flags_are_written_as_the_ordinals_they_stand_for(ordinals):
    """A ledger has its documents as flags."""
    flags = bytes(ordinal in ordinals for ordinal in range(5_001))

    assert encode_flags(flags) == encode_bitmap(ordinals)


@settings(deadline=None)
@given(st.integers(0, 100), st.integers(1, 40), st.integers(1, 3_000))
def test_far_apart_and_close_together_are_written_alike(first, apart, count):
    """Few are set one by one and many all at once, and nobody can tell which."""
    ordinals = range(first, first + apart * count, apart)
    bits = sum(1 << ordinal for ordinal in ordinals)

    assert list(decode_bitmap(encode_bitmap(ordinals))) == list(ordinals)
    assert encode_bitmap(ordinals) == encode_flags(bytes(bits >> place & 1 for place in range(ordinals[-1] + 1)))


def test_the_empty_set_is_the_empty_text():
    """Nothing takes no room."""
    assert (encode_bitmap([]), list(decode_bitmap(""))) == ("", [])


@settings(deadline=None)  # the longest are megabits
@given(st.sets(st.integers(0, 3_000_000), max_size=200))
def test_far_apart_or_far_out_it_comes_back_too(ordinals):
    """Long bitmaps are deflated."""
    assert list(decode_bitmap(encode_bitmap(ordinals))) == sorted(ordinals)


@pytest.mark.parametrize("first", [0, 1_000, 999_000])
def test_a_thousand_neighbours_take_less_than_180_characters(first):
    """What the limits of history are planned with, wherever in a batch they lie."""
    assert len(encode_bitmap(range(first, first + 1_000))) < 180


def test_a_thousand_of_a_million_fit_a_workflow_input():
    """Failed documents lie far apart."""
    assert len(encode_bitmap(range(0, 1_000_000, 1_000))) < 8_000


@pytest.mark.parametrize("text", ["%%%", "A", "0:AAA", "0:AA==\n", ":", "0zAAAA", "x:AA=="])
def test_what_is_no_bitmap_is_refused(text):
    """Not read as some other set."""
    with pytest.raises(ValueError, match=r"."):
        list(decode_bitmap(text))
