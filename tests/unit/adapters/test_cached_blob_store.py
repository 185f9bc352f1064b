"""What the cache keeps, shares and lets go."""

import asyncio

import pytest

from ingather.adapters.cached_blob_store import LARGEST_CACHED_BYTES, CachedBlobStore
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.models.errors import BlobNotFoundError
from ingather.ports.blob_store import BlobStat

PACK = "uploads/tenant/upload/pack-00000"


class CountingStore(InMemoryBlobStore):
    """Counts what reaches the store, and takes a moment for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[str, int, int | None]] = []
        self.stats: list[str] = []

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        self.reads.append((key, offset, size))
        await asyncio.sleep(0.01)
        return await super().get(key, offset=offset, size=size)

    async def stat(self, key: str) -> BlobStat | None:
        self.stats.append(key)
        await asyncio.sleep(0)
        return await super().stat(key)


@pytest.fixture
def inner() -> CountingStore:
    return CountingStore()


async def test_what_was_just_written_is_not_fetched(inner):
    """A read after a write in the same process stays in it, whole, in part and as a stream."""
    cache = CachedBlobStore(inner, 1_000)
    await cache.put("derived/t/s/f/chunks.arrow", b"0123456789")
    assert await cache.get("derived/t/s/f/chunks.arrow") == b"0123456789"
    assert await cache.get("derived/t/s/f/chunks.arrow", offset=3, size=4) == b"3456"
    assert [piece async for piece in cache.stream("derived/t/s/f/chunks.arrow", offset=8)] == [b"89"]
    assert await cache.stat("derived/t/s/f/chunks.arrow") == BlobStat("derived/t/s/f/chunks.arrow", 10)
    assert inner.reads == inner.stats == []


async def test_a_pack_is_fetched_once(inner):
    """A thousand documents read at the same time from one pack cause one read of it."""
    content = bytes(range(250)) * 40
    await inner.put(PACK, content)
    cache = CachedBlobStore(inner, 100_000)
    read = await asyncio.gather(*(cache.get(PACK, offset=n * 10, size=10) for n in range(1_000)))
    assert b"".join(read) == content
    assert inner.reads == [(PACK, 0, None)]


async def test_a_large_object_is_read_in_parts(inner):
    """Above 16 MiB only the part that is asked for is fetched, and the size is asked once."""
    await inner.put(PACK, bytes(LARGEST_CACHED_BYTES + 1))
    cache = CachedBlobStore(inner, 10 * LARGEST_CACHED_BYTES)
    for _ in range(3):
        assert await cache.get(PACK, offset=5, size=2) == b"\0\0"
    assert inner.reads == [(PACK, 5, 2)] * 3
    assert inner.stats == [PACK]
    assert cache.kept_bytes == 0


@pytest.mark.parametrize("key", ["batches/t/b/report.jsonl", "batches/t/b/summary.json", "raw/t/f/s"])
async def test_what_may_change_is_not_kept(inner, key):
    """Reports and summaries are written again by a retry, so every read goes to the store."""
    cache = CachedBlobStore(inner, 1_000)
    await cache.put(key, b"one")
    await inner.put(key, b"two")
    assert await cache.get(key) == b"two"


async def test_manifest_pages_are_kept(inner):
    """A manifest page never changes."""
    await inner.put("batches/t/b/manifest/0.jsonl", b"page")
    cache = CachedBlobStore(inner, 1_000)
    for _ in range(3):
        assert await cache.get("batches/t/b/manifest/0.jsonl") == b"page"
    assert len(inner.reads) == 1


async def test_the_oldest_use_goes_first(inner):
    """Beyond its limit the cache lets go of what was not used for longest."""
    cache = CachedBlobStore(inner, 30)
    for name in "abc":
        await cache.put(f"derived/{name}", bytes(10))
    await cache.get("derived/a")
    await cache.put("derived/d", bytes(10))
    assert cache.kept_bytes == 30
    for name in "acd":
        await cache.get(f"derived/{name}")
    assert inner.reads == []
    await cache.get("derived/b")
    assert [key for key, *_ in inner.reads] == ["derived/b"]


async def test_one_who_gives_up_leaves_the_fetch_to_the_others(inner):
    """Cancelling the first of several readers does not cancel the read they share."""
    await inner.put(PACK, b"bytes")
    cache = CachedBlobStore(inner, 1_000)
    first = asyncio.create_task(cache.get(PACK))
    second = asyncio.create_task(cache.get(PACK))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"bytes"
    assert first.cancelled()
    assert len(inner.reads) == 1


async def test_a_missing_object_is_asked_for_again(inner):
    """That something is missing is not kept: it may come."""
    cache = CachedBlobStore(inner, 1_000)
    answers = await asyncio.gather(cache.get(PACK), cache.get(PACK, offset=1, size=1), return_exceptions=True)
    assert [type(answer) for answer in answers] == [BlobNotFoundError] * 2
    assert await cache.stat(PACK) is None
    await inner.put(PACK, b"came")
    assert await cache.get(PACK) == b"came"


async def test_a_fetch_under_way_does_not_bring_back_what_was_replaced(inner):
    """An object written while an older read of it is under way is the one that stays."""
    await inner.put(PACK, b"old")
    cache = CachedBlobStore(inner, 1_000)
    reading = asyncio.create_task(cache.get(PACK))
    await asyncio.sleep(0)
    await cache.put(PACK, b"new")
    await reading
    assert await cache.get(PACK) == b"new"
    await cache.delete(PACK)
    with pytest.raises(BlobNotFoundError):
        await cache.get(PACK)
    assert cache.kept_bytes == 0


async def test_closing_ends_reads_under_way(inner):
    """A fetch that nobody waits for any more does not outlive the cache."""
    await inner.put(PACK, b"x")
    cache = CachedBlobStore(inner, 1_000)
    reading = asyncio.create_task(cache.get(PACK))
    await asyncio.sleep(0)
    reading.cancel()
    await cache.close()
    assert cache.kept_bytes == 0
