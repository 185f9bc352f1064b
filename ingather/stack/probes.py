"""Small questions to servers that are starting; no client library is imported for them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ingather.stack.ports import LOOPBACK

_QUESTION_SECONDS = 2.0
_INTERVAL_SECONDS = 0.05


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again until the answer is yes; the caller sets the time limit."""
    while True:
        try:
            async with asyncio.timeout(_QUESTION_SECONDS):
                if await check():
                    return
        except (OSError, TimeoutError, ValueError):
            pass  # not listening yet, or not answering sensibly yet
        await asyncio.sleep(_INTERVAL_SECONDS)


async def http_get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a loopback GET; raises OSError or ValueError when nobody answers well."""
    return await http_request("GET", port, path, {})


async def http_headers(port: int, path: str) -> tuple[int, dict[str, str]]:
    """Status and headers of a loopback GET, names in lower case; status 0 when the server hung up without an answer."""
    head, _ = await _exchange("GET", port, path, {})
    fields = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    return _status(head), {name.strip().lower(): value.strip() for name, _, value in fields}


async def http_request(method: str, port: int, path: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Status and body of a loopback request without a body of its own."""
    head, body = await _exchange(method, port, path, headers)
    return _status(head), body


def _status(head: bytes) -> int:
    """Raises ``ValueError`` for an answer that broke off, or is none."""
    _, _, rest = head.partition(b" ")
    return int(rest.partition(b" ")[0]) if head else 0


async def _exchange(method: str, port: int, path: str, headers: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        lines = [f"{method} {path} HTTP/1.0", f"Host: {LOOPBACK}:{port}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    return head, body


async def http_json(port: int, path: str) -> dict[str, Any]:
    """JSON object of a loopback GET; empty unless the status is 200."""
    status, body = await http_get(port, path)
    answer = json.loads(body) if status == 200 else {}
    return answer if isinstance(answer, dict) else {}


async def redis_ping(port: int, password: str) -> bool:
    """Whether the Redis at this port takes the password and has loaded its data."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        await writer.drain()
        return await reader.readline() == b"+OK\r\n" and await reader.readline() == b"+PONG\r\n"
    finally:
        writer.close()
