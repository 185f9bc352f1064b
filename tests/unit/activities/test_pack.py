"""Several small documents in one activity: each ends as it would have alone."""

import asyncio
import hashlib
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.byte_budget import DEFAULT_BUDGET_BYTES
from ingather.domain.artifact import decode
from ingather.domain.bitmap import decode_bitmap
from ingather.domain.stored import artifact_of, raw_of
from ingather.models.batch import ProcessingOptions
from ingather.models.content import BlobRef
from ingather.models.document import DocumentFailure, DocumentRef, DocumentStatus
from ingather.models.errors import (
    CatalogUnavailableError,
    DependencyError,
    ParserTimeoutError,
    StorageUnavailableError,
)
from ingather.models.identity import file_id_for
from ingather.models.messages import PackHeartbeat
from ingather.ports.audit import AuditFilter
from tests.support.ingesting import TENANT, activity_environment, run_activity
from tests.support.waiting import until

TEXTS = [f"Note {n}: the dome opens at nine, and the lamp at the gate is green.\n".encode() for n in range(4)]
EVENTS = ("document.started", "document.ended", "document.failed")
BROKEN = b"%PDF-1.7 broken"
AGAIN = ProcessingOptions(skip_existing=False)


async def stored(workshop, place):
    return await workshop.blobs.get(place.key, offset=place.offset, size=place.size_bytes)


async def keys(workshop, prefix):
    return [blob.key async for blob in workshop.blobs.list(prefix)]


async def test_each_document_of_a_pack_has_its_own_row_bytes_and_artifact(workshop):
    """Although their artifacts share an object, and their bytes stay where they came in."""
    batch_id = await workshop.batch(*TEXTS)

    output = await workshop.ingest_pack(batch_id, 0, 1, 2, 3)

    assert (output.statuses, output.failures) == ("dddd", {})
    for text, row in zip(TEXTS, await workshop.rows(batch_id), strict=True):
        assert (row.status, row.attempts, row.chunk_count) == (DocumentStatus.DONE, 1, 1)
        assert await stored(workshop, raw_of(row)) == text
        assert decode(await stored(workshop, artifact_of(row))).header.text == text.decode().strip()
        assert {"fetching", "storing", "waiting", "parsing", "embedding", "writing"} <= row.timings_ms.keys()
    assert len(await keys(workshop, "derived/")) == 1
    assert await keys(workshop, "raw/") == []


@pytest.mark.parametrize("is_handed_on", [False, True])
async def test_each_document_of_a_pack_logs_its_start_and_its_end(workshop, is_handed_on):
    """Although they run together: a line names its batch, its document, and why it failed."""
    batch_id = await workshop.batch(TEXTS[0], b"", TEXTS[1], names=["a.txt", "b.txt", "c.txt"])
    with capture_logs() as lines:
        if is_handed_on:
            request = await workshop.pack_request(batch_id, 0, 1, 2)
            await run_activity(workshop.handoff_activities.hand_on_pack, request)
        else:
            await workshop.ingest_pack(batch_id, 0, 1, 2)

    of_documents = [line for line in lines if line["event"].startswith("document.")]
    told = {event: [line["filename"] for line in of_documents if line["event"] == event] for event in EVENTS}
    assert [sorted(told[event]) for event in EVENTS] == [["a.txt", "b.txt", "c.txt"], ["a.txt", "c.txt"], ["b.txt"]]
    assert {line["batch_id"] for line in of_documents} == {batch_id}
    assert all(line["reason"] for line in of_documents if line["event"] == "document.failed")


async def test_a_pack_is_searchable_like_any_other_document(workshop):
    """The index finds each artifact in the shared object."""
    batch_id = await workshop.batch(*TEXTS)
    await workshop.ingest_pack(batch_id, 0, 1, 2, 3)

    indexed = await workshop.make_searchable(batch_id, 0, 1, 2, 3)

    assert (indexed.document_count, indexed.chunk_count, indexed.missing) == (4, 4, "")
    assert await workshop.index.count(TENANT, batch_id=batch_id) == 4


