"""The contract of the audit log: over memory, SQLite and PostgreSQL."""

import asyncio
import sqlite3
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DatabaseError

from ingather.domain.audit import batch_ended, batch_event, batch_submitted, documents_ingested
from ingather.models.accounts import ApiKey, Tenant, User
from ingather.models.audit import SYSTEM, Actor, AuditEvent, AuditType
from ingather.models.batch import BatchState, BatchSummary, Counts, SubmissionPart
from ingather.models.errors import BatchNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.audit import AuditFilter
from tests.support.catalog_records import NOON, batch_record, done_record

OTHER = "11111111-1111-7111-8111-111111111111"
SECOND = timedelta(seconds=1)
MINE = AuditFilter(DEFAULT_TENANT_ID)


@pytest.fixture
def log(catalog):
    return catalog.audit


def event(**facts) -> AuditEvent:
    given = {
        "event_id": str(uuid.uuid4()), "tenant_id": DEFAULT_TENANT_ID, "event_type": "BATCH_PAUSED",
        "resource_type": "batch", "resource_id": str(uuid.uuid4()), "actor": "ada", "timestamp": NOON,
    }  # fmt: skip
    return AuditEvent(**given | facts)


async def listed(log, limit=100, **where):
    return await log.list_events(AuditFilter(**{"tenant_id": DEFAULT_TENANT_ID} | where), limit)


async def test_an_event_is_read_as_it_was_written(log):
    """Whatever people are called and whatever the details hold."""
    written = event(actor="Zoë \u2028 O'Hara", details={"a": [1, {"b": None}], "filename": "naïve.txt"})
    await log.record([written])
    assert await listed(log) == [written]


async def test_what_databases_refuse_is_replaced_and_nothing_is_lost(log, catalog_kind):
    """NUL and lone surrogates in names cost a character, never the event."""
    await log.record([event(actor="a\0b", details={"filename": "\ud800.txt"})])
    [found] = await listed(log)
    if catalog_kind != "memory":
        assert (found.actor, found.details) == ("a\ufffdb", {"filename": "\ufffd.txt"})


async def test_the_first_word_stays(log):
    """The same event again, told otherwise, changes nothing; its neighbours are added."""
    first = event(actor="ada")
    await log.record([first])
    added = event(timestamp=NOON - SECOND)
    await log.record([first.model_copy(update={"actor": "eve"}), added])
    assert await listed(log) == [first, added]
    assert await log.recorded([first.event_id, added.event_id, str(uuid.uuid4())]) == {first.event_id, added.event_id}


async def test_nothing_to_record_is_no_error(log):
    """Neither is nothing to look for."""
    await log.record([])
    assert await log.recorded([]) == set()


