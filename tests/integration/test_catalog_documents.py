"""The catalog's contract for documents: memory, SQLite and PostgreSQL."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentStatus
from ingather.models.errors import BatchNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.catalog import DocumentCost, DocumentFilter
from tests.support.catalog_records import NOON, SHA, document_record, done_record

OTHER_TENANT = "11111111-1111-7111-8111-111111111111"
SECOND = timedelta(seconds=1)


async def test_a_document_is_read_as_it_was_written(catalog, batch_id):
    """Every field of an outcome comes back."""
    record = document_record(
        batch_id,
        3,
        filename="résumé 🎉.pdf",
        original_filename="../résumé 🎉.pdf",
        status=DocumentStatus.FAILED,
        attempts=2,
        error=DocumentFailure(
            code="parser_out_of_memory", message="too big", stage=Stage.PARSING, action="split", facts={"peak": 2**40}
        ),
        sha256=SHA,
        size_bytes=2**40,
        media_type="application/pdf",
        page_count=4,
        chunk_count=0,
        quality=0.25,
        warnings=("no_text",),
        metadata={"author": {"name": "Zoë", "tags": [1, None, True, 2.5]}},
        timings_ms={"parsing": 12.5},
        raw_key="raw/key",
        raw_offset=2**33,
        fingerprint="f1",
        artifact_key="derived/pack",
        artifact_offset=2**34,
        artifact_bytes=2**35,
        duplicate_of=document_record(batch_id, 1).file_id,
        started_at=NOON,
        ended_at=NOON + SECOND,
        indexed_at=NOON + 2 * SECOND,
    )
    await catalog.save_outcome(record)
    assert await catalog.get_document(record.file_id) == record
    assert await catalog.get_document(record.file_id, record.tenant_id) == record
    assert await catalog.get_document(record.file_id, OTHER_TENANT) is None
    assert await catalog.get_document(document_record(batch_id, 9).file_id) is None


async def test_adding_documents_again_keeps_their_outcomes(catalog, batch_id):
    """A second attempt of the manifest inserts what is missing and leaves the rest as it is."""
    await catalog.add_documents([])
    await catalog.add_documents([document_record(batch_id, ordinal) for ordinal in range(3)])
    await catalog.save_outcome(done_record(batch_id, 1))
    await catalog.add_documents([document_record(batch_id, ordinal) for ordinal in range(5)])
    found = await catalog.list_documents(DocumentFilter(batch_id), 10)
    assert [record.status for record in found] == ["pending", "done", "pending", "pending", "pending"]


async def test_the_last_outcome_counts(catalog, batch_id):
    """A later outcome replaces an earlier one whole."""
    failure = DocumentFailure(code="corrupt", message="broken")
    await catalog.save_outcome(document_record(batch_id, status=DocumentStatus.FAILED, error=failure))
    await catalog.save_outcome(done_record(batch_id))
    assert await catalog.get_document(document_record(batch_id).file_id) == done_record(batch_id)


async def test_a_late_outcome_does_not_take_the_index_back(catalog, batch_id):
    """A write of an earlier attempt that arrives after indexing leaves the document indexed; a retry clears it."""
    record = done_record(batch_id)
    await catalog.save_outcome(record)
    await catalog.mark_indexed([record.file_id], NOON + SECOND)
    await catalog.save_outcome(record)
    assert (await catalog.get_document(record.file_id)).indexed_at == NOON + SECOND
    await catalog.reset_documents(batch_id, [0])
    await catalog.save_outcome(record)
    assert (await catalog.get_document(record.file_id)).indexed_at is None


async def test_an_attempt_that_started_earlier_writes_over_no_later_one(catalog, batch_id):
    """A worker that was frozen and given up for dead wakes up and writes: the row stays as the later attempt left it."""
    failure = DocumentFailure(code="storage_unavailable", message="away")
    later = done_record(batch_id, attempts=2, started_at=NOON + SECOND)
    late = done_record(batch_id, attempts=1, started_at=NOON, status=DocumentStatus.FAILED, error=failure)
    await catalog.save_outcome(later)
    await catalog.save_outcome(late)
    assert await catalog.get_document(later.file_id) == later
    again = later.model_copy(update={"chunk_count": 9})
    await catalog.save_outcome(again)
    assert await catalog.get_document(later.file_id) == again


async def test_late_and_later_outcomes_of_one_transaction_are_told_apart(catalog, batch_id):
    """Written side by side, each row ends as its latest attempt says."""
    late = [done_record(batch_id, n, started_at=NOON, chunk_count=1) for n in range(20)]
    later = [done_record(batch_id, n, started_at=NOON + SECOND, chunk_count=2) for n in range(20)]
    mixed = [record for pair in zip(later, late, strict=True) for record in pair]
    await asyncio.gather(*map(catalog.save_outcome, mixed))
    found = await catalog.list_documents(DocumentFilter(batch_id), 100)
    assert [record.chunk_count for record in found] == [2] * 20


async def test_an_attempt_from_before_a_cancel_undoes_it_not(catalog, batch_id):
    """Cancelled stays cancelled, until a retry sets the document back to pending."""
    await catalog.add_documents([document_record(batch_id)])
    await catalog.mark_cancelled(batch_id, [0], NOON + SECOND)
    late = done_record(batch_id, started_at=NOON)
    await catalog.save_outcome(late)
    assert (await catalog.get_document(late.file_id)).status is DocumentStatus.CANCELLED
    await catalog.reset_documents(batch_id, [0], NOON + 2 * SECOND)
    retried = done_record(batch_id, started_at=NOON + 3 * SECOND)
    await catalog.save_outcome(retried)
    assert await catalog.get_document(late.file_id) == retried


async def test_a_verdict_that_is_no_attempts_goes_by_its_time(catalog, batch_id):
    """The batch's own book is right over any attempt before it, also over one that writes afterwards."""
    await catalog.save_outcome(done_record(batch_id, started_at=NOON))
    verdict = done_record(batch_id, status=DocumentStatus.FAILED, started_at=None, ended_at=NOON + SECOND)
    await catalog.save_outcome(verdict)
    await catalog.save_outcome(done_record(batch_id, started_at=NOON))
    assert await catalog.get_document(verdict.file_id) == verdict
    retried = done_record(batch_id, started_at=NOON + 2 * SECOND)
    await catalog.save_outcome(retried)
    await catalog.save_outcome(verdict)
    assert await catalog.get_document(verdict.file_id) == retried


