"""What every hand-off queue must do, over memory and over a real Redis."""

import asyncio
import json
import uuid

import pytest
from redis.asyncio import Redis

from ingather.adapters.memory.handoff_queue import InMemoryHandoffQueue
from ingather.adapters.redis_handoff_queue import RedisHandoffQueue
from ingather.models.errors import HandoffUnavailableError
from ingather.models.handoff import HandedOn
from ingather.models.identity import file_id_for
from ingather.ports.handoff_queue import MARKERS_LAST

SHA256 = "ab" * 32


class Readers:
    """The next stage's workers: BRPOP, as their programs do, or its like in memory."""

    def __init__(self, queue, redis):
        self._queue, self._redis = queue, redis

    async def take_all(self, tenant_id):
        """Entries in the order workers get them."""
        found = []
        while (entry := await self._take(tenant_id)) is not None:
            found.append(entry)
        return found

    async def _take(self, tenant_id):
        if self._redis is None:
            entry = self._queue.take(tenant_id)
            return entry and json.loads(entry.model_dump_json())
        popped = await self._redis.rpop(f"tenant:{tenant_id}:queue:parse")
        return popped and json.loads(popped)

    async def forget_everything(self):
        await self._redis.flushall() if self._redis is not None else self._queue.clear()


@pytest.fixture(params=["memory", "redis"])
def server_url(request) -> str | None:
    """URL of the server behind the queue; None for memory."""
    return request.getfixturevalue("redis_url") if request.param == "redis" else None


@pytest.fixture
async def redis(server_url):
    if server_url is None:
        yield None
        return
    async with Redis.from_url(server_url) as client:
        yield client


@pytest.fixture
async def queue(server_url):
    opened = RedisHandoffQueue(server_url) if server_url else InMemoryHandoffQueue()
    yield opened
    await opened.close()


@pytest.fixture
def readers(queue, redis):
    return Readers(queue, redis)


@pytest.fixture
def tenant_id() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def batch_id() -> str:
    return str(uuid.uuid4())


def entries(tenant_id, batch_id, *ordinals):
    """Documents of a batch by ordinal."""
    return {
        ordinal: HandedOn(
            file_id=file_id_for(batch_id, ordinal),
            batch_id=batch_id,
            sha256=SHA256,
            storage_path=f"raw/{tenant_id}/{file_id_for(batch_id, ordinal)}/{SHA256}",
            tenant_id=tenant_id,
        )
        for ordinal in ordinals
    }


def numbers(found, batch_id, most=10):
    """Ordinals of entries that were taken."""
    by_file = {file_id_for(batch_id, ordinal): ordinal for ordinal in range(most)}
    return [by_file[entry["file_id"]] for entry in found]


async def test_an_entry_has_exactly_the_five_fields(queue, readers, tenant_id, batch_id):
    """Programs elsewhere read them: nothing more, nothing less, under the tenant's own list."""
    assert await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 3)) == (3,)

    file_id = file_id_for(batch_id, 3)
    path = f"raw/{tenant_id}/{file_id}/{SHA256}"
    expected = {"file_id": file_id, "batch_id": batch_id, "sha256": SHA256, "storage_path": path}
    assert await readers.take_all(tenant_id) == [{**expected, "tenant_id": tenant_id}]


async def test_readers_take_from_the_other_end(queue, readers, tenant_id, batch_id):
    """LPUSH and BRPOP: first in, first out, also within one call."""
    await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 4, 1))
    await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 2))
    assert numbers(await readers.take_all(tenant_id), batch_id) == [4, 1, 2]


async def test_a_document_is_pushed_once(queue, readers, tenant_id, batch_id):
    """A repeat says that nothing was pushed, also after the entry was taken; its new neighbours are."""
    await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0, 1))
    assert await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 1)) == ()
    assert numbers(await readers.take_all(tenant_id), batch_id) == [0, 1]

    assert await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0, 1, 2)) == (2,)
    assert numbers(await readers.take_all(tenant_id), batch_id) == [2]


async def test_many_at_once_push_once(queue, readers, tenant_id, batch_id):
    """Attempts that overlap, of one document: one of them is the one."""
    pushes = [queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 7)) for _ in range(20)]
    answers = await asyncio.gather(*pushes)
    assert sorted(answers) == [()] * 19 + [(7,)]
    assert numbers(await readers.take_all(tenant_id), batch_id) == [7]


