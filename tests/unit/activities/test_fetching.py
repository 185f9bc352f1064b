"""Files of connected sources: fetched, hashed, stored at the document's own key, and then a document as any other."""

import asyncio

import pytest
from temporalio.exceptions import ApplicationError

from activities.fetching import HELD_BYTES, Fetcher
from activities.open_sources import OpenSources
from ingather.domain.keys import raw_key, upload_prefix
from ingather.models.batch import ProcessingOptions
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.errors import SourceAccessDeniedError, SourceUnavailableError
from ingather.models.identity import file_id_for
from ingather.models.source import SourceType
from tests.support.ingesting import MAX_FILE_BYTES, TENANT, run_activity
from tests.support.sources import SourceStandIn, connection, ref, sha256_of
from tests.support.waiting import until

TEXT = b"The dome opens at nine. Visitors wait at the gate until the lamp is green.\n"
LARGE = b"A line of a long book that goes on and on.\n" * 150_000
DOWN = SourceUnavailableError("The shelf does not answer.")
LAST_ATTEMPT = 1 + ProcessingOptions().max_retries


@pytest.fixture
async def shelf(workshop):
    """A source whose connection is registered."""
    await workshop.catalog.connections.add_connection(connection("shelf"))
    stand_in = workshop.sources.by_id["shelf"] = SourceStandIn({"q1/a.txt": TEXT, "book.txt": LARGE})
    return stand_in


async def test_a_selected_file_becomes_a_document(workshop, shelf):
    """Its bytes lie at its own key, and its row says what they are and where they came from."""
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))

    output = await workshop.ingest(batch_id)

    assert (output.status, output.chunk_count) == (DocumentStatus.DONE, 1)
    row = await workshop.row(batch_id)
    assert (row.filename, row.size_bytes, row.sha256) == ("a.txt", len(TEXT), sha256_of(TEXT))
    assert row.raw_key == raw_key(TENANT, file_id_for(batch_id, 0), sha256_of(TEXT))
    assert await workshop.blobs.get(row.raw_key) == TEXT
    assert row.source == ref("shelf", "q1/a.txt")
    assert {"accessing", "downloading", "fetching", "parsing"} <= row.timings_ms.keys()


@pytest.mark.parametrize("says_size", [True, False])
async def test_a_large_file_passes_through_and_leaves_nothing_behind(workshop, shelf, says_size):
    """Whether or not its size was known: it is at its own key, and no longer at the one it came through."""
    shelf.says_size = says_size
    assert len(LARGE) > HELD_BYTES
    batch_id = await workshop.batch_of_sources(ref("shelf", "book.txt"))

    output = await workshop.ingest(batch_id)

    assert output.status is DocumentStatus.DONE
    assert await workshop.blobs.get((await workshop.row(batch_id)).raw_key) == LARGE
    assert [stat.key async for stat in workshop.blobs.list(upload_prefix(TENANT, batch_id))] == []


async def test_an_attempt_that_was_given_up_harms_none(workshop, shelf, monkeypatch):
    """It goes on with the file as it was, while the next one fetches it as it is: no hash stands for other bytes."""
    batch_id = await workshop.batch_of_sources(ref("shelf", "book.txt"))
    copy, as_it_was = workshop.blobs.copy, LARGE + b"Erratum.\n"

    async def copied_late(key, target):
        monkeypatch.setattr(workshop.blobs, "copy", copy)
        shelf.files["book.txt"] = as_it_was
        await workshop.ingest(batch_id, attempt=1)
        await copy(key, target)

    monkeypatch.setattr(workshop.blobs, "copy", copied_late)
    assert (await workshop.ingest(batch_id, attempt=2)).status is DocumentStatus.DONE
    for content in (LARGE, as_it_was):
        assert await workshop.blobs.get(raw_key(TENANT, file_id_for(batch_id, 0), sha256_of(content))) == content


async def test_the_same_content_is_parsed_once_wherever_it_came_from(workshop, shelf):
    """What was uploaded before is skipped when it is fetched."""
    uploaded = await workshop.batch(TEXT)
    await workshop.ingest(uploaded)
    await workshop.make_searchable(uploaded)
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))
    assert (await workshop.ingest(batch_id)).status is DocumentStatus.SKIPPED
    assert len(workshop.preparer.parsed) == 1


async def test_a_file_that_is_not_there_fails_alone(workshop, shelf):
    """At once: another attempt would not find it either."""
    batch_id = await workshop.batch_of_sources(ref("shelf", "lost.txt"))
    output = await workshop.ingest(batch_id)
    assert (output.status, output.code, output.stage) == (
        DocumentStatus.FAILED, "source_file_not_found", Stage.ACCESSING,
    )  # fmt: skip


