"""Watching a stream in a test: frames as a client reads them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Seen:
    """One SSE frame as a client has it."""

    event: str
    data: Any
    id: str | None = None
    retry: int | None = None


def parse(chunk: bytes) -> list[Seen]:
    """Frames of a chunk that holds whole frames; comments are left out."""
    frames = []
    for block in chunk.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if not fields:
            continue
        data = json.loads(fields["data"]) if "data" in fields else None
        retry = int(fields["retry"]) if "retry" in fields else None
        frames.append(Seen(fields.get("event", ""), data, fields.get("id"), retry))
    return frames


class Watcher:
    """Reads a stream of chunks in the background and keeps what it saw."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.frames: list[Seen] = []
        self.is_closed = False
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._read(chunks))

    async def _read(self, chunks: AsyncIterator[bytes]) -> None:
        try:
            async for chunk in chunks:
                self.frames.extend(frame for frame in parse(chunk) if frame.event)
                self._news.set()
        finally:
            self.is_closed = True
            self._news.set()

    async def until(self, condition: Callable[["Watcher"], bool], seconds: float = 60.0) -> None:
        """Wait until a condition holds; the failure shows what was seen."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"not seen in {seconds} s; seen: {self.names}") from None

    async def sees(self, name: str, count: int = 1, seconds: float = 60.0) -> None:
        await self.until(lambda watcher: watcher.names.count(name) >= count, seconds)

    async def closes(self, seconds: float = 60.0) -> None:
        await self.until(lambda watcher: watcher.is_closed, seconds)

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def names(self) -> list[str]:
        return [frame.event for frame in self.frames]

    @property
    def seqs(self) -> list[int]:
        return [int(frame.id) for frame in self.frames if frame.id and frame.event != "stream.end"]

    def of(self, name: str) -> list[Seen]:
        return [frame for frame in self.frames if frame.event == name]

    @property
    def documents(self) -> list[tuple[str, int]]:
        """What was told of documents: kind and ordinal, in order."""
        return [
            (frame.event.removeprefix("document."), frame.data["data"]["ordinal"])
            for frame in self.frames
            if frame.event.startswith("document.")
        ]
