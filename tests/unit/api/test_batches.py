"""Reading and steering batches over HTTP."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from api.engine import BatchClosedError, EngineStatus, Presence
from api.idempotency import ControlKeys
from api.service import batches
from ingather.models.batch import BatchProgress, BatchState, Counts
from ingather.models.document import DocumentFailure
from ingather.models.errors import InvalidStateError
from ingather.models.identity import file_id_for
from tests.support.api import api_in_process
from tests.support.catalog_records import document_record, done_record
from tests.support.waiting import until, until_async

OTHER_TENANT = "11111111-1111-7111-8111-111111111111"
UNKNOWN = "22222222-2222-7222-8222-222222222222"


def seconds_ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


async def test_a_running_batch_shows_the_engines_numbers(api):
    """Counts, progress, links and an estimate, live."""
    batch = await api.submit(name="live", documents=[{"filename": "a", "content": "YQ=="}] * 4)
    api.engine.open[batch["id"]] = BatchProgress(
        state=BatchState.RUNNING, counts=Counts(total=4, pending=1, in_flight=1, done=2), version=7,
        started_at=seconds_ago(10),
    )  # fmt: skip

    seen = (await api.http.get(f"/v1/batches/{batch['id']}")).json()
    assert (seen["status"], seen["progress"], seen["counts"]["done"], seen["stale"]) == ("running", 0.5, 2, False)
    left = datetime.fromisoformat(seen["estimated_completion_at"]) - datetime.now(UTC)
    assert timedelta(seconds=8) < left < timedelta(seconds=11)
    assert seen["links"]["events"] == f"http://api.test/v1/batches/{batch['id']}/events"


async def test_links_lead_to_the_temporal_ui(api):
    """A deep link to the batch's own page, the id escaped."""
    api.parts.temporal_ui_url = "http://127.0.0.1:8233/"
    batch = await api.submit()
    expected = f"http://127.0.0.1:8233/namespaces/default/workflows/batch%2F{batch['id']}"
    assert batch["links"]["temporal_ui"] == expected


