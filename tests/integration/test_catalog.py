"""The catalog's contract for tenants, batches and event numbers: memory, SQLite and PostgreSQL."""

import asyncio
import uuid
from datetime import timedelta, timezone

import pytest

from ingather.models.batch import BatchProblem, BatchState, BatchSummary, Counts, SourceProgress
from ingather.models.errors import TenantNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.catalog import BatchFilter
from tests.support.catalog_records import NOON, SHA, batch_record

OTHER_TENANT = "11111111-1111-7111-8111-111111111111"
SECOND = timedelta(seconds=1)


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
        queued_at=NOON + SECOND / 2,
        started_at=NOON + SECOND,
        ended_at=NOON + 2 * SECOND,
        ran_ms=900,
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


async def test_a_place_in_a_list_may_be_told_in_any_zone(catalog):
    """It is a moment, however its hour is written."""
    records = [batch_record(created_at=NOON + SECOND * number) for number in range(3)]
    for record in records:
        await catalog.add_batch(record)
    elsewhere = (NOON + SECOND * 2).astimezone(timezone(timedelta(hours=-5)))
    found = await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, before=(elsewhere, "")), 5)
    assert found == records[1::-1]


async def test_batches_are_filtered(catalog):
    """State and collection narrow a listing, together."""
    wanted = batch_record(state=BatchState.RUNNING, collection="contracts")
    for record in [wanted, batch_record(state=BatchState.RUNNING), batch_record(collection="contracts")]:
        await catalog.add_batch(record)
    states = (BatchState.RUNNING, BatchState.PAUSED)
    assert await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, states, "contracts"), 10) == [wanted]
    assert len(await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, states), 10)) == 2
    assert len(await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, collection="contracts"), 10)) == 2


@pytest.mark.parametrize("text", ["march", "MARCH", "of m", "%"])
async def test_batches_are_found_by_part_of_their_name(catalog, text):
    """In capitals or not; what is special to a database is a character like any other."""
    wanted = batch_record(name="100 % Minutes of March")
    for record in [wanted, batch_record(name="Letters")]:
        await catalog.add_batch(record)
    assert await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, text=text), 10) == [wanted]


async def test_batches_are_found_by_how_their_id_begins(catalog):
    """And by nothing else of it."""
    wanted = batch_record()
    await catalog.add_batch(wanted)
    for text, found in (
        (wanted.batch_id, [wanted]),
        (wanted.batch_id[:-3].upper(), [wanted]),
        (wanted.batch_id[1:], []),
    ):
        assert await catalog.list_batches(BatchFilter(DEFAULT_TENANT_ID, text=text), 10) == found


async def test_a_running_batch_shows_its_state(catalog, batch_id):
    """The state is noted, and the total once it is known; a batch that is not there is no error."""
    await catalog.set_batch_state(batch_id, BatchState.RUNNING, 40)
    await catalog.set_batch_state(batch_id, BatchState.PAUSED)
    record = await catalog.get_batch(batch_id)
    assert (record.state, record.counts) == (BatchState.PAUSED, Counts(total=40, pending=40))
    await catalog.set_batch_state(str(uuid.uuid4()), BatchState.RUNNING)


async def test_a_state_that_comes_late_opens_no_batch_that_ended_since(catalog, batch_id):
    """What was asked for before the end is older than it; what was asked for afterwards opens the batch again."""
    ended = BatchSummary(
        batch_id=batch_id, state=BatchState.COMPLETED, counts=Counts(), version=9, ended_at=NOON + SECOND
    )
    await catalog.set_batch_state(batch_id, BatchState.RUNNING, before=NOON)
    assert (await catalog.get_batch(batch_id)).state is BatchState.RUNNING
    await catalog.finish_batch(ended)
    await catalog.set_batch_state(batch_id, BatchState.RETRYING, before=NOON)
    assert (await catalog.get_batch(batch_id)).state is BatchState.COMPLETED
    await catalog.set_batch_state(batch_id, BatchState.RETRYING, before=NOON + 2 * SECOND)
    assert (await catalog.get_batch(batch_id)).state is BatchState.RETRYING


async def test_a_state_of_one_last_word_changes_no_other(catalog, batch_id):
    """It takes back the word that was read, and not the one that took its place since."""
    given_up = BatchSummary(batch_id=batch_id, state=BatchState.FAILED, counts=Counts(), version=3, ended_at=NOON)
    await catalog.finish_batch(given_up)
    await catalog.set_batch_state(batch_id, BatchState.QUEUED, version=3)
    assert (await catalog.get_batch(batch_id)).state is BatchState.QUEUED
    # Its clock may go behind.
    done = BatchSummary(
        batch_id=batch_id, state=BatchState.COMPLETED, counts=Counts(), version=9, ended_at=NOON - SECOND
    )
    await catalog.finish_batch(done)
    await catalog.set_batch_state(batch_id, BatchState.QUEUED, version=3)
    assert (await catalog.get_batch(batch_id)).state is BatchState.COMPLETED


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
        queued_at=NOON - SECOND,
        started_at=NOON,
        ended_at=NOON + SECOND,
        rested_ms=400,
    )
    await catalog.finish_batch(final)
    await catalog.finish_batch(final.model_copy(update={"version": 8, "state": BatchState.FAILED}))
    record = await catalog.get_batch(batch_id)
    for name in BatchSummary.model_fields.keys() - {"rested_ms"}:
        assert getattr(record, name) == getattr(final, name)
    assert record.ran_ms == 600
    await catalog.finish_batch(final.model_copy(update={"version": 10, "state": BatchState.COMPLETED}))
    assert (await catalog.get_batch(batch_id)).state is BatchState.COMPLETED


async def test_untold_batches_are_those_of_the_contracts_until_their_end_is_told(catalog):
    """Of every tenant, oldest first; opened again, or finished once more, a batch is untold again."""
    await catalog.add_tenant(OTHER_TENANT, "other")
    young = batch_record(contract="jobs", created_at=NOON + SECOND)
    old = batch_record(contract="jobs", tenant_id=OTHER_TENANT)
    for record in (young, old, batch_record(), batch_record(contract="else")):
        await catalog.add_batch(record)
    names = [(OTHER_TENANT, old.batch_id), (DEFAULT_TENANT_ID, young.batch_id)]
    assert await catalog.list_untold(["jobs", "none"], 10) == names
    assert await catalog.list_untold(["jobs"], 1) == names[:1]

    await catalog.note_told(young.batch_id, 99)
    assert await catalog.list_untold(["jobs"], 10) == names, "it has not ended"
    ended = BatchSummary(batch_id=young.batch_id, state=BatchState.COMPLETED, counts=Counts(), version=5)
    await catalog.finish_batch(ended)
    await catalog.note_told(young.batch_id, 4)
    assert await catalog.list_untold(["jobs"], 10) == names, "that was an earlier end"
    await catalog.note_told(young.batch_id, 5)
    assert await catalog.list_untold(["jobs"], 10) == names[:1]
    assert (await catalog.get_batch(young.batch_id)).is_told

    await catalog.set_batch_state(young.batch_id, BatchState.RETRYING)
    assert await catalog.list_untold(["jobs"], 10) == names
    await catalog.finish_batch(ended.model_copy(update={"version": 8}))
    await catalog.note_told(young.batch_id, 8)
    await catalog.finish_batch(ended.model_copy(update={"version": 8}))
    assert await catalog.list_untold(["jobs"], 10) == names


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
