"""Metadata as texts to filter by."""

import pytest

from ingather.domain.metadata_pairs import metadata_pair, metadata_pairs


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "k=text"),
        (3, "k=3"),
        (1.5, "k=1.5"),
        (True, "k=true"),
        (None, "k=null"),
        (["a", 1], 'k=["a",1]'),
        ({"b": 1, "a": 2}, 'k={"a":2,"b":1}'),
        ("a=b", "k=a=b"),
        ("\ud800", "k=?"),
        (["\ud800"], 'k=["?"]'),
        (2**80, f"k={2**80}"),
    ],
)
def test_a_value_is_written_as_text(value, expected):
    """Text as it is, everything else as compact JSON, and always valid UTF-8."""
    assert metadata_pair("k", value) == expected


def test_keys_cannot_pass_for_each_other():
    """The pair ``a=b`` with ``c`` is not the pair ``a`` with ``b=c``."""
    assert metadata_pair("a=b", "c") != metadata_pair("a", "b=c")
    assert metadata_pair("a%3Db", "c") != metadata_pair("a=b", "c")


def test_every_key_gives_one_pair():
    """The list has one text a key, in order."""
    assert metadata_pairs({"b": 1, "a": "x"}) == ["b=1", "a=x"]
