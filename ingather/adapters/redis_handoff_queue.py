"""Documents handed on through Redis (or Valkey): one list a tenant, one bitmap of markers a batch.

Marker and entry are written by one script, so they are there together or not at all, also after
a crash of the server that cost its last second. In a Redis Cluster both keys would have to share a
slot, and the list's name is fixed, so this adapter is for a single server, with or without replicas.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from ingather.domain.handoff_keys import handed_on_key, handoff_list_key
from ingather.models.errors import HandoffUnavailableError
from ingather.models.handoff import HandedOn
from ingather.ports.handoff_queue import MARKERS_LAST

_ANSWER_SECONDS = 5.0
_DOCUMENTS_A_CALL = 500
"""A script stops the whole server while it runs."""

# KEYS: list, markers. ARGV: seconds the markers last, then ordinal and entry of each document.
# The entry goes first: should the list be none, nothing is marked as pushed.
_PUSH = """
local pushed = {}
for i = 2, #ARGV, 2 do
  if redis.call('GETBIT', KEYS[2], ARGV[i]) == 0 then
    redis.call('LPUSH', KEYS[1], ARGV[i + 1])
    redis.call('SETBIT', KEYS[2], ARGV[i], 1)
    pushed[#pushed + 1] = tonumber(ARGV[i])
  end
end
redis.call('EXPIRE', KEYS[2], ARGV[1])
return pushed
"""


@dataclass(frozen=True, slots=True)
class _Connection:
    """The client with its script, and what it may raise."""

    client: Any
    push: Any
    errors: tuple[type[Exception], ...]


class RedisHandoffQueue:
    """Connects on first use.

    Args:
        url: ``redis://`` or ``unix://`` URL.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: _Connection | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def push(
        self, tenant_id: str, batch_id: str, documents: Mapping[int, HandedOn], *, again: str = ""
    ) -> tuple[int, ...]:
        keys = [handoff_list_key(tenant_id), handed_on_key(tenant_id, batch_id, again)]
        items = list(documents.items())
        pushed: list[int] = []
        async with self._translated() as connection:
            for start in range(0, len(items), _DOCUMENTS_A_CALL):
                arguments: list[str | int] = [int(MARKERS_LAST.total_seconds())]
                for ordinal, document in items[start : start + _DOCUMENTS_A_CALL]:
                    arguments += [ordinal, document.model_dump_json()]
                pushed += await connection.push(keys=keys, args=arguments)
        return tuple(pushed)

    async def pushed(self, tenant_id: str, batch_id: str, ordinals: Sequence[int]) -> tuple[int, ...]:
        key = handed_on_key(tenant_id, batch_id)
        async with self._translated() as connection, connection.client.pipeline(transaction=False) as pipeline:
            for ordinal in ordinals:
                pipeline.getbit(key, ordinal)
            bits = await pipeline.execute()
        return tuple(ordinal for ordinal, bit in zip(ordinals, bits, strict=True) if bit)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.client.aclose()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[_Connection]:
        connection = self._connection = self._connection or _connect(self._url)
        try:
            yield connection
        except connection.errors as error:
            # The vendor's text may quote the URL with its password, so only the kind of error is passed on.
            raise HandoffUnavailableError(f"Redis did not take the document ({type(error).__name__}).") from error


def _connect(url: str) -> _Connection:
    # Few batches hand anything on, and a worker that comes back is at work sooner without the library.
    from redis.asyncio import Redis  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import ExponentialWithJitterBackoff  # noqa: PLC0415
    from redis.exceptions import RedisError  # noqa: PLC0415

    client = Redis.from_url(
        url,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=2.0,
        # The activity has its own patience; a push that was applied before its answer was lost is not applied again.
        retry=Retry(ExponentialWithJitterBackoff(base=0.01, cap=0.05), retries=1),
    )
    return _Connection(client, client.register_script(_PUSH), (RedisError, OSError))