async def test_documents_with_a_verdict_fail_for_themselves(workshop):
    """Corrupt, empty, refused, or with bytes that are gone: each by its own code, beside neighbours that are done."""
    batch_id = await workshop.batch(TEXTS[0], BROKEN, b"", TEXTS[1], names=["a.txt", "b.pdf", "c.txt", "d.txt"])
    await workshop.blobs.delete(f"uploads/{TENANT}/{batch_id}/file-00003")

    output = await workshop.ingest_pack(batch_id, 0, 1, 2, 3)

    assert output.statuses == "dfff"
    assert {code: list(decode_bitmap(places)) for code, places in output.failures.items()} == {
        "corrupt": [1],
        "empty": [2],
        "blob_not_found": [3],
    }
    rows = await workshop.rows(batch_id)
    assert [row.error and row.error.code for row in rows] == [None, "corrupt", "empty", "blob_not_found"]
    assert await stored(workshop, raw_of(rows[1])) == BROKEN


async def test_a_refused_document_keeps_its_reason(workshop):
    """What was refused before it could run fails with that, also in a pack."""
    batch_id = await workshop.refused_batch(DocumentFailure(code="archive_encrypted", message="sealed"))

    output = await workshop.ingest_pack(batch_id, 0)

    assert (output.statuses, list(output.failures)) == ("f", ["archive_encrypted"])
    assert (await workshop.row(batch_id)).error.message == "sealed"


async def test_a_document_that_kills_its_parser_is_handed_back(workshop, preparer):
    """It is to run alone, with one life less; nothing is written of it."""
    batch_id = await workshop.batch(*TEXTS[:2])
    preparer.error = ParserTimeoutError("too slow", kills=1, quarantined=False)

    output = await workshop.ingest_pack(batch_id, 0, 1)

    assert (output.statuses, output.failures) == ("kk", {})
    assert [row.status for row in await workshop.rows(batch_id)] == [DocumentStatus.PENDING] * 2


async def test_a_document_that_keeps_others_waiting_is_sent_back(workshop, preparer):
    """It is to run alone, and is blamed for nothing."""
    batch_id = await workshop.batch(*TEXTS[:2])
    preparer.error = ParserTimeoutError("takes long", kills=0, quarantined=False)

    assert (await workshop.ingest_pack(batch_id, 0, 1)).statuses == "pp"
    assert preparer.patience == {0.5}


async def test_a_content_that_was_sent_back_is_not_tried_in_a_pack_again(workshop, preparer):
    """It would keep others waiting once more: neither a copy in the same pack, nor in a later one."""
    batch_id = await workshop.batch(*TEXTS[:2], TEXTS[0])
    preparer.pack_error = ParserTimeoutError("takes long", kills=0, quarantined=False)
    assert (await workshop.ingest_pack(batch_id, 0, 2)).statuses == "pp"
    preparer.pack_error = None

    assert (await workshop.ingest_pack(batch_id, 0, 1, 2)).statuses == "pdp"
    assert preparer.parsed == ["document-0.txt", "document-1.txt"]
    # Once it is done all the same, its copies need no parser, and so keep nobody waiting.
    assert (await workshop.ingest(batch_id, 0)).status is DocumentStatus.DONE
    assert (await workshop.ingest_pack(batch_id, 1, 2)).statuses == "ds"


async def test_a_document_whose_content_another_is_at_for_long_is_sent_back(workshop, preparer):
    """The others of its pack do not wait for the end of that."""
    preparer.gate = asyncio.Event()
    elsewhere = await workshop.batch(TEXTS[1])
    working = asyncio.create_task(workshop.ingest(elsewhere))
    await until(lambda: preparer.parsed)
    preparer.gate = None
    batch_id = await workshop.batch(*TEXTS[:3])

    assert (await workshop.ingest_pack(batch_id, 0, 1, 2)).statuses == "dpd"
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_an_unexpected_exception_is_looked_at_alone(workshop, preparer):
    """A bug of ours costs no neighbour its outcome, and no pack all its attempts."""
    batch_id = await workshop.batch(*TEXTS[:2])
    preparer.error = RuntimeError("a bug")

    assert (await workshop.ingest_pack(batch_id, 0, 1)).statuses == "pp"


