"""What is worth knowing for some minutes, and no harm when it is forgotten."""

from typing import Protocol


class ShortMemory(Protocol):
    """Words by key, shared by every process. Nothing waits long for it, and nothing fails without it."""

    async def remember(self, key: str, word: str, seconds: int) -> None:
        """Keep a word for so long, in place of an earlier one. Never raises: where it cannot be kept, it is forgotten."""
        ...

    async def recall(self, key: str) -> str | None:
        """The word; None where it is not known, or the memory cannot be reached. Never raises."""
        ...

    async def close(self) -> None: ...
