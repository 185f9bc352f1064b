"""``/v1/batches/{id}/push-again``: an administrator's way to make a lost list good."""

import pytest

from api.service import handoff
from ingather.domain.keys import raw_key
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.handoff import HandedOn
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.settings import AuthSettings, Settings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.callers import ADMIN, key_of, new_tenant

OTHER = "11111111-1111-7111-8111-111111111111"
SHA256 = "ab" * 32
FAILED = 2
"""Its outcome in a batch that was handed on, by ordinal."""


@pytest.fixture
async def closed():
    async with api_in_process(Settings(auth=AuthSettings(mode="required"))) as running:
        yield running


async def handed_on(api: ApiInProcess, count=4, tenant_id=DEFAULT_TENANT_ID, headers=None) -> str:
    """A batch whose documents were handed on, all but one; answers its id."""
    await api.catalog.accounts.edit_tenant(tenant_id, {"pipeline": "handoff"})
    api.parts.gate.tenants.forget(tenant_id)
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    batch_id = (await api.http.post("/v1/batches", json=body, headers=headers)).json()["id"]
    records = []
    for ordinal in range(count):
        file_id = file_id_for(batch_id, ordinal)
        is_done = ordinal != FAILED
        records.append(
            DocumentRecord(
                file_id=file_id,
                tenant_id=tenant_id,
                batch_id=batch_id,
                ordinal=ordinal,
                filename=f"{ordinal}.txt",
                collection="default",
                sha256=SHA256,
                raw_key=raw_key(tenant_id, file_id, SHA256) if is_done else None,
                status=DocumentStatus.DONE if is_done else DocumentStatus.FAILED,
            )
        )
    await api.catalog.add_documents(records)
    return batch_id


def taken(api: ApiInProcess, tenant_id=DEFAULT_TENANT_ID):
    found = []
    while (entry := api.handoff.take(tenant_id)) is not None:
        found.append(entry)
    return found


async def test_all_that_was_handed_on_is_on_the_list_again(api):
    """As it was pushed first, in order; what failed was never on it."""
    batch_id = await handed_on(api)
    answer = await api.http.post(f"/v1/batches/{batch_id}/push-again")
    assert (answer.status_code, answer.json()) == (
        200, {"documents": 3, "pushed": 3, "has_more": False, "next_cursor": None},
    )  # fmt: skip
    found = taken(api)
    assert [entry.file_id for entry in found] == [file_id_for(batch_id, ordinal) for ordinal in (0, 1, 3)]
    assert found[0].storage_path == raw_key(DEFAULT_TENANT_ID, found[0].file_id, SHA256)
    [event] = (await api.http.get("/v1/audit", params={"event_type": "BATCH_PUSHED_AGAIN"})).json()["data"]
    assert (event["resource_id"], event["details"]["pushed"]) == (batch_id, 3)


async def test_a_repeated_request_pushes_nothing_twice(api):
    """By its Idempotency-Key; a new request pushes again."""
    path = f"/v1/batches/{await handed_on(api)}/push-again"
    pushed = [
        (await api.http.post(path, headers={"Idempotency-Key": key})).json()["pushed"] for key in ("one", "one", "two")
    ]
    assert pushed == [3, 0, 3]
    assert len(taken(api)) == 6


async def test_a_large_batch_takes_several_requests(api, monkeypatch):
    """Each goes on behind the last; the cursor belongs to this batch."""
    monkeypatch.setattr(handoff, "MOST_A_REQUEST", 3)
    monkeypatch.setattr(handoff, "_PAGE", 3)
    batch_id = await handed_on(api, count=8)
    path, cursor, pages = f"/v1/batches/{batch_id}/push-again", {}, []
    while cursor is not None:
        page = (await api.http.post(path, params=cursor, headers={"Idempotency-Key": "all"})).json()
        pages.append(page["pushed"])
        cursor = {"cursor": page["next_cursor"]} if page["has_more"] else None
    assert pages == [2, 3, 2]
    assert [entry.file_id for entry in taken(api)] == [file_id_for(batch_id, n) for n in (0, 1, 3, 4, 5, 6, 7)]
    cursor = (await api.http.post(path)).json()["next_cursor"]
    other = await api.http.post(f"/v1/batches/{await handed_on(api)}/push-again", params={"cursor": cursor})
    assert (other.status_code, other.json()["code"]) == (400, "invalid_cursor")


async def test_what_was_pushed_and_then_called_failed_is_pushed_again_too(api):
    """Its attempts ended between push and record: the marker says that it was on the list, and keeps a retry from
    pushing it. Without a marker it never was there, and a retry pushes it.
    """
    batch_id = await handed_on(api)
    file_id = file_id_for(batch_id, FAILED)
    path = raw_key(DEFAULT_TENANT_ID, file_id, SHA256)
    entry = HandedOn(file_id=file_id, batch_id=batch_id, sha256=SHA256, storage_path=path, tenant_id=DEFAULT_TENANT_ID)
    await api.handoff.push(DEFAULT_TENANT_ID, batch_id, {FAILED: entry})
    assert taken(api) == [entry]

    answer = (await api.http.post(f"/v1/batches/{batch_id}/push-again")).json()
    assert (answer["documents"], answer["pushed"]) == (4, 4)
    found = taken(api)
    assert [each.file_id for each in found] == [file_id_for(batch_id, ordinal) for ordinal in range(4)]
    assert found[FAILED] == entry


async def test_documents_that_stay_here_are_not_pushed(api):
    """A batch of another pipeline is 409."""
    batch = await api.submit()
    answer = await api.http.post(f"/v1/batches/{batch['id']}/push-again")
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")
    assert taken(api) == []


async def test_it_is_an_administrators_command(closed):
    """403 for the tenant's own writers, 404 for strangers; an administrator may name the tenant."""
    accounts = closed.catalog.accounts
    await new_tenant(accounts, OTHER)
    writer = await key_of(accounts, tenant_id=OTHER)
    batch_id = await handed_on(closed, tenant_id=OTHER, headers=writer)
    path = f"/v1/batches/{batch_id}/push-again"
    admin, stranger = await key_of(accounts, ADMIN), await key_of(accounts)

    answers = [
        (await closed.http.post(path, headers=writer)).status_code,
        (await closed.http.post(path, headers=stranger)).status_code,
        (await closed.http.post(path, headers=admin)).status_code,
        (await closed.http.post(path, headers=admin, params={"tenant_id": OTHER})).status_code,
    ]
    assert answers == [403, 404, 404, 200]
    assert len(taken(closed, OTHER)) == 3
