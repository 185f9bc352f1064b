"""One document of a manifest, without reading the page again for each."""

import asyncio

import pytest

from activities.manifest import ManifestReader
from ingather.models.errors import BlobNotFoundError
from tests.support.submissions import BATCH, TENANT, CountingBlobStore, Submission
from tests.support.zips import zip_of


async def test_a_page_is_read_once_however_many_ask() -> None:
    """At the same time, and afterwards."""
    submission = Submission()
    for number in range(50):
        await submission.add(f"{number}.txt", b"x")
    await submission.build()
    submission.blobs.reads.clear()
    reader = ManifestReader(submission.blobs)
    refs = await asyncio.gather(*(reader.document(TENANT, BATCH, ordinal) for ordinal in range(50)))
    assert [ref.ordinal for ref in refs] == list(range(50))
    await reader.document(TENANT, BATCH, 7)
    assert len(submission.blobs.reads) == 1


async def test_pages_are_let_go_when_there_is_no_room() -> None:
    """The least recently used first; the one asked for always stays."""
    submission = Submission()
    await submission.add("x.zip", zip_of({f"{n}.txt": b"x" for n in range(2_500)}))
    await submission.build(max_documents=10_000)
    reader = ManifestReader(submission.blobs, cache_bytes=1)
    submission.blobs.reads.clear()
    for ordinal in (0, 1, 1_000, 0):
        await reader.document(TENANT, BATCH, ordinal)
    assert len(submission.blobs.reads) == 3


async def test_a_failed_read_is_not_remembered() -> None:
    """The next to ask reads again."""
    reader = ManifestReader(blobs := CountingBlobStore())
    with pytest.raises(BlobNotFoundError):
        await reader.document(TENANT, BATCH, 0)
    submission = Submission(blobs=blobs)
    await submission.add("a.txt", b"x")
    await submission.build()
    assert (await reader.document(TENANT, BATCH, 0)).filename == "a.txt"
    with pytest.raises(BlobNotFoundError, match="no document 7"):
        await reader.document(TENANT, BATCH, 7)


async def test_a_reader_that_gives_up_takes_nobody_with_it() -> None:
    """The read goes on for the others."""
    submission = Submission()
    await submission.add("a.txt", b"x")
    await submission.build()
    reader = ManifestReader(submission.blobs)
    first = asyncio.create_task(reader.document(TENANT, BATCH, 0))
    second = asyncio.create_task(reader.document(TENANT, BATCH, 0))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).filename == "a.txt"
