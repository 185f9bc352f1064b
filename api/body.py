"""A request's body as it arrives: limited in size, and in how long it may be silent."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.memory import return_free_pages_to_the_system
from ingather.models.errors import PayloadTooLargeError, RequestError

UNLIMITED_BODY = 1 << 50
"""For routes that read the body themselves: the framework's own limit is off, and ours count as the bytes arrive."""
IDLE_SECONDS = 60.0
"""A body that brings nothing for so long has stopped."""
HELD_SECONDS = 30.0
HELD_BYTES_PER_SECOND = 128 * 1024
"""A body that is held in memory keeps others waiting: it arrives at this pace at least, after so many seconds."""
_DRAIN_BYTES = 512 * 1024 * 1024
_DRAIN_SECONDS = 3.0
_WORTH_TIDYING_BYTES = 16 * 1024 * 1024


class RequestBody:
    """Chunks straight from the server; nothing is kept.

    Args:
        request: whose body nobody has read yet.
        limit: bytes, counted as they arrive.
        limit_name: the setting behind it, for the refusal.
    """

    def __init__(self, request: Request, limit: int, limit_name: str) -> None:
        self._request = request
        self._limit = limit
        self._limit_name = limit_name
        self.received_bytes = 0
        self._is_over = False

    @property
    def announced_bytes(self) -> int | None:
        """Its size as the client said it; None for a body of unknown size."""
        announced = self._request.headers.get("content-length", "")
        return int(announced) if announced.isdecimal() else None

    @asynccontextmanager
    async def taken_in(self) -> AsyncIterator[None]:
        """Around all that reads it. After a refusal the rest is read and let go; what a large one left is given back."""
        try:
            yield
        except Exception:
            # A client that asked first, and was not told to go on, sends nothing.
            if self.received_bytes or self._request.headers.get("expect", "").lower() != "100-continue":
                await self.drain()
            raise
        finally:
            if self.received_bytes > _WORTH_TIDYING_BYTES:
                await asyncio.to_thread(return_free_pages_to_the_system)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Raises ``PayloadTooLargeError``, ``RequestError`` when it stops arriving, ``ClientDisconnect``."""
        if self.announced_bytes is not None and self.announced_bytes > self._limit:
            raise self._too_large()
        while not self._is_over:
            chunk = await self._next()
            self.received_bytes += len(chunk)
            if self.received_bytes > self._limit:
                raise self._too_large()
            yield chunk

    async def whole(self) -> bytearray:
        """All of it, in memory. Raises as ``chunks``, and ``RequestError`` when it takes longer than it may."""
        raw = bytearray()
        size = self._limit if self.announced_bytes is None else self.announced_bytes
        try:
            async with (
                asyncio.timeout(HELD_SECONDS + size / HELD_BYTES_PER_SECOND),
                contextlib.aclosing(self.chunks()) as chunks,
            ):
                async for chunk in chunks:
                    raw += chunk
        except TimeoutError as error:
            raise RequestError("The body arrives too slowly to be held in memory; nothing was started.") from error
        return raw

    async def drain(self) -> None:
        """Read on for a moment after a refusal: many clients look for the answer only once they have sent all."""
        drained = 0
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._is_over and drained < _DRAIN_BYTES:
                    drained += len(await self._next())
        except (TimeoutError, ClientDisconnect, RequestError):
            return

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await self._request.receive()
        except TimeoutError as error:
            raise RequestError("The body stopped arriving; nothing was started.") from error
        if message["type"] == "http.disconnect":
            self._is_over = True
            raise ClientDisconnect
        self._is_over = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"The request is larger than {self._limit_name} ({self._limit:,} bytes).",
            limit=self._limit_name,
            limit_value=self._limit,
        )
