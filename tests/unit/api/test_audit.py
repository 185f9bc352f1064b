"""``/v1/audit``: who did what, told once, read by those whose it is."""

from datetime import UTC, datetime, timedelta

import pytest

from ingather.domain.audit import documents_ingested
from ingather.models.batch import BatchState
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import CatalogUnavailableError, EngineUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.settings import AuthSettings, Settings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.callers import ADMIN, READ, key_of, new_tenant
from tests.support.submitted import form

OTHER = "11111111-1111-7111-8111-111111111111"
FIELDS = ["event_id", "tenant_id", "event_type", "resource_type", "resource_id", "details", "actor", "timestamp"]


@pytest.fixture
async def closed():
    async with api_in_process(Settings(auth=AuthSettings(mode="required"))) as running:
        yield running


async def audit(api: ApiInProcess, headers=None, **filters):
    response = await api.http.get("/v1/audit", params=filters, headers=headers)
    assert response.status_code == 200, response.text
    return response.json()["data"]


async def told(api: ApiInProcess, headers=None, **filters):
    """Types of events, oldest first."""
    return [event["event_type"] for event in reversed(await audit(api, headers, **filters))]


async def test_a_submission_is_on_record_with_who_made_it(closed):
    """Exactly the published fields; a replay adds nothing."""
    headers = await key_of(closed.catalog.accounts, name="nightly import")
    body = {"name": "papers", "documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    for _ in range(2):
        answer = await closed.http.post("/v1/batches", json=body, headers={**headers, "Idempotency-Key": "one"})
    [event] = await audit(closed, headers)
    assert list(event) == FIELDS
    assert (event["event_type"], event["resource_type"]) == ("BATCH_SUBMITTED", "batch")
    assert (event["resource_id"], event["tenant_id"]) == (answer.json()["id"], DEFAULT_TENANT_ID)
    assert event["actor"] == "key:nightly import"
    key_id = headers["X-API-Key"].removeprefix("ing_live_")[:8]
    details = {"name": "papers", "pipeline": "ingest", "contract": "v1", "submitted_count": 1}
    assert event["details"].items() >= (details | {"credential": f"key:{key_id}"}).items()


async def test_every_change_a_person_makes_to_a_batch_is_an_event(api):
    """In the order it was made; nothing is recorded that the batch refused."""
    batch = await api.submit(hold=True)
    path = f"/v1/batches/{batch['id']}"
    refused = await api.http.post(f"{path}/pause")
    assert refused.status_code == 409
    for action in ("start", "pause", "resume"):
        assert (await api.http.post(f"{path}/{action}")).status_code == 202
    assert (await api.http.patch(path, json={"priority": 1, "name": "urgent papers"})).status_code == 200
    assert (await api.http.post(f"{path}/cancel")).status_code == 202

    events = await audit(api, resource_id=batch["id"])
    assert [event["event_type"] for event in reversed(events)] == [
        "BATCH_SUBMITTED", "BATCH_STARTED", "BATCH_PAUSED", "BATCH_RESUMED", "BATCH_PRIORITY_CHANGED", "BATCH_RENAMED",
        "BATCH_CANCELLED",
    ]  # fmt: skip
    assert {event["actor"] for event in events} == {"anonymous"}
    assert events[2]["details"] == {"priority": 1, "previous": 3}
    assert events[1]["details"]["name"] == "urgent papers"


async def test_what_reaches_a_batch_names_who_sent_it(closed):
    """So that it can be recorded also when this process dies before it does."""
    key = await key_of(closed.catalog.accounts, name="nightly")
    body = {"documents": [{"filename": "a", "content": "YQ=="}]}
    batch = (await closed.http.post("/v1/batches", json=body, headers=key)).json()
    path = f"/v1/batches/{batch['id']}"
    for action in ("pause", "resume", "retry", "cancel"):
        assert (await closed.http.post(f"{path}/{action}", headers=key)).status_code == 202
    assert (await closed.http.patch(path, json={"priority": 1}, headers=key)).status_code == 200
    sent = [request.by for _, _, request in closed.engine.messages]
    assert {(by.name, by.credential) for by in sent} == {("key:nightly", f"key:{key['X-API-Key'][9:17]}")}
    assert len(sent) == 5


async def test_a_request_that_is_repeated_is_one_event(api):
    """By its Idempotency-Key; another key is another request."""
    batch = await api.submit()
    for key in ("a", "a", "b"):
        await api.http.post(f"/v1/batches/{batch['id']}/pause", headers={"Idempotency-Key": key})
    assert await told(api, event_type="BATCH_PAUSED") == ["BATCH_PAUSED"] * 2


async def test_a_retry_says_what_it_was_limited_to(api):
    """Codes by name, documents by how many."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.COMPLETED_WITH_FAILURES, failed=1, cancelled=1)
    body = {"include_cancelled": True}
    assert (await api.http.post(f"/v1/batches/{batch['id']}/retry", json=body)).status_code == 202
    [event] = await audit(api, event_type="BATCH_RETRIED")
    assert event["details"] == {"include_cancelled": True}


async def test_what_is_added_to_an_open_batch_is_told(api):
    """Each addition once, and the seal."""
    batch = await api.submit(open=True, documents=[])
    path = f"/v1/batches/{batch['id']}"
    for _ in range(2):
        await api.http.post(f"{path}/documents", **form(("1", b"1")), headers={"Idempotency-Key": "part"})
        await api.http.post(f"{path}/seal")
    assert await told(api) == ["BATCH_SUBMITTED", "BATCH_EXTENDED", "BATCH_SEALED"]
    assert (await audit(api, event_type="BATCH_SEALED"))[0]["details"]["submitted_count"] == 1


async def test_a_batch_that_never_began_ends_on_record(api):
    """Submitted and given up: both are there."""
    api.engine.fails_to_start = True
    response = await api.http.post("/v1/batches", json={"documents": [{"filename": "a", "content": "YQ=="}]})
    assert response.status_code == 503
    assert await told(api) == ["BATCH_SUBMITTED", "BATCH_ENDED"]
    [ended] = await audit(api, event_type="BATCH_ENDED")
    assert (ended["actor"], ended["details"]["state"], ended["details"]["problem"]) == (
        "system", "failed", "not_started",
    )  # fmt: skip


async def test_nothing_is_answered_that_is_not_on_record(api, monkeypatch):
    """Where the catalog is away the caller is told to come again, and then it is recorded."""
    batch = await api.submit()

    async def away(_events):
        raise CatalogUnavailableError("away")

    path, headers = f"/v1/batches/{batch['id']}/pause", {"Idempotency-Key": "k"}
    with monkeypatch.context() as patched:
        patched.setattr(api.catalog.audit, "record", away)
        assert (await api.http.post(path, headers=headers)).status_code == 503
    assert (await api.http.post(path, headers=headers)).status_code == 202
    assert await told(api, event_type="BATCH_PAUSED") == ["BATCH_PAUSED"]


async def test_an_engine_that_refused_leaves_no_event(api):
    """A pause that did not reach the batch did not happen."""
    batch = await api.submit()
    api.engine.is_down = True
    with pytest.raises(EngineUnavailableError):
        await api.engine.check()
    assert (await api.http.post(f"/v1/batches/{batch['id']}/pause")).status_code == 503
    assert await told(api) == ["BATCH_SUBMITTED"]


async def test_connections_that_go_with_their_tenant_are_on_record(api):
    """Each by itself, with the reason, as keys and users are."""
    tenant = (await api.http.post("/v1/tenants", json={"name": "Acme", "tenant_id": OTHER})).json()["id"]
    urls = {"source_type": "http", "settings": {"urls": ["https://example.org/a.pdf"]}}
    for name in ("papers", "letters"):
        made = {"connection_id": name, **urls}
        await api.http.post("/v1/connections", json=made, headers={"X-Tenant-ID": tenant})
    await api.http.delete(f"/v1/tenants/{tenant}")

    gone = await audit(api, tenant_id=tenant, event_type="CONNECTION_DELETED")
    assert {event["resource_id"] for event in gone} == {"papers", "letters"}
    assert {event["details"]["reason"] for event in gone} == {f"tenant {tenant} deleted"}


async def test_accounts_are_on_record_without_their_secrets(api):
    """Tenants, users and keys: made, changed, rotated, gone, and what went with them."""
    http = api.http
    tenant = (await http.post("/v1/tenants", json={"name": "Acme", "tenant_id": OTHER})).json()["id"]
    await http.patch(f"/v1/tenants/{tenant}", json={"pipeline": "handoff"})
    user = {"username": "ada", "password": "correct horse", "tenant_id": tenant}
    user_id = (await http.post("/v1/users", json=user)).json()["id"]
    made = (await http.post("/v1/api-keys", json={"name": "nightly", "tenant_id": tenant, "user": "ada"})).json()
    rotated = (await http.post(f"/v1/api-keys/{made['id']}/rotate", json={})).json()
    await http.delete(f"/v1/api-keys/{made['id']}")
    await http.delete(f"/v1/users/{user_id}")
    await http.delete(f"/v1/tenants/{tenant}")

    events = await audit(api, tenant_id=tenant)
    assert [event["event_type"] for event in reversed(events)][:6] == [
        "TENANT_CREATED", "TENANT_CHANGED", "USER_CREATED", "API_KEY_CREATED", "API_KEY_ROTATED", "API_KEY_REVOKED",
    ]  # fmt: skip
    assert {event["event_type"] for event in events[:3]} == {"USER_DELETED", "API_KEY_REVOKED", "TENANT_DELETED"}
    by_type = {event["event_type"]: event for event in reversed(events)}
    assert by_type["TENANT_CHANGED"]["details"]["fields"] == ["pipeline"]
    assert by_type["API_KEY_ROTATED"]["details"]["rotated_from"] == made["id"]
    assert by_type["API_KEY_REVOKED"]["resource_id"] == rotated["id"]
    assert by_type["API_KEY_REVOKED"]["details"]["reason"] == f"user {user_id} deleted"
    assert not any(secret in str(events) for secret in ("correct horse", made["key"], rotated["key"]))


async def test_pages_go_on_where_the_last_one_ended(api):
    """Newest first; a cursor belongs to its filters."""
    for _ in range(5):
        await api.submit()
    whole = await audit(api)
    first = (await api.http.get("/v1/audit", params={"limit": 3})).json()
    second = (await api.http.get("/v1/audit", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert first["data"] + second["data"] == whole
    assert (first["has_more"], second["has_more"], second["next_cursor"]) == (True, False, None)
    other = await api.http.get("/v1/audit", params={"actor": "x", "cursor": first["next_cursor"]})
    assert (other.status_code, other.json()["code"]) == (400, "invalid_cursor")


async def test_filters_are_type_resource_actor_and_time(api):
    """Each alone and together; a document is found by its id."""
    batch = await api.submit()
    record = DocumentRecord(
        file_id=file_id_for(batch["id"], 0), tenant_id=DEFAULT_TENANT_ID, batch_id=batch["id"], ordinal=0,
        filename="a.txt", collection="default", status=DocumentStatus.DONE, ended_at=datetime.now(UTC),
    )  # fmt: skip
    await api.catalog.save_outcome(record, documents_ingested([record], "nightly import"))

    [event] = await audit(api, resource_id=record.file_id)
    assert (event["event_type"], event["resource_type"]) == ("DOCUMENT_INGESTED", "document")
    assert (event["details"], event["actor"]) == ({"filename": "a.txt"}, "nightly import")
    assert await audit(api, actor="nightly import") == await audit(api, resource_type="document") == [event]
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert await audit(api, since=later) == []
    assert len(await audit(api, until=later)) == 2
    for bad in ({"since": later, "until": later}, {"since": "yesterday"}, {"since": "2026-01-01T00:00:00"}):
        assert (await api.http.get("/v1/audit", params=bad)).status_code == 422


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
async def test_a_moment_that_utc_has_no_date_for_is_refused(api, name, moment):
    """Written with its zone it is one, and no database could be asked about it."""
    response = await api.http.get("/v1/audit", params={name: moment})
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    [problem] = response.json()["errors"]
    assert (problem["pointer"], problem["code"]) == (f"query:{name}", "outside_calendar")


async def test_the_first_and_the_last_moment_there_is_are_answered(api):
    """The whole calendar is a period like any other."""
    await api.submit()
    whole = {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59.999999Z"}
    assert len(await audit(api, **whole)) == 1


async def test_a_tenant_reads_its_own_record(closed):
    """Another tenant's is not there, except for an administrator; what was deleted keeps its record."""
    accounts = closed.catalog.accounts
    await new_tenant(accounts, OTHER)
    mine, theirs = await key_of(accounts, READ), await key_of(accounts, READ, tenant_id=OTHER)
    admin = await key_of(accounts, ADMIN)
    body = {"documents": [{"filename": "a", "content": "YQ=="}]}
    await closed.http.post("/v1/batches", json=body, headers=await key_of(accounts))

    assert (await told(closed, mine), await told(closed, theirs)) == (["BATCH_SUBMITTED"], [])
    response = await closed.http.get("/v1/audit", params={"tenant_id": DEFAULT_TENANT_ID}, headers=theirs)
    assert (response.status_code, response.json()["code"]) == (404, "tenant_not_found")
    assert (await closed.http.delete(f"/v1/tenants/{OTHER}", headers=admin)).status_code == 204
    assert "TENANT_DELETED" in await told(closed, admin, tenant_id=OTHER)