async def test_an_ended_batch_needs_no_engine(api):
    """The catalog has the last word, exactly."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.COMPLETED_WITH_FAILURES, done=2, failed=1)
    api.engine.is_down = True

    seen = (await api.http.get(f"/v1/batches/{batch['id']}")).json()
    assert (seen["status"], seen["progress"], seen["stale"]) == ("completed_with_failures", 1.0, False)
    assert seen["counts"]["total"] == 3


async def test_a_silent_engine_makes_the_answer_stale(api):
    """The last known numbers, and the answer says so."""
    batch = await api.submit()
    api.engine.is_down = True
    assert (await api.http.get(f"/v1/batches/{batch['id']}")).json()["stale"] is True
    assert (await api.http.get("/v1/batches")).json()["data"][0]["stale"] is True


@pytest.mark.parametrize("path", [UNKNOWN, "nonsense", "%00", f"{UNKNOWN}/documents", f"{UNKNOWN}/report", "x" * 3_000])
async def test_an_unknown_batch_is_not_found(api, path):
    """404 batch_not_found, whatever the id looks like."""
    response = await api.http.get(f"/v1/batches/{path}")
    assert (response.status_code, response.json()["code"]) == (404, "batch_not_found")


async def test_another_tenants_batch_is_not_found(api):
    """Reading, listing, steering: it does not exist."""
    await api.catalog.add_tenant(OTHER_TENANT, "other")
    batch = await api.submit()
    headers = {"X-Tenant-ID": OTHER_TENANT}

    for method, path in (
        ("GET", ""),
        ("POST", "/pause"),
        ("POST", "/cancel"),
        ("GET", "/documents"),
        ("GET", "/report"),
    ):
        response = await api.http.request(method, f"/v1/batches/{batch['id']}{path}", headers=headers)
        assert (response.status_code, response.json()["code"]) == (404, "batch_not_found")
    assert (await api.http.get("/v1/batches", headers=headers)).json()["data"] == []


@pytest.mark.parametrize("tenant", [UNKNOWN, "not-a-uuid", "'; DROP TABLE"])
async def test_an_unknown_tenant_is_not_found(api, tenant):
    """404 tenant_not_found."""
    response = await api.http.get("/v1/batches", headers={"X-Tenant-ID": tenant})
    assert (response.status_code, response.json()["code"]) == (404, "tenant_not_found")


async def test_lists_are_paged_newest_first(api):
    """Every batch once, over opaque cursors."""
    made = [(await api.submit(name=f"batch {n}"))["id"] for n in range(5)]
    seen, cursor = [], None
    while True:
        parameters = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await api.http.get("/v1/batches", params=parameters)).json()
        seen += [batch["id"] for batch in page["data"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break

    assert seen == list(reversed(made))
    assert cursor is None


async def test_lists_are_filtered_by_status_and_collection(api):
    """Both together; unknown states are refused."""
    first = await api.submit(collection="a")
    await api.submit(collection="b")
    await api.end(first["id"], BatchState.COMPLETED, done=1)

    found = (await api.http.get("/v1/batches?status=completed,failed&collection=a")).json()["data"]
    assert [batch["id"] for batch in found] == [first["id"]]
    assert (await api.http.get("/v1/batches?status=completed&collection=b")).json()["data"] == []
    refused = await api.http.get("/v1/batches?status=sleeping")
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "query:status")


async def test_lists_are_filtered_by_what_batches_are_doing_now(api):
    """The live state counts, which the catalog does not know; it says how batches ended."""
    ids = {}
    for state in (BatchState.RUNNING, BatchState.PAUSED, BatchState.FINALIZING, BatchState.QUEUED, BatchState.RUNNING):
        ids.setdefault(state, []).insert(0, batch_id := (await api.submit())["id"])
        api.engine.open[batch_id] = api.engine.open[batch_id].model_copy(update={"state": state})
    ended = (await api.submit())["id"]
    await api.end(ended, BatchState.COMPLETED, done=1)

    async def listed(query):
        found = (await api.http.get(f"/v1/batches?{query}")).json()
        return [batch["id"] for batch in found["data"]], found["next_cursor"]

    for state, batch_ids in ids.items():
        assert await listed(f"status={state.value}") == (batch_ids, None)
    assert await listed("status=cancelling") == ([], None)
    assert await listed("status=completed,queued") == ([ended, *ids[BatchState.QUEUED]], None)
    first, cursor = await listed("status=running&limit=1")
    second, end = await listed(f"status=running&limit=1&cursor={cursor}")
    assert (first + second, end) == (ids[BatchState.RUNNING], None)


async def test_a_cursor_holds_for_its_own_filters_only(api):
    """Another filter, another tenant or a changed cursor: 400 invalid_cursor."""
    for _ in range(3):
        await api.submit()
    cursor = (await api.http.get("/v1/batches?limit=1")).json()["next_cursor"]

    for query in (f"collection=x&cursor={cursor}", f"cursor={cursor[:-2]}zz", "cursor=%F0", "cursor=abc"):
        response = await api.http.get(f"/v1/batches?{query}")
        assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


async def test_the_list_overlays_running_batches(api):
    """Numbers come from one look at the engine for the whole page."""
    batch = await api.submit()
    progress = api.engine.open[batch["id"]]
    api.engine.open[batch["id"]] = progress.model_copy(update={"state": BatchState.PAUSED, "version": 5})
    [seen] = (await api.http.get("/v1/batches")).json()["data"]
    assert (seen["status"], seen["waiting_for"]) == ("paused", "resume")


def with_children(api, batch_id: str, *, total: int, version: int, heard: int, in_memo: int = 0) -> None:
    """A batch at work, of which so many are done: its children know more than its memo does."""
    for knows, done in ((api.engine.open, in_memo), (api.engine.closer, heard)):
        counts = Counts(total=total, in_flight=total - done, done=done)
        knows[batch_id] = BatchProgress(state=BatchState.RUNNING, counts=counts, version=version)


async def listed_done(api) -> dict[str, int]:
    """How many documents of each batch are done, as the list has it, at a second look: it has what the first asked for."""
    await api.http.get("/v1/batches")
    return {each["id"]: each["counts"]["done"] for each in (await api.http.get("/v1/batches")).json()["data"]}


async def test_the_list_counts_what_children_have_done(api):
    """A large batch is asked for itself: its memo counts the documents of a child once the child has ended."""
    large, small = [(await api.submit())["id"] for _ in range(2)]
    with_children(api, large, total=3_000, version=4, heard=700)
    with_children(api, small, total=1_000, version=4, heard=700)

    assert await listed_done(api) == {large: 700, small: 0}


async def test_the_list_does_not_wait_for_a_large_batch_that_is_slow(monkeypatch):
    """Its memo is shown before anything was heard, then what was last heard, until the memo is newer."""
    monkeypatch.setattr(batches, "_OVERLAY_SECONDS", 0.0)
    async with api_in_process() as api:
        batch_id = (await api.submit())["id"]
        with_children(api, batch_id, total=3_000, version=4, heard=700)
        for may_answer, done in ((False, 0), (True, 700), (False, 700)):
            api.engine.may_answer.set() if may_answer else api.engine.may_answer.clear()
            assert await listed_done(api) == {batch_id: done}

        with_children(api, batch_id, total=3_000, version=5, heard=900, in_memo=800)
        assert await listed_done(api) == {batch_id: 800}


async def test_an_unchanged_batch_is_304(api):
    """ETag in, nothing out; after a change the whole batch again."""
    batch = await api.submit()
    first = await api.http.get(f"/v1/batches/{batch['id']}")
    etag = first.headers["etag"]
    same = await api.http.get(f"/v1/batches/{batch['id']}", headers={"If-None-Match": etag})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)

    await api.http.patch(f"/v1/batches/{batch['id']}", json={"name": "renamed"})
    changed = await api.http.get(f"/v1/batches/{batch['id']}", headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["name"]) == (200, "renamed")


async def test_a_long_poll_ends_with_a_change_or_its_time(api):
    """`Prefer: wait` with `If-None-Match`."""
    batch = await api.submit()
    path = f"/v1/batches/{batch['id']}"
    etag = (await api.http.get(path)).headers["etag"]
    waited = await api.http.get(path, headers={"If-None-Match": etag, "Prefer": "wait=1"})
    assert (waited.status_code, waited.headers["preference-applied"]) == (304, "wait=1")

    await api.end(batch["id"], BatchState.COMPLETED, done=1)
    ended = await api.http.get(path, headers={"If-None-Match": etag, "Prefer": "respond-async, wait=20"})
    assert ended.json()["status"] == "completed"


async def test_control_is_idempotent_and_answers_the_batch(api):
    """pause, pause, resume: 202 with the whole batch each time."""
    batch = await api.submit()
    path = f"/v1/batches/{batch['id']}"
    states = [(await api.http.post(f"{path}/{action}")) for action in ("pause", "pause", "resume")]
    assert [response.status_code for response in states] == [202, 202, 202]
    assert [response.json()["status"] for response in states] == ["paused", "paused", "running"]


async def test_a_held_batch_starts(api):
    """start makes it run; pausing it before that is 409 with the current status."""
    batch = await api.submit(hold=True)
    path = f"/v1/batches/{batch['id']}"
    refused = await api.http.post(f"{path}/pause")
    assert (refused.status_code, refused.json()["code"], refused.json()["current_status"]) == (
        409, "invalid_state", "pending",
    )  # fmt: skip
    assert (await api.http.post(f"{path}/start")).json()["status"] == "running"


@pytest.mark.parametrize(("spec", "word"), [({"hold": True}, "start"), ({"open": True}, "seal")])
async def test_a_batch_that_waits_for_a_word_is_queued_with_it(api, spec, word):
    """``queued_at`` is null before, the moment of the word from then on, and what it was after the end."""
    path = f"/v1/batches/{(await api.submit(**spec))['id']}"
    assert (await api.http.get(path)).json()["queued_at"] is None

    await api.http.post(f"{path}/{word}")
    queued_at = (await api.http.get(path)).json()["queued_at"]
    assert datetime.fromisoformat(queued_at) == api.engine.open[path.rpartition("/")[2]].queued_at

    await api.end(path.rpartition("/")[2], BatchState.COMPLETED, done=1)
    assert (await api.http.get(path)).json()["queued_at"] == queued_at


async def test_a_batch_that_waits_for_no_word_is_queued_when_it_is_submitted(api):
    """The moment of its creation, at once and after the end."""
    batch = await api.submit()
    assert batch["queued_at"] == batch["created_at"]
    await api.end(batch["id"], BatchState.COMPLETED, done=1)
    assert (await api.http.get(f"/v1/batches/{batch['id']}")).json()["queued_at"] == batch["created_at"]


@pytest.mark.parametrize("action", ["start", "pause", "resume", "cancel"])
async def test_an_ended_batch_cannot_be_steered(api, action):
    """409 invalid_state with its status."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.COMPLETED, done=1)
    response = await api.http.post(f"/v1/batches/{batch['id']}/{action}")
    assert (response.status_code, response.json()["current_status"]) == (409, "completed")


