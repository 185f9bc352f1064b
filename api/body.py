"""A request's body as it arrives: limited in size, and in how far it may fall behind."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.memory import Tidying
from ingather.models.errors import PayloadTooLargeError, RequestError

UNLIMITED_BODY = 1 << 50
"""For routes that read the body themselves: the framework's own limit is off, and ours count as the bytes arrive."""
HELD_SECONDS = 30.0
HELD_BYTES_PER_SECOND = 128 * 1024
"""A body that is held in memory keeps others waiting: it arrives at this pace at least, after so many seconds."""
_DRAIN_BYTES = 512 * 1024 * 1024
_DRAIN_SECONDS = 3.0
_tidying = Tidying()


@dataclass(frozen=True, slots=True)
class Pace:
    """How slowly a body may arrive. Time in which nobody asked for it does not count, nor do bytes sent ahead."""

    behind_seconds: float = 60.0
    """How far it may fall behind; so long it may also be silent."""
    bytes_per_second: float = 16 * 1024
    """A body that never stops and never ends would hold its turn, and its place among the open uploads, for ever."""

    def behind(self, before: float, waited_seconds: float, size_bytes: int) -> float:
        """Seconds a body is behind after a chunk that was waited for."""
        return max(0.0, before + waited_seconds - size_bytes / self.bytes_per_second)


class RequestBody:
    """Chunks straight from the server; nothing is kept.

    Args:
        request: whose body nobody has read yet.
        limit: bytes, counted as they arrive.
        limit_name: the setting behind it, for the refusal.
        pace: how slowly it may arrive.
    """

    def __init__(self, request: Request, limit: int, limit_name: str, pace: Pace = Pace()) -> None:
        self._request = request
        self._limit = limit
        self._limit_name = limit_name
        self._pace = pace
        self._behind_seconds = 0.0
        self.received_bytes = 0
        self._is_over = False

    @property
    def announced_bytes(self) -> int | None:
        """Its size as the client said it; None for a body of unknown size."""
        announced = self._request.headers.get("content-length", "")
        return int(announced) if announced.isdecimal() else None

    @asynccontextmanager
    async def taken_in(self) -> AsyncIterator[None]:
        """Around all that reads it. After a refusal the rest is read and let go."""
        try:
            yield
        except Exception:
            # A client that asked first, and was not told to go on, sends nothing.
            if self.received_bytes or self._request.headers.get("expect", "").lower() != "100-continue":
                await self.drain()
            await _tidying.broke_off(self.received_bytes)
            raise
        finally:
            # Counted a second time: what a large body leaves at its end is given back then.
            await _tidying.passed(self.received_bytes)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Raises ``PayloadTooLargeError``, ``RequestError`` when it falls behind its pace, ``ClientDisconnect``."""
        if self.announced_bytes is not None and self.announced_bytes > self._limit:
            raise self._too_large()
        while not self._is_over:
            chunk = await self._next()
            self.received_bytes += len(chunk)
            if self.received_bytes > self._limit:
                raise self._too_large()
            yield chunk
            await _tidying.passed(len(chunk))

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
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._pace.behind_seconds - self._behind_seconds):
                message = await self._request.receive()
        except TimeoutError as error:
            pace = f"{self._pace.bytes_per_second / 1024:g} KiB a second"
            raise RequestError(
                f"The body stopped arriving, or arrives more slowly than {pace}; nothing was started."
            ) from error
        if message["type"] == "http.disconnect":
            self._is_over = True
            raise ClientDisconnect
        self._is_over = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        self._behind_seconds = self._pace.behind(self._behind_seconds, clock() - began, len(chunk))
        return chunk

    def _too_large(self) -> PayloadTooLargeError:
        return PayloadTooLargeError(
            f"The request is larger than {self._limit_name} ({self._limit:,} bytes).",
            limit=self._limit_name,
            limit_value=self._limit,
        )