async def test_events_are_listed_newest_first_page_by_page(log):
    """Those of one moment by id, so that no page ends between two that look alike."""
    events = [event(timestamp=NOON - SECOND * (number // 3)) for number in range(10)]
    await log.record(events)
    expected = sorted(events, key=lambda each: (each.timestamp, each.event_id), reverse=True)

    found, before = [], None
    while page := await listed(log, 4, before=before):
        found += page
        before = (page[-1].timestamp, page[-1].event_id)
    assert found == expected


async def test_filters_hold_together(log):
    """Type, resource, actor and time, one by one and all at once; a tenant sees its own."""
    wanted = event(event_type="BATCH_RESUMED", actor="bob", timestamp=NOON + SECOND)
    key = event(event_type="API_KEY_CREATED", resource_type="api_key", resource_id="abcdefgh")
    foreign = event(tenant_id=OTHER, resource_id=wanted.resource_id)
    await log.record([event(), wanted, key, foreign, event(timestamp=NOON + 5 * SECOND)])

    assert await listed(log, event_type="BATCH_RESUMED") == [wanted]
    assert await listed(log, resource_type="api_key") == [key]
    assert await listed(log, resource_id=wanted.resource_id) == [wanted]
    assert await listed(log, resource_id="abcdefgh") == [key]
    assert await listed(log, actor="bob") == [wanted]
    assert await listed(log, since=NOON + SECOND, until=NOON + 5 * SECOND) == [wanted]
    assert await listed(log, tenant_id=OTHER) == [foreign]
    everything = {"event_type": "BATCH_RESUMED", "resource_type": "batch", "resource_id": wanted.resource_id}
    assert await listed(log, **everything, actor="bob", since=NOON, before=(NOON + 2 * SECOND, "")) == [wanted]
    assert await listed(log, **everything, actor="eve") == []


async def test_an_outcome_and_its_event_are_written_together(catalog, log, batch_id):
    """Once, however often the outcome is written; by document, its event is found."""
    records = [done_record(batch_id, ordinal, ended_at=NOON + SECOND * ordinal) for ordinal in range(3)]
    failed = done_record(batch_id, 3, status="failed")
    for _ in range(2):
        await catalog.save_outcomes([*records, failed], documents_ingested([*records, failed], "ada"))
    await catalog.save_outcome(records[0], documents_ingested(records[:1], "somebody else"))

    found = await listed(log, event_type="DOCUMENT_INGESTED")
    assert [each.resource_id for each in found] == [each.file_id for each in reversed(records)]
    assert found[0].model_dump(exclude={"event_id"}) == {
        "tenant_id": DEFAULT_TENANT_ID, "event_type": "DOCUMENT_INGESTED", "resource_type": "document",
        "resource_id": records[2].file_id, "details": {"filename": records[2].filename}, "actor": "ada",
        "timestamp": records[2].ended_at,
    }  # fmt: skip
    assert uuid.UUID(found[0].event_id)
    assert await listed(log, resource_id=records[1].file_id) == [found[1]]
    assert await listed(log, resource_type="document", resource_id=records[1].file_id) == [found[1]]
    assert await listed(log, resource_id=failed.file_id) == []


async def test_outcomes_of_many_writers_leave_an_event_each(catalog, log, batch_id):
    """Also where attempts overlap and transactions are shared."""
    records = [done_record(batch_id, ordinal) for ordinal in range(60)]
    await asyncio.gather(*(catalog.save_outcome(each, documents_ingested([each], "ada")) for each in records * 2))
    assert len({each.resource_id for each in await listed(log)}) == len(await listed(log)) == 60


async def test_where_an_outcome_cannot_be_written_there_is_no_event(catalog, log):
    """A document of a batch that is not there was not ingested; a neighbour in the same transaction was."""
    record, _ = await catalog.add_batch(batch_record())
    lost, kept = done_record(str(uuid.uuid4())), done_record(record.batch_id)
    outcomes = [catalog.save_outcome(each, documents_ingested([each], "ada")) for each in (lost, kept)]
    first, second = await asyncio.gather(*outcomes, return_exceptions=True)
    assert isinstance(first, BatchNotFoundError)
    assert second is None
    assert [each.resource_id for each in await listed(log)] == [kept.file_id]


async def test_a_batch_is_submitted_and_ends_on_record(catalog, log):
    """With the record itself; a replay adds nothing, and a batch that ends once more has a second end."""
    record = batch_record()
    for by in (Actor(name="ada", credential="key:abcdefgh"), Actor(name="eve")):
        await catalog.add_batch(record, None, [batch_submitted(record, by)])
    for version in (5, 5, 9):
        summary = BatchSummary(
            batch_id=record.batch_id, state=BatchState.COMPLETED, counts=Counts(total=1, done=1), version=version,
            ended_at=NOON + SECOND * version,
        )  # fmt: skip
        await catalog.finish_batch(summary, [batch_ended(record.tenant_id, summary, NOON)])

    found = await listed(log, resource_id=record.batch_id)
    assert [each.event_type for each in found] == ["BATCH_ENDED", "BATCH_ENDED", "BATCH_SUBMITTED"]
    assert [each.actor for each in found] == ["system", "system", "ada"]
    assert found[0].details["state"] == "completed"
    assert found[2].details["credential"] == "key:abcdefgh"


async def test_a_rename_and_an_addition_are_on_record_with_what_they_change(catalog, log):
    """In the same step; a part that was there already is no event."""
    record, _ = await catalog.add_batch(batch_record())
    part = SubmissionPart(
        batch_id=record.batch_id, part_id=str(uuid.uuid4()), key="k", document_count=1, size_bytes=1, created_at=NOON
    )
    extended = event(event_type="BATCH_EXTENDED")
    await catalog.add_part(part, events=[extended])
    await catalog.add_part(part, events=[event(event_type="BATCH_EXTENDED")])
    renamed = event(event_type="BATCH_RENAMED", timestamp=NOON + SECOND)
    await catalog.edit_batch(record.batch_id, name="New", events=[renamed])
    assert await listed(log) == [renamed, extended]
    assert (await catalog.get_batch(record.batch_id)).name == "New"


async def test_accounts_change_and_say_so_in_one_step(catalog, log):
    """What changed is on record, and what changed nothing is not."""
    accounts = catalog.accounts
    tenant = Tenant(tenant_id=OTHER, name="Acme", created_at=NOON)
    user = User(user_id=str(uuid.uuid4()), tenant_id=OTHER, username="ada", created_at=NOON)
    key = ApiKey(key_id="abcdefgh", tenant_id=OTHER, name="nightly", created_at=NOON)

    def told(kind):
        return [event(tenant_id=OTHER, event_type=kind, timestamp=NOON)]

    for _ in range(2):
        await accounts.add_tenant(tenant, told("TENANT_CREATED"))
        await accounts.add_user(user, "hash", told("USER_CREATED"))
        await accounts.add_key(key, "hash", told("API_KEY_CREATED"))
    for _ in range(2):
        await accounts.revoke_key(key.key_id, NOON, told("API_KEY_REVOKED"))
        await accounts.delete_user(user.user_id, NOON, told("USER_DELETED"))
    await accounts.edit_tenant(OTHER, {"name": "Acme Ltd"}, told("TENANT_CHANGED"))
    for _ in range(2):
        await accounts.delete_tenant(OTHER, NOON, told("TENANT_DELETED"))
    await accounts.edit_tenant(OTHER, {"name": "Ghost"}, told("TENANT_CHANGED"))

    found = [each.event_type for each in await listed(log, tenant_id=OTHER)]
    assert sorted(found) == [
        "API_KEY_CREATED", "API_KEY_REVOKED", "TENANT_CHANGED", "TENANT_CREATED", "TENANT_DELETED", "USER_CREATED",
        "USER_DELETED",
    ]  # fmt: skip


@pytest.mark.parametrize("catalog_kind", ["sqlite", "postgres"], indirect=True)
@pytest.mark.parametrize("change", ["UPDATE audit_events SET actor = 'nobody'", "DELETE FROM audit_events"])
async def test_the_database_itself_refuses_changes(log, database_url, change):
    """Append-only holds for whoever has a connection, not only for this program."""
    await log.record([event()])
    engine = create_engine(database_url)
    try:
        with pytest.raises(DatabaseError, match="never changed and never removed"), engine.begin() as connection:
            connection.execute(text(change))
    finally:
        engine.dispose()
    assert len(await listed(log)) == 1


@pytest.mark.parametrize("catalog_kind", ["sqlite"], indirect=True)
async def test_questions_are_answered_from_an_index(catalog, log, database_url, batch_id):
    """Also the rare events among a million documents, which an index of their own holds."""
    await log.record([batch_event(AuditType.BATCH_PAUSED, DEFAULT_TENANT_ID, batch_id, SYSTEM, NOON)])
    path = database_url.removeprefix("sqlite:///")
    plans = {
        "ix_audit_events_tenant_id_timestamp_event_id": "SELECT * FROM audit_events WHERE tenant_id = ?"
        " AND timestamp <= ? AND (timestamp, event_id) < (?, ?) ORDER BY timestamp DESC, event_id DESC LIMIT 50",
        "ix_audit_events_no_documents": "SELECT * FROM audit_events WHERE tenant_id = ? AND event_type = ?"
        " AND resource_type != 'document' ORDER BY timestamp DESC, event_id DESC LIMIT 50",
        "ix_audit_events_by_resource": "SELECT * FROM audit_events WHERE tenant_id = ? AND resource_id = ?"
        " AND resource_type != 'document' ORDER BY timestamp DESC, event_id DESC LIMIT 50",
        "sqlite_autoindex_audit_events_1": "SELECT * FROM audit_events WHERE tenant_id = ? AND resource_id = ?"
        " AND event_id = ? ORDER BY timestamp DESC, event_id DESC LIMIT 50",
    }
    with sqlite3.connect(path) as connection:
        for index, query in plans.items():
            steps = connection.execute("EXPLAIN QUERY PLAN " + query, ("",) * query.count("?")).fetchall()
            assert index in steps[0][3], steps
    connection.close()
