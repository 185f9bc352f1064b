"""Where all bytes lie."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from ingather.models.content import BlobRef


@dataclass(frozen=True, slots=True)
class BlobStat:
    """An object as the store lists it."""

    key: str
    size_bytes: int


class BlobStore(Protocol):
    """Objects by key. Keys are slash-separated and start with their kind and tenant.

    Every method is idempotent and raises ``StorageUnavailableError`` when the store cannot
    answer. Nothing blocks the event loop. Reads of a missing key raise ``BlobNotFoundError``.
    """

    async def put(self, key: str, content: bytes) -> None:
        """Write an object whole; an object already there is replaced."""
        ...

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> BlobRef:
        """Write an object of unknown size with flat memory; visible only once complete.

        ``parts`` may have any sizes. When ``parts`` raises, the upload is aborted, nothing is
        left behind and the exception goes on. Answers with size and SHA-256.
        """
        ...

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        """Read an object, or ``size`` bytes of it from ``offset``."""
        ...

    def stream(self, key: str, *, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """Read an object in pieces of at most 1 MiB, with flat memory."""
        ...

    async def stat(self, key: str) -> BlobStat | None:
        """Size of an object; None when it is not there."""
        ...

    async def copy(self, source_key: str, target_key: str) -> None:
        """Copy within the store, without the bytes passing through this process where it can."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""
        ...

    def list(self, prefix: str) -> AsyncIterator[BlobStat]:
        """Objects whose key starts with ``prefix``, in key order."""
        ...

    async def check(self) -> None:
        """Answer quickly when the store can be used (for readiness); raise otherwise."""
        ...

    async def close(self) -> None:
        """Release connections; the store is not used afterwards."""
        ...
