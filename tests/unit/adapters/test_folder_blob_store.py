"""What is particular to a folder."""

import pytest

from ingather.adapters.folder import FolderBlobStore
from ingather.models.errors import StorageUnavailableError


@pytest.fixture
async def store(tmp_path):
    async with FolderBlobStore(tmp_path / "blobs") as opened:
        yield opened


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b", "../b", "a//b", "a/", "a\0b", ".incoming/x", "./a"])
async def test_a_key_cannot_leave_the_folder(store, tmp_path, key):
    """Keys that would name something else on the disk are refused."""
    with pytest.raises(ValueError, match="not an object key"):
        await store.put(key, b"x")
    with pytest.raises(ValueError, match="not an object key"):
        await store.get(key)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


async def test_a_key_below_another_is_refused(store):
    """Where an object is, no folder can be: the write says so and the object stays."""
    await store.put("a", b"object")
    with pytest.raises(StorageUnavailableError):
        await store.put("a/b", b"below")
    assert await store.get("a") == b"object"


async def test_failed_writes_leave_no_temporary_files(store, tmp_path):
    """Nothing is left in the place where files are written before they are renamed."""
    await store.put("a", b"object")
    with pytest.raises(StorageUnavailableError):
        await store.put("a/b", b"below")
    assert list((tmp_path / "blobs" / ".incoming").iterdir()) == []
