"""The client and the API in one process: what one answers, the other reads."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from ingather.client import AsyncIngatherClient, ConflictError, InvalidRequestError, NewDocument, UploadStream
from tests.support.api import ApiInProcess, api_in_process


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


@dataclass
class World:
    api: ApiInProcess
    client: AsyncIngatherClient


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with api_in_process() as api:
        transport = httpx.ASGITransport(api.app)
        async with AsyncIngatherClient("http://api.test", transport=transport) as client:
            yield World(api, client)


async def test_what_is_sent_in_any_way_arrives(world: World) -> None:
    """Bytes, a pipe of unknown length, lines that are made as they are sent, a piece of JSON."""
    client = world.client
    files = [("a.txt", b"alpha"), UploadStream("b.txt", Pipe(b"beta" * 200_000))]
    metadata = {"a.txt": {"year": 2026}}
    batches = [
        await client.submit(files, metadata=metadata, name="n", collection="papers", batch_metadata={"by": "Ada"}),
        await client.submit_lines(NewDocument(f"{number}.txt", "text") for number in range(3)),
        await client.submit_documents([NewDocument("c.txt", "gamma", {"year": 2026})], priority=2),
    ]
    assert [batch.counts.total for batch in batches] == [2, 3, 1]
    first = batches[0]
    assert (first.name, first.collection, first.metadata) == ("n", "papers", {"by": "Ada"})
    assert first.created_at
    assert first.created_at.tzinfo
    assert batches[2].priority == 2


async def test_the_same_key_is_the_same_batch(world: World) -> None:
    """Another payload under it is refused."""
    client = world.client
    one = await client.submit([("a.txt", b"alpha")], idempotency_key="k")
    other = await client.submit([("a.txt", b"alpha")], idempotency_key="k")
    assert (one.id, one.was_replayed, other.was_replayed) == (other.id, False, True)
    with pytest.raises(InvalidRequestError) as caught:
        await client.submit([("a.txt", b"beta")], idempotency_key="k")
    assert caught.value.code == "idempotency_key_reused"


async def test_an_open_batch_is_filled_and_sealed(world: World) -> None:
    """Files and lines add up; what was sealed takes no more."""
    client = world.client
    batch = await client.open_batch(name="nightly")
    assert batch.waiting_for == "seal"
    await client.add(batch.id, [("a.txt", b"alpha")])
    added = await client.add_lines(batch.id, [NewDocument("b.txt", "beta"), NewDocument("c.txt", "gamma")])
    assert (added.documents_added, added.documents) == (2, 3)
    assert (await client.seal(batch.id)).status == "running"
    with pytest.raises(ConflictError):
        await client.add(batch.id, [("d.txt", b"delta")])


async def test_a_dry_run_says_what_would_happen(world: World) -> None:
    """And nothing is kept."""
    found = await world.client.preview([("a.txt", b"alpha"), ("b.txt", b"alpha")])
    assert (found.documents, found.bytes, found.duplicates) == (2, 10, 1)
    assert (await world.client.preview_lines([NewDocument("c.txt", "gamma")])).documents == 1
    assert [batch async for batch in world.client.batches()] == []


async def test_a_batch_is_steered_and_edited(world: World) -> None:
    """Each answer is the batch as it is then."""
    client = world.client
    batch = await client.submit([("a.txt", b"alpha")], hold=True)
    assert (await client.start(batch.id)).status == "running"
    assert (await client.pause(batch.id)).status == "paused"
    assert (await client.resume(batch.id)).status == "running"
    edited = await client.edit(batch.id, name="renamed", priority=1)
    assert (edited.name, edited.priority) == ("renamed", 1)
    await client.cancel(batch.id)
    assert [name for _, name, _ in world.api.engine.messages][-1] == "cancel"


async def test_lists_are_read_to_their_end(world: World) -> None:
    """Page by page, or as far as was asked."""
    client = world.client
    made = [(await client.submit([("a.txt", b"alpha")])).id for _ in range(5)]
    assert [batch.id async for batch in client.batches()] == made[::-1]
    assert [batch.id async for batch in client.batches(limit=2)] == made[:2:-1]
    assert [batch.id async for batch in client.batches(status="completed")] == []


async def test_tenants_users_and_keys_come_and_go(world: World) -> None:
    """Made, listed, changed, deleted; and all of it is in the audit log."""
    client = world.client
    tenant = await client.create_tenant("Acme", {"fairness_weight": 2}, pipeline="handoff")
    assert (await client.edit_tenant(tenant.id, {"name": "Acme & Co"})).name == "Acme & Co"
    user = await client.create_user("ada", "correct horse battery", tenant_id=tenant.id, scopes=["read"])
    token = await client.log_in("ada", "correct horse battery")
    assert token.expires_in > 0
    assert token.access_token not in repr(token)
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    key = await client.create_api_key("nightly", tenant_id=tenant.id, user="ada", expires_at=expires_at)
    assert key.key
    assert key.expires_at == expires_at
    next_key = await client.rotate_api_key(key.id, grace_seconds=60)
    assert next_key.rotated_from == key.id
    listed = [(each.id, each.key) async for each in client.api_keys(tenant_id=tenant.id)]
    assert sorted(listed) == sorted([(key.id, None), (next_key.id, None)])
    assert [each.username async for each in client.users(tenant_id=tenant.id)] == ["ada"]
    await client.delete_api_key(next_key.id)
    await client.delete_user(user.id)
    await client.delete_tenant(tenant.id)
    assert tenant.id not in [each.id async for each in client.tenants()]
    recorded = [each.type async for each in client.audit(tenant_id=tenant.id, since=datetime.now(UTC) - timedelta(1))]
    assert {"TENANT_CREATED", "USER_CREATED", "API_KEY_ROTATED", "TENANT_DELETED"} <= set(recorded)


async def test_limits_are_known_before_a_byte_is_sent(world: World) -> None:
    """Those that have a meaning here by name, all of them as they came."""
    limits = await world.client.limits()
    assert limits.max_documents_per_batch == 1_000_000
    assert "max_concurrent_jobs" in limits.raw
