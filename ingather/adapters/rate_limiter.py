"""Rate limits with the ``limits`` library: sliding windows in Redis, or in this process."""

import time
from typing import Final

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ingather.ports.rate_limiter import RatePolicy, RateState

log = structlog.get_logger(__name__)

_KEY_PREFIX: Final = "ingather:rate"
_ANSWER_SECONDS: Final = 0.5
"""A request never waits longer for the counters than this."""
_REST_SECONDS: Final = 2.0
"""After a failure nobody asks for so long: a request must not pay for what the one before it learned."""
_MOST_CONNECTIONS: Final = 64


class LimitsRateLimiter:
    """Made with ``in_memory`` or ``over_redis``."""

    def __init__(self, storage: MemoryStorage | RedisStorage, client: "Redis | None" = None) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._client = client
        self._rests_until = 0.0

    @classmethod
    def in_memory(cls) -> "LimitsRateLimiter":
        """Counts for this process alone."""
        return cls(MemoryStorage())

    @classmethod
    def over_redis(cls, url: str) -> "LimitsRateLimiter":
        """Counts for every process that shares the Redis. Nothing is connected yet."""
        client = Redis.from_url(
            url,
            socket_timeout=_ANSWER_SECONDS,
            socket_connect_timeout=_ANSWER_SECONDS,
            max_connections=_MOST_CONNECTIONS,
            retry=Retry(NoBackoff(), 1),  # a connection that Redis closed meanwhile is made anew
        )
        pool = {"connection_pool": client.connection_pool}
        storage = RedisStorage("redis://", implementation="redispy", key_prefix=_KEY_PREFIX, **pool)  # type: ignore[arg-type]  # its options are typed too narrowly for its own documentation
        return cls(storage, client)

    async def hit(self, policy: RatePolicy, subject: str) -> RateState | None:
        if time.monotonic() < self._rests_until:
            return None
        item = RateLimitItemPerSecond(policy.quota, policy.window_seconds)
        identifiers = (policy.name, subject)
        try:
            is_allowed = await self._limiter.hit(item, *identifiers)
            stats = await self._limiter.get_window_stats(item, *identifiers)
        except (RedisError, OSError) as error:
            self._rests_until = time.monotonic() + _REST_SECONDS
            log.warning("rate_limits.suspended", reason=type(error).__name__, seconds=_REST_SECONDS)
            return None
        return RateState(policy, is_allowed, stats.remaining, max(0.0, stats.reset_time - time.time()))

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose(close_connection_pool=True)