async def test_what_a_parser_made_is_looked_at_alone_where_it_cannot_be_read(workshop, preparer, monkeypatch):
    """Found out when its vectors are to be filled in; its neighbours are done."""
    batch_id = await workshop.batch(*TEXTS[:2])
    prepare_many = preparer.prepare_many

    async def without_vectors(requests, on_stage, on_outcome):
        def conclude(position, outcome):
            on_outcome(position, replace(outcome, embedded=False, artifact=b"" if position else outcome.artifact))

        return await prepare_many(requests, on_stage, conclude)

    monkeypatch.setattr(preparer, "prepare_many", without_vectors)

    assert (await workshop.ingest_pack(batch_id, 0, 1)).statuses == "dp"


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (("get", "batches/"), StorageUnavailableError("away")),
        (("get", "uploads/"), StorageUnavailableError("away")),
        (("put", "derived/"), StorageUnavailableError("away")),
        ("find_ingested", CatalogUnavailableError("away")),
        ("save_outcome", CatalogUnavailableError("away")),
        ("prepare", DependencyError("parser processes do not start")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else getattr(value, "code", value),
)
async def test_missing_infrastructure_is_raised_for_a_retry(workshop, preparer, place, error):
    """Temporal is told the code; the next attempt does what is left."""
    batch_id = await workshop.batch(*TEXTS[:2])
    if place == "prepare":
        preparer.error = error
    elif isinstance(place, tuple):
        workshop.blobs.faults[place] = error
    else:
        workshop.catalog.faults[place] = error

    with pytest.raises(ApplicationError) as raised:
        await workshop.ingest_pack(batch_id, 0, 1)

    assert (raised.value.type, raised.value.non_retryable) == (error.code, False)
    preparer.error = None
    workshop.blobs.faults.clear()
    workshop.catalog.faults.clear()
    assert (await workshop.ingest_pack(batch_id, 0, 1, attempt=2)).statuses == "dd"


async def test_a_later_attempt_skips_what_a_beat_told(workshop, preparer):
    """Also who is to run alone: a document that killed its parser is not tried again beside others."""
    batch_id = await workshop.batch(*TEXTS)
    beat = PackHeartbeat(
        stage="parsing", filename="x", started_at="2026-01-01T00:00:00Z", ordinal=3, statuses="dfk.",
        failures={"corrupt": "0:Ag=="},
    )  # fmt: skip

    output = await workshop.ingest_pack(batch_id, 0, 1, 2, 3, attempt=2, beat=beat)

    assert (output.statuses, output.failures) == ("dfkd", {"corrupt": "0:Ag=="})
    assert preparer.parsed == ["document-3.txt"]


async def test_a_later_attempt_skips_what_is_in_the_catalog(workshop, preparer):
    """Where the worker died before it could tell, the rows still know."""
    batch_id = await workshop.batch(*TEXTS[:2], BROKEN, names=["a.txt", "b.txt", "c.pdf"])
    await workshop.ingest_pack(batch_id, 0, 2)
    preparer.parsed.clear()

    output = await workshop.ingest_pack(batch_id, 0, 1, 2, attempt=2)

    assert (output.statuses, list(output.failures)) == ("ddf", ["corrupt"])
    assert preparer.parsed == ["b.txt"]


async def test_a_repeat_writes_the_same_objects(workshop):
    """Two attempts at once, or one after the other, leave one object and one row each."""
    batch_id = await workshop.batch(*TEXTS)
    await asyncio.gather(*(workshop.ingest_pack(batch_id, 0, 1, 2, 3, options=AGAIN) for _ in range(2)))

    assert len(await keys(workshop, "derived/")) == 1
    assert {row.status for row in await workshop.rows(batch_id)} == {DocumentStatus.DONE}