async def test_a_source_that_does_not_answer_is_asked_again(workshop, shelf):
    """By further attempts of the activity, after the time the source asked for; then it is the document's outcome."""
    shelf.errors = [SourceUnavailableError("Too much.", retry_after_seconds=7.0), *[DOWN] * LAST_ATTEMPT]
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))

    with pytest.raises(ApplicationError) as raised:
        await workshop.ingest(batch_id)
    assert (raised.value.type, raised.value.non_retryable) == ("source_unavailable", False)
    assert raised.value.next_retry_delay.total_seconds() == 7.0

    output = await workshop.ingest(batch_id, attempt=LAST_ATTEMPT)
    assert (output.status, output.code) == (DocumentStatus.FAILED, "source_unavailable")
    shelf.errors = []
    assert (await workshop.ingest(batch_id, retry_round=1)).status is DocumentStatus.DONE


@pytest.mark.parametrize("file_id", ["q1/a.txt", "book.txt"])
async def test_a_download_that_breaks_off_leaves_nothing(workshop, shelf, file_id):
    """The next attempt fetches the whole file."""
    shelf.piece_bytes, shelf.breaks_after, shelf.errors = 40, 40, [DOWN]
    if file_id == "book.txt":
        shelf.piece_bytes, shelf.breaks_after = 1024 * 1024, HELD_BYTES + 1
    batch_id = await workshop.batch_of_sources(ref("shelf", file_id))
    with pytest.raises(ApplicationError, match="does not answer"):
        await workshop.ingest(batch_id)
    kept = [stat.key async for stat in workshop.blobs.list("") if not stat.key.startswith("batches/")]
    assert kept == []
    assert (await workshop.ingest(batch_id, attempt=2)).status is DocumentStatus.DONE


async def test_a_refusal_is_the_documents_outcome(workshop, shelf):
    """With what to do about it."""
    shelf.errors = [SourceAccessDeniedError("The shelf is locked.")]
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))
    assert (await workshop.ingest(batch_id)).code == "source_access_denied"
    assert "POST /v1/connections" in (await workshop.row(batch_id)).error.action


@pytest.mark.parametrize("says_size", [True, False])
async def test_a_file_over_the_limit_is_too_large(workshop, shelf, says_size):
    """Known ahead, nothing of it is read; else no more than the limit."""
    shelf.files["huge.txt"], shelf.says_size = bytes(MAX_FILE_BYTES + 1), says_size
    batch_id = await workshop.batch_of_sources(ref("shelf", "huge.txt"))
    output = await workshop.ingest(batch_id)
    assert (output.code, output.stage) == ("too_large", Stage.ACCESSING if says_size else Stage.DOWNLOADING)
    assert (await workshop.row(batch_id)).error.facts["limit"] == "max_file_bytes"


async def test_a_batch_may_allow_less(workshop, shelf):
    """Its tenant's limit, where that is lower than the worker's."""
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))
    assert (await workshop.ingest(batch_id, max_file_bytes=10)).code == "too_large"
    assert (await workshop.ingest(batch_id, max_file_bytes=10**12, retry_round=1)).status is DocumentStatus.DONE


async def test_an_empty_file_is_empty(workshop, shelf):
    """As an empty upload is."""
    shelf.files["none.txt"] = b""
    batch_id = await workshop.batch_of_sources(ref("shelf", "none.txt"))
    assert (await workshop.ingest(batch_id)).code == "empty"


async def test_where_ids_say_nothing_the_source_names_the_document(workshop):
    """In its row, and for the parser, which looks at endings."""
    await workshop.catalog.connections.add_connection(connection("drive", SourceType.GOOGLE_DRIVE))
    workshop.sources.by_id["drive"] = SourceStandIn({"1AbC": b"# Title\n"}, names={"1AbC": "Plan: A/B.md"})
    batch_id = await workshop.batch_of_sources(ref("drive", "1AbC", SourceType.GOOGLE_DRIVE))
    await workshop.ingest(batch_id)
    row = await workshop.row(batch_id)
    assert (row.filename, row.original_filename, row.media_type) == ("B.md", "Plan: A/B.md", "text/markdown")
    assert workshop.preparer.parsed == ["B.md"]


async def test_a_file_that_changes_between_two_attempts_is_fetched_once_more(workshop, shelf):
    """What lies at a content's key and is another content is taken away, and never parsed."""
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))
    key = raw_key(TENANT, file_id_for(batch_id, 0), sha256_of(TEXT))
    put = workshop.blobs.put

    async def put_another(where: str, content: bytes) -> None:
        await put(where, content[::-1] if where == key else content)

    workshop.blobs.put = put_another
    with pytest.raises(ApplicationError, match="changed in its source"):
        await workshop.ingest(batch_id)
    workshop.blobs.put = put
    assert (await workshop.ingest(batch_id, attempt=2)).status is DocumentStatus.DONE