async def test_a_late_reset_leaves_what_ended_since(catalog, batch_id):
    """Asked for before an outcome's attempt began, it comes too late for that document and in time for the others."""
    await catalog.save_outcome(done_record(batch_id, 0, started_at=NOON))
    await catalog.save_outcome(done_record(batch_id, 1, started_at=NOON + 2 * SECOND))
    await catalog.save_outcome(done_record(batch_id, 2))
    await catalog.save_outcome(done_record(batch_id, 3, status="failed", ended_at=NOON + 2 * SECOND))
    await catalog.save_outcome(done_record(batch_id, 4, started_at=NOON))
    await catalog.mark_cancelled(batch_id, [4], NOON + 2 * SECOND)
    await catalog.reset_documents(batch_id, range(5), NOON + SECOND)
    found = await catalog.get_documents(batch_id, range(5))
    assert [record.status for record in found] == ["pending", "done", "pending", "failed", "cancelled"]


async def test_a_late_cancel_leaves_what_was_begun_since(catalog, batch_id):
    """The cancel of a batch that was retried since ends no document of the retry."""
    await catalog.save_outcome(done_record(batch_id, 0, started_at=NOON))
    await catalog.save_outcome(done_record(batch_id, 1, started_at=NOON + 2 * SECOND))
    await catalog.add_documents([document_record(batch_id, 2)])
    await catalog.mark_cancelled(batch_id, [0, 1, 2], NOON + SECOND)
    found = await catalog.get_documents(batch_id, [0, 1, 2])
    assert [record.status for record in found] == ["cancelled", "done", "cancelled"]


async def test_documents_are_marked_as_indexed(catalog, batch_id):
    """Marking touches the named documents alone; unknown and no ids are no error."""
    for ordinal in range(3):
        await catalog.save_outcome(done_record(batch_id, ordinal))
    ids = [done_record(batch_id, ordinal).file_id for ordinal in (0, 2, 99)]
    await catalog.mark_indexed(ids, NOON)
    await catalog.mark_indexed([], NOON)
    found = await catalog.get_documents(batch_id, [0, 1, 2])
    assert [record.indexed_at for record in found] == [NOON, None, NOON]


async def test_what_took_a_documents_place_in_the_index_takes_its_mark(catalog, batch_id):
    """Only what is indexed with a content in a collection under another fingerprint is found, and unmarked by name."""
    here = done_record(batch_id, 0)
    elsewhere = done_record(batch_id, 1, collection="archive")
    unfound = done_record(batch_id, 2)
    for record in (here, elsewhere, unfound):
        await catalog.save_outcome(record)
    await catalog.mark_indexed([here.file_id, elsewhere.file_id], NOON)

    async def found(fingerprint="new", contents=(here.sha256, "0" * 64)):
        records = await catalog.list_indexed_otherwise(here.tenant_id, here.collection, contents, fingerprint)
        return [record.file_id for record in records]

    assert await found() == [here.file_id]
    assert await found(fingerprint=here.fingerprint) == await found(contents=("0" * 64,)) == []
    await catalog.mark_indexed([unfound.file_id], NOON, replaced={here.file_id, unfound.file_id})
    assert await found() == [unfound.file_id]


