"""A batch whose documents are handed on: the real activities on a real server, over ports in memory."""

import hashlib
from collections import Counter

import pytest

from ingather.domain.keys import upload_key
from ingather.models.batch import BatchState, Counts
from ingather.models.content import BlobRef
from ingather.models.document import DocumentRef
from ingather.models.errors import CatalogUnavailableError, HandoffUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.ports.audit import AuditFilter
from tests.support.batch_driver import BatchDriver, driven
from tests.support.fake_activities import World
from tests.support.ingesting import Workshop

COUNT = 12


class HandingWorld(World):
    """Documents meet the real activities; manifest, report and places are as everywhere here."""

    def __init__(self, **facts):
        super().__init__(document_count=COUNT, **facts)
        self.workshop = Workshop(None)

    def cpu_activities(self):
        activities = self.workshop.handoff_activities
        return [activities.hand_on_document, activities.hand_on_pack]

    async def bring_documents(self, batch_id):
        """All in one object, as small ones come in."""
        key, content = upload_key(DEFAULT_TENANT_ID, batch_id, "pack-00001"), bytes(range(65, 65 + COUNT))
        await self.workshop.blobs.put(key, content)
        refs = [
            DocumentRef(
                ordinal=ordinal,
                filename=f"{ordinal}.txt",
                blob=BlobRef(key=key, offset=ordinal, size_bytes=1, sha256=hashlib.sha256(byte).hexdigest()),
            )
            for ordinal, byte in enumerate(content[place : place + 1] for place in range(COUNT))
        ]
        await self.workshop.add_manifest(batch_id, refs, "default")

    def taken(self):
        found = []
        while (entry := self.workshop.queue.take(DEFAULT_TENANT_ID)) is not None:
            found.append(entry.file_id)
        return found

    async def audited(self):
        events = await self.workshop.catalog.audit.list_events(AuditFilter(DEFAULT_TENANT_ID), 1_000)
        return [(event.resource_id, event.actor) for event in events if event.event_type == "DOCUMENT_INGESTED"]


@pytest.fixture
def world():
    return HandingWorld(is_small=lambda ordinal: ordinal >= COUNT // 2)


async def started(driver: BatchDriver, **fields):
    await driver.world.bring_documents(driver.batch_id)
    options = {"options": {"pack_small": True}} | fields
    return await driver.start(pipeline="handoff", created_by="ada", **options)


def expected(driver):
    return Counter(file_id_for(driver.batch_id, ordinal) for ordinal in range(COUNT))


async def test_every_document_is_pushed_and_audited_once(client, world):
    """Alone or together; the batch is completed, and nothing was indexed."""
    async with driven(client, world, sandbox=True) as driver:
        summary = await (await started(driver)).result()

        assert (summary.state, summary.counts) == (BatchState.COMPLETED, Counts(total=COUNT, done=COUNT))
        assert Counter(world.taken()) == expected(driver)
        assert Counter(await world.audited()) == Counter((file_id, "ada") for file_id in expected(driver))
        assert world.indexed == []


async def test_attempts_that_end_between_push_and_record_push_nothing_twice(client, world):
    """Temporal tries again; the list is as if nothing had happened."""
    failures = [CatalogUnavailableError("away")] * 5
    save = world.workshop.catalog.save_outcomes

    async def away_for_a_while(records, events=()):
        if failures:
            raise failures.pop()
        await save(records, events)

    world.workshop.catalog.save_outcomes = away_for_a_while
    async with driven(client, world) as driver:
        summary = await (await started(driver)).result()

        assert failures == []
        assert summary.counts == Counts(total=COUNT, done=COUNT)
        assert Counter(world.taken()) == expected(driver)
        assert len(await world.audited()) == COUNT


async def test_a_redis_that_comes_back_gets_everything(client, world):
    """Documents wait for it, and are pushed once."""
    failures = [HandoffUnavailableError("away")] * 4
    push = world.workshop.queue.push

    async def away_for_a_while(*args, **options):
        if failures:
            raise failures.pop()
        return await push(*args, **options)

    world.workshop.queue.push = away_for_a_while
    async with driven(client, world) as driver:
        summary = await (await started(driver)).result()

        assert summary.counts == Counts(total=COUNT, done=COUNT)
        assert Counter(world.taken()) == expected(driver)
