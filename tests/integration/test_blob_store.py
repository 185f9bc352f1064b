"""One contract for every blob store: memory, folder, S3 on a real server, and each behind the cache."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from ingather.adapters.cached_blob_store import CachedBlobStore
from ingather.adapters.folder import FolderBlobStore
from ingather.adapters.memory.blob_store import InMemoryBlobStore
from ingather.models.errors import BlobNotFoundError
from ingather.ports.blob_store import BlobStore
from tests.support.s3_stores import s3_store

MIB = 1024 * 1024


KINDS = ["memory", "folder", "s3", "cached-folder", "cached-s3"]


@pytest.fixture
def server(request):
    """The S3 server, started only for those kinds of store that use one."""
    return request.getfixturevalue("s3_server") if request.node.callspec.params["kind"].endswith("s3") else None


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
async def store(kind, server, tmp_path) -> AsyncIterator[BlobStore]:
    if kind == "memory":
        opened: BlobStore = InMemoryBlobStore()
    elif kind.endswith("folder"):
        opened = FolderBlobStore(tmp_path / "blobs")
    else:
        opened = s3_store(server)
        await opened.ensure_bucket()
    if kind.startswith("cached"):
        opened = CachedBlobStore(opened, 32 * MIB)
    yield opened
    await opened.close()


async def in_parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0)
        yield part


async def keys(store: BlobStore, prefix: str) -> list[str]:
    return [found.key async for found in store.list(prefix)]


async def test_what_was_put_is_read_back(store, home):
    """An object has exactly the bytes that were put, whatever they are, and its key may hold any letters."""
    for key, content in [
        ("a", b"plain"),
        ("empty", b""),
        ("every-byte", bytes(range(256))),
        ("ä b+c=d&e%20?f#g~", b"x"),
    ]:
        await store.put(home + key, content)
        assert await store.get(home + key) == content


async def test_a_second_put_replaces_the_first(store, home):
    """The last put wins, also where the first was longer or came as a stream."""
    await store.put_stream(home + "a", in_parts(b"first and long"))
    assert await store.get(home + "a") == b"first and long"
    await store.put(home + "a", b"second")
    assert await store.get(home + "a") == b"second"
    await store.put_stream(home + "a", in_parts(b"third"))
    assert await store.get(home + "a") == b"third"


async def test_a_part_of_an_object_can_be_read(store, home):
    """``offset`` and ``size`` cut as slices do: beyond the end there is nothing, and that is no error."""
    content = os.urandom(100_000)
    await store.put(home + "pack", content)
    for offset, size in [
        (0, 10),
        (10, 20),
        (99_990, 100),
        (0, None),
        (50_000, None),
        (5, 0),
        (100_000, 5),
        (200_000, None),
    ]:
        expected = content[offset : None if size is None else offset + size]
        assert await store.get(home + "pack", offset=offset, size=size) == expected
        assert b"".join([p async for p in store.stream(home + "pack", offset=offset, size=size)]) == expected


async def test_a_stream_comes_in_small_pieces(store, home):
    """Reading a large object piece by piece gives the same bytes, at most 1 MiB at a time."""
    content = os.urandom(5 * MIB + 17)
    await store.put(home + "large", content)
    pieces = [piece async for piece in store.stream(home + "large")]
    assert b"".join(pieces) == content
    assert max(len(piece) for piece in pieces) <= MIB


@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 21 * MIB])
async def test_a_stream_of_unknown_size_is_written_whole(store, home, size):
    """Size, hash and bytes of a streamed object are right on both sides of the part size."""
    content = os.urandom(size)
    cuts = [content[start : start + 700_001] for start in range(0, size, 700_001)]
    ref = await store.put_stream(home + "big", in_parts(*cuts))
    assert (ref.key, ref.size_bytes, ref.offset) == (home + "big", size, 0)
    assert ref.sha256 == hashlib.sha256(content).hexdigest()
    assert await store.get(home + "big") == content


async def test_one_huge_piece_is_split(store, home):
    """A single piece larger than several parts is written like any other."""
    content = os.urandom(20 * MIB)
    ref = await store.put_stream(home + "huge", in_parts(content))
    assert ref.sha256 == hashlib.sha256(content).hexdigest()
    assert await store.get(home + "huge", offset=19 * MIB) == content[19 * MIB :]


@pytest.mark.parametrize("size", [10, 20 * MIB])
async def test_a_stream_that_breaks_leaves_nothing(store, home, size):
    """The error of the source goes on to the caller, and no object, whole or partial, is left behind."""

    async def breaking() -> AsyncIterator[bytes]:
        yield os.urandom(size)
        raise RuntimeError("the client hung up")

    with pytest.raises(RuntimeError, match="hung up"):
        await store.put_stream(home + "broken", breaking())
    assert await store.stat(home + "broken") is None
    assert await keys(store, home) == []


async def test_a_cancelled_stream_leaves_nothing(store, home):
    """Cancelling an upload half-way gives up what was sent."""
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield os.urandom(17 * MIB)
        reached.set()
        await asyncio.Event().wait()

    writing = asyncio.create_task(store.put_stream(home + "half", endless()))
    await reached.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert await keys(store, home) == []


async def test_a_missing_object_is_said_to_be_missing(store, home):
    """Reads raise ``BlobNotFoundError`` with the key; ``stat`` answers None."""
    assert await store.stat(home + "nothing") is None
    with pytest.raises(BlobNotFoundError) as raised:
        await store.get(home + "nothing")
    assert home + "nothing" in str(raised.value)
    for arguments in [{}, {"offset": 3, "size": 4}, {"size": 0}]:
        with pytest.raises(BlobNotFoundError):
            await store.get(home + "nothing", **arguments)
        with pytest.raises(BlobNotFoundError):
            [piece async for piece in store.stream(home + "nothing", **arguments)]
    with pytest.raises(BlobNotFoundError):
        await store.copy(home + "nothing", home + "target")


async def test_stat_tells_the_size(store, home):
    """``stat`` knows an object's size, zero included."""
    await store.put(home + "a", b"12345")
    await store.put(home + "b", b"")
    assert (await store.stat(home + "a")).size_bytes == 5
    assert (await store.stat(home + "b")).size_bytes == 0


