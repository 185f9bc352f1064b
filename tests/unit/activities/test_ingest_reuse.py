"""Content that was ingested before: skipped, borrowed or done again, and never lost in between."""

import asyncio

import pytest

from ingather.models.batch import ProcessingOptions
from ingather.models.document import DocumentStatus
from ingather.models.identity import file_id_for
from tests.support.ingesting import TENANT
from tests.support.waiting import until

TEXT = b"The dome opens at nine. Visitors wait at the gate until the lamp is green.\n"
OTHER = b"The mirror is washed in spring, when the nights are short and the air is dry.\n"
NOISE = ("\ufffd\ue000 " * 200).encode()
NO_TEXT = b"<html><body><img src='scan.png'></body></html>"
STRICT = ProcessingOptions(quality_threshold=0.9)


async def test_identical_documents_of_a_batch_are_parsed_once(workshop, preparer):
    """Started at the same moment, one does the work and the others are skipped as its duplicates."""
    batch_id = await workshop.batch(TEXT, OTHER, TEXT, TEXT)
    preparer.gate = asyncio.Event()
    running = [asyncio.create_task(workshop.ingest(batch_id, ordinal)) for ordinal in range(4)]
    await until(lambda: len(preparer.parsed) == 2)
    await asyncio.sleep(0.05)
    preparer.gate.set()

    outputs = await asyncio.gather(*running)

    assert len(preparer.parsed) == 2
    rows = await workshop.rows(batch_id)
    [first] = [row for row in rows if row.status is DocumentStatus.DONE and row.sha256 == rows[0].sha256]
    duplicates = [row for row in rows if row.status is DocumentStatus.SKIPPED]
    assert {row.duplicate_of for row in duplicates} == {first.file_id}
    assert len(duplicates) == 2
    assert [output.status for output in outputs] == [row.status for row in rows]


async def test_a_waiting_duplicate_can_be_cancelled(workshop, preparer):
    """It gives its place up; the one that works notices nothing."""
    batch_id = await workshop.batch(TEXT, TEXT, TEXT)
    preparer.gate = asyncio.Event()
    first, second, third = (asyncio.create_task(workshop.ingest(batch_id, ordinal)) for ordinal in range(3))
    await until(lambda: len(preparer.parsed) == 1)

    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    preparer.gate.set()

    assert (await first).status is DocumentStatus.DONE
    assert (await third).status is DocumentStatus.SKIPPED


async def test_identical_bytes_that_fail_fail_each_for_itself(workshop):
    """A broken file handed in twice is told twice."""
    batch_id = await workshop.batch(b"%PDF-1.7 broken", b"%PDF-1.7 broken", names=["a.pdf", "b.pdf"])

    await asyncio.gather(workshop.ingest(batch_id, 0), workshop.ingest(batch_id, 1))

    assert [row.error.code for row in await workshop.rows(batch_id)] == ["corrupt", "corrupt"]


async def test_content_a_collection_has_is_skipped(workshop, preparer):
    """The second batch names the document that was ingested first, and keeps its own raw bytes."""
    first = await workshop.batch(TEXT)
    await workshop.ingest(first)
    await workshop.make_searchable(first)
    second = await workshop.batch(TEXT)

    output = await workshop.ingest(second)

    assert output.status is DocumentStatus.SKIPPED
    row = await workshop.row(second)
    assert (row.duplicate_of, row.chunk_count, row.media_type) == (file_id_for(first, 0), 1, "text/plain")
    assert await workshop.blobs.get(row.raw_key) == TEXT
    assert len(preparer.parsed) == 1


async def test_content_of_another_batch_is_not_skipped_before_it_can_be_found(workshop, preparer):
    """A batch that was ended before it was indexed takes nothing with it: the next one makes the content searchable."""
    first = await workshop.batch(TEXT)
    await workshop.ingest(first)
    second = await workshop.batch(TEXT)

    output = await workshop.ingest(second)
    indexed = await workshop.make_searchable(second)

    assert (output.status, indexed.chunk_count, len(preparer.parsed)) == (DocumentStatus.DONE, 1, 1)


async def test_another_collection_borrows_the_result(workshop, preparer):
    """Only index rows are new there."""
    first = await workshop.batch(TEXT)
    await workshop.ingest(first)
    second = await workshop.batch(TEXT, collection="archive")

    output = await workshop.ingest(second)
    await workshop.make_searchable(second)

    assert (output.status, output.chunk_count, len(preparer.parsed)) == (DocumentStatus.DONE, 1, 1)
    assert (await workshop.row(second)).duplicate_of is None
    assert await workshop.index.count(TENANT, collection="archive") == 1


