"""Reciprocal rank fusion."""

import pytest

from ingather.domain.ranking import fuse_ranks


def test_agreement_beats_a_single_first_place():
    """What both rankings name in second place stands above what one names first."""
    fused = fuse_ranks([["a", "b", "c"], ["d", "b", "e"]])

    assert fused[0][0] == "b"


def test_score_is_the_sum_of_inverted_places():
    """Places count from 1, with the constant added."""
    assert fuse_ranks([["a", "b"], ["b"]], rank_constant=10) == [
        ("b", pytest.approx(1 / 12 + 1 / 11)),
        ("a", pytest.approx(1 / 11)),
    ]


def test_one_ranking_keeps_its_order():
    """With vectors or full text alone nothing moves."""
    assert [item for item, _ in fuse_ranks([["c", "a", "b"]])] == ["c", "a", "b"]


def test_equal_scores_stand_in_order_of_appearance():
    """The same rankings always give the same answer."""
    assert [item for item, _ in fuse_ranks([["a", "b"], ["c", "d"]])] == ["a", "c", "b", "d"]


def test_a_thing_named_twice_counts_once():
    """A ranking cannot push something up by repeating it."""
    assert fuse_ranks([["a", "a", "b"]], rank_constant=0) == [("a", 1.0), ("b", 0.5)]


def test_nothing_gives_nothing():
    """No rankings, or empty ones, are no error."""
    assert fuse_ranks([]) == []
    assert fuse_ranks([[], []]) == []
