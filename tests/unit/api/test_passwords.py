"""Passwords: what is right, what an unknown user costs, and how many may ask at one time."""

import asyncio

from argon2 import PasswordHasher, extract_parameters

from api.passwords import MOST_QUEUED, Passwords
from ingather.models.errors import CapacityExceededError


class CountingHasher(PasswordHasher):
    """Cheap, and knows which hashes were worked through."""

    def __init__(self):
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified = []

    def verify(self, known_hash, password):
        self.verified.append(known_hash)
        return super().verify(known_hash, password)


async def test_a_password_is_right_for_its_own_hash_alone():
    """A hash is salted, so that two of one password are different."""
    passwords = Passwords(CountingHasher())
    first, second = [await passwords.hash("correct horse") for _ in range(2)]
    assert first != second
    assert await passwords.is_right("correct horse", first)
    assert not await passwords.is_right("correct horses", first)
    assert not await passwords.is_right("correct horse", "no hash at all")


async def test_an_unknown_user_costs_what_a_wrong_password_costs():
    """One hash of the same parameters is worked through for either, from the first log-in on; nobody's password is never right."""
    hasher = CountingHasher()
    known_hash = CountingHasher().hash("correct horse")
    passwords = Passwords(hasher)
    assert not await passwords.is_right("wrong", None)
    assert not await passwords.is_right("wrong", known_hash)
    assert not await passwords.is_right("nobody's password", None)
    unknown, wrong, nobody = hasher.verified
    assert (unknown, wrong) == (nobody, known_hash)
    assert extract_parameters(unknown) == extract_parameters(known_hash)


async def test_a_flood_is_told_to_come_again():
    """So many wait; the others are not made to, and when the flood is over everybody is let in."""
    passwords = Passwords(CountingHasher())
    known_hash = await passwords.hash("correct horse")
    asked = [passwords.is_right("correct horse", known_hash) for _ in range(MOST_QUEUED + 5)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(answer) for answer in answers[MOST_QUEUED:]] == [CapacityExceededError] * 5
    assert set(answers[:MOST_QUEUED]) == {True}
    assert await passwords.is_right("correct horse", known_hash)
