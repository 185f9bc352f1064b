"""Progress of batches of sheets in Redis (or Valkey), under the names that contract C promises.

An event is kept and published by one script, which also sees that it was not told before and is not told too late.
All names of a batch would have to share a slot in a Redis Cluster, and they are fixed, so this adapter is for a single
server, with or without replicas.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Self

from ingather.adapters.scripted_redis import ScriptedRedis
from ingather.domain.sheet_events import encoded, rank
from ingather.domain.sheet_keys import (
    CHANNELS,
    batch_of_channel,
    channel,
    current_key,
    log_key,
    marks_key,
    started_at_key,
    state_key,
)
from ingather.models.errors import EventLogUnavailableError
from ingather.models.sheets import StageEvent, ToldEvent
from ingather.ports.sheet_progress import KEPT_SECONDS, MOST_EVENTS

_ANSWER_SECONDS = 3.0
_QUIET_SECONDS = 1.0

# KEYS: current, log, started_at, marks, state. ARGV: mark, rank, stage, body without its closing brace, now and
# beginning in seconds, beginning as text, seconds since the last of its stage, seconds kept, most events, channel.
_TELL = """
local state = redis.call('HMGET', KEYS[5], 'rank', 'stage', 'at', 'began', 'number')
if state[1] and tonumber(ARGV[2]) < tonumber(state[1]) then return 0 end
if state[2] == ARGV[3] and tonumber(ARGV[5]) - tonumber(state[3]) < tonumber(ARGV[8]) then return 0 end
if redis.call('SADD', KEYS[4], ARGV[1]) == 0 then return 0 end
local began = state[4] or ARGV[6]
local number = tonumber(state[5] or '0') + 1
local elapsed = math.max(0, math.floor(tonumber(ARGV[5]) - tonumber(began)))
local body = string.format('%s,"elapsed_seconds":%d,"sequence":%d}', ARGV[4], elapsed, number)
redis.call('HSET', KEYS[5], 'rank', ARGV[2], 'stage', ARGV[3], 'at', ARGV[5], 'began', began, 'number', number)
redis.call('SET', KEYS[3], ARGV[7], 'NX')
redis.call('SET', KEYS[1], body)
redis.call('RPUSH', KEYS[2], body)
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[10]), -1)
for _, name in ipairs(KEYS) do redis.call('EXPIRE', name, ARGV[9]) end
redis.call('PUBLISH', ARGV[11], body)
return 1
"""

# KEYS: log, state. ARGV: number behind which to read, how many. Answers the first one's number, and bodies.
_READ = """
local length = redis.call('LLEN', KEYS[1])
local last = tonumber(redis.call('HGET', KEYS[2], 'number') or length)
local first = last - length + 1
local begin = math.max(tonumber(ARGV[1]) - first + 1, 0)
return {first + begin, redis.call('LRANGE', KEYS[1], begin, begin + tonumber(ARGV[2]) - 1)}
"""


class RedisSheetProgress:
    """Connects on first use.

    Args:
        url: ``redis://`` or ``unix://`` URL.
        most_events: of one batch that are retained.
    """

    def __init__(self, url: str, *, most_events: int = MOST_EVENTS) -> None:
        self._redis = ScriptedRedis(
            url,
            {"tell": _TELL, "read": _READ},
            answer_seconds=_ANSWER_SECONDS,
            unavailable=lambda kind: EventLogUnavailableError(f"Redis did not answer ({kind})."),
        )
        self._most_events = most_events

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def tell(self, event: StageEvent) -> bool:
        now = datetime.now(UTC)
        began_at = min(event.began_at.astimezone(UTC), now)
        batch_id = event.batch_id
        keys = [
            current_key(batch_id),
            log_key(batch_id),
            started_at_key(batch_id),
            marks_key(batch_id),
            state_key(batch_id),
        ]
        arguments: list[str | bytes | int | float] = [
            event.mark,
            rank(event),
            event.stage.value,
            encoded(event, now)[:-1],
            now.timestamp(),
            began_at.timestamp(),
            began_at.isoformat(),
            event.at_most_every,
            KEPT_SECONDS,
            self._most_events,
            channel(batch_id),
        ]
        async with self._redis.connected() as redis:
            return bool(await redis.scripts["tell"](keys=keys, args=arguments))

    async def read(self, batch_id: str, after: int = 0, limit: int = 1_000) -> list[ToldEvent]:
        async with self._redis.connected() as redis:
            first, bodies = await redis.scripts["read"](
                keys=[log_key(batch_id), state_key(batch_id)], args=[after, limit]
            )
        return [ToldEvent(number=number, body=body) for number, body in enumerate(bodies, int(first))]

    async def latest(self, batch_id: str) -> ToldEvent | None:
        async with self._redis.connected() as redis:
            pipeline = redis.client.pipeline()
            pipeline.get(current_key(batch_id))
            pipeline.hget(state_key(batch_id), "number")
            body, number = await pipeline.execute()
        return ToldEvent(number=int(number or 0), body=body) if body is not None else None

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[str]]:
        async with self._redis.connected() as redis:
            pubsub = redis.client.pubsub(ignore_subscribe_messages=True)
            try:
                await pubsub.psubscribe(CHANNELS)
                yield self._names(pubsub)
            finally:
                await pubsub.aclose()

    @staticmethod
    async def _names(pubsub: Any) -> AsyncIterator[str]:
        while True:
            # Not listen(): that takes a quiet minute for a server that is gone.
            message = await pubsub.get_message(timeout=_QUIET_SECONDS)
            if message is not None:
                yield batch_of_channel(message["channel"].decode())

    async def close(self) -> None:
        await self._redis.close()
