"""API keys: their form, their checksum, what is kept of them."""

import re

import pytest

from ingather.domain.api_keys import key_hash, key_id_from, key_id_of, looks_like_key, new_key


def test_a_key_has_its_published_form():
    """Prefix, eight characters of id, 32 of secret, six of checksum."""
    key_id, key = new_key()
    assert re.fullmatch(r"ing_live_[0-9A-Za-z]{8}_[0-9A-Za-z]{38}", key)
    assert key_id_of(key) == key_id
    assert key.startswith(f"ing_live_{key_id}_")


def test_no_two_keys_are_alike():
    """Not even two of the same id."""
    assert len({new_key("abcdefgh")[1] for _ in range(100)}) == 100


def test_the_checksum_is_stable():
    """A key made by an earlier version is still one: base62 of the CRC-32, most significant digit first."""
    assert key_id_of("ing_live_AAAAAAAA_" + "b" * 32 + "2qWSQU") == "AAAAAAAA"


@pytest.mark.parametrize("position", [9, 12, 20, 30, 49, 50, 55])
def test_one_wrong_character_is_noticed(position):
    """Whichever it is: the checksum covers all of it."""
    _, key = new_key("abcdefgh")
    wrong = key[:position] + ("1" if key[position] != "1" else "2") + key[position + 1 :]
    assert key_id_of(wrong) is None
    assert looks_like_key(wrong)


@pytest.mark.parametrize(
    "text", ["", "ing_live_", "ing_test_x", "x" * 56, "ing_live_abcdefgh_" + "é" * 38, "ing_live_a\n"]
)
def test_anything_else_is_no_key(text):
    """No exception, no id."""
    assert key_id_of(text) is None


def test_what_is_kept_cannot_be_turned_back():
    """A SHA-256 of the whole key."""
    _, key = new_key()
    assert re.fullmatch(r"[0-9a-f]{64}", key_hash(key))
    assert key_hash(key) == key_hash(key)


def test_an_id_can_be_derived():
    """The same text gives the same id, in the alphabet of ids."""
    assert key_id_from("a") == key_id_from("a") != key_id_from("b")
    assert re.fullmatch(r"[0-9A-Za-z]{8}", key_id_from("a"))
