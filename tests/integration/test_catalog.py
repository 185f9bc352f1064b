"""One contract for every catalog: memory, SQLite and PostgreSQL."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from ingather.adapters.memory.catalog import InMemoryCatalog
from ingather.adapters.sql import SqlCatalog, migrate
from ingather.models.batch import BatchProblem, BatchState, BatchSummary, Counts, SourceProgress
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentStatus
from ingather.models.errors import BatchNotFoundError, CatalogUnavailableError, TenantNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.catalog import BatchFilter, Catalog, DocumentFilter
from tests.support.catalog_records import NOON, SHA, batch_record, document_record, done_record
from tests.support.postgres import new_database

OTHER_TENANT = "11111111-1111-7111-8111-111111111111"
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def database_url(request, kind, tmp_path) -> str | None:
    """A migrated database of this test's own; None for the memory catalog, which needs none."""
    if kind == "memory":
        return None
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/a folder/catalog.db"
    else:
        url = new_database(request.getfixturevalue("postgres_sockets"))
    migrate(url)
    return url


@pytest.fixture
async def catalog(database_url) -> AsyncIterator[Catalog]:
    opened = InMemoryCatalog() if database_url is None else SqlCatalog(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def batch_id(catalog) -> str:
    record, _ = await catalog.add_batch(batch_record())
    return record.batch_id


# Tenants


async def test_the_default_tenant_is_there_from_the_start(catalog):
    """A new catalog knows the default tenant and no other."""
    assert await catalog.tenant_exists(DEFAULT_TENANT_ID)
    assert not await catalog.tenant_exists(OTHER_TENANT)


async def test_a_tenant_is_registered_once(catalog):
    """Adding a tenant again changes nothing."""
    await catalog.add_tenant(OTHER_TENANT, "Zoë & Söhne")
    await catalog.add_tenant(OTHER_TENANT, "another name")
    assert await catalog.tenant_exists(OTHER_TENANT)


async def test_a_batch_needs_its_tenant(catalog):
    """A batch of a tenant nobody registered is refused."""
    with pytest.raises(TenantNotFoundError):
        await catalog.add_batch(batch_record(tenant_id=OTHER_TENANT))


# Batches


async def test_a_batch_is_read_as_it_was_written(catalog):
    """Every field of a batch comes back, moments with their microseconds."""
    counts = Counts(total=3, done=2, failed=1)
    record = batch_record(
        state=BatchState.FAILED,
        counts=counts,
        version=7,
        name="Übung 🎉",
        priority=1,
        failures_by_code={"corrupt": 1},
        sources=(SourceProgress(name="a.zip", source_type="zip", counts=counts),),
        retry_round=2,
        problem=BatchProblem(code="batch_too_large", message="too many", action="split"),
        request_fingerprint=SHA,
        report_key="batches/x/report.jsonl",
        started_at=NOON + SECOND,
        ended_at=NOON + 2 * SECOND,
    )
    assert await catalog.add_batch(record) == (record, True)
    assert await catalog.get_batch(record.batch_id) == record


async def test_a_batch_is_added_once(catalog):
    """A second batch of the same id is answered with the first, and changes nothing."""
    first = batch_record(name="first")
    second = batch_record(batch_id=first.batch_id, name="second")
    await catalog.add_batch(first)
    assert await catalog.add_batch(second) == (first, False)
    assert await catalog.get_batch(first.batch_id) == first


async def test_only_one_of_many_adds_wins(catalog):
    """Of ten submissions of the same id at once, exactly one inserts, and all are answered with it."""
    batch_id = str(uuid.uuid4())
    records = [batch_record(batch_id=batch_id, name=f"attempt {number}") for number in range(10)]
    answers = await asyncio.gather(*(catalog.add_batch(record) for record in records))
    assert sum(added for _, added in answers) == 1
    assert len({record.name for record, _ in answers}) == 1


async def test_another_tenants_batch_is_unknown(catalog, batch_id):
    """Asked for with a tenant, a batch shows to its own only."""
    assert await catalog.get_batch(batch_id, DEFAULT_TENANT_ID) is not None
    assert await catalog.get_batch(batch_id, OTHER_TENANT) is None
    assert await catalog.get_batch(str(uuid.uuid4())) is None


async def test_batches_are_listed_newest_first_without_gaps(catalog):
    """Page by page, every batch of the tenant comes once, also those created in the same microsecond."""
    await catalog.add_tenant(OTHER_TENANT, "other")
    await catalog.add_batch(batch_record(tenant_id=OTHER_TENANT))
    records = [batch_record(created_at=NOON + SECOND * (number // 4)) for number in range(17)]
    for record in records:
        await catalog.add_batch(record)
    expected = sorted(records, key=lambda record: (record.created_at, record.batch_id), reverse=True)
    seen = []
    before = None
    while page := await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, before=before), 5):
        seen += page
        before = (page[-1].created_at, page[-1].batch_id)
    assert seen == expected


async def test_batches_are_filtered(catalog):
    """State and collection narrow a listing, together."""
    wanted = batch_record(state=BatchState.RUNNING, collection="contracts")
    for record in [wanted, batch_record(state=BatchState.RUNNING), batch_record(collection="contracts")]:
        await catalog.add_batch(record)
    states = (BatchState.RUNNING, BatchState.PAUSED)
    assert await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, states, "contracts"), 10) == [wanted]
    assert len(await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, states), 10)) == 2
    assert len(await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, collection="contracts"), 10)) == 2


