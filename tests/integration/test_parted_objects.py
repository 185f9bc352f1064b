"""The contract of objects made of parts, over memory and S3."""

import contextlib
import os

import pytest

from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.adapters.memory.parted_objects import InMemoryPartedObjects
from ingather.models.errors import BlobNotFoundError, UploadDamagedError
from tests.support.s3_stores import s3_store

MIB = 1024 * 1024


@pytest.fixture(params=["memory", "s3"])
def server(request):
    """The S3 server, started only where it is used."""
    return request.getfixturevalue("s3_server") if request.param == "s3" else None


@pytest.fixture
async def stores(server):
    """A blob store and its parted objects."""
    if server is None:
        blobs = InMemoryBlobStore()
        yield blobs, InMemoryPartedObjects(blobs)
        return
    blobs = s3_store(server)
    await blobs.ensure_bucket()
    yield blobs, blobs.parted
    await blobs.close()


async def test_parts_in_any_order_become_one_object(stores, home):
    """Bytes sent and bytes copied within the store, the last part as short as it likes; nothing is visible before."""
    blobs, parted = stores
    first, second, last = os.urandom(5 * MIB), os.urandom(6 * MIB), b"the end"
    await blobs.put(home + "piece", second)
    key = home + "whole"
    upload = await parted.begin_parts(key)
    tags = {
        3: await parted.put_part(key, upload, 3, last),
        2: await parted.copy_part(key, upload, 2, home + "piece"),
        1: await parted.put_part(key, upload, 1, first),
    }
    assert await blobs.stat(key) is None
    whole = first + second + last
    for _ in range(2):
        await parted.complete_parts(key, upload, list(tags.items()), len(whole))
        assert await blobs.get(key) == whole


async def test_numbers_may_be_left_out(stores, home):
    """Parts stand in the order of their numbers, whatever those are."""
    blobs, parted = stores
    key, first, last = home + "gaps", os.urandom(5 * MIB), b"end"
    upload = await parted.begin_parts(key)
    tags = [(7, await parted.put_part(key, upload, 7, first)), (9_999, await parted.put_part(key, upload, 9_999, last))]
    await parted.complete_parts(key, upload, tags, len(first) + 3)
    assert await blobs.get(key) == first + last


async def test_a_part_that_was_replaced_does_not_get_in(stores, home):
    """Parts are completed by their tags: other bytes under the number of one are refused, or passed by for the tagged ones."""
    blobs, parted = stores
    key, received = home + "replaced", b"what was received"
    upload = await parted.begin_parts(key)
    tag = await parted.put_part(key, upload, 1, received)
    await parted.put_part(key, upload, 1, b"something else...")
    with contextlib.suppress(UploadDamagedError):
        await parted.complete_parts(key, upload, [(1, tag)], len(received))
    assert await blobs.stat(key) is None or await blobs.get(key) == received


async def test_what_is_given_up_is_gone(stores, home):
    """Its parts take nothing more and make nothing; giving up again changes nothing."""
    blobs, parted = stores
    key = home + "given-up"
    upload = await parted.begin_parts(key)
    tag = await parted.put_part(key, upload, 1, b"x")
    await parted.abort_parts(key, upload)
    await parted.abort_parts(key, upload)
    with pytest.raises(BlobNotFoundError):
        await parted.put_part(key, upload, 1, b"x")
    with pytest.raises(UploadDamagedError):
        await parted.complete_parts(key, upload, [(1, tag)], 1)
    assert await blobs.stat(key) is None
