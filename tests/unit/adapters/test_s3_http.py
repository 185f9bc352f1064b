"""The pool of HTTP connections, against a small server that misbehaves on demand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ingather.adapters.s3 import http
from ingather.adapters.s3.http import HttpPool

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def served(handler: Handler, max_connections: int = 4) -> AsyncIterator[tuple[HttpPool, list[int]]]:
    """A pool for a server that runs ``handler`` on every connection, and the connections' numbers so far."""
    connections: list[int] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(len(connections))
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    pool = HttpPool(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", max_connections)
    try:
        yield pool, connections
    finally:
        await pool.close()
        server.close()
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.split(b":")[1]))
    return head


def answering(*answers: bytes) -> Handler:
    """Give one answer after another on a connection, then hang up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()

    return handle


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: x\r\n\r\nok"


async def test_a_connection_is_used_again():
    """Requests one after another share a connection."""
    async with served(answering(*[OK] * 5)) as (pool, connections):
        for _ in range(5):
            answer = await pool.request("PUT", "/a", {"host": "h"}, b"body")
            assert (answer.status, answer.body, answer.headers[b"etag"]) == (200, b"ok", b"x")
    assert len(connections) == 1


async def test_a_server_that_hung_up_costs_nothing():
    """An idle connection that the server closed is replaced without the caller noticing."""
    async with served(answering(OK)) as (pool, connections):
        for _ in range(4):
            assert (await pool.request("GET", "/a", {})).body == b"ok"
    assert len(connections) == 4


async def test_a_connection_the_server_gives_up_is_not_kept():
    """``Connection: close`` is honoured."""
    closing = OK.replace(b"ETag: x", b"Connection: close")
    async with served(answering(closing, closing)) as (pool, connections):
        await pool.request("GET", "/a", {})
        await pool.request("GET", "/a", {})
    assert len(connections) == 2


async def test_answers_come_in_any_shape():
    """Chunked bodies, announcements before the answer, and empty answers are understood."""
    chunked = b"HTTP/1.1 206 Partial\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    announced = b"HTTP/1.1 100 Continue\r\n\r\n" + OK
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    async with served(answering(chunked, announced, empty, OK)) as (pool, connections):
        assert (await pool.request("GET", "/", {})).body == b"abcde"
        assert (await pool.request("PUT", "/", {}, b"x")).body == b"ok"
        assert (await pool.request("DELETE", "/", {})).status == 204
        assert (await pool.request("GET", "/", {})).body == b"ok"
    assert len(connections) == 1


async def test_head_has_no_body():
    """The length that HEAD announces is not waited for, and the connection stays usable."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    async with served(answering(head, OK)) as (pool, connections):
        assert (await pool.request("HEAD", "/", {})).headers[b"content-length"] == b"5000"
        assert (await pool.request("GET", "/", {})).body == b"ok"
    assert len(connections) == 1


@pytest.mark.parametrize("broken", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", b"not http\r\n\r\n"])
async def test_a_broken_answer_is_an_error(broken):
    """An answer that ends early, or is none, raises ``OSError`` at once, and no half of it is passed on."""
    async with served(answering(broken)) as (pool, _):
        async with asyncio.timeout(5):
            with pytest.raises(OSError, match=r"connection|answer"):
                await pool.request("GET", "/", {})


async def test_a_silent_server_is_given_up(monkeypatch):
    """No answer in time raises ``TimeoutError``, and the connection is not used again."""
    monkeypatch.setattr(http, "ANSWER_TIMEOUT_SECONDS", 0.05)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with served(silent) as (pool, connections):
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await pool.request("GET", "/", {})
    assert len(connections) == 2


async def test_a_cancelled_request_takes_its_connection_along():
    """The answer to a request that was given up never reaches the next one."""
    answers = iter([b"late", b"mine"])
    arrived, given_up = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            body = next(answers)
            arrived.set()
            if body == b"late":
                await given_up.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body)

    async with served(slow, max_connections=1) as (pool, connections):
        first = asyncio.create_task(pool.request("GET", "/", {}))
        await arrived.wait()
        first.cancel()
        given_up.set()
        assert (await pool.request("GET", "/", {})).body == b"mine"
        with pytest.raises(asyncio.CancelledError):
            await first
    assert len(connections) == 2


async def test_no_more_connections_than_allowed():
    """Fifty requests at once wait for one another on four connections."""
    async with served(answering(*[OK] * 100)) as (pool, connections):
        await asyncio.gather(*(pool.request("GET", "/", {}) for _ in range(50)))
    assert len(connections) <= 4


@pytest.mark.parametrize("address", ["ftp://host", "no-scheme", "http://"])
def test_an_address_that_is_none_is_refused(address):
    """The pool speaks to HTTP servers only."""
    with pytest.raises(ValueError, match="not an HTTP address"):
        HttpPool(address, 1)
