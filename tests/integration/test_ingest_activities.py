"""Activities over the real parts: S3, SQLite, LanceDB, and parsers in processes that crash, hang and are killed."""

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ingather import samples
from ingather.adapters.cached_blob_store import CachedBlobStore
from ingather.adapters.lancedb_index import LanceDbChunkIndex
from ingather.adapters.parser_processes import SupervisedPreparer
from ingather.adapters.sql import SqlCatalog, migrate
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.domain.keys import report_key
from ingather.domain.ledger import Ledger
from ingather.domain.stored import raw_of
from ingather.models.batch import BatchState, BatchSummary, ProcessingOptions
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.messages import ClosedBatch, FinishBatchInput
from ingather.models.search import SearchQuery
from tests.support.ingesting import TENANT, Workshop, activity_environment, run_activity
from tests.support.preparing import busy_pid, lives
from tests.support.s3_stores import s3_store
from tests.support.waiting import until

MIB = 1024 * 1024


@pytest.fixture
async def workshop(s3_server, tmp_path) -> AsyncIterator[Workshop]:
    """Everything a worker has, with parsers that do what a document's content tells them to."""
    database = f"sqlite:///{tmp_path}/catalog.db"
    migrate(database)
    embedder = WordLlamaEmbedder()
    workshop = Workshop(
        SupervisedPreparer(
            processes=1,
            memory_bytes=600 * MIB,
            embedder=embedder,
            prepare="tests.support.parser_accidents:prepare",
        ),
        blobs=CachedBlobStore(s3_store(s3_server), max_bytes=8 * MIB),
        catalog=SqlCatalog(database),
        index=LanceDbChunkIndex(str(tmp_path / "index"), dimensions=embedder.dimensions),
    )
    yield workshop
    for port in (workshop.preparer, workshop.index, workshop.catalog, workshop.blobs):
        await port.close()


def documents():
    folder = Path(samples.__path__[0]) / "documents"
    names = ("operations-handbook.pdf", "mirror-care.docx", "weather-policy.html", "grant-agreement-sealed.pdf")
    return {name: (folder / name).read_bytes() for name in names}


async def test_a_batch_of_real_documents_from_bytes_to_search_and_report(workshop):
    """Each ends as it should, the readable ones are found, and catalog, report and ledger agree."""
    named = documents()
    batch_id = await workshop.batch(*named.values(), names=list(named))

    outputs = await asyncio.gather(*(workshop.ingest(batch_id, ordinal) for ordinal in range(len(named))))
    indexed = await workshop.make_searchable(batch_id, 0, 1, 2)

    assert [output.code for output in outputs] == [None, None, None, "encrypted"]
    assert indexed.chunk_count == sum(output.chunk_count for output in outputs)
    query = SearchQuery(tenant_id=TENANT, text="how is the mirror washed", limit=3)
    hits = await workshop.index.search(query, WordLlamaEmbedder().embed([query.text]))
    assert "mirror-care.docx" in {hit.filename for hit in hits}

    await run_activity(workshop.record_activities.finish_batch, finish_input(batch_id, outputs))
    record = await workshop.catalog.get_batch(batch_id)
    assert (record.state, record.counts.done, record.counts.failed) == (BatchState.COMPLETED_WITH_FAILURES, 3, 1)
    report = await workshop.blobs.get(report_key(TENANT, batch_id, 9))
    assert report.count(b"\n") == 4


def finish_input(batch_id, outputs):
    ledger = Ledger(len(outputs))
    for ordinal, output in enumerate(outputs):
        ledger.move(ordinal, output.status, output.code)
    summary = BatchSummary(
        batch_id=batch_id,
        state=BatchState.COMPLETED_WITH_FAILURES,
        counts=ledger.counts,
        version=9,
        ended_at=datetime.now(UTC),
    )
    closed = ClosedBatch(summary=summary, ledger=ledger.letters(), failures=ledger.failures())
    return FinishBatchInput(tenant_id=TENANT, batch_id=batch_id, closed=closed)