async def test_what_is_done_is_written_while_the_rest_runs(workshop, preparer):
    """A crash repeats about a second's work: rows are there before the pack ends, and beats tell of them."""
    batch_id = await workshop.batch(*TEXTS[:2])
    preparer.gate, preparer.open_for = asyncio.Event(), 1
    environment, beats = activity_environment(), []
    environment.on_heartbeat = beats.append
    request = await workshop.pack_request(batch_id, 0, 1)
    running = asyncio.create_task(environment.run(workshop.pack_activities.ingest_pack, request))

    await until(lambda: any(beat.statuses == "d." for beat in beats))
    assert [row.status for row in await workshop.rows(batch_id)] == [DocumentStatus.DONE, DocumentStatus.PENDING]
    preparer.gate.set()

    assert (await running).statuses == "dd"


async def test_what_comes_to_its_end_during_a_write_is_written_too(workshop, preparer):
    """The last documents of a pack may be ready before those ahead of them are in the catalog."""
    batch_id = await workshop.batch(*TEXTS[:2])
    preparer.gate, preparer.open_for = asyncio.Event(), 1
    is_writing, thaw = workshop.catalog.freeze("save_outcome")
    running = asyncio.create_task(workshop.ingest_pack(batch_id, 0, 1))
    await is_writing.wait()
    preparer.gate.set()
    await until(lambda: len(preparer.parsed) == 2)
    await asyncio.sleep(0.1)
    thaw.set()

    assert (await running).statuses == "dd"
    assert {row.status for row in await workshop.rows(batch_id)} == {DocumentStatus.DONE}


async def test_a_cancelled_pack_keeps_what_is_done(workshop, preparer):
    """The finished ones are written and told; the others were never started, as far as anybody can see."""
    batch_id = await workshop.batch(*TEXTS[:2])
    preparer.gate, preparer.open_for = asyncio.Event(), 1
    environment = activity_environment()
    request = await workshop.pack_request(batch_id, 0, 1)
    running = asyncio.create_task(environment.run(workshop.pack_activities.ingest_pack, request))
    await until(lambda: bool(preparer.parsed))
    await asyncio.sleep(0.1)

    environment.cancel()

    assert (await running).statuses == "dp"
    assert [row.status for row in await workshop.rows(batch_id)] == [DocumentStatus.DONE, DocumentStatus.PENDING]


async def test_a_pack_that_is_cancelled_while_it_waits_keeps_what_an_earlier_attempt_did(workshop, preparer):
    """Its turn has not come when the batch is cancelled: what is done is told all the same."""
    batch_id = await workshop.batch(*TEXTS[:2])
    await workshop.ingest_pack(batch_id, 0)
    environment = activity_environment(attempt=2)
    request = await workshop.pack_request(batch_id, 0, 1)
    async with workshop.pack_activities._budget.hold(DEFAULT_BUDGET_BYTES):
        running = asyncio.create_task(environment.run(workshop.pack_activities.ingest_pack, request))
        await asyncio.sleep(0.1)
        environment.cancel()
        assert (await running).statuses == "dp"


async def test_a_worker_that_stops_hands_its_pack_to_another(workshop, preparer):
    """That is no end of the batch: what is done is written, and the next attempt goes on from there."""
    batch_id = await workshop.batch(*TEXTS[:2])
    preparer.gate, preparer.open_for = asyncio.Event(), 1
    environment = activity_environment()
    request = await workshop.pack_request(batch_id, 0, 1)
    running = asyncio.create_task(environment.run(workshop.pack_activities.ingest_pack, request))
    await until(lambda: bool(preparer.parsed))
    await asyncio.sleep(0.1)

    environment.cancel(activity.ActivityCancellationDetails(worker_shutdown=True))

    with pytest.raises(ApplicationError, match="another attempt goes on from here"):
        await running
    preparer.gate = None
    assert (await workshop.ingest_pack(batch_id, 0, 1, attempt=2)).statuses == "dd"
    assert preparer.parsed == ["document-0.txt", "document-1.txt", "document-1.txt"]


