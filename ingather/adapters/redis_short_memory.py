"""A short memory in Redis, for every process that shares it."""

import time
from collections.abc import Awaitable
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

_KEY_PREFIX: Final = "ingather:short:"
_ANSWER_SECONDS: Final = 0.5
"""Nobody waits longer for what may be forgotten."""
_REST_SECONDS: Final = 2.0
"""After a failure nobody asks for so long: a request must not pay for what the one before it learned."""
_MOST_CONNECTIONS: Final = 16


class RedisShortMemory:
    """Nothing is connected before the first word."""

    def __init__(self, url: str) -> None:
        self._client: Redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            max_connections=_MOST_CONNECTIONS,
            retry=Retry(NoBackoff(), 1),  # a connection that Redis closed meanwhile is made anew
        )
        self._rests_until = 0.0

    async def remember(self, key: str, word: str, seconds: int) -> None:
        if time.monotonic() >= self._rests_until:
            await self._or_none(self._client.set(_KEY_PREFIX + key, word, ex=seconds))

    async def recall(self, key: str) -> str | None:
        if time.monotonic() < self._rests_until:
            return None
        found: str | None = await self._or_none(self._client.get(_KEY_PREFIX + key))
        return found

    async def close(self) -> None:
        await self._client.aclose(close_connection_pool=True)

    async def _or_none(self, asking: Awaitable[Any]) -> Any:
        try:
            return await asking
        except (RedisError, OSError) as error:
            self._rests_until = time.monotonic() + _REST_SECONDS
            log.warning("short_memory.suspended", reason=type(error).__name__, seconds=_REST_SECONDS)
            return None