async def test_every_activity_can_be_repeated(workshop):
    """A second attempt at each step leaves exactly what the first one left."""
    batch_id = await workshop.batch(b"The dome opens at nine.\n", b"The mirror is washed in spring.\n")

    async def everything():
        outputs = [await workshop.ingest(batch_id, ordinal, attempt=2) for ordinal in range(2)]
        await workshop.make_searchable(batch_id, 0, 1)
        await run_activity(workshop.record_activities.finish_batch, finish_input(batch_id, outputs))
        return await workshop.index.count(TENANT, batch_id=batch_id)

    first = await everything()
    # Uploads are gone by then; a document that is ingested again needs its own.
    for ordinal, text in enumerate((b"The dome opens at nine.\n", b"The mirror is washed in spring.\n")):
        await workshop.blobs.put(f"uploads/{TENANT}/{batch_id}/file-{ordinal:05d}", text)

    assert first == await everything() == 2


@pytest.mark.parametrize(
    ("accident", "code", "stage"),
    [
        (b"crash", "parser_crashed", Stage.PARSING),
        (b"exit", "parser_crashed", Stage.PARSING),
        (b"raise", "parser_crashed", Stage.PARSING),
        (b"eat-memory", "parser_out_of_memory", Stage.PARSING),
        (b"hang", "parser_timeout", Stage.PARSING),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else None,
)
async def test_what_a_document_does_to_its_parser_is_its_outcome(workshop, accident, code, stage):
    """It fails with code, stage, advice and facts; the next document is parsed as if nothing had been."""
    batch_id = await workshop.batch(accident, b"The dome opens at nine.\n")

    output = await workshop.ingest(batch_id, options=ProcessingOptions(timeout_seconds=5))

    assert (output.status, output.code, output.stage) == (DocumentStatus.FAILED, code, stage)
    error = (await workshop.row(batch_id)).error
    assert error.action
    assert "peak_memory_bytes" in error.facts
    assert (await workshop.ingest(batch_id, 1)).status is DocumentStatus.DONE


async def test_a_document_that_kills_two_parsers_is_quarantined(workshop):
    """A SIGSEGV may be an accident once; after the second one its row says where, of what, at how much memory, and where its bytes are."""
    batch_id = await workshop.batch(b"crash-at-first", b"crash")

    accident, killer = [await workshop.ingest(batch_id, ordinal) for ordinal in range(2)]

    assert (accident.status, killer.status) == (DocumentStatus.DONE, DocumentStatus.FAILED)
    row = await workshop.row(batch_id, 1)
    facts = row.error.facts
    assert (row.error.code, row.error.stage) == ("parser_crashed", Stage.PARSING)
    assert (facts["kills"], facts["quarantined"], facts["exit_signal"]) == (2, True, signal.SIGSEGV)
    assert facts["peak_memory_bytes"] > MIB
    place = raw_of(row)
    assert await workshop.blobs.get(place.key, offset=place.offset, size=place.size_bytes) == b"crash"


async def test_poison_in_a_pack_takes_no_neighbour_down(workshop):
    """Those before and after it are done; it runs again alone, where its second kill is its last."""
    texts = [b"Note %d: the dome opens at nine.\n" % number for number in range(4)]
    batch_id = await workshop.batch(texts[0], b"crash", texts[1], b"hang", texts[2], b"raise", texts[3])
    options = ProcessingOptions(timeout_seconds=2)

    output = await workshop.ingest_pack(batch_id, *range(7), options=options)

    assert (output.statuses, output.failures) == ("dkdpdkd", {})
    alone = await workshop.ingest(batch_id, 1, options=options, kills=1)
    assert (alone.status, alone.code) == (DocumentStatus.FAILED, "parser_crashed")
    assert (await workshop.row(batch_id, 1)).error.facts["kills"] == 2
    indexed = await workshop.make_searchable(batch_id, 0, 2, 4, 6)
    assert (indexed.document_count, indexed.missing) == (4, "")
    for text, ordinal in zip(texts, (0, 2, 4, 6), strict=True):
        place = raw_of(await workshop.row(batch_id, ordinal))
        assert await workshop.blobs.get(place.key, offset=place.offset, size=place.size_bytes) == text


async def test_cancelling_a_pack_kills_its_parser_and_keeps_what_was_done(workshop):
    """The document it hung at is left as it was; the one before it is done."""
    batch_id = await workshop.batch(b"The dome opens at nine.\n", b"hang")
    workshop.pack_activities.patience_seconds = 3_600
    environment, beats = activity_environment(), []
    environment.on_heartbeat = beats.append
    request = await workshop.pack_request(batch_id, 0, 1)
    running = asyncio.create_task(environment.run(workshop.pack_activities.ingest_pack, request))
    await until(lambda: any((beat.ordinal, beat.stage, beat.statuses) == (1, Stage.PARSING, "d.") for beat in beats))
    parser = await busy_pid(workshop.preparer)

    environment.cancel()

    assert (await asyncio.wait_for(running, 5)).statuses == "dp"
    await until(lambda: not lives(parser), seconds=3)


async def test_a_pack_does_not_wait_for_a_document_that_hangs(workshop):
    """It is sent back without blame, long before its time is up; those behind it are done."""
    batch_id = await workshop.batch(b"The dome opens at nine.\n", b"hang", b"Visitors wait at the gate.\n")

    assert (await workshop.ingest_pack(batch_id, 0, 1, 2)).statuses == "dpd"


async def test_packs_with_the_same_document_that_hangs_do_not_wait_for_each_other(workshop):
    """One of them tries it; the other, in line for the same content, leaves it to run alone as soon as that is known."""
    texts = [b"Note %d: the dome opens at nine.\n" % number for number in range(4)]
    batch_id = await workshop.batch(texts[0], b"hang", texts[1], texts[2], b"hang", texts[3])

    with capture_logs() as logs:
        packs = await asyncio.gather(workshop.ingest_pack(batch_id, 0, 1, 2), workshop.ingest_pack(batch_id, 3, 4, 5))

    assert [pack.statuses for pack in packs] == ["dpd", "dpd"]
    assert sum(line["event"] == "document.sent_back" for line in logs) == 1


async def test_a_time_limit_that_is_over_before_the_first_stage_is_an_outcome(workshop):
    """No document is tried for half an hour because its parser never began."""
    batch_id = await workshop.batch(b"hang")

    output = await workshop.ingest(batch_id, options=ProcessingOptions(timeout_seconds=0.000_001))

    assert (output.status, output.code) == (DocumentStatus.FAILED, "parser_timeout")


async def test_cancelling_a_document_kills_its_parser_at_once(workshop):
    """Native code listens to nothing else; the next document gets a fresh process."""
    batch_id = await workshop.batch(b"hang", b"The dome opens at nine.\n")
    environment, beats = activity_environment(), []
    environment.on_heartbeat = beats.append
    request = await workshop.request(batch_id)
    running = asyncio.create_task(environment.run(workshop.ingest_activities.ingest_document, request))
    await until(lambda: any(beat.stage is Stage.PARSING for beat in beats))
    parser = await busy_pid(workshop.preparer)

    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running, 3)

    await until(lambda: not lives(parser), seconds=3)
    assert (await workshop.row(batch_id)).status is DocumentStatus.PENDING
    assert (await workshop.ingest(batch_id, 1)).status is DocumentStatus.DONE