async def test_a_batch_that_ends_meanwhile_is_409_too(api):
    """The catalog still called it running; the engine had closed it."""
    batch = await api.submit()
    del api.engine.open[batch["id"]]
    response = await api.http.post(f"/v1/batches/{batch['id']}/pause")
    assert (response.status_code, response.json()["code"]) == (409, "invalid_state")


async def test_cancel_is_on_its_way_at_once_and_repeatable(api):
    """cancelling while it runs; a cancelled batch may be cancelled again."""
    batch = await api.submit()
    path = f"/v1/batches/{batch['id']}/cancel"
    assert (await api.http.post(path)).json()["status"] == "cancelling"
    await api.end(batch["id"], BatchState.CANCELLED, cancelled=1)
    again = await api.http.post(path)
    assert (again.status_code, again.json()["status"]) == (202, "cancelled")


async def test_a_cancel_repeated_under_its_key_does_not_cancel_what_was_opened_again(api):
    """It took effect, and its answer was lost; who repeats it means the run that it cancelled."""
    batch = await api.submit()
    path, headers = f"/v1/batches/{batch['id']}", {"Idempotency-Key": "stop"}
    await api.http.post(f"{path}/cancel", headers=headers)
    await api.end(batch["id"], BatchState.CANCELLED, cancelled=1)
    await api.http.post(f"{path}/retry", json={"include_cancelled": True})
    again = await api.http.post(f"{path}/cancel", headers=headers)

    assert (again.status_code, again.json()["status"]) == (202, "retrying")
    assert again.headers["idempotency-replayed"] == "true"
    assert [name for _, name, _ in api.engine.messages] == ["cancel", "reopen"]


