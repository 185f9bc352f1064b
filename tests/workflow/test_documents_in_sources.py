"""Documents that are fetched first run where a slow source keeps no slot of the others."""

from ingather.models.batch import Counts
from ingather.models.engine import CPU_QUEUE, SOURCE_QUEUE
from tests.support.batch_driver import driven
from tests.support.fake_activities import World


async def test_documents_in_sources_have_a_queue_of_their_own(client):
    """The others of their batch stay with those whose bytes are here."""
    world = World(document_count=10, is_in_source=lambda ordinal: ordinal % 2 == 1)
    async with driven(client, world, sandbox=True) as driver:
        summary = await (await driver.start()).result()
        assert summary.counts == Counts(total=10, done=10)
        assert world.queues == {ordinal: SOURCE_QUEUE if ordinal % 2 else CPU_QUEUE for ordinal in range(10)}


async def test_children_of_a_large_batch_send_them_there_too(client):
    """By the place in the child's own page."""
    far = frozenset({0, 700, 1_000})
    world = World(
        document_count=1_001, is_small=lambda ordinal: ordinal not in far, is_in_source=lambda ordinal: ordinal in far
    )
    async with driven(client, world, sandbox=True) as driver:
        summary = await (await driver.start()).result()
        assert summary.counts == Counts(total=1_001, done=1_001)
        assert world.queues == dict.fromkeys(far, SOURCE_QUEUE)
