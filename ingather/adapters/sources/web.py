"""What all sources behind HTTP share: the guarded client, patience, back-off, and bodies that must be whole."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import structlog

from ingather.adapters.guarded_http import AddressRefusedError, PrivateAddressError, guarded_client
from ingather.adapters.retry_after import seconds_asked
from ingather.adapters.sources.patience import Patience
from ingather.models.errors import DocumentError, SourceAccessDeniedError, SourceUnavailableError

log = structlog.get_logger(__name__)

PASSING_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 509, 529})
MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Of an answer that is read whole: lists, descriptions, errors."""
_PLAIN = frozenset({"", "identity", "aws-chunked"})
"""Content encodings that leave the bytes as they are. The last is how an object was uploaded; some stores keep the word."""


Build = Callable[[], Awaitable[httpx.Request]]
Judge = Callable[[httpx.Response], Awaitable[DocumentError | None]]
"""What an answer means: None where it is what was asked for. ``SourceUnavailableError`` may pass."""


class WebSource:
    """Requests to one service. All of a source's requests rest together when the service asks for that.

    Bodies are asked for, and taken, as they are: what a server packs may unpack to any size, before a limit is looked at.
    """

    def __init__(self, who: str, *, allow_private: bool, patience: Patience) -> None:
        self._who = who
        self._patience = patience
        self._allow_private = allow_private
        self._made: httpx.AsyncClient | None = None
        self._rest_until = 0.0

    @property
    def client(self) -> httpx.AsyncClient:
        """Made at its first use: reading the system's certificates takes a moment."""
        if self._made is None:
            timeout = httpx.Timeout(self._patience.timeout_seconds, connect=10.0)
            self._made = guarded_client(allow_private=self._allow_private, timeout=timeout)
        return self._made

    @asynccontextmanager
    async def opened(self, build: Build, judge: Judge) -> AsyncIterator[httpx.Response]:
        """The answer, its body yet to be read, once there is one that the judge takes."""
        response = await self._answer(build, judge)
        try:
            yield response
        finally:
            await response.aclose()

    async def read(self, build: Build, judge: Judge) -> httpx.Response:
        """The whole answer, of a size that is held."""
        async with self.opened(build, judge) as response:
            await read_bounded(response, self._who)
            return response

    async def close(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    async def _answer(self, build: Build, judge: Judge) -> httpx.Response:
        attempt = 1
        while True:
            await asyncio.sleep(max(0.0, self._rest_until - time.monotonic()))
            try:
                return await self._once(build, judge)
            except SourceUnavailableError as error:
                asked = error.facts.get("retry_after_seconds")
                if attempt >= self._patience.attempts or (asked or 0.0) > self._patience.longest_wait_seconds:
                    raise
                wait = asked or self._patience.wait_after(attempt)
                log.info("source.request_repeated", source=self._who, reason=error.message, wait_seconds=round(wait, 2))
                if error.facts.get("is_limit"):
                    self._rest_until = max(self._rest_until, time.monotonic() + wait)
                else:
                    await asyncio.sleep(wait)
                attempt += 1

    async def _once(self, build: Build, judge: Judge) -> httpx.Response:
        request = await build()
        request.headers["Accept-Encoding"] = "identity"
        try:
            response = await self.client.send(request, stream=True)
        except AddressRefusedError as error:
            raise refused(error, f"{self._who} is not asked: ") from error
        except httpx.HTTPError as error:
            raise SourceUnavailableError(f"{self._who} does not answer ({type(error).__name__}).") from error
        problem = None
        try:
            problem = await judge(response)
        except BaseException:
            await response.aclose()
            raise
        if problem is not None:
            await response.aclose()
            raise problem
        return response


def refused(error: AddressRefusedError, before: str = "") -> SourceAccessDeniedError:
    """An address that this deployment does not go to, with who may change that."""
    is_private = isinstance(error, PrivateAddressError)
    advice = "Name a public address, or have the operator set INGATHER_SOURCES__ALLOW_PRIVATE=true."
    return SourceAccessDeniedError(f"{before}{error}", action=advice if is_private else None)


def passing(who: str, response: httpx.Response, reason: str = "") -> SourceUnavailableError:
    """An answer that another attempt may cure."""
    words = f"{response.status_code}, {reason}" if reason else str(response.status_code)
    return SourceUnavailableError(
        f"{who} answered with an error that may pass ({words}).",
        retry_after_seconds=retry_after(response),
        status=response.status_code,
        is_limit=response.status_code == 429 or "limit" in reason.lower(),
    )


def retry_after(response: httpx.Response) -> float | None:
    """Seconds the service asks to wait; None where it does not ask."""
    return seconds_asked(response.headers.get("Retry-After"))


async def read_bounded(response: httpx.Response, who: str) -> bytes:
    """The body, afterwards also ``response.content``.

    Raises ``SourceUnavailableError``, and ``SourceAccessDeniedError`` for one that is packed.
    """
    content = bytearray()
    async for chunk in _pieces(response, who):
        content += chunk
        if len(content) > MAX_ANSWER_BYTES:
            raise SourceUnavailableError(f"{who} sent a list or description of more than {MAX_ANSWER_BYTES:,} bytes.")
    response._content = bytes(content)  # noqa: SLF001  # httpx keeps it there when it reads by itself, without a bound
    return bytes(content)


def announced_bytes(response: httpx.Response) -> int | None:
    """Of the body as it is sent; None where nothing, or nothing usable, is said."""
    value = response.headers.get("Content-Length", "")
    return int(value) if _is_plain(response) and value.isdecimal() and len(value) < 19 else None


async def whole_body(response: httpx.Response, who: str, size_bytes: int | None) -> AsyncIterator[bytes]:
    """A body's bytes as they come.

    Raises ``SourceUnavailableError`` where it breaks off, or is of another size, and ``SourceAccessDeniedError`` for one
    that is packed.
    """
    size = 0
    async for chunk in _pieces(response, who):
        size += len(chunk)
        yield chunk
    if size_bytes is not None and size != size_bytes:
        raise SourceUnavailableError(f"{who} announced {size_bytes:,} bytes and sent {size:,}.")


async def _pieces(response: httpx.Response, who: str) -> AsyncIterator[bytes]:
    if not _is_plain(response):
        raise SourceAccessDeniedError(
            f"{who} packs what it sends ({_encoding(response)[:60]!r}), though it was asked for the bytes as they are.",
            action="Let the source send files without a Content-Encoding, then retry this code.",
        )
    try:
        async for piece in response.aiter_raw():
            yield piece
    except httpx.HTTPError as error:
        raise SourceUnavailableError(f"{who} broke off in the middle of an answer ({type(error).__name__}).") from error


def _is_plain(response: httpx.Response) -> bool:
    return all(word.strip() in _PLAIN for word in _encoding(response).split(","))


def _encoding(response: httpx.Response) -> str:
    return str(response.headers.get("Content-Encoding", "")).lower()
