"""Open batches: they take documents until they are sealed, whatever breaks off in between."""

import asyncio
from dataclasses import replace

import pytest

from api.service.added_signals import pause_seconds
from ingather.models.batch import BatchState
from ingather.models.errors import CatalogUnavailableError, StorageUnavailableError
from ingather.settings import Limits, Settings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.submitted import bytes_of, form, ndjson, submission
from tests.support.waiting import until


async def opened(api: ApiInProcess, **body: object) -> str:
    batch = await api.submit(open=True, documents=[], **body)
    assert (batch["status"], batch["waiting_for"], batch["counts"]["total"]) == ("pending", "seal", 0)
    return batch["id"]


async def add(api: ApiInProcess, batch_id: str, *files: tuple[str, bytes], key: str | None = None):
    headers = {"Idempotency-Key": key} if key else {}
    return await api.http.post(f"/v1/batches/{batch_id}/documents", **form(*files), headers=headers)


async def test_an_open_batch_may_begin_empty(api):
    """Its workflow is started at once and waits for the seal."""
    batch_id = await opened(api, name="growing")
    spec = api.engine.specs[batch_id]
    assert (spec.open, spec.submitted_count, spec.name) == (True, 0, "growing")
    seen = (await api.http.get(f"/v1/batches/{batch_id}")).json()
    assert seen["waiting_for"] == "seal"


async def test_documents_come_in_every_kind_of_body_and_in_order(api):
    """Multipart, JSON and NDJSON; the batch is all of them, one after the other."""
    batch = await api.submit(open=True, documents=[{"filename": "0", "content": "MA=="}])
    path = f"/v1/batches/{batch['id']}/documents"
    answers = [
        await api.http.post(path, **form(("1", b"1"), ("2", b"2"), metadata={"2": {"k": 2}})),
        await api.http.post(path, json={"documents": [{"filename": "3", "content": "Mw=="}]}),
        await api.http.post(path, **ndjson({"filename": "4", "text": "4"})),
    ]

    assert [answer.status_code for answer in answers] == [202, 202, 202]
    assert answers[0].json() == {
        "batch_id": batch["id"], "documents_added": 2, "bytes_added": 2, "documents": 3, "bytes": 3,
    }  # fmt: skip
    assert answers[2].json()["documents"] == 5
    lines = await submission(api, batch["id"])
    assert [line.filename for line in lines] == ["0", "1", "2", "3", "4"]
    assert [await bytes_of(api, line) for line in lines] == [b"0", b"1", b"2", b"3", b"4"]
    assert lines[2].metadata == {"k": 2}


async def test_a_sealed_batch_runs_and_takes_no_more(api):
    """The workflow hears how many documents there are; whoever comes later is told why not."""
    batch_id = await opened(api)
    await add(api, batch_id, ("a", b"a"), ("b", b"bb"))
    sealed = await api.http.post(f"/v1/batches/{batch_id}/seal")

    assert (sealed.status_code, sealed.json()["status"]) == (202, "running")
    [(_, name, request)] = api.engine.messages
    assert (name, request.document_count, request.size_bytes) == ("seal", 2, 3)
    keys = await api.keys()
    late = await add(api, batch_id, ("c", b"c"))
    assert (late.status_code, late.json()["code"], late.json()["sealed"]) == (409, "invalid_state", True)
    assert await api.keys() == keys