async def test_retry_of_a_closed_batch_opens_it_again(api):
    """All that failed, or a selection."""
    batch = await api.submit()
    failure = DocumentFailure(code="encrypted", message="It has a password.")
    await api.catalog.save_outcome(document_record(batch["id"], 1, status="failed", error=failure))
    await api.end(batch["id"], BatchState.COMPLETED_WITH_FAILURES, done=1, failed=2, codes={"encrypted": 2})
    path = f"/v1/batches/{batch['id']}/retry"
    response = await api.http.post(path, json={"codes": ["encrypted"], "ordinals": [1]})

    assert (response.status_code, response.json()["status"]) == (202, "retrying")
    _, name, request = api.engine.messages[-1]
    assert (name, request.codes, request.ordinals) == ("reopen", ("encrypted",), (1,))
    assert (await api.http.get(f"/v1/batches/{batch['id']}")).json()["status"] == "retrying"


async def test_a_retry_that_meets_a_closing_batch_is_sent_again(api):
    """The workflow ended before it could answer: the second message opens it."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.FAILED, failed=1)
    reopen, calls = api.engine.reopen, []

    async def closing(*arguments):
        calls.append(arguments)
        if len(calls) < 2:
            raise BatchClosedError
        return await reopen(*arguments)

    api.engine.reopen = closing
    response = await api.http.post(f"/v1/batches/{batch['id']}/retry")
    assert (response.status_code, response.json()["status"]) == (202, "retrying")


async def test_a_retry_in_the_moment_after_a_cancel_waits_for_the_workflow_to_close(api):
    """The catalog says that the batch is cancelled before its workflow has ended; it refuses what comes in between."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.CANCELLED, cancelled=1)
    reopen, steps = api.engine.reopen, []

    async def cancelling(*arguments):
        steps.append("retry")
        if len(steps) < 2:
            raise InvalidStateError("The batch is cancelling: it cannot retry.", current_status="cancelling")
        return await reopen(*arguments)

    async def closed(_batch_id):
        steps.append("closed")

    api.engine.reopen, api.engine.on_wait = cancelling, closed
    response = await api.http.post(f"/v1/batches/{batch['id']}/retry", json={"include_cancelled": True})
    assert (response.status_code, response.json()["status"]) == (202, "retrying")
    assert steps == ["retry", "closed", "retry"]


