"""Real proxies between a client and servers of this machine: bytes are handed on as they come, connection by connection."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
BLOCK_BYTES = 64 * 1024


class TcpProxy:
    """``async with`` it. What happens to a connection is ``serve``'s.

    Args:
        port: 0 for any that is free; known once it listens.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, until either side hangs up."""
        raise NotImplementedError

    def break_off(self) -> None:
        """End every connection there is."""
        for task in self._tasks:
            task.cancel()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port, limit=BLOCK_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        self.break_off()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # either side hung up, or the connection was broken off
        finally:
            self._tasks.discard(task)
            writer.transport.abort()


class RoundRobin(TcpProxy):
    """One address for several servers: each connection goes to the next of them."""

    def __init__(self, ports: Sequence[int]) -> None:
        super().__init__()
        self._ports = tuple(ports)
        self.connections: Counter[int] = Counter()
        """How many went to each port."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._ports[self.connections.total() % len(self._ports)]
        self.connections[port] += 1
        async with handed_on(reader, port) as answers:
            await pump(answers, writer)


@asynccontextmanager
async def handed_on(
    reader: asyncio.StreamReader, port: int, head: bytes = b"", delay_seconds: float = 0.0
) -> AsyncIterator[asyncio.StreamReader]:
    """What a server answers, while it is sent what a client sends, ``head`` first."""
    answers, up_writer = await asyncio.open_connection(LOOPBACK, port, limit=BLOCK_BYTES)
    try:
        up_writer.write(head)
        sending = asyncio.create_task(pump(reader, up_writer, delay_seconds))
        try:
            yield answers
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    finally:
        up_writer.transport.abort()


async def pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_seconds: float = 0.0, limit: int | None = None
) -> bool:
    """Bytes from one side to the other until either ends, or ``limit`` of them have passed; whether it broke off."""
    passed = 0
    while block := await reader.read(BLOCK_BYTES):
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
