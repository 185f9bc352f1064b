"""Passwords: argon2id, on threads, a few at a time (each takes 64 MiB for some tens of milliseconds)."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

AT_ONCE = 2


class Passwords:
    """Hashes and checks."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """Salted; the same password never gives the same hash."""
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def is_right(self, password: str, known_hash: str | None) -> bool:
        """Whether the password is the one. An unknown user (None) takes as long as a wrong password."""
        if known_hash is None:
            self._nobody = self._nobody or await self.hash("nobody's password")
        async with self._turns:
            is_right = await asyncio.to_thread(self._check, password, known_hash or self._nobody or "")
        return is_right and known_hash is not None

    def _check(self, password: str, known_hash: str) -> bool:
        try:
            return self._hasher.verify(known_hash, password)
        except (Argon2Error, InvalidHashError):
            return False
