"""Objects that are made of parts which arrive one by one, from whichever process."""

from collections.abc import Sequence
from typing import Protocol


class PartedObjects(Protocol):
    """The store's multipart uploads. Raises ``StorageUnavailableError``; nothing blocks the event loop.

    Nothing of an object is visible before it is completed.
    """

    async def begin_parts(self, key: str) -> str:
        """Open an object for parts; answers the store's name for it. Each call opens another one."""
        ...

    async def put_part(self, key: str, multipart_id: str, number: int, content: bytes | bytearray) -> str:
        """Write part ``number``, 1-based; one that is there is replaced. Answers its tag.

        Raises ``BlobNotFoundError`` where the parts were completed or given up.
        """
        ...

    async def copy_part(self, key: str, multipart_id: str, number: int, source_key: str) -> str:
        """The same with the bytes of an object, which do not pass through this process."""
        ...

    async def complete_parts(self, key: str, multipart_id: str, parts: Sequence[tuple[int, str]], size: int) -> None:
        """Make the object of these parts, by number and tag, ``size`` bytes in all. Repeating is harmless.

        Raises ``UploadDamagedError`` where a part is not the one that was tagged so.
        """
        ...

    async def abort_parts(self, key: str, multipart_id: str) -> None:
        """Give the parts up; where there are none any more nothing happens."""
        ...