async def test_a_source_that_drips_is_given_up(workshop, shelf):
    """A byte a second would hold a place among the workers for hours."""
    fetcher = Fetcher(
        workshop.blobs,
        OpenSources(workshop.catalog.connections, workshop.sources),
        workshop.budget,
        MAX_FILE_BYTES,
        fetch_seconds=0.01,
    )
    workshop.ingest_activities._fetcher = fetcher
    shelf.chunk_gate = asyncio.Event()
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))
    with pytest.raises(ApplicationError, match=r"longer than 0\.01 seconds"):
        await workshop.ingest(batch_id)


async def test_fetching_holds_little_of_the_workers_memory(workshop, shelf):
    """Also of a file whose size nobody says; all is given back."""
    shelf.says_size, shelf.chunk_gate = False, asyncio.Event()
    batch_id = await workshop.batch_of_sources(ref("shelf", "book.txt"))
    running = asyncio.ensure_future(workshop.ingest(batch_id))
    await shelf.waits.wait()
    assert workshop.budget.held_bytes == HELD_BYTES
    shelf.chunk_gate.set()
    await running
    assert workshop.budget.held_bytes == 0


async def test_files_are_handed_on_too(workshop, shelf):
    """Stored at their own keys, pushed once."""
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))
    request = await workshop.request(batch_id)
    output = await run_activity(workshop.handoff_activities.hand_on_document, request)
    assert output.status is DocumentStatus.DONE
    row = await workshop.row(batch_id)
    assert await workshop.blobs.get(row.raw_key) == TEXT


async def test_a_deleted_connection_costs_its_documents(workshop, shelf):
    """Those not fetched yet; made anew as another kind of source, too."""
    batch_id = await workshop.batch_of_sources(ref("shelf", "q1/a.txt"))
    await workshop.catalog.connections.delete_connection(TENANT, "shelf")
    assert (await workshop.ingest(batch_id)).code == "connection_gone"
    await workshop.catalog.connections.add_connection(connection("shelf", SourceType.HTTP))
    assert (await workshop.ingest(batch_id, retry_round=1)).code == "connection_gone"
    await workshop.catalog.connections.delete_connection(TENANT, "shelf")
    await workshop.catalog.connections.add_connection(connection("shelf"))
    assert (await workshop.ingest(batch_id, retry_round=2)).status is DocumentStatus.DONE


async def test_a_source_is_opened_once_for_many_documents(workshop, shelf):
    """Until its connection changes: then it is closed, once nobody uses it, and another opened."""
    sources = OpenSources(workshop.catalog.connections, workshop.sources, trusted_seconds=0)
    async with sources.use(TENANT, ref("shelf", "a")) as one, sources.use(TENANT, ref("shelf", "b")) as two:
        assert one is two
        await workshop.catalog.connections.delete_connection(TENANT, "shelf")
        await workshop.catalog.connections.add_connection(connection("shelf", settings={"bucket": "other"}))
        workshop.sources.by_id["shelf"] = SourceStandIn()
        async with sources.use(TENANT, ref("shelf", "c")) as three:
            assert three is not one
        assert not one.is_closed
    assert one.is_closed
    await sources.close()
    assert three.is_closed
    assert workshop.sources.opened == ["shelf", "shelf"]


async def test_fetched_documents_take_turns_beside_those_that_were_here(workshop, shelf, preparer):
    """Many may wait for their sources at once; once here, they are no more than their share of the work."""
    workshop.ingest_activities._fetched = asyncio.Semaphore(1)
    shelf.files |= {"one.txt": b"The first of two that were fetched.", "two.txt": b"And the second one, after it."}
    fetched = await workshop.batch_of_sources(ref("shelf", "one.txt"), ref("shelf", "two.txt"))
    preparer.gate = asyncio.Event()
    running = [asyncio.ensure_future(workshop.ingest(fetched, ordinal)) for ordinal in (0, 1)]
    await until(lambda: shelf.downloads == 2 and len(preparer.parsed) == 1)
    local = asyncio.ensure_future(workshop.ingest(await workshop.batch(b"Here all along, and not in their line.")))
    await until(lambda: len(preparer.parsed) == 2)
    preparer.gate.set()
    assert {output.status for output in await asyncio.gather(*running, local)} == {DocumentStatus.DONE}
