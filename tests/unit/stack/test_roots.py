"""The API as a part of the stack: it is ready when it answers itself, and nobody else in its place."""

import asyncio
from pathlib import Path

import pytest

from ingather.stack.errors import PortTakenError
from ingather.stack.probes import http_get, until
from ingather.stack.roots import MARK_HEADER, ApiPart
from tests.support.http_stand_in import Told, http_stand_in


def api_part(port: int) -> ApiPart:
    return ApiPart(port, Path("api.log"), {})


async def test_the_api_is_ready_when_it_answers_with_its_own_mark():
    """Which it is given on its command line."""
    parts = []

    async def ours(_asked):
        return Told(200, b"{}", {MARK_HEADER: parts[0].mark}, says_length=False)

    async with http_stand_in(ours) as server:
        parts.append(api_part(server.port))
        assert f"{MARK_HEADER}:{parts[0].mark}" in parts[0].command().argv
        await parts[0].wait_ready(1)


@pytest.mark.parametrize("headers", [{}, {MARK_HEADER: api_part(1).mark}])
async def test_another_server_at_the_port_is_not_taken_for_the_api(headers):
    """Two stacks that start at one moment find the same port free; the one that comes too late says so."""

    async def anothers(_asked):
        return Told(200, b"{}", headers, says_length=False)

    async with http_stand_in(anothers) as server:
        with pytest.raises(PortTakenError, match=rf"port {server.port} .*--port"):
            await api_part(server.port).wait_ready(1)


@pytest.mark.parametrize("said", [b"HTTP", b"HTTP/1.1 ", b"\x00\x00"])
async def test_a_server_that_dies_in_its_first_word_is_asked_again(said: bytes):
    """The next one at the port is heard."""
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(writer)
        writer.write(said if len(asked) == 1 else b"HTTP/1.1 200 OK\r\n\r\n{}")
        writer.close()

    async def is_well() -> bool:
        return (await http_get(port, "/"))[0] == 200

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await until(is_well)
    assert len(asked) == 2
