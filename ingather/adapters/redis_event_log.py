"""Events in Redis (or Valkey): one stream per batch, one blocking read per process.

The id of a stream entry is ``<seq>-0``, so the order of the log is the order of the numbers.
An append runs as one script: it checks the poller's lease and the last number first, so that
neither a poller that lost its lease nor a duplicate can write. Streams of several batches
are read with one command; in a Redis Cluster they would have to share a slot, so this
adapter is for a single server, with or without replicas.
"""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError

from ingather.models.batch import BatchProgress
from ingather.models.errors import EventLogUnavailableError
from ingather.ports.event_log import Announcement, LoggedEvent, LogRange, Notes, StreamKey

_READ_PER_STREAM = 100
_LONGEST_WAIT_SECONDS = 5.0
"""A server that vanished without a word is noticed this soon, plus the socket's own patience."""
_WAKE_TTL_SECONDS = 60
_PREFIX = "ingather"

# KEYS: stream, meta, lease, notes. ARGV: owner, cap, ttl in ms, first number or "",
# "whole", "changes" or "" for the notes and how many there are, how many announcements there are,
# the notes' names and values, the announcements' channels and bodies, then seq, type, body and state of each event.
# The server is asked for its run id here and not beforehand: it may restart between any two commands, and the client
# connects anew without a word. What a restart may have lost of the notes is not filled in by their changes.
_APPEND = """
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
local said = 8 + 2 * tonumber(ARGV[6])
local begin = said + 2 * tonumber(ARGV[7])
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if top and tonumber(string.match(top[1], '^%d+')) >= tonumber(ARGV[begin]) then return 0 end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
if ARGV[5] == 'changes' and redis.call('HGET', KEYS[2], 'run') ~= run then return 0 end
if ARGV[5] == 'changes' and redis.call('EXISTS', KEYS[4]) == 0 then return 0 end
if ARGV[5] == 'whole' then redis.call('DEL', KEYS[4]) end
for i = 8, said - 1, 2 do redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end
for i = begin, #ARGV, 4 do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[i] .. '-0',
             't', ARGV[i + 1], 'b', ARGV[i + 2], 's', ARGV[i + 3])
end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], 'first', ARGV[4]) end
redis.call('HSET', KEYS[2], 'run', run)
for _, name in ipairs({KEYS[1], KEYS[2], KEYS[4]}) do redis.call('PEXPIRE', name, ARGV[3]) end
for i = said, begin - 1, 2 do redis.call('PUBLISH', ARGV[i], ARGV[i + 1]) end
return 1
"""

_ELECT = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

