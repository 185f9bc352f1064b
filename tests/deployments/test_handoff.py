"""Documents handed on by a running stack: whatever is killed, each is pushed once and audited once."""

import asyncio
import json
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from ingather.domain.keys import raw_key
from tests.support.running_stack import Json, RunningStack, Visitor, notes, running_stack
from tests.support.waiting import until_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PATIENCE_SECONDS = 120
"""On a busy machine workers that have just been started, and those that were killed, take a minute and more to be at work.
What is tested here is what happens, not when: a test's own time limit is the end of all waiting.
"""


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack whose workers are killed."""
    with running_stack(tmp_path_factory.mktemp("handoff") / ".ingather") as stack:
        yield stack


class Tenant:
    """A tenant whose own workers parse: its client, and the list they read."""

    def __init__(self, stack: RunningStack, visitor: Visitor, redis: "Redis", tenant_id: str) -> None:
        self.stack, self.visitor, self.redis, self.tenant_id = stack, visitor, redis, tenant_id
        self.list_key = f"tenant:{tenant_id}:queue:parse"

    async def waiting(self) -> int:
        return int(await self.redis.llen(self.list_key))

    async def has_waiting(self, count: int, seconds: float = PATIENCE_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while await self.waiting() < count:
            assert time.monotonic() < deadline, f"{await self.waiting()} of {count} were pushed"
            await asyncio.sleep(0.02)

    async def has_documents(self, batch_id: str, count: int) -> bool | None:
        """Whether the batch's list of documents was made."""
        return len(await self.visitor.documents(batch_id)) == count or None

    async def take_all(self) -> list[Json]:
        """As their workers do, one after the other."""
        found = []
        while (popped := await self.redis.rpop(self.list_key)) is not None:
            found.append(json.loads(popped))
        return found

    async def audited(self, batch_id: str) -> Counter[str]:
        """How often each document of a batch is on record as ingested."""
        documents = {document["id"] for document in await self.visitor.documents(batch_id)}
        found: list[str] = []
        cursor: Json = {}
        while True:
            filters = {"event_type": "DOCUMENT_INGESTED", "limit": 200, "tenant_id": self.tenant_id}
            page = (await self.visitor.get("/v1/audit", params=filters | cursor)).json()
            found += [event["resource_id"] for event in page["data"]]
            if not page["has_more"]:
                return Counter(file_id for file_id in found if file_id in documents)
            cursor = {"cursor": page["next_cursor"]}


@pytest.fixture
async def tenant(fragile: RunningStack) -> AsyncIterator[Tenant]:
    tenant_id = str(uuid.uuid4())
    async with fragile.visitor() as visitor, Redis.from_url(fragile.up.facts()["redis"]["url"]) as redis:
        await visitor.post("/v1/tenants", {"name": "Acme", "tenant_id": tenant_id, "pipeline": "handoff"}, status=201)
        visitor.http.headers["X-Tenant-ID"] = tenant_id
        yield Tenant(fragile, visitor, redis, tenant_id)


@contextmanager
def catalog_held(data_dir: Path) -> Iterator[None]:
    """Nobody can write to the catalog while the block runs."""
    connection = sqlite3.connect(data_dir / "catalog.db", isolation_level=None, timeout=PATIENCE_SECONDS)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.rollback()
        connection.close()


def workers(stack: RunningStack) -> list[str]:
    return [part for part in stack.up.facts()["pids"] if part.startswith("worker")]


async def assert_handed_on_once(tenant: Tenant, batch_id: str, entries: list[Json], count: int) -> None:
    batch = await tenant.visitor.ended(batch_id)
    assert (batch["status"], batch["counts"]["done"], batch["counts"]["total"]) == ("completed", count, count)
    documents = await tenant.visitor.documents(batch_id)
    assert Counter(entry["file_id"] for entry in entries) == Counter(document["id"] for document in documents)
    assert await tenant.audited(batch_id) == Counter(document["id"] for document in documents)


async def test_a_worker_killed_between_push_and_answer_pushes_and_audits_once(tenant: Tenant):
    """The entries are on the list and nothing of it is in the catalog when every worker dies."""
    count = 6
    batch_id = await tenant.visitor.submit(notes(count, "between"), hold=True)
    await until_async(lambda: tenant.has_documents(batch_id, count), PATIENCE_SECONDS)

    with catalog_held(tenant.stack.up.data_dir):
        # Its answer waits for the catalog too.
        starting = asyncio.create_task(tenant.visitor.http.post(f"/v1/batches/{batch_id}/start"))
        await tenant.has_waiting(count)
        killed = {part: tenant.stack.kill(part) for part in workers(tenant.stack)}
        assert {document["status"] for document in await tenant.visitor.documents(batch_id)} == {"pending"}
    await starting
    for part, pid in killed.items():
        await tenant.stack.is_back(part, pid, PATIENCE_SECONDS)

    await tenant.visitor.ended(batch_id)
    await assert_handed_on_once(tenant, batch_id, await tenant.take_all(), count)


@pytest.mark.parametrize("pack_small", [False, True])
async def test_a_killed_worker_loses_and_doubles_nothing(tenant: Tenant, pack_small: bool):
    """SIGKILL while the next stage reads along: it gets each document once, at the key it is told."""
    count = 300
    files = notes(count, f"along-{pack_small}", words=20)
    batch_id = await tenant.visitor.submit(files, options={"pack_small": pack_small})
    await tenant.has_waiting(40)
    entries = await tenant.take_all()
    killed = {part: tenant.stack.kill(part) for part in workers(tenant.stack)}
    for part, pid in killed.items():
        await tenant.stack.is_back(part, pid, PATIENCE_SECONDS)
    await tenant.visitor.ended(batch_id)
    entries += await tenant.take_all()

    await assert_handed_on_once(tenant, batch_id, entries, count)
    for entry in entries:
        assert set(entry) == {"file_id", "batch_id", "sha256", "storage_path", "tenant_id"}
        assert entry["storage_path"] == raw_key(tenant.tenant_id, entry["file_id"], entry["sha256"])


async def test_a_lost_list_is_pushed_again(tenant: Tenant):
    """FLUSHALL takes list and markers; the catalog has every document, and nothing else is pushed by itself."""
    count = 20
    batch_id = await tenant.visitor.submit(notes(count, "lost"))
    await tenant.visitor.ended(batch_id)
    first = await tenant.take_all()
    await tenant.redis.flushall()

    for pushed in (count, 0):
        answer = await tenant.visitor.http.post(
            f"/v1/batches/{batch_id}/push-again", headers={"Idempotency-Key": "lost"}
        )
        assert answer.json()["pushed"] == pushed, answer.text
    assert sorted(await tenant.take_all(), key=str) == sorted(first, key=str)
    assert set((await tenant.audited(batch_id)).values()) == {1}
