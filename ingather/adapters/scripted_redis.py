"""A Redis client with scripts, made at its first use."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Connected:
    """The client, and its scripts by name."""

    client: Any
    scripts: Mapping[str, Any]
    errors: tuple[type[Exception], ...]
    """What it may raise."""


class ScriptedRedis:
    """Few workers have a use for it, and one that comes back is at work sooner without the library.

    Args:
        url: ``redis://`` or ``unix://`` URL.
        scripts: Lua by name. They are applied at most twice: an answer may be lost, and what they do must bear that.
        answer_seconds: how long an answer may take.
        unavailable: the error that says so, from the kind of what happened.
    """

    def __init__(
        self, url: str, scripts: Mapping[str, str], *, answer_seconds: float, unavailable: Callable[[str], Exception]
    ) -> None:
        self._url = url
        self._scripts = scripts
        self._answer_seconds = answer_seconds
        self._unavailable = unavailable
        self._connected: Connected | None = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connected]:
        """The client for the block, in which its errors become ours."""
        connected = self._connected = self._connected or self._connect()
        try:
            yield connected
        except connected.errors as error:
            # The vendor's text may quote the URL with its password, so only the kind of error is passed on.
            raise self._unavailable(type(error).__name__) from error

    async def close(self) -> None:
        if self._connected is not None:
            await self._connected.client.aclose()

    def _connect(self) -> Connected:
        from redis.asyncio import Redis  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import ExponentialWithJitterBackoff  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        client = Redis.from_url(
            self._url,
            socket_timeout=self._answer_seconds,
            socket_connect_timeout=2.0,
            # Whoever asks has a patience of its own.
            retry=Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.05), retries=1),
        )
        scripts = {name: client.register_script(script) for name, script in self._scripts.items()}
        return Connected(client, scripts, (RedisError, OSError))
