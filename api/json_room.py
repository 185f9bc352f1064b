"""Room for JSON in memory: bodies by their size as they arrive, and by what they become once they are read.

A body that arrives slowly keeps others of its tenant waiting, never those of all: a tenant has at most half of the
room. And JSON of a few bytes a value becomes thirty times as large when it is read, so values are counted before.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from api.shared_budget import SharedBudget
from ingather.models.errors import PayloadTooLargeError

_SMALL_BYTES = 1024 * 1024
"""A body of so much is received without asking for room."""
_BYTES_PER_VALUE = 160
"""What a value costs in memory, the object around it and its share of the document."""
_LARGEST_AT_ONCE = 4


class JsonRoom:
    """Where JSON is held while it is read and taken in. One for a process.

    Args:
        max_body_bytes: of one body.
        max_values: of one body, or one line.
    """

    def __init__(self, max_body_bytes: int, max_values: int) -> None:
        self._max_body_bytes = max_body_bytes
        self._max_values = max_values
        half = _LARGEST_AT_ONCE // 2
        self._arriving = SharedBudget(_LARGEST_AT_ONCE * max_body_bytes, half * max_body_bytes)
        largest = max_body_bytes + _BYTES_PER_VALUE * max_values
        self._read = SharedBudget(2 * largest, largest)

    @asynccontextmanager
    async def body(self, tenant_id: str, announced_bytes: int | None) -> AsyncIterator[None]:
        """Room for a body as it arrives; a small one needs none, one of unknown size as much as it may have."""
        size = self._max_body_bytes if announced_bytes is None else announced_bytes
        if size <= min(_SMALL_BYTES, self._max_body_bytes):
            yield
            return
        async with self._arriving.hold(tenant_id, size):
            yield

    def values(self, tenant_id: str, raw: bytes | bytearray) -> AbstractAsyncContextManager[None]:
        """Room for what JSON becomes. Raises ``PayloadTooLargeError`` for more values than one body may hold."""
        count = most_values(raw)
        if count > self._max_values:
            raise PayloadTooLargeError(
                f"The JSON holds more than max_json_values ({self._max_values:,}) values; send it in several requests.",
                limit="max_json_values",
                limit_value=self._max_values,
            )
        return self._read.hold(tenant_id, len(raw) + _BYTES_PER_VALUE * count)


def most_values(raw: bytes | bytearray) -> int:
    """How many values JSON can hold at most, by the signs in front of them; those within strings are counted too."""
    return 1 + sum(raw.count(sign) for sign in (b",", b":", b"[", b"{"))
