"""The least HTTP that moves one object: kept-alive connections on the event loop, no threads."""

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_SECONDS = 3.0
ANSWER_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    status: int
    headers: dict[bytes, bytes]
    """Names in lower case."""
    body: bytes


class HttpPool:
    """Connections to one host, at most ``max_connections`` in use at a time.

    A request raises ``OSError`` (``TimeoutError`` included) when no complete answer came.
    Redirects, proxies and cookies are not its business.
    """

    def __init__(self, base_url: str, max_connections: int) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or parts.hostname is None:
            raise ValueError(f"not an HTTP address: {parts.scheme}://{parts.netloc}")
        self._address = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: deque[_Connection] = deque()

    async def request(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> HttpAnswer:
        """Send a request that may be sent twice, and read the whole answer."""
        head = _head(method, path, headers, len(body) if method == "PUT" else None)
        async with self._slots:
            while (connection := self._take_idle()) is not None:
                try:
                    return await self._exchange(connection, method, head, body)
                except ConnectionError:
                    # The server had already hung up on this idle connection: that says nothing about it.
                    if connection.heard_something:
                        raise
            return await self._exchange(await self._connect(), method, head, body)

    async def close(self) -> None:
        """Hang up on every idle connection."""
        while self._idle:
            self._idle.pop().abort()

    def _take_idle(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        host, port = self._address
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, host, port, ssl=self._tls)
        return connection

    async def _exchange(self, connection: "_Connection", method: str, head: bytes, body: bytes) -> HttpAnswer:
        answer = None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                answer = await connection.exchange(head, body, without_body=method == "HEAD")
        finally:
            # Cancelled or failed half-way, the rest of the answer would be taken for the next one's.
            if answer is None or not connection.reusable:
                connection.abort()
            else:
                self._idle.append(connection)
        return answer


def _head(method: str, path: str, headers: dict[str, str], content_length: int | None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if content_length is not None:
        lines.append(f"content-length: {content_length}")
    lines.append("\r\n")
    return "\r\n".join(lines).encode("ascii")


class _Connection(asyncio.Protocol):
    """One connection: one exchange after another, never two at once."""

    def __init__(self) -> None:
        self.lost = False
        self.heard_something = False
        self._transport: Any = None
        self._parser: Any = None
        self._waiter: asyncio.Future[HttpAnswer] | None = None
        self._without_body = False
        self._keep_alive = False
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []

    @property
    def reusable(self) -> bool:
        return self._keep_alive and not self.lost

    async def exchange(self, head: bytes, body: bytes, *, without_body: bool) -> HttpAnswer:
        self.heard_something = False
        self._without_body = without_body
        self._headers, self._body = {}, []
        self._parser = httptools.HttpResponseParser(self)
        self._waiter = asyncio.get_running_loop().create_future()
        if self.lost:
            raise ConnectionResetError("the connection was closed")
        self._transport.writelines((head, body) if body else (head,))
        return await self._waiter

    def abort(self) -> None:
        self.lost = True
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard_something = True
        if self._waiter is None or self._waiter.done():
            self.abort()  # Bytes nobody asked for: this connection cannot be trusted any more.
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._waiter.done():
                self._waiter.set_exception(ConnectionAbortedError(f"the answer is not HTTP: {error}"))

    def eof_received(self) -> None:
        self.lost = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionResetError(f"the connection broke: {exc or 'closed by the server'}"))

    # What the parser calls

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._keep_alive = self._parser.should_keep_alive()
        if self._without_body and self._parser.get_status_code() >= 200:
            self._complete()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() >= 200:  # 1xx announces, the answer proper follows
            self._complete()

    def _complete(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._waiter.set_result(HttpAnswer(self._parser.get_status_code(), self._headers, body))
