"""Both clients behind one face, so that one test says of both what they do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from inspect import iscoroutine
from typing import Any, Protocol

from ingather.client import AsyncIngatherClient, IngatherClient

KINDS = ("sync", "async")

Waits = list[float]


class OnALoop:
    """The client for an event loop, on a loop of its own, seen from a program without one."""

    def __init__(self, client: Callable[[], AsyncIngatherClient], runner: asyncio.Runner) -> None:
        self._runner = runner
        self._client = runner.run(self._made(client))

    async def _made(self, client: Callable[[], AsyncIngatherClient]) -> AsyncIngatherClient:
        return client()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*given: Any, **named: Any) -> Any:
            answer = method(*given, **named)
            return self._runner.run(answer) if iscoroutine(answer) else self._items(answer)

        return call

    def _items(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> list[Any]:
            try:
                return [await anext(items)]
            except StopAsyncIteration:
                return []

        try:
            while item := self._runner.run(following()):
                yield from item
        finally:
            self._runner.run(items.aclose())

    def close(self) -> None:
        self._runner.run(self._client.close())


class Open(Protocol):
    """``open_client(url, waits=waits, …)``: a client that waits for nothing and notes how long it would have."""

    def __call__(self, url: str, *, waits: Waits | None = None, **options: Any) -> Any: ...


@contextmanager
def clients(kind: str) -> Iterator[Open]:
    """Makes clients of one kind, and closes them."""
    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner()) if kind == "async" else None

        def open_client(url: str, *, waits: Waits | None = None, **options: Any) -> Any:
            noted: Waits = [] if waits is None else waits

            async def sleep(seconds: float) -> None:
                noted.append(seconds)

            if runner is None:
                client: Any = IngatherClient(url, sleep=noted.append, **options)
            else:
                client = OnALoop(lambda: AsyncIngatherClient(url, sleep=sleep, **options), runner)
            stack.callback(client.close)
            return client

        yield open_client
