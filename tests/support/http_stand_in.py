"""A small HTTP server on loopback that answers as a test says, for clients that must meet real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    target: str


@dataclass(frozen=True)
class Told:
    """An answer, and how it goes wrong."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Bytes of the body after which the server hangs up."""
    hangs_after: int | None = None
    """Bytes of the body after which nothing comes any more."""
    trickles: bool = False
    """After the body a blank comes now and then, and never an end."""
    says_length: bool = True
    is_silent: bool = False
    """Nothing comes at all."""


Answering = Callable[[Asked], Awaitable[Told]]


@dataclass
class HttpStandIn:
    """Remembers what it was asked."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    _answer: Answering | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                assert self._answer is not None
                if not await _write(writer, await self._answer(asked), without_body=asked.method == "HEAD"):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def http_stand_in(answer: Answering) -> AsyncIterator[HttpStandIn]:
    """The server, listening; its connections are closed with the block."""
    stand_in = HttpStandIn(_answer=answer)
    serving: set[asyncio.Task[None]] = set()

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await stand_in.serve(reader, writer)
        except asyncio.CancelledError:
            pass  # the block is over
        finally:
            serving.discard(task)

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    stand_in.port = server.sockets[0].getsockname()[1]
    try:
        yield stand_in
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    return Asked(method, parts.path, dict(parse_qsl(parts.query)), headers, body, target)


async def _write(writer: asyncio.StreamWriter, told: Told, *, without_body: bool) -> bool:
    """Whether the connection may be used again."""
    if told.is_silent:
        await asyncio.Event().wait()
    headers = dict(told.headers)
    if told.says_length and not told.trickles:
        headers.setdefault("Content-Length", str(len(told.body)))
    else:
        headers["Connection"] = "close"
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {told.status} Told\r\n{head}\r\n".encode("latin-1"))
    if not without_body:
        end = told.cut_after if told.cut_after is not None else told.hangs_after
        writer.write(told.body[:end])
    await writer.drain()
    if told.hangs_after is not None:
        await asyncio.Event().wait()
    while told.trickles:
        await asyncio.sleep(0.02)
        writer.write(b" ")
        await writer.drain()
    return told.says_length and told.cut_after is None