_RESIGN = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class RedisEventLog:
    """Connects on first use. ``close`` ends both clients.

    Args:
        url: ``redis://`` or ``unix://`` URL.
        max_events: cap of one batch's stream, approximate: Redis trims whole nodes.
        ttl_seconds: how long a batch's stream outlives its last event.
    """

    def __init__(self, url: str, *, max_events: int = 20_000, ttl_seconds: float = 86_400.0) -> None:
        self._max_events = max_events
        self._ttl_ms = int(ttl_seconds * 1_000)
        self._redis = _client(url, socket_timeout=3.0)
        # A blocked connection of its own: the reads of a process never wait for commands, nor commands for reads.
        self._feed = _client(url, socket_timeout=_LONGEST_WAIT_SECONDS + 5.0)
        self._append = self._redis.register_script(_APPEND)
        self._elect = self._redis.register_script(_ELECT)
        self._resign = self._redis.register_script(_RESIGN)
        self._wake_key = f"{_PREFIX}:wake:{uuid.uuid4()}"
        self._wake_seen = "0-0"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def append(
        self,
        key: StreamKey,
        owner: str,
        events: Sequence[LoggedEvent],
        *,
        notes: Notes | None = None,
        first: bool = False,
        announcements: Sequence[Announcement] = (),
    ) -> bool:
        if not events:
            return await self._is_leading(key, owner)
        keys = [_stream(key), _meta(key), _lease(key), _notes(key)]
        args: list[str | bytes | int] = [owner, self._max_events, self._ttl_ms, events[0].seq if first else ""]
        args += ["" if notes is None else "whole" if notes.whole else "changes"]
        args += [len(notes.values) if notes else 0, len(announcements)]
        for name, value in (notes.values if notes else {}).items():
            args += [name, value]
        for announcement in announcements:
            args += [announcement.channel, announcement.body]
        for event in events:
            args += [event.seq, event.type, event.body, event.state]
        async with self._translated():
            return bool(await self._append(keys=keys, args=args))

    async def _is_leading(self, key: StreamKey, owner: str) -> bool:
        async with self._translated():
            held_by: Any = await self._redis.get(_lease(key))
        return bool(held_by == owner.encode())

    async def notes(self, key: StreamKey) -> dict[str, bytes]:
        async with self._translated():
            pipe = self._redis.pipeline(transaction=False)
            pipe.exists(_stream(key))
            pipe.hgetall(_notes(key))
            has_events, found = await pipe.execute()
        return {name.decode(): value for name, value in found.items()} if has_events else {}

    async def read(self, key: StreamKey, after: int, limit: int) -> list[LoggedEvent]:
        async with self._translated():
            entries: Any = await self._redis.xrange(_stream(key), min=f"{after + 1}-0", max="+", count=limit)
        return [_event(*entry) for entry in entries]

    async def range(self, key: StreamKey) -> LogRange:
        async with self._translated():
            pipe = self._redis.pipeline(transaction=False)
            pipe.xrange(_stream(key), count=1)
            pipe.xrevrange(_stream(key), count=1)
            pipe.hmget(_meta(key), "first", "run")
            pipe.info("server")
            oldest, latest, (first, run), server = await pipe.execute()
        if not oldest or not latest:
            return LogRange()
        low, high = _event(*oldest[0]), _event(*latest[0])
        return LogRange(
            oldest=low.seq,
            latest=high.seq,
            state=high.state,
            complete=first is not None and int(first) == low.seq,
            # A restarted server may have lost its last second: then the next number may be known to a client.
            certain=run is not None and run.decode() == str(server["run_id"]),
        )

    async def wait(self, after: Mapping[StreamKey, int], timeout_seconds: float) -> list[tuple[StreamKey, LoggedEvent]]:
        names = {_stream(key).encode(): key for key in after}
        positions: dict[Any, Any] = {_stream(key): f"{seq}-0" for key, seq in after.items()}
        positions[self._wake_key] = self._wake_seen
        async with self._translated():
            block_ms = max(1, int(min(timeout_seconds, _LONGEST_WAIT_SECONDS) * 1_000))
            answer = await self._feed.xread(positions, count=_READ_PER_STREAM, block=block_ms)
        found: list[tuple[StreamKey, LoggedEvent]] = []
        for name, entries in _pairs(answer):
            followed = names.get(name)
            if followed is None:
                self._wake_seen = entries[-1][0].decode()
            else:
                found.extend((followed, _event(*entry)) for entry in entries)
        return found

    async def wake(self) -> None:
        # A stream, not CLIENT UNBLOCK: a wake-up that comes just before the read is not lost.
        async with self._translated():
            pipe = self._redis.pipeline(transaction=False)
            pipe.xadd(self._wake_key, {"w": ""}, maxlen=1)
            pipe.expire(self._wake_key, _WAKE_TTL_SECONDS)
            await pipe.execute()

    async def elect(self, key: StreamKey, owner: str, lease_seconds: float) -> bool:
        async with self._translated():
            return bool(await self._elect(keys=[_lease(key)], args=[owner, int(lease_seconds * 1_000)]))

    async def resign(self, key: StreamKey, owner: str) -> None:
        async with self._translated():
            await self._resign(keys=[_lease(key)], args=[owner])

    async def put_snapshot(self, batch_id: str, progress: BatchProgress, lease_seconds: float) -> None:
        async with self._translated():
            await self._redis.set(_snapshot(batch_id), progress.model_dump_json(), px=int(lease_seconds * 1_000))

    async def get_snapshot(self, batch_id: str) -> BatchProgress | None:
        async with self._translated():
            body = await self._redis.get(_snapshot(batch_id))
        return BatchProgress.model_validate_json(body) if body is not None else None

    async def drop_snapshot(self, batch_id: str) -> None:
        async with self._translated():
            await self._redis.delete(_snapshot(batch_id))

    async def check(self) -> None:
        async with self._translated():
            await self._redis.ping()

    async def close(self) -> None:
        await self._feed.aclose()
        await self._redis.aclose()

    @staticmethod
    @asynccontextmanager
    async def _translated() -> AsyncIterator[None]:
        try:
            yield
        except (RedisError, OSError) as error:
            # The vendor's text may quote the URL with its password, so only the kind of error is passed on.
            raise EventLogUnavailableError(f"Redis did not answer ({type(error).__name__}).") from error


def _client(url: str, *, socket_timeout: float | None) -> Redis:
    return Redis.from_url(
        url,
        socket_timeout=socket_timeout,
        socket_connect_timeout=2.0,
        # Callers have their own patience: one quick second try covers a connection that went stale in the pool.
        retry=Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.05), retries=1),
        health_check_interval=0,
    )


def _stream(key: StreamKey) -> str:
    return f"{_PREFIX}:{key.tenant_id}:events:{key.batch_id}"


def _meta(key: StreamKey) -> str:
    return f"{_PREFIX}:{key.tenant_id}:events-meta:{key.batch_id}"


def _notes(key: StreamKey) -> str:
    return f"{_PREFIX}:{key.tenant_id}:events-notes:{key.batch_id}"


def _lease(key: StreamKey) -> str:
    return f"{_PREFIX}:{key.tenant_id}:poller:{key.batch_id}"


def _snapshot(batch_id: str) -> str:
    # By batch alone: whoever reads has looked the batch up within its tenant, and batch ids are UUIDs.
    return f"{_PREFIX}:progress:{batch_id}"


def _pairs(answer: Any) -> list[tuple[bytes, list[Any]]]:
    """Streams and entries of an XREAD, in either protocol's shape."""
    return list(answer.items()) if isinstance(answer, dict) else [(name, entries) for name, entries in answer or ()]


def _event(entry_id: bytes, fields: Mapping[bytes, bytes]) -> LoggedEvent:
    return LoggedEvent(
        seq=int(entry_id.split(b"-", 1)[0]),
        type=fields[b"t"].decode(),
        body=fields[b"b"],
        state=fields[b"s"].decode(),
    )