async def test_a_batch_may_ask_for_everything_to_be_done_again(workshop, preparer):
    """Without ``skip_existing`` nothing is taken from before."""
    first = await workshop.batch(TEXT)
    await workshop.ingest(first)
    second = await workshop.batch(TEXT)

    output = await workshop.ingest(second, options=ProcessingOptions(skip_existing=False))

    assert (output.status, len(preparer.parsed)) == (DocumentStatus.DONE, 2)


async def test_other_options_make_another_result(workshop, preparer):
    """Content under another fingerprint was not ingested before."""
    first = await workshop.batch(TEXT)
    await workshop.ingest(first)
    await workshop.make_searchable(first)

    output = await workshop.ingest(await workshop.batch(TEXT), options=ProcessingOptions(chunk_size=400))

    assert (output.status, len(preparer.parsed)) == (DocumentStatus.DONE, 2)


async def test_content_that_was_replaced_is_not_skipped_for(workshop, preparer):
    """One set of chunks a content lies in a collection: what was asked for last, also where it was made before."""
    small, large = ProcessingOptions(chunk_size=50, chunk_overlap=0), ProcessingOptions(chunk_size=400)
    for options in (large, small):
        batch_id = await workshop.batch(TEXT, options=options)
        await workshop.ingest(batch_id)
        await workshop.make_searchable(batch_id)
    assert await workshop.index.count(TENANT) == 2
    third, fourth = [await workshop.batch(TEXT, options=large) for _ in range(2)]

    output = await workshop.ingest(third)
    await workshop.make_searchable(third)

    assert (output.status, len(preparer.parsed)) == (DocumentStatus.DONE, 2)
    assert await workshop.index.count(TENANT) == 1
    assert (await workshop.ingest(fourth)).status is DocumentStatus.SKIPPED


async def test_content_in_another_place_is_still_skipped_for(workshop):
    """What was made for another collection, or lies in the index of another model, takes nobody's place."""
    here = await workshop.batch(TEXT)
    there = await workshop.batch(TEXT, collection="archive", options=ProcessingOptions(chunk_size=50, chunk_overlap=0))
    beside = await workshop.batch(TEXT, options=ProcessingOptions(embedding_model="another"))
    for batch_id in (here, there, beside):
        await workshop.ingest(batch_id)
        await workshop.make_searchable(batch_id)

    assert (await workshop.ingest(await workshop.batch(TEXT))).status is DocumentStatus.SKIPPED


async def test_noise_fails_where_the_batch_sets_a_threshold(workshop):
    """Text that scores less is refused."""
    output = await workshop.ingest(await workshop.batch(NOISE), options=STRICT)

    assert (output.status, output.code) == (DocumentStatus.FAILED, "low_quality")


async def test_a_result_below_the_threshold_is_not_taken_over(workshop):
    """What a lenient batch accepted does not slip into a strict one."""
    lenient = await workshop.batch(NOISE)
    assert (await workshop.ingest(lenient)).status is DocumentStatus.DONE
    await workshop.make_searchable(lenient)

    output = await workshop.ingest(await workshop.batch(NOISE), options=STRICT)

    assert output.code == "low_quality"


async def test_an_attempts_own_leftover_must_reach_the_threshold_too(workshop):
    """An artifact that lies there already is held to the same rule."""
    await workshop.ingest(await workshop.batch(NOISE))

    output = await workshop.ingest(await workshop.batch(NOISE), options=STRICT, attempt=2)

    assert output.code == "low_quality"


async def test_a_document_without_text_is_not_refused_for_its_quality(workshop, preparer):
    """A scan is done with a warning, and a second copy of it is skipped, whatever the threshold."""
    first = await workshop.batch(NO_TEXT, names=["scan.html"])
    assert (await workshop.ingest(first, options=STRICT)).status is DocumentStatus.DONE
    assert (await workshop.row(first)).warnings == ("no_text",)
    await workshop.make_searchable(first)

    output = await workshop.ingest(await workshop.batch(NO_TEXT, names=["scan.html"]), options=STRICT)

    assert (output.status, len(preparer.parsed)) == (DocumentStatus.SKIPPED, 1)


@pytest.mark.parametrize("is_removed", [True, False])
async def test_a_result_that_is_gone_or_damaged_is_made_again_by_a_retry(workshop, preparer, is_removed):
    """Borrowed content whose artifact cannot be used fails at the index once, and the retry cures it."""
    first = await workshop.batch(TEXT)
    await workshop.ingest(first)
    if is_removed:
        await workshop.blobs.delete(workshop.artifact_key(TEXT))
    else:
        await workshop.blobs.put(workshop.artifact_key(TEXT), b"damaged")
    second = await workshop.batch(TEXT, collection="archive")
    await workshop.ingest(second)
    assert (await workshop.make_searchable(second)).document_count == 0

    assert (await workshop.ingest(second, retry_round=1)).status is DocumentStatus.DONE

    assert len(preparer.parsed) == 2
    assert (await workshop.make_searchable(second)).document_count == 1