@pytest.mark.parametrize("code", ["x" * 101, "\ud800"])
async def test_a_retry_names_codes_and_nothing_larger(api, code):
    """What it is limited to goes into the batch's history and the audit."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.FAILED, failed=1)
    content, headers = json.dumps({"codes": [code]}), {"Content-Type": "application/json"}
    response = await api.http.post(f"/v1/batches/{batch['id']}/retry", content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")


async def test_retry_without_failures_is_409(api):
    """There is nothing to do."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.COMPLETED, done=1)
    response = await api.http.post(f"/v1/batches/{batch['id']}/retry")
    assert (response.status_code, response.json()["code"]) == (409, "invalid_state")


async def test_a_retry_of_a_cancelled_batch_is_told_what_would_run_the_rest(api):
    """Nothing failed; what the cancel left undone is only run where that is asked for."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.CANCELLED, cancelled=1)
    response = await api.http.post(f"/v1/batches/{batch['id']}/retry")
    assert response.status_code == 409
    assert "include_cancelled" in response.json()["action"]


@pytest.mark.parametrize(
    "selection", [{"codes": ["corrupt"]}, {"ordinals": [0]}, {"ordinals": [9]}, {"codes": ["corrupt"], "ordinals": [1]}]
)
async def test_a_retry_that_names_nothing_that_failed_is_409(api, selection):
    """The batch stays closed, and its end where it was."""
    batch = await api.submit()
    failure = DocumentFailure(code="encrypted", message="It has a password.")
    await api.catalog.save_outcome(document_record(batch["id"], 0, status="done"))
    await api.catalog.save_outcome(document_record(batch["id"], 1, status="failed", error=failure))
    await api.end(batch["id"], BatchState.COMPLETED_WITH_FAILURES, done=1, failed=1, codes={"encrypted": 1})
    response = await api.http.post(f"/v1/batches/{batch['id']}/retry", json=selection)
    assert (response.status_code, response.json()["code"]) == (409, "invalid_state")
    assert api.engine.messages == []


async def test_a_late_answer_is_202_and_stale(api):
    """The message went as a signal; the batch is as it was last seen."""
    batch = await api.submit()
    api.engine.answers_late = True
    response = await api.http.post(f"/v1/batches/{batch['id']}/pause")
    assert (response.status_code, response.json()["stale"]) == (202, True)


async def test_a_late_retry_shows_what_is_coming_and_leaves_the_catalog_alone(api):
    """The workflow itself says that it runs again: a word from here could come after its end."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.FAILED, failed=1)
    api.engine.answers_late = True
    response = await api.http.post(f"/v1/batches/{batch['id']}/retry")
    assert (response.status_code, response.json()["status"], response.json()["stale"]) == (202, "retrying", True)
    assert (await api.catalog.get_batch(batch["id"])).state is BatchState.FAILED


