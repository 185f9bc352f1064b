"""Passwords: argon2id, on threads, a few at a time (each takes 64 MiB for some tens of milliseconds)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from ingather.models.errors import CapacityExceededError

AT_ONCE = 2
MOST_QUEUED = 32
"""With those at work: two seconds' worth."""
RETRY_SECONDS = 3


class Passwords:
    """Hashes and checks. Raises ``CapacityExceededError`` where too many wait: a flood must not hold up those who come later."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._queued = 0
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Salted; the same password never gives the same hash."""
        async with self._turn():
            return await asyncio.to_thread(self._hasher.hash, password)

    async def is_right(self, password: str, known_hash: str | None) -> bool:
        """Whether the password is the one. An unknown user (None) takes as long as a wrong password."""
        # Made with the first of all, whoever that is, so that nobody learns from it who is unknown.
        self._nobody = self._nobody or await self.hash("nobody's password")
        async with self._turn():
            is_right = await asyncio.to_thread(self._check, password, known_hash or self._nobody or "")
        return is_right and known_hash is not None

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._queued >= MOST_QUEUED:
            raise CapacityExceededError(
                "Too many are logging in.", action="Try again in a few seconds.", retry_after_seconds=RETRY_SECONDS
            )
        self._queued += 1
        try:
            async with self._turns:
                yield
        finally:
            self._queued -= 1

    def _check(self, password: str, known_hash: str) -> bool:
        try:
            return self._hasher.verify(known_hash, password)
        except (Argon2Error, InvalidHashError):
            return False
