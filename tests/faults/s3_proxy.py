"""A real proxy in front of the S3 server that does what storage does on bad days: errors, full disks, delays, cut answers."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
_BLOCK = 64 * 1024


@dataclass(frozen=True)
class Weather:
    """What happens to requests from now on."""

    refuse_all: int = 0
    """Status every request is answered with; 0 lets them through."""
    refuse_writes: int = 0
    """The same for PUT and POST alone: reading from a full disk works."""
    delay_seconds: float = 0.0
    """Before every block, each way."""
    cut_after_bytes: int | None = None
    """Every other answer breaks off after so many bytes of head and body."""


FAIR = Weather()


class S3Proxy:
    """``async with S3Proxy(port_of_s3, port):`` — hands bytes on unread in fair weather, and request by request in foul."""

    def __init__(self, upstream_port: int, port: int) -> None:
        self._upstream_port = upstream_port
        self.port = port
        self.weather = FAIR
        self.refused = 0
        """Requests answered with an error of ours."""
        self.cut = 0
        """Answers broken off."""
        self._answers = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @contextmanager
    def foul(self, weather: Weather) -> Iterator[None]:
        """This weather for the block. Connections made before or in it are broken off when it changes."""
        self._change(weather)
        try:
            yield
        finally:
            self._change(FAIR)

    def _change(self, weather: Weather) -> None:
        self.weather = weather
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, limit=_BLOCK)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # either side hung up, or the weather changed
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"" if self.weather == FAIR else await reader.readuntil(b"\r\n\r\n")
        if head and (status := self._refusal(head)):
            self.refused += 1
            await _refuse(reader, writer, head, status)
            return
        up_reader, up_writer = await asyncio.open_connection(LOOPBACK, self._upstream_port, limit=_BLOCK)
        try:
            # One request a connection, so that the next one meets the weather too.
            up_writer.write(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            weather = self.weather
            sending = asyncio.create_task(_pump(reader, up_writer, weather.delay_seconds))
            try:
                await self._answer(up_reader, writer, weather)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        finally:
            up_writer.transport.abort()

    def _refusal(self, head: bytes) -> int:
        is_write = head.startswith((b"PUT ", b"POST "))
        return self.weather.refuse_all or (self.weather.refuse_writes if is_write else 0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, weather: Weather) -> None:
        if weather.cut_after_bytes is None:
            await _pump(reader, writer, weather.delay_seconds)
            return
        self._answers += 1
        limit = weather.cut_after_bytes if self._answers % 2 else None
        self.cut += await _pump(reader, writer, weather.delay_seconds, limit)


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float, limit: int | None = None
) -> bool:
    """Bytes from one side to the other until either ends, or ``limit`` of them have passed; whether it broke off."""
    passed = 0
    while block := await reader.read(_BLOCK):
        if delay_seconds:
            await asyncio.sleep(delay_seconds)
        if limit is not None and passed + len(block) > limit:
            writer.write(block[: limit - passed])
            with contextlib.suppress(OSError):
                await writer.drain()
            return True
        passed += len(block)
        writer.write(block)
        await writer.drain()
    return False


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, status: int) -> None:
    """Answer as S3 does; the body that was sent is read first, or the client would see a reset instead."""
    left = _content_length(head)
    if b"100-continue" in head.lower():
        left = 0
    while left > 0 and (block := await reader.read(min(left, _BLOCK))):
        left -= len(block)
    code = {503: "SlowDown", 507: "InsufficientStorage"}.get(status, "InternalError")
    body = b"" if head.startswith(b"HEAD ") else f"<Error><Code>{code}</Code></Error>".encode()
    lines = f"HTTP/1.1 {status} Error\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(lines.encode() + body)
    await writer.drain()
    writer.write_eof()
    await reader.read(1)  # until the client has hung up: its answer must not be overtaken by a reset


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