async def test_a_control_key_is_the_messages_request_id(api):
    """The same key gives the same request id and is marked; another payload is refused."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.FAILED, failed=1, codes={"empty": 1})
    path = f"/v1/batches/{batch['id']}/retry"
    headers = {"Idempotency-Key": "k"}
    first = await api.http.post(path, json={"codes": ["empty"]}, headers=headers)
    second = await api.http.post(path, json={"codes": ["empty"]}, headers=headers)
    other = await api.http.post(path, json={"codes": ["corrupt"]}, headers=headers)

    assert (first.headers.get("idempotency-replayed"), second.headers["idempotency-replayed"]) == (None, "true")
    ids = {request.request_id for _, _, request in api.engine.messages}
    assert len(ids) == 1
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("action", ["retry", "pause"])
async def test_a_repeated_key_is_answered_after_the_end_too(api, action):
    """The batch took it and has ended since: the answer that was lost comes again, and nothing is run twice."""
    batch = await api.submit()
    path, headers = f"/v1/batches/{batch['id']}/{action}", {"Idempotency-Key": "k"}
    await api.http.post(path, headers=headers)
    [(_, _, request)] = api.engine.messages
    await api.end(batch["id"], BatchState.FAILED, failed=1, handled=(request.request_id,))
    api.parts.control._keys = ControlKeys()  # another process of the API

    repeated = await api.http.post(path, headers=headers)
    another = await api.http.post(path, headers={"Idempotency-Key": "k2"})

    assert (repeated.status_code, repeated.json()["status"]) == (202, "failed")
    assert repeated.headers["idempotency-replayed"] == "true"
    assert another.status_code == (202 if action == "retry" else 409)
    assert len(api.engine.messages) == (2 if action == "retry" else 1)


async def test_priority_and_name_can_be_edited(api):
    """Priority goes to the engine; a wrong one is refused, and so is one for an ended batch."""
    batch = await api.submit()
    path = f"/v1/batches/{batch['id']}"
    edited = (await api.http.patch(path, json={"priority": 1, "name": "first"})).json()
    assert (edited["priority"], edited["name"]) == (1, "first")
    for body in ({"priority": 9}, {}, {"state": "done"}, {"name": ""}):
        assert (await api.http.patch(path, json=body)).status_code == 422
    await api.end(batch["id"], BatchState.COMPLETED, done=1)
    assert (await api.http.patch(path, json={"priority": 2})).status_code == 409
    assert (await api.http.patch(path, json={"name": "last"})).json()["name"] == "last"


@pytest.mark.parametrize(("action", "status"), [("pause", "paused"), ("cancel", "cancelling")])
async def test_a_batch_that_is_about_to_begin_is_steered(api, action, status):
    """It is in lists a moment before its workflow is there: a message that comes in between waits for it."""
    start, may_start = api.engine.start, asyncio.Event()

    async def slow(*arguments):
        await may_start.wait()
        await start(*arguments)

    async def listed():
        return (await api.http.get("/v1/batches")).json()["data"] or None

    api.engine.start = slow
    submission = asyncio.create_task(api.submit())
    [batch] = await until_async(listed)
    steering = asyncio.create_task(api.http.post(f"/v1/batches/{batch['id']}/{action}"))
    await until(lambda: api.engine.unheard > 0)
    may_start.set()
    await submission

    answer = await steering
    assert (answer.status_code, answer.json()["status"]) == (202, status)
    assert [name for _, name, _ in api.engine.messages] == [action]


@pytest.mark.parametrize("action", ["pause", "cancel", "retry"])
async def test_a_batch_that_has_not_begun_says_so_and_what_to_do(api, action, monkeypatch):
    """Its submission broke off: nothing is said to be on its way that is not, and nothing to be past."""
    monkeypatch.setattr(batches, "BEGINNING_TIME", timedelta())
    batch = await api.submit()
    api.engine.open.clear()
    api.engine.specs.clear()

    refused = await api.http.post(f"/v1/batches/{batch['id']}/{action}")
    assert (refused.status_code, refused.json()["code"], refused.json()["current_status"]) == (
        409, "invalid_state", "queued",
    )  # fmt: skip
    assert "has not begun yet" in refused.json()["detail"]
    assert "same Idempotency-Key" in refused.json()["action"]
    assert api.engine.messages == []


async def test_a_batch_that_was_ended_from_outside_is_not_steered_any_more(api):
    """The refusal says how it ended, also where nobody has looked at it since."""
    batch = await api.submit()
    progress = api.engine.open.pop(batch["id"])

    async def status(batch_id):
        return EngineStatus(Presence.CLOSED, progress, was_terminated=True)

    api.engine.status = status
    refused = await api.http.post(f"/v1/batches/{batch['id']}/pause")
    assert (refused.status_code, refused.json()["current_status"]) == (409, "failed")


async def test_a_submission_that_never_began_ends_as_failed(api):
    """A minute later nothing will start it: the batch says what happened and what to do."""
    batch = await api.submit()
    api.engine.open.clear()
    api.engine.specs.clear()
    record = await api.catalog.get_batch(batch["id"])
    young = (await api.http.get(f"/v1/batches/{batch['id']}")).json()
    assert young["status"] == "queued"

    api.catalog._batches[batch["id"]] = record.model_copy(update={"created_at": seconds_ago(120)})
    old = (await api.http.get(f"/v1/batches/{batch['id']}")).json()
    assert (old["status"], old["problem"]["code"], old["counts"]["cancelled"]) == ("failed", "not_started", 1)


async def test_a_terminated_batch_ends_as_failed(api):
    """Somebody ended its workflow in the Temporal UI: it does not look as if it were running for ever."""
    batch = await api.submit()
    progress = api.engine.open.pop(batch["id"])

    async def status(batch_id):
        return EngineStatus(Presence.CLOSED, progress, was_terminated=True)

    api.engine.status = status
    seen = (await api.http.get(f"/v1/batches/{batch['id']}")).json()
    assert (seen["status"], seen["problem"]["code"]) == ("failed", "terminated")
    assert datetime.fromisoformat(seen["started_at"]) == progress.started_at
    retry = await api.http.post(f"/v1/batches/{batch['id']}/retry", json={"include_cancelled": True})
    assert retry.status_code == 409


async def test_a_terminated_batch_counts_what_its_rows_say(api):
    """What had ended keeps its end; the rest is cancelled, in the rows as in the counts."""
    batch = await api.submit()
    await api.catalog.add_documents([document_record(batch["id"], ordinal) for ordinal in range(3)])
    await api.catalog.save_outcome(done_record(batch["id"], 1))
    progress = api.engine.open.pop(batch["id"])

    async def status(batch_id):
        return EngineStatus(Presence.CLOSED, progress, was_terminated=True)

    api.engine.status = status
    seen = (await api.http.get(f"/v1/batches/{batch['id']}")).json()

    assert {name: count for name, count in seen["counts"].items() if count} == {"total": 3, "done": 1, "cancelled": 2}
    rows = (await api.http.get(f"/v1/batches/{batch['id']}/documents")).json()["data"]
    assert [row["status"] for row in rows] == ["cancelled", "done", "cancelled"]


async def test_document_ids_name_documents_of_their_batch(api):
    """An unknown document is document_not_found."""
    batch = await api.submit()
    for file_id in (file_id_for(batch["id"], 99), "x"):
        for tail in ("", "/raw", "/text"):
            response = await api.http.get(f"/v1/batches/{batch['id']}/documents/{file_id}{tail}")
            assert (response.status_code, response.json()["code"]) == (404, "document_not_found")


async def test_a_retry_without_a_key_that_the_batch_took_before_it_ended_is_not_sent_again(api):
    """It got no answer in time, was carried out, and the batch ended: to open it again would end it twice."""
    batch = await api.submit()
    sent = api.engine.messages

    async def took_and_ended(batch_id, name, request):
        sent.append((batch_id, name, request))
        await api.end(batch_id, BatchState.FAILED, failed=1, handled=(request.request_id,))
        raise BatchClosedError

    api.engine.send = took_and_ended
    response = await api.http.post(f"/v1/batches/{batch['id']}/retry")
    assert (response.status_code, response.json()["status"]) == (202, "failed")
    assert [name for _, name, _ in sent].count("reopen") == 0