async def test_documents_are_filtered_in_ordinal_order(catalog, batch_id):
    """Status and error code narrow a listing; the cursor is the last ordinal seen."""
    codes = ["corrupt", "empty", None, "corrupt", None, "corrupt"]
    for ordinal, code in enumerate(codes):
        failure = code and DocumentFailure(code=code, message="m")
        record = done_record(batch_id, ordinal, status="failed" if code else "done", error=failure)
        await catalog.save_outcome(record)

    async def ordinals(limit=10, **where):
        return [record.ordinal for record in await catalog.list_documents(DocumentFilter(batch_id, **where), limit)]

    assert await ordinals() == [0, 1, 2, 3, 4, 5]
    assert await ordinals(limit=2, after_ordinal=1) == [2, 3]
    assert await ordinals(status=DocumentStatus.DONE) == [2, 4]
    assert await ordinals(error_code="corrupt") == [0, 3, 5]
    assert await ordinals(status=DocumentStatus.FAILED, error_code="corrupt", after_ordinal=0) == [3, 5]


async def test_documents_are_found_by_ordinal(catalog, batch_id):
    """In ordinal order, each once, and what is unknown is left out."""
    await catalog.add_documents([document_record(batch_id, ordinal) for ordinal in range(700)])
    wanted = [*range(600, 100, -1), 5, 5, 9_999, 2**31, 10**30]
    found = await catalog.get_documents(batch_id, wanted)
    assert [record.ordinal for record in found] == [5, *range(101, 601)]
    assert await catalog.get_documents(batch_id, []) == []


async def test_a_whole_batch_is_iterated(catalog, batch_id):
    """More documents than one page holds come in order, each once."""
    await catalog.add_documents([document_record(batch_id, ordinal) for ordinal in reversed(range(1_003))])
    assert [record.ordinal async for record in catalog.iterate_documents(batch_id)] == list(range(1_003))


async def test_the_statuses_of_a_whole_batch_are_iterated(catalog, batch_id, monkeypatch):
    """In order, each once, whatever a page holds."""
    monkeypatch.setattr("ingather.adapters.sql.catalog._STATUS_PAGE", 4)
    await catalog.add_documents([document_record(batch_id, ordinal) for ordinal in reversed(range(11))])
    await catalog.save_outcome(done_record(batch_id, 7))
    found = [each async for each in catalog.iterate_statuses(batch_id)]
    assert found == [(n, DocumentStatus.DONE if n == 7 else DocumentStatus.PENDING) for n in range(11)]


async def test_a_retry_sets_documents_back(catalog, batch_id):
    """Reset documents are pending without error or end; what was learned of their content stays."""
    failure = DocumentFailure(code="corrupt", message="broken")
    for ordinal in (0, 1):
        await catalog.save_outcome(done_record(batch_id, ordinal, status="failed", error=failure))
    await catalog.reset_documents(batch_id, [1, 77])
    kept, reset = await catalog.get_documents(batch_id, [0, 1])
    assert kept.error == failure
    assert (reset.status, reset.error, reset.ended_at, reset.sha256) == (DocumentStatus.PENDING, None, None, SHA)
    assert await catalog.list_documents(DocumentFilter(batch_id, error_code="corrupt"), 10) == [kept]


async def test_cancelled_documents_say_when(catalog, batch_id):
    """A cancel marks the named documents and leaves the others."""
    await catalog.add_documents([document_record(batch_id, ordinal) for ordinal in range(1_000)])
    await catalog.mark_cancelled(batch_id, range(10, 1_000), NOON)
    found = await catalog.list_documents(DocumentFilter(batch_id, status=DocumentStatus.CANCELLED), 2_000)
    assert [record.ordinal for record in found] == list(range(10, 1_000))
    assert {record.ended_at for record in found} == {NOON}


async def test_content_ingested_before_is_found(catalog, batch_id):
    """Done documents of the same tenant, content and fingerprint, oldest first, at most twenty."""
    for ordinal in range(30):
        await catalog.save_outcome(done_record(batch_id, ordinal, ended_at=NOON - SECOND * ordinal))
    for ordinal, other in [(40, {"status": "failed"}), (41, {"sha256": "cd" * 32}), (42, {"fingerprint": "f2"})]:
        await catalog.save_outcome(done_record(batch_id, ordinal, ended_at=NOON - timedelta(days=1), **other))
    found = await catalog.find_ingested(DEFAULT_TENANT_ID, SHA, "f1")
    assert [record.ordinal for record in found] == list(range(29, 9, -1))
    assert await catalog.find_ingested(OTHER_TENANT, SHA, "f1") == []


