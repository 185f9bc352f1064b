"""A real proxy in front of the S3 server that does what storage does on bad days: errors, full disks, delays, cut answers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.tcp_proxy import BLOCK_BYTES, TcpProxy, handed_on, pump


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


class S3Proxy(TcpProxy):
    """``async with S3Proxy(port_of_s3, port):`` — hands bytes on unread in fair weather, and request by request in foul."""

    def __init__(self, upstream_port: int, port: int) -> None:
        super().__init__(port)
        self._upstream_port = upstream_port
        self.weather = FAIR
        self.refused = 0
        """Requests answered with an error of ours."""
        self.cut = 0
        """Answers broken off."""
        self._answers = 0

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
        self.break_off()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"" if self.weather == FAIR else await reader.readuntil(b"\r\n\r\n")
        if head and (status := self._refusal(head)):
            self.refused += 1
            await _refuse(reader, writer, head, status)
            return
        # One request a connection, so that the next one meets the weather too.
        head, weather = head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), self.weather
        async with handed_on(reader, self._upstream_port, head, weather.delay_seconds) as answers:
            await self._answer(answers, writer, weather)

    def _refusal(self, head: bytes) -> int:
        is_write = head.startswith((b"PUT ", b"POST "))
        return self.weather.refuse_all or (self.weather.refuse_writes if is_write else 0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, weather: Weather) -> None:
        if weather.cut_after_bytes is None:
            await pump(reader, writer, weather.delay_seconds)
            return
        self._answers += 1
        limit = weather.cut_after_bytes if self._answers % 2 else None
        self.cut += await pump(reader, writer, weather.delay_seconds, limit)


async def _refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, status: int) -> None:
    """Answer as S3 does; the body that was sent is read first, or the client would see a reset instead."""
    left = _content_length(head)
    if b"100-continue" in head.lower():
        left = 0
    while left > 0 and (block := await reader.read(min(left, BLOCK_BYTES))):
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
