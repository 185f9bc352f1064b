"""A WebSocket to an application in this process, on its own event loop."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message

Json = dict[str, Any]


class ClosedError(Exception):
    """The server left."""

    def __init__(self, code: int, *, was_open: bool) -> None:
        super().__init__(f"closed with {code}")
        self.code = code
        self.was_open = was_open


class AsgiSocket:
    """What a client sees and says."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        """All that came so far."""
        self.said: asyncio.Queue[Message] = asyncio.Queue()
        self.takes = asyncio.Event()
        """Cleared by a client that reads nothing."""
        self.takes.set()
        self._news: asyncio.Queue[Message] = asyncio.Queue()
        self.is_open = False

    async def receive(self) -> Message:
        return await self.said.get()

    async def send(self, message: Message) -> None:
        if message["type"] == "websocket.accept":
            self.is_open = True
            return
        await self.takes.wait()
        self._news.put_nowait(message)

    def say(self, said: object) -> None:
        self.said.put_nowait({"type": "websocket.receive", "text": said if isinstance(said, str) else json.dumps(said)})

    async def next(self, seconds: float = 60) -> Json:
        """The next message. Raises ``ClosedError`` where there is none any more."""
        message = await asyncio.wait_for(self._news.get(), seconds)
        if message["type"] == "websocket.close":
            raise ClosedError(message["code"], was_open=self.is_open)
        found: Json = json.loads(message["text"])
        self.messages.append(found)
        return found

    async def until(self, kind: str, **facts: object) -> Json:
        """The next message of a type whose job or file says so."""
        while True:
            found = await self.next()
            about = found.get("job") or found.get("file") or found
            if found["type"] == kind and all(about.get(name) == value for name, value in facts.items()):
                return found

    async def closes(self) -> int:
        """The code it is closed with, whatever comes before."""
        try:
            while True:
                await self.next()
        except ClosedError as closed:
            return closed.code


@asynccontextmanager
async def asgi_socket(
    app: ASGIApp, path: str, headers: Mapping[str, str] | None = None, **query: object
) -> AsyncIterator[AsgiSocket]:
    """An open socket for as long as the block lasts; the client leaves at its end."""
    socket = AsgiSocket()
    raw = [(name.lower().encode(), value.encode()) for name, value in {"host": "api.test", **(headers or {})}.items()]
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": urlencode({name: value for name, value in query.items() if value is not None}).encode(),
        "headers": raw,
        "client": ("127.0.0.1", 50_000),
        "server": None,
        "subprotocols": [],
        "state": {},
    }
    socket.said.put_nowait({"type": "websocket.connect"})
    serving = asyncio.create_task(app(scope, socket.receive, socket.send))
    try:
        yield socket
    finally:
        socket.takes.set()
        socket.said.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await asyncio.wait_for(serving, 60)
