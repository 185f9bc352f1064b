"""Documents handed on through Redis (or Valkey): one list a tenant, one bitmap of markers a batch.

Marker and entry are written by one script, so they are there together or not at all, also after
a crash of the server that cost its last second. In a Redis Cluster both keys would have to share a
slot, and the list's name is fixed, so this adapter is for a single server, with or without replicas.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from ingather.adapters.scripted_redis import ScriptedRedis
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


class RedisHandoffQueue:
    """Connects on first use.

    Args:
        url: ``redis://`` or ``unix://`` URL.
    """

    def __init__(self, url: str) -> None:
        self._redis = ScriptedRedis(
            url,
            {"push": _PUSH},
            answer_seconds=_ANSWER_SECONDS,
            unavailable=lambda kind: HandoffUnavailableError(f"Redis did not take the document ({kind})."),
        )

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
        async with self._redis.connected() as redis:
            for start in range(0, len(items), _DOCUMENTS_A_CALL):
                arguments: list[str | int] = [int(MARKERS_LAST.total_seconds())]
                for ordinal, document in items[start : start + _DOCUMENTS_A_CALL]:
                    arguments += [ordinal, document.model_dump_json()]
                pushed += await redis.scripts["push"](keys=keys, args=arguments)
        return tuple(pushed)

    async def pushed(self, tenant_id: str, batch_id: str, ordinals: Sequence[int]) -> tuple[int, ...]:
        key = handed_on_key(tenant_id, batch_id)
        async with self._redis.connected() as redis, redis.client.pipeline(transaction=False) as pipeline:
            for ordinal in ordinals:
                pipeline.getbit(key, ordinal)
            bits = await pipeline.execute()
        return tuple(ordinal for ordinal, bit in zip(ordinals, bits, strict=True) if bit)

    async def close(self) -> None:
        await self._redis.close()