async def test_batches_and_tenants_are_apart(queue, readers, tenant_id, batch_id):
    """The same ordinal elsewhere is another document, and a tenant's readers see its own."""
    other_tenant, other_batch = str(uuid.uuid4()), str(uuid.uuid4())
    await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0))
    assert await queue.push(tenant_id, other_batch, entries(tenant_id, other_batch, 0)) == (0,)
    assert await queue.push(other_tenant, batch_id, entries(other_tenant, batch_id, 0)) == (0,)
    assert len(await readers.take_all(tenant_id)) == 2
    assert len(await readers.take_all(other_tenant)) == 1


async def test_pushing_again_is_once_for_its_name(queue, readers, tenant_id, batch_id):
    """After a lost list everything is pushed again, and a request that is repeated adds nothing."""
    documents = entries(tenant_id, batch_id, 0, 1)
    await queue.push(tenant_id, batch_id, documents)
    await readers.take_all(tenant_id)

    assert await queue.push(tenant_id, batch_id, documents, again="monday") == (0, 1)
    assert await queue.push(tenant_id, batch_id, documents, again="monday") == ()
    assert await queue.push(tenant_id, batch_id, documents, again="tuesday") == (0, 1)
    assert numbers(await readers.take_all(tenant_id), batch_id) == [0, 1, 0, 1]


async def test_what_is_forgotten_is_forgotten_together(queue, readers, tenant_id, batch_id):
    """An emptied Redis has neither entry nor marker: the next push is a push."""
    await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0))
    await readers.forget_everything()
    assert await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0)) == (0,)
    assert numbers(await readers.take_all(tenant_id), batch_id) == [0]


async def test_a_large_batch_goes_in_pieces(queue, readers, tenant_id, batch_id):
    """More than one call takes, in order and each once."""
    pushed = await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, *range(1_200)))
    assert pushed == tuple(range(1_200))
    assert numbers(await readers.take_all(tenant_id), batch_id, 1_200) == list(range(1_200))


@pytest.mark.parametrize("server_url", ["redis"], indirect=True)
async def test_markers_are_small_and_go_by_themselves(queue, redis, tenant_id, batch_id):
    """A bit a document, gone when nothing was pushed for long; the list itself stays until it is read."""
    await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 999_999))
    marker = f"ingather:{tenant_id}:handed-on:{batch_id}"
    assert await redis.strlen(marker) == 125_000
    assert 0 < await redis.ttl(marker) <= MARKERS_LAST.total_seconds()
    assert await redis.ttl(f"tenant:{tenant_id}:queue:parse") == -1


@pytest.mark.parametrize("server_url", ["redis"], indirect=True)
async def test_nothing_is_marked_that_was_not_pushed(queue, redis, tenant_id, batch_id):
    """Where the list's name is taken by something else, the push fails whole and succeeds once that is gone."""
    await redis.set(f"tenant:{tenant_id}:queue:parse", "not a list")
    with pytest.raises(HandoffUnavailableError):
        await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0))
    await redis.delete(f"tenant:{tenant_id}:queue:parse")
    assert await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0)) == (0,)


async def test_a_redis_that_is_away_says_so_without_its_password(tenant_id, batch_id):
    """Retried by whoever pushes; the address stays in the settings."""
    async with RedisHandoffQueue("redis://:hunter2@127.0.0.1:1/0") as queue:
        with pytest.raises(HandoffUnavailableError) as caught:
            await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0))
    assert "hunter2" not in str(caught.value)
    assert caught.value.retryable


async def test_which_documents_were_pushed_is_known_while_the_markers_last(queue, readers, tenant_id, batch_id):
    """Of those asked for; a later push under a name of its own marks nothing here."""
    await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 0, 7))
    await queue.push(tenant_id, batch_id, entries(tenant_id, batch_id, 5), again="later")
    assert await queue.pushed(tenant_id, batch_id, (1, 7, 5)) == (7,)
    assert await queue.pushed(tenant_id, batch_id, ()) == ()
    assert await queue.pushed(tenant_id, str(uuid.uuid4()), (7,)) == ()
    await readers.forget_everything()
    assert await queue.pushed(tenant_id, batch_id, (7,)) == ()