async def test_a_pack_that_cannot_write_stops_its_parser(workshop, preparer):
    """It gives back its bytes and its contents, so nothing of it may go on beside the next attempt."""
    batch_id = await workshop.batch(*TEXTS[:2])
    preparer.gate, preparer.open_for = asyncio.Event(), 1
    workshop.blobs.faults["put", "derived/"] = StorageUnavailableError("away")

    with pytest.raises(ApplicationError, match="away"):
        await workshop.ingest_pack(batch_id, 0, 1)

    assert preparer.stopped == [["document-0.txt", "document-1.txt"]]
    assert workshop.budget.held_bytes == 0


async def test_identical_documents_of_a_pack_are_parsed_once(workshop, preparer):
    """The copies are skipped for the first one, as they would be alone."""
    batch_id = await workshop.batch(TEXTS[0], TEXTS[1], TEXTS[0], TEXTS[0])

    output = await workshop.ingest_pack(batch_id, 0, 1, 2, 3)

    assert output.statuses == "ddss"
    assert len(preparer.parsed) == 2
    assert {row.duplicate_of for row in (await workshop.rows(batch_id))[2:]} == {file_id_for(batch_id, 0)}


async def test_packs_and_single_documents_with_one_content_wait_for_each_other(workshop, preparer):
    """Two packs that hold the same contents in another order, and a document alone: each content is parsed once."""
    batch_id = await workshop.batch(TEXTS[0], TEXTS[1], TEXTS[1], TEXTS[0], TEXTS[0])

    first, second, alone = await asyncio.gather(
        workshop.ingest_pack(batch_id, 0, 1), workshop.ingest_pack(batch_id, 2, 3), workshop.ingest(batch_id, 4)
    )

    assert sorted(first.statuses + second.statuses + alone.status[0]) == sorted("ddsss")
    assert len(preparer.parsed) == 2


async def test_a_pack_and_a_document_with_one_content_never_wait_for_each_others_bytes(workshop):
    """Whoever holds bytes of the budget has all it needs to give them back, also with a file that needs all of them."""
    batch_id = await workshop.batch(TEXTS[0], TEXTS[1], TEXTS[1])

    async def fills_the_budget() -> None:
        async with workshop.budget.hold(DEFAULT_BUDGET_BYTES):
            pass

    async with workshop.budget.hold(DEFAULT_BUDGET_BYTES):
        pack = asyncio.create_task(workshop.ingest_pack(batch_id, 0, 1))
        await asyncio.sleep(0.1)
        large = asyncio.create_task(fills_the_budget())
        await asyncio.sleep(0.1)
        alone = asyncio.create_task(workshop.ingest(batch_id, 2))
        await asyncio.sleep(0.1)

    async with asyncio.timeout(10):
        await asyncio.gather(pack, large, alone)
    assert (await pack).statuses == "dd"
    assert (await alone).status is DocumentStatus.SKIPPED


async def test_content_from_a_pack_is_skipped_and_borrowed_like_any_other(workshop, preparer):
    """Its artifact lies in a shared object: a document of another collection refers to it there."""
    first = await workshop.batch(*TEXTS[:2])
    await workshop.ingest_pack(first, 0, 1)
    await workshop.make_searchable(first, 0, 1)
    same, other = await workshop.batch(TEXTS[1]), await workshop.batch(TEXTS[1], collection="archive")

    assert (await workshop.ingest(same)).status is DocumentStatus.SKIPPED
    assert (await workshop.ingest(other)).status is DocumentStatus.DONE

    assert len(preparer.parsed) == 2
    assert artifact_of(await workshop.row(other)) == artifact_of(await workshop.row(first, 1))
    assert (await workshop.make_searchable(other)).chunk_count == 1


async def test_a_shared_object_that_is_gone_is_not_borrowed_twice(workshop, preparer):
    """The retry that follows makes an artifact of the document's own."""
    first = await workshop.batch(*TEXTS[:2])
    await workshop.ingest_pack(first, 0, 1)
    second = await workshop.batch(TEXTS[0], collection="archive")
    await workshop.ingest(second)
    await workshop.blobs.delete(artifact_of(await workshop.row(second)).key)
    assert (await workshop.make_searchable(second)).document_count == 0

    await workshop.ingest(second, retry_round=1)

    assert (await workshop.make_searchable(second)).document_count == 1
    assert len(preparer.parsed) == 3