async def test_sealing_again_is_harmless(api):
    """The message carries the same id every time; after the end of the batch nothing is sent."""
    batch_id = await opened(api)
    await add(api, batch_id, ("a", b"a"))
    first, second = [await api.http.post(f"/v1/batches/{batch_id}/seal") for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    assert len({request.request_id for _, _, request in api.engine.messages}) == 1
    await api.end(batch_id, BatchState.COMPLETED, done=1)
    after = await api.http.post(f"/v1/batches/{batch_id}/seal")
    assert (after.status_code, after.json()["status"]) == (202, "completed")
    assert len(api.engine.messages) == 2


async def test_a_seal_that_broke_off_is_completed_by_the_next(api):
    """The catalog was sealed and the workflow did not hear of it: the same call again tells it."""
    batch_id = await opened(api)
    await add(api, batch_id, ("a", b"a"))
    api.engine.is_down = True
    broken = await api.http.post(f"/v1/batches/{batch_id}/seal")
    assert (broken.status_code, broken.json()["code"]) == (503, "engine_unavailable")
    api.engine.is_down = False
    again = await api.http.post(f"/v1/batches/{batch_id}/seal")
    assert (again.status_code, again.json()["status"]) == (202, "running")


async def test_an_empty_batch_is_not_sealed(api):
    """422 empty_batch, and it still takes documents."""
    batch_id = await opened(api)
    refused = await api.http.post(f"/v1/batches/{batch_id}/seal")
    assert (refused.status_code, refused.json()["code"]) == (422, "empty_batch")
    assert (await add(api, batch_id, ("a", b"a"))).status_code == 202


async def test_an_ordinary_batch_is_sealed_from_the_start(api):
    """Nothing can be added to it, and sealing it says no more than what it is."""
    batch = await api.submit()
    assert (await add(api, batch["id"], ("a", b"a"))).json()["code"] == "invalid_state"
    assert (await api.http.post(f"/v1/batches/{batch['id']}/seal")).status_code == 202
    assert api.engine.messages == []


async def test_a_cancelled_batch_takes_no_more(api):
    """409 with its state, for documents and for the seal."""
    batch_id = await opened(api)
    await add(api, batch_id, ("a", b"a"))
    await api.end(batch_id, BatchState.CANCELLED, cancelled=1)
    for response in (await add(api, batch_id, ("b", b"b")), await api.http.post(f"/v1/batches/{batch_id}/seal")):
        assert (response.status_code, response.json()["current_status"]) == (409, "cancelled")


async def test_a_key_makes_two_additions_one(api):
    """The second is answered with what the first added and keeps nothing, also after the seal."""
    batch_id = await opened(api)
    first = await add(api, batch_id, ("a", b"a"), key="block-1")
    keys = await api.keys()
    second = await add(api, batch_id, ("a", b"a"), key="block-1")
    assert second.json() == first.json()
    assert second.headers["idempotency-replayed"] == "true"
    await api.http.post(f"/v1/batches/{batch_id}/seal")
    third = await add(api, batch_id, ("a", b"a"), key="block-1")
    assert (third.status_code, third.json()) == (202, first.json())
    assert await api.keys() == keys
    assert len(await submission(api, batch_id)) == 1


async def test_a_key_with_other_documents_is_refused(api):
    """422, and what came first stays."""
    batch_id = await opened(api)
    await add(api, batch_id, ("a", b"a"), key="block-1")
    keys = await api.keys()
    other = await add(api, batch_id, ("a", b"b"), key="block-1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await api.keys() == keys


async def test_one_addition_sent_twice_at_once_is_one(api):
    """Both are answered alike, one of them keeps its objects."""
    batch_id = await opened(api)
    answers = await asyncio.gather(*(add(api, batch_id, ("a", b"a"), key="k") for _ in range(5)))
    assert [answer.status_code for answer in answers] == [202] * 5
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    [line] = await submission(api, batch_id)
    assert await bytes_of(api, line) == b"a"
    assert len(await api.keys()) == 2, "one pack and one object of lines"


async def test_the_same_key_serves_another_batch(api):
    """A key means one addition to one batch."""
    one, other = await opened(api), await opened(api)
    assert (await add(api, one, ("a", b"a"), key="k")).status_code == 202
    assert (await add(api, other, ("b", b"b"), key="k")).json()["documents"] == 1


async def test_all_requests_together_stay_within_the_limit():
    """Early where the request is too large by itself, and for the sum of them; nothing of a refusal stays."""
    async with api_in_process(Settings(limits=Limits(max_documents_per_batch=3))) as api:
        batch_id = await opened(api)
        await add(api, batch_id, ("a", b"a"), ("b", b"b"))
        keys = await api.keys()
        refused = await add(api, batch_id, ("c", b"c"), ("d", b"d"))
        assert (refused.status_code, refused.json()["code"]) == (413, "batch_too_large")
        assert (refused.json()["limit_value"], "this one has 2 already" in refused.json()["detail"]) == (3, True)
        assert await api.keys() == keys
        assert (await add(api, batch_id, ("c", b"c"))).json()["documents"] == 3


async def test_a_batch_says_what_it_is_once(api):
    """The spec belongs to the request that made the batch."""
    batch_id = await opened(api)
    path = f"/v1/batches/{batch_id}/documents"
    for body in (
        form(("a", b"a"), spec={"name": "x"}),
        ndjson({"spec": {"name": "x"}}, {"filename": "a", "text": "a"}),
        {"json": {"name": "x", "documents": [{"filename": "a", "content": "YQ=="}]}},
    ):
        assert (await api.http.post(path, **body)).status_code == 422
    assert await api.keys() == []


@pytest.mark.parametrize("body", [form(), {"json": {"documents": []}}, ndjson()])
async def test_an_addition_holds_a_document(api, body):
    """422 empty_batch."""
    batch_id = await opened(api)
    response = await api.http.post(f"/v1/batches/{batch_id}/documents", **(body or {"files": []}))
    assert response.status_code in {415, 422}


async def test_an_unknown_batch_is_404(api):
    """For documents and for the seal."""
    unknown = "0192f0c1-2345-7abc-8def-0123456789ab"
    assert (await add(api, unknown, ("a", b"a"))).status_code == 404
    assert (await api.http.post(f"/v1/batches/{unknown}/seal")).status_code == 404


async def test_an_addition_that_fails_leaves_nothing(api):
    """The store gives up when the lines are written: 503, no part, no object."""
    batch_id = await opened(api)

    async def put_stream(key, parts):
        raise StorageUnavailableError("Object storage is away.")

    api.blobs.put_stream = put_stream
    response = await add(api, batch_id, ("a", b"a"))
    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert await api.keys() == []
    assert await submission(api, batch_id) == []


@pytest.mark.parametrize("breaks_off", ["answer_lost", "request_dropped"])
async def test_an_addition_that_is_durable_keeps_its_bytes(api, breaks_off):
    """The part was committed and nobody heard of it: the same request again finds it whole."""
    batch_id = await opened(api)
    add_part, committed = api.catalog.add_part, asyncio.Event()

    async def commits_and_is_silent(*given):
        await add_part(*given)
        committed.set()
        if breaks_off == "answer_lost":
            raise CatalogUnavailableError("The catalog did not answer.")
        await asyncio.Event().wait()

    api.catalog.add_part = commits_and_is_silent
    broken = asyncio.create_task(add(api, batch_id, ("a", b"a"), key="block-1"))
    await committed.wait()
    if breaks_off == "answer_lost":
        assert (await broken).status_code == 503
    else:
        broken.cancel()
        await asyncio.wait({broken})
    del api.catalog.add_part

    again = await add(api, batch_id, ("a", b"a"), key="block-1")

    assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
    [line] = await submission(api, batch_id)
    assert await bytes_of(api, line) == b"a"


async def test_the_workflow_hears_how_the_batch_grows(api):
    """Many additions are few signals; the client's answer does not wait for them."""
    batch_id = await opened(api)
    for number in range(20):
        await add(api, batch_id, (f"{number}", b"x"))
    await until(lambda: bool(api.engine.signals))
    assert len(api.engine.signals) == 1
    assert api.engine.signals[0][:2] == (batch_id, "added")


def test_signals_grow_rarer_with_the_batch():
    """A batch that grows without a pause for a day hears of it some five hundred times, not once a second."""
    signals, age = 0, 0.0
    while age < 86_400:
        signals += 1
        age += pause_seconds(age)
    assert pause_seconds(0.0) == 1.0
    assert 300 < signals < 600


async def test_a_batch_shows_at_once_what_was_added(api):
    """Whoever looks is told by the catalog; the entity tag changes with it."""
    batch_id = await opened(api)
    before = await api.http.get(f"/v1/batches/{batch_id}")
    await add(api, batch_id, ("a", b"a"), ("b", b"b"))
    after = await api.http.get(f"/v1/batches/{batch_id}", headers={"If-None-Match": before.headers["etag"]})
    assert (after.status_code, after.json()["counts"]["total"], after.json()["counts"]["pending"]) == (200, 2, 2)


async def test_additions_do_not_need_the_engine(api):
    """Documents are durable without it; it hears of them later, with the seal at the latest."""
    batch_id = await opened(api)
    api.engine.is_down = True
    assert (await add(api, batch_id, ("a", b"a"))).status_code == 202


async def test_a_replayed_opening_takes_nothing_of_what_came_since(api):
    """The key of the opening request again: the same batch, with the documents others have added."""
    headers = {"Idempotency-Key": "nightly"}
    body = {"open": True, "documents": [{"filename": "0", "content": "MA=="}]}
    first = await api.http.post("/v1/batches", json=body, headers=headers)
    batch_id = first.json()["id"]
    await add(api, batch_id, ("1", b"1"))
    again = await api.http.post("/v1/batches", json=body, headers=headers)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (batch_id, "true")
    assert [line.filename for line in await submission(api, batch_id)] == ["0", "1"]


async def test_an_opening_that_broke_off_is_completed_by_its_replay(api):
    """The record was there and the workflow was not: the same request again opens the batch."""
    headers = {"Idempotency-Key": "nightly"}
    body = {"open": True, "documents": [{"filename": "0", "content": "MA=="}]}
    api.engine.fails_to_start = True
    assert (await api.http.post("/v1/batches", json=body, headers=headers)).status_code == 503
    assert await api.keys() == []
    api.engine.fails_to_start = False
    again = await api.http.post("/v1/batches", json=body, headers=headers)
    assert (again.status_code, again.json()["status"], again.json()["waiting_for"]) == (202, "pending", "seal")
    batch_id = again.json()["id"]
    assert (await add(api, batch_id, ("1", b"1"))).json()["documents"] == 2
    assert [line.filename for line in await submission(api, batch_id)] == ["0", "1"]


async def test_a_batch_cancelled_while_it_was_open_is_not_retried(api):
    """Its documents were let go with the cancel."""
    batch_id = await opened(api)
    await add(api, batch_id, ("a", b"a"))
    await api.end(batch_id, BatchState.CANCELLED, cancelled=1)
    response = await api.http.post(f"/v1/batches/{batch_id}/retry", json={"include_cancelled": True})
    assert (response.status_code, response.json()["code"]) == (409, "invalid_state")
    assert "before it was sealed" in response.json()["detail"]


async def test_an_open_batch_that_is_opened_again_counts_for_all_that_was_added(api):
    """Its place is asked for with the bytes of its documents, as the first time; it waits for no seal."""
    batch_id = await opened(api, hold=True)
    await add(api, batch_id, ("a", b"a" * 700))
    await add(api, batch_id, ("b", b"b" * 300))
    await api.http.post(f"/v1/batches/{batch_id}/seal")
    await api.end(batch_id, BatchState.COMPLETED_WITH_FAILURES, done=1, failed=1)

    assert (await api.http.post(f"/v1/batches/{batch_id}/retry")).status_code == 202
    spec = api.engine.specs[batch_id]
    assert (spec.submitted_bytes, spec.submitted_count, spec.open, spec.hold) == (1_000, 2, False, False)


async def test_a_seal_after_a_cancel_is_refused_before_it_is_on_record(api):
    """The batch would not take it; neither the catalog nor the audit log says that it did."""
    batch_id = await opened(api)
    await add(api, batch_id, ("a", b"a"))
    status = api.engine.status

    async def to_cancel(asked_for):
        return replace(await status(asked_for), is_to_cancel=True)

    api.engine.status = to_cancel
    response = await api.http.post(f"/v1/batches/{batch_id}/seal")
    assert (response.status_code, response.json()["code"]) == (409, "invalid_state")
    assert (await api.catalog.get_batch(batch_id)).sealed_at is None
    assert "BATCH_SEALED" not in (await api.http.get("/v1/audit")).text
