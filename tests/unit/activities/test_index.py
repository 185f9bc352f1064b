"""Finished documents made searchable, a micro-batch at a time."""

import pytest
from temporalio.exceptions import ApplicationError

from activities.index import MAX_CHUNKS_AT_ONCE, within_memory
from ingather.domain.bitmap import decode_bitmap
from ingather.models.errors import StorageUnavailableError
from ingather.models.search import SearchQuery
from tests.support.ingesting import TENANT, FaultyBlobStore

TEXTS = (b"The dome opens at nine.\n", b"The mirror is washed in spring.\n", b"The gate is shut at dusk.\n")
NO_TEXT = b"<html><body><img src='scan.png'></body></html>"


async def ingested(workshop, *contents, names=()):
    batch_id = await workshop.batch(*contents, names=names)
    for ordinal in range(len(contents)):
        await workshop.ingest(batch_id, ordinal)
    return batch_id


async def test_documents_can_be_found_once_they_are_indexed(workshop):
    """The answer counts documents and chunks, and the catalog notes when."""
    batch_id = await ingested(workshop, *TEXTS)

    output = await workshop.make_searchable(batch_id, 0, 1)

    assert (output.document_count, output.chunk_count, output.missing) == (2, 2, "")
    hits = await workshop.index.search(SearchQuery(tenant_id=TENANT, text="mirror", limit=1), None)
    assert [hit.filename for hit in hits] == ["document-1.txt"]
    assert [row.indexed_at is not None for row in await workshop.rows(batch_id)] == [True, True, False]


async def test_indexing_again_changes_nothing(workshop):
    """A second attempt, or one that overlaps, leaves no chunk twice."""
    batch_id = await ingested(workshop, *TEXTS)
    await workshop.make_searchable(batch_id, 0, 1, 2)

    await workshop.make_searchable(batch_id, 0, 1, 2)

    assert await workshop.index.count(TENANT) == 3


async def test_a_document_without_text_counts_as_indexed(workshop):
    """It has nothing to find, and nothing is left to do for it."""
    batch_id = await ingested(workshop, NO_TEXT, names=["scan.html"])

    output = await workshop.make_searchable(batch_id)

    assert (output.document_count, output.chunk_count) == (1, 0)
    assert (await workshop.row(batch_id)).indexed_at is not None


async def test_a_missing_artifact_is_named_and_the_others_are_indexed(workshop):
    """One document whose result is gone does not take ninety-nine with it."""
    batch_id = await ingested(workshop, *TEXTS)
    await workshop.blobs.delete(workshop.artifact_key(TEXTS[1]))

    output = await workshop.make_searchable(batch_id, 0, 1, 2)

    assert list(decode_bitmap(output.missing)) == [1]
    assert (output.document_count, output.chunk_count) == (2, 2)
    assert [row.indexed_at is not None for row in await workshop.rows(batch_id)] == [True, False, True]


async def test_a_document_without_a_row_is_named_too(workshop):
    """A done document whose row is gone is not called searchable."""
    batch_id = await ingested(workshop, TEXTS[0])

    output = await workshop.make_searchable(batch_id, 0, 7)

    assert list(decode_bitmap(output.missing)) == [7]
    assert output.document_count == 1


@pytest.mark.parametrize("damaged", [b"", b"no artifact", slice(0, -400), slice(400, None)])
async def test_an_unreadable_artifact_is_named_and_the_others_are_indexed(workshop, damaged):
    """What has become of its bytes costs the document alone, under a code that says so."""
    batch_id = await ingested(workshop, *TEXTS)
    key = workshop.artifact_key(TEXTS[1])
    sound = await workshop.blobs.get(key)
    await workshop.blobs.put(key, sound[damaged] if isinstance(damaged, slice) else damaged)

    output = await workshop.make_searchable(batch_id, 0, 1, 2)

    assert list(decode_bitmap(output.missing)) == [1]
    assert {code: list(decode_bitmap(which)) for code, which in output.failures.items()} == {"artifact_unreadable": [1]}
    assert (output.document_count, output.chunk_count) == (2, 2)
    assert [row.indexed_at is not None for row in await workshop.rows(batch_id)] == [True, False, True]
    assert await workshop.index.count(TENANT) == 2


async def test_a_damaged_object_that_documents_share_costs_those_whose_bytes_are_gone(workshop):
    """Artifacts of small documents lie behind each other: the end that was cut off was the last one's."""
    batch_id = await workshop.batch(*TEXTS)
    await workshop.ingest_pack(batch_id, 0, 1, 2)
    [key] = {row.artifact_key for row in await workshop.rows(batch_id)}
    await workshop.blobs.put(key, (await workshop.blobs.get(key))[:-1])

    output = await workshop.make_searchable(batch_id, 0, 1, 2)

    assert list(decode_bitmap(output.failures["artifact_unreadable"])) == [2]
    assert [row.indexed_at is not None for row in await workshop.rows(batch_id)] == [True, True, False]


async def test_storage_that_is_away_is_raised_for_a_retry(workshop):
    """Nothing is marked as indexed that is not."""
    batch_id = await ingested(workshop, *TEXTS)
    assert isinstance(workshop.blobs, FaultyBlobStore)
    workshop.blobs.faults["get", "derived/"] = StorageUnavailableError("away")

    with pytest.raises(ApplicationError) as caught:
        await workshop.make_searchable(batch_id, 0, 1, 2)

    assert (caught.value.type, caught.value.non_retryable) == ("storage_unavailable", False)
    assert all(row.indexed_at is None for row in await workshop.rows(batch_id))


async def test_large_documents_are_indexed_a_few_at_a_time(workshop):
    """However large the documents of a micro-batch are, memory is not."""
    batch_id = await workshop.batch(*TEXTS)
    rows = [
        row.model_copy(update={"chunk_count": chunks})
        for row, chunks in zip(await workshop.rows(batch_id), (MAX_CHUNKS_AT_ONCE * 2, 5, 5), strict=True)
    ]

    groups = list(within_memory(rows))

    assert [[row.ordinal for row in group] for group in groups] == [[0], [1, 2]]
    assert list(within_memory([])) == []