async def test_a_cancel_while_the_outcome_is_written_comes_too_late(workshop):
    """Catalog and workflow tell one end: what was written is also answered."""
    batch_id = await workshop.batch(b"The dome opens at nine.\n")
    environment, request = activity_environment(), await workshop.request(batch_id)
    write = workshop.catalog.save_outcome

    async def cancelled_meanwhile(record, events):
        environment.cancel()
        await asyncio.sleep(0.05)
        await write(record, events)

    workshop.catalog.save_outcome = cancelled_meanwhile
    output = await environment.run(workshop.ingest_activities.ingest_document, request)

    assert output.status is (await workshop.row(batch_id)).status is DocumentStatus.DONE


async def test_a_document_in_line_for_a_parser_beats_and_can_be_cancelled(workshop):
    """It says that it waits, and gives its place in the line up without taking a process with it."""
    batch_id = await workshop.batch(b"hang", b"The dome opens at nine.\n", b"Third.\n")
    environments, beats = [activity_environment() for _ in range(3)], [[], [], []]
    running = []
    for ordinal, environment in enumerate(environments):
        environment.on_heartbeat = beats[ordinal].append
        request = await workshop.request(batch_id, ordinal)
        running.append(asyncio.create_task(environment.run(workshop.ingest_activities.ingest_document, request)))
        await busy_pid(workshop.preparer)
    await until(lambda: all(beats))

    assert beats[1][-1].stage is Stage.WAITING
    environments[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running[1], 3)
    environments[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(running[0], 3)

    assert (await running[2]).status is DocumentStatus.DONE