async def test_a_copy_is_an_object_of_its_own(store, home):
    """A copy keeps its bytes when the original is deleted."""
    await store.put(home + "original", b"bytes")
    await store.copy(home + "original", home + "deep/copy")
    await store.delete(home + "original")
    assert await store.get(home + "deep/copy") == b"bytes"
    assert await store.stat(home + "original") is None


async def test_deleting_twice_is_no_error(store, home):
    """``delete`` is idempotent, and what was deleted is gone at once."""
    await store.put(home + "a", b"x")
    assert await store.get(home + "a") == b"x"
    await store.delete(home + "a")
    await store.delete(home + "a")
    with pytest.raises(BlobNotFoundError):
        await store.get(home + "a")


async def test_a_listing_is_in_key_order(store, home):
    """``list`` answers the keys under a prefix, with sizes, in order, and no others."""
    names = ["manifest/0.jsonl", "manifest/1.jsonl", "manifest/10.jsonl", "report.jsonl", "summary.json"]
    for name in reversed(names):
        await store.put(home + name, name.encode())
    assert await keys(store, home) == [home + name for name in names]
    assert await keys(store, home + "manifest/1") == [home + "manifest/1.jsonl", home + "manifest/10.jsonl"]
    assert [found.size_bytes async for found in store.list(home + "report")] == [12]
    assert await keys(store, home + "nothing/here") == []


@pytest.mark.slow
async def test_a_long_listing_is_complete(store, home):
    """A listing over more than one page of the server misses nothing and repeats nothing."""
    names = [f"{number:05d}" for number in range(1_203)]
    await asyncio.gather(*(store.put(home + name, b"x") for name in names))
    assert await keys(store, home) == [home + name for name in names]


async def test_many_at_once(store, home):
    """Two hundred puts and gets at a time all get their own bytes."""
    contents = {f"{home}{number}": os.urandom(3_000) for number in range(200)}
    await asyncio.gather(*(store.put(key, content) for key, content in contents.items()))
    read = await asyncio.gather(*(store.get(key) for key in contents))
    assert dict(zip(contents, read, strict=True)) == contents


async def test_a_cancelled_read_disturbs_no_other(store, home):
    """Requests that are given up half-way never leave their answers to the next ones."""
    contents = {f"{home}{number}": os.urandom(50_000) for number in range(20)}
    for key, content in contents.items():
        await store.put(key, content)
    for delay in (0, 0.0005, 0.001, 0.003):
        given_up = [asyncio.create_task(store.get(key)) for key in contents]
        await asyncio.sleep(delay)
        for task in given_up:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        for key, content in contents.items():
            assert await store.get(key) == content


async def test_a_usable_store_passes_its_check(store):
    """``check`` returns quickly when all is well."""
    async with asyncio.timeout(5):
        await store.check()


WRITER = """
import asyncio, os, sys
from pathlib import Path
from ingather.adapters.folder import FolderBlobStore
from ingather.adapters.s3 import S3BlobStore

async def endless():
    for _ in range(3):
        yield os.urandom(8 * 1024 * 1024)
    await asyncio.sleep(1)
    print("half-way", flush=True)
    await asyncio.Event().wait()

async def main(key, kind, *where):
    if kind == "folder":
        store = FolderBlobStore(Path(where[0]))
    else:
        names = ("endpoint_url", "region", "bucket", "access_key_id", "secret_access_key")
        store = S3BlobStore(**dict(zip(names, where)))
    await store.put_stream(key, endless())

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["folder", "s3"])
async def test_a_writer_killed_half_way_leaves_no_visible_object(kind, server, tmp_path, home):
    """After SIGKILL in the middle of ``put_stream`` the key is free, and a second attempt writes it."""
    if kind == "folder":
        where = [str(tmp_path / "blobs")]
        store: BlobStore = FolderBlobStore(tmp_path / "blobs")
    else:
        where = [server.endpoint_url, server.region, server.bucket, server.access_key_id, server.secret_access_key]
        store = s3_store(server)
        await store.ensure_bucket()
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, home + "big", kind, *where, stdout=subprocess.PIPE
    )
    assert await writer.stdout.readline() == b"half-way\n"
    writer.kill()
    await writer.wait()
    assert await store.stat(home + "big") is None
    assert await keys(store, home) == []
    await store.put_stream(home + "big", in_parts(b"second attempt"))
    assert await store.get(home + "big") == b"second attempt"
    await store.close()