async def test_bytes_of_another_upload_are_copied(workshop):
    """Only what came in with the batch itself is sure to stay; anything else gets an object of its own."""
    sources = [await workshop.batch(text) for text in TEXTS[:2]]
    blobs = [
        BlobRef(key=blob.key, size_bytes=blob.size_bytes, sha256=hashlib.sha256(text).hexdigest())
        for source, text in zip(sources, TEXTS, strict=False)
        async for blob in workshop.blobs.list(f"uploads/{TENANT}/{source}/")
    ]
    borrowed = await workshop.batch()
    refs = [DocumentRef(ordinal=n, filename=f"{n}.txt", blob=blob) for n, blob in enumerate(blobs)]
    await workshop.add_manifest(borrowed, refs, "default")

    assert (await workshop.ingest_pack(borrowed, 0, 1)).statuses == "dd"

    assert [row.raw_key.split("/")[0] for row in await workshop.rows(borrowed)] == ["raw", "raw"]


async def test_the_documents_left_alone_by_a_pack_have_a_life_less(workshop, preparer):
    """The parsers hear how often a document killed one before."""
    await workshop.ingest(await workshop.batch(TEXTS[0]), kills=1)

    assert preparer.kills == [1]


async def test_bytes_go_to_their_own_keys_where_that_was_promised(workshop):
    """Each an object named after tenant, file and content, as a document alone has it."""
    batch_id = await workshop.batch(*TEXTS)
    output = await workshop.ingest_pack(batch_id, 0, 1, 2, 3, own_objects=True)
    assert output.statuses == "dddd"
    for text, row in zip(TEXTS, await workshop.rows(batch_id), strict=True):
        assert row.raw_key == f"raw/{TENANT}/{row.file_id}/{hashlib.sha256(text).hexdigest()}"
        assert await workshop.blobs.get(row.raw_key) == text


async def test_a_pack_records_that_its_documents_were_ingested(workshop):
    """Once each, under the name of whom they came from, however often the pack is tried; failures are not among them."""
    batch_id = await workshop.batch(TEXTS[0], BROKEN, names=["note.txt", "broken.pdf"])
    for attempt in (1, 2):
        await workshop.ingest_pack(batch_id, 0, 1, attempt=attempt, actor="ada")
    [event] = await workshop.catalog.audit.list_events(AuditFilter(TENANT), 10)
    assert (event.event_type, event.actor, event.details) == ("DOCUMENT_INGESTED", "ada", {"filename": "note.txt"})
    assert event.resource_id == file_id_for(batch_id, 0)


async def test_a_pack_that_is_given_out_again_finds_what_is_done(workshop):
    """Whoever had its documents came to nothing: those with an outcome keep it, the others are ingested."""
    batch_id = await workshop.batch(*(f"Sentence {n}.\n".encode() for n in range(3)))
    await workshop.ingest_pack(batch_id, 0, 1)

    assert (await workshop.ingest_pack(batch_id, 0, 1, 2, again=True)).statuses == "ddd"
    assert sorted(workshop.preparer.parsed) == ["document-0.txt", "document-1.txt", "document-2.txt"]


async def test_the_same_contents_under_other_names_damage_no_artifact(workshop):
    """Parsed as something else they make other bytes, in an object of their own: rows of the first pack read theirs."""
    texts = [b"# Night log\n\nSeeing was good.", b"# Day log\n\nThe dome was cleaned."]
    plain = await workshop.batch(*texts, names=["night.txt", "day.txt"])
    await workshop.ingest_pack(plain, 0, 1)
    before = [await stored(workshop, artifact_of(row)) for row in await workshop.rows(plain)]
    marked = await workshop.batch(*texts, names=["night.md", "day.md"])
    await workshop.ingest_pack(marked, 0, 1, options=ProcessingOptions(skip_existing=False))

    assert [await stored(workshop, artifact_of(row)) for row in await workshop.rows(plain)] == before