async def test_several_contents_are_looked_for_at_once(catalog, batch_id):
    """Each by the rules for one; what was never ingested is left out."""
    other, unknown = "cd" * 32, "ef" * 32
    for ordinal in range(25):
        await catalog.save_outcome(done_record(batch_id, ordinal, ended_at=NOON - SECOND * ordinal))
    await catalog.save_outcomes([done_record(batch_id, 30, sha256=other), done_record(batch_id, 31, fingerprint="f2")])

    found = await catalog.find_ingested_among(DEFAULT_TENANT_ID, [SHA, unknown, other, SHA], "f1")

    assert found == {sha256: await catalog.find_ingested(DEFAULT_TENANT_ID, sha256, "f1") for sha256 in (SHA, other)}
    assert [record.ordinal for record in found[SHA]] == list(range(24, 4, -1))
    assert await catalog.find_ingested_among(DEFAULT_TENANT_ID, [], "f1") == {}


async def test_several_outcomes_are_written_all_or_none(catalog, batch_id):
    """One row that cannot be written takes those with it that were to be written together, and no others."""
    stray = [done_record(batch_id, 5), done_record(str(uuid.uuid4()))]
    answers = await asyncio.gather(
        catalog.save_outcomes([done_record(batch_id, ordinal) for ordinal in range(3)]),
        catalog.save_outcomes(stray),
        catalog.save_outcomes([]),
        return_exceptions=True,
    )
    assert isinstance(answers[1], BatchNotFoundError)
    assert [record.ordinal for record in await catalog.list_documents(DocumentFilter(batch_id), 10)] == [0, 1, 2]


async def test_one_bad_row_fails_alone(catalog, batch_id):
    """Of many outcomes written together, the one without a batch is refused and all others are kept."""
    stray = str(uuid.uuid4())
    records = [done_record(batch_id, ordinal) for ordinal in range(50)]
    answers = await asyncio.gather(
        *(catalog.save_outcome(record) for record in [*records[:25], done_record(stray), *records[25:]]),
        return_exceptions=True,
    )
    assert isinstance(answers.pop(25), BatchNotFoundError)
    assert answers == [None] * 50
    assert len(await catalog.list_documents(DocumentFilter(batch_id), 100)) == 50
    with pytest.raises(BatchNotFoundError):
        await catalog.add_documents([document_record(stray)])


async def test_a_cancelled_caller_disturbs_no_other(catalog, batch_id):
    """Outcomes saved together with one whose caller gave up are all committed."""
    records = [done_record(batch_id, ordinal) for ordinal in range(20)]
    saving = [asyncio.create_task(catalog.save_outcome(record)) for record in records]
    await asyncio.sleep(0)
    saving[3].cancel()
    answers = await asyncio.gather(*saving, return_exceptions=True)
    assert [number for number, answer in enumerate(answers) if answer is not None] in ([], [3])
    expected = [record.ordinal for record in records if record.ordinal != 3]
    found = await catalog.get_documents(batch_id, expected)
    assert [record.ordinal for record in found] == expected


async def test_costs_are_the_documents_in_order_and_no_more_than_asked_for(catalog, batch_id):
    """Size, status and timings of each, also of those that have not begun."""
    begun = done_record(batch_id, 1, size_bytes=70, timings_ms={"parsing": 1.5})
    await catalog.add_documents([document_record(batch_id, ordinal) for ordinal in (2, 0, 1)])
    await catalog.save_outcome(begun)
    assert await catalog.list_costs(batch_id, 2) == [
        DocumentCost(0, DocumentStatus.PENDING, None, {}),
        DocumentCost(1, DocumentStatus.DONE, 70, {"parsing": 1.5}),
    ]


async def test_ends_are_counted_by_interval(catalog, batch_id):
    """From a moment on, what ended before it and what was cancelled left out."""
    ends = [(0, NOON - SECOND), (1, NOON), (2, NOON + 4 * SECOND), (3, NOON + 5 * SECOND), (4, NOON + 61 * SECOND)]
    for ordinal, ended_at in ends:
        record = document_record(batch_id, ordinal, status=DocumentStatus.DONE, ended_at=ended_at)
        await catalog.add_documents([document_record(batch_id, ordinal)])
        await catalog.save_outcome(record)
    await catalog.add_documents([document_record(batch_id, 5)])
    since = NOON.replace(microsecond=0)
    assert await catalog.count_ends(batch_id, since, 5) == {0: 2, 1: 1, 12: 1}
    assert await catalog.count_ends(batch_id, since, 3_600) == {0: 4}