async def test_a_running_batch_shows_its_state(catalog, batch_id):
    """The state is noted, and the total once it is known; a batch that is not there is no error."""
    await catalog.set_batch_state(batch_id, BatchState.RUNNING, 40)
    await catalog.set_batch_state(batch_id, BatchState.PAUSED)
    record = await catalog.get_batch(batch_id)
    assert (record.state, record.counts) == (BatchState.PAUSED, Counts(total=40, pending=40))
    await catalog.set_batch_state(str(uuid.uuid4()), BatchState.RUNNING)


async def test_a_batch_is_renamed_and_reprioritised(catalog, batch_id):
    """What is not given stays."""
    await catalog.edit_batch(batch_id, name="Renamed")
    await catalog.edit_batch(batch_id, priority=1)
    await catalog.edit_batch(batch_id)
    record = await catalog.get_batch(batch_id)
    assert (record.name, record.priority) == ("Renamed", 1)


async def test_a_later_version_wins(catalog, batch_id):
    """How a batch ended is written whole; an earlier version that arrives late changes nothing."""
    counts = Counts(total=2, done=1, failed=1)
    final = BatchSummary(
        batch_id=batch_id,
        state=BatchState.COMPLETED_WITH_FAILURES,
        counts=counts,
        version=9,
        failures_by_code={"empty": 1},
        sources=(SourceProgress(name="upload", source_type="upload", counts=counts),),
        retry_round=1,
        report_key="report",
        started_at=NOON,
        ended_at=NOON + SECOND,
    )
    await catalog.finish_batch(final)
    await catalog.finish_batch(final.model_copy(update={"version": 8, "state": BatchState.FAILED}))
    record = await catalog.get_batch(batch_id)
    for name in BatchSummary.model_fields:
        assert getattr(record, name) == getattr(final, name)
    await catalog.finish_batch(final.model_copy(update={"version": 10, "state": BatchState.COMPLETED}))
    assert (await catalog.get_batch(batch_id)).state is BatchState.COMPLETED


# Documents


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
        fingerprint="f1",
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


async def test_documents_are_marked_as_indexed(catalog, batch_id):
    """Marking touches the named documents alone; unknown and no ids are no error."""
    for ordinal in range(3):
        await catalog.save_outcome(done_record(batch_id, ordinal))
    ids = [done_record(batch_id, ordinal).file_id for ordinal in (0, 2, 99)]
    await catalog.mark_indexed(ids, NOON)
    await catalog.mark_indexed([], NOON)
    found = await catalog.get_documents(batch_id, [0, 1, 2])
    assert [record.indexed_at for record in found] == [NOON, None, NOON]


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
    wanted = [*range(600, 100, -1), 5, 5, 9_999]
    found = await catalog.get_documents(batch_id, wanted)
    assert [record.ordinal for record in found] == [5, *range(101, 601)]
    assert await catalog.get_documents(batch_id, []) == []


async def test_a_whole_batch_is_iterated(catalog, batch_id):
    """More documents than one page holds come in order, each once."""
    await catalog.add_documents([document_record(batch_id, ordinal) for ordinal in reversed(range(1_003))])
    assert [record.ordinal async for record in catalog.iterate_documents(batch_id)] == list(range(1_003))


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


# Event numbers


async def test_event_numbers_are_never_given_twice(catalog):
    """Reservations at the same time are disjoint and leave no gap."""
    batch_id = str(uuid.uuid4())
    assert await catalog.event_high_water(batch_id) == 0
    assert await catalog.reserve_event_numbers(batch_id, 100) == 0
    starts = await asyncio.gather(*(catalog.reserve_event_numbers(batch_id, 10) for _ in range(40)))
    assert sorted(starts) == list(range(100, 500, 10))
    assert await catalog.event_high_water(batch_id) == 500


async def test_a_usable_catalog_passes_its_check(catalog):
    """``check`` returns when all is well."""
    await catalog.check()


# What only databases can do

databases = pytest.mark.parametrize("kind", ["sqlite", "postgres"])


