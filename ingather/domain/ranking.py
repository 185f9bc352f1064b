"""Fusing several rankings of the same things into one."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)

RANK_CONSTANT = 60
"""How little the first places count more than the next ones; the value of the method's authors."""


def fuse_ranks(rankings: Sequence[Sequence[T]], rank_constant: int = RANK_CONSTANT) -> list[tuple[T, float]]:
    """Reciprocal rank fusion: only places count, so scores of different kinds need no common scale.

    Args:
        rankings: each best first. A thing named twice in one ranking keeps its better place.
        rank_constant: added to every place before it is inverted.

    Returns:
        Things with their score, best first; equal scores stand in the order in which they first appear.
    """
    scores: dict[T, float] = {}
    for ranking in rankings:
        for place, item in enumerate(dict.fromkeys(ranking), start=1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (rank_constant + place)
    return sorted(scores.items(), key=lambda scored: -scored[1])