@databases
async def test_text_no_database_takes_is_mended(catalog):
    """NUL, lone surrogates and huge numbers in names and metadata cost a character, never the row."""
    record, _ = await catalog.add_batch(batch_record(name="na\0me\ud800"))
    outcome = done_record(
        record.batch_id,
        original_filename="a\0b\udfffc",
        metadata={"k\0": ["\ud83d", "\0"], "n": 2**70, "ok": "\\u0000"},
    )
    await catalog.save_outcome(outcome)
    found = await catalog.get_document(outcome.file_id)
    assert found.original_filename == "a\ufffdb\ufffdc"
    assert found.metadata["k\ufffd"] == ["\ufffd", "\ufffd"]
    assert found.metadata["ok"] == "\\u0000"
    assert (await catalog.get_batch(record.batch_id)).name == "na\ufffdme\ufffd"


SAVER = """
import asyncio, sys
sys.path.insert(0, {root!r})
from ingather.adapters.sql import SqlCatalog
from tests.support.catalog_records import done_record

async def main(url, batch_id, first):
    async with SqlCatalog(url) as catalog:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(catalog.save_outcome(done_record(batch_id, first + n)) for n in range(200)))
        print("saved", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def start_saver(url: str, batch_id: str, first: int) -> asyncio.subprocess.Process:
    saver = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SAVER.format(root=str(Path(__file__).parents[2])),
        url,
        batch_id,
        str(first),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert await saver.stdout.readline() == b"ready\n"
    return saver


@databases
async def test_two_processes_write_at_once(catalog, database_url):
    """Two hundred outcomes each from two processes at the same time all land."""
    record, _ = await catalog.add_batch(batch_record())
    savers = [await start_saver(database_url, record.batch_id, first) for first in (0, 200)]
    for saver in savers:
        saver.stdin.write(b"go\n")
    for saver in savers:
        assert await saver.stdout.readline() == b"saved\n"
        saver.stdin.write(b"end\n")
        assert await saver.wait() == 0
    found = await catalog.list_documents(DocumentFilter(record.batch_id, status=DocumentStatus.DONE), 1_000)
    assert [document.ordinal for document in found] == list(range(400))


@databases
async def test_what_was_answered_survives_a_kill(catalog, database_url):
    """After SIGKILL of the writer, everything it was told is saved is there."""
    record, _ = await catalog.add_batch(batch_record())
    saver = await start_saver(database_url, record.batch_id, 0)
    saver.stdin.write(b"go\n")
    assert await saver.stdout.readline() == b"saved\n"
    saver.kill()
    await saver.wait()
    assert len(await catalog.list_documents(DocumentFilter(record.batch_id), 1_000)) == 200


@databases
async def test_nothing_is_lost_when_the_catalog_closes(database_url):
    """Closing waits for outcomes that were handed in."""
    async with SqlCatalog(database_url) as catalog:
        record, _ = await catalog.add_batch(batch_record())
        saving = [asyncio.create_task(catalog.save_outcome(done_record(record.batch_id, n))) for n in range(30)]
        await asyncio.sleep(0)
    await asyncio.gather(*saving)
    async with SqlCatalog(database_url) as catalog:
        assert len(await catalog.list_documents(DocumentFilter(record.batch_id), 100)) == 30


@pytest.mark.parametrize("kind", ["postgres"])
async def test_a_server_that_was_restarted_is_found_again(catalog, database_url):
    """Connections that broke while they were idle are replaced before a caller notices."""
    record, _ = await catalog.add_batch(batch_record())
    await asyncio.gather(*(catalog.get_batch(record.batch_id) for _ in range(10)))
    engine = create_engine(database_url)
    with engine.begin() as connection:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
    engine.dispose()
    for _ in range(5):
        assert await catalog.get_batch(record.batch_id) == record
    await catalog.save_outcome(done_record(record.batch_id))


async def test_an_unreachable_server_is_unavailable():
    """Nobody answers: every method says so, and the password stays unsaid."""
    catalog = SqlCatalog("postgresql+psycopg://ingather:very-secret@127.0.0.1:1/catalog")
    for attempt in (
        catalog.check(),
        catalog.add_batch(batch_record()),
        catalog.save_outcome(done_record(str(uuid.uuid4()))),
        catalog.mark_indexed(["x"], NOON),
    ):
        with pytest.raises(CatalogUnavailableError) as raised:
            await attempt
        assert raised.value.retryable
        assert "very-secret" not in str(raised.value)
    await catalog.close()


async def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    """A damaged catalog file is said to be unusable."""
    (tmp_path / "catalog.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(CatalogUnavailableError):
        await asyncio.to_thread(migrate, f"sqlite:///{tmp_path}/catalog.db")
    async with SqlCatalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        with pytest.raises(CatalogUnavailableError):
            await catalog.check()
