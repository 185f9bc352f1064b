"""The texts contract over ASGI: what it takes, how long it waits, what it says of each end."""

from datetime import UTC, datetime

import orjson
import pytest
from cryptography.fernet import Fernet

from ingather.domain.keys import text_result_key
from ingather.models.batch import BatchState, Counts
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus, Submitted
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.text import TextAnswer, TextResult
from ingather.settings import AuthSettings, Limits, LlmSettings, Settings, SourceSettings
from tests.support.api import api_in_process
from tests.support.callers import key_of, new_tenant

HARBOUR = "The harbour of Vela was rebuilt in 1931."
NOBODYS = "01900000-0000-7000-8000-000000000000"


def requests(*operations, **more):
    return [{"text": f"{HARBOUR} {number}", "operation": each, **more} for number, each in enumerate(operations)]


async def post(api, body, *, prefer="respond-async", **headers):
    return await api.http.post("/batch_process", json=body, headers={"Prefer": prefer, **headers})


async def batch_of(api):
    """Id and spec of the one batch there is."""
    [(batch_id, spec)] = api.engine.specs.items()
    return batch_id, spec


async def lines_of(api, batch_id):
    """What was handed in, as the manifest will read it."""
    [key] = await api.keys(f"batches/{DEFAULT_TENANT_ID}/{batch_id}/submission/")
    return [Submitted.model_validate_json(line) for line in (await api.blobs.get(key)).splitlines()]


async def end(api, batch_id, *outcomes, state=BatchState.COMPLETED):
    """Let a batch end with these: an answer, an error's message, or None for a text that never ran."""
    lines = await lines_of(api, batch_id)
    rows = []
    for ordinal, outcome in enumerate(outcomes):
        file_id = file_id_for(batch_id, ordinal)
        key = text_result_key(DEFAULT_TENANT_ID, f"{batch_id}-{ordinal}")
        common = {
            "file_id": file_id, "tenant_id": DEFAULT_TENANT_ID, "batch_id": batch_id, "ordinal": ordinal,
            "filename": lines[ordinal].filename, "collection": "default", "metadata": lines[ordinal].metadata,
            "ended_at": datetime.now(UTC), "timings_ms": {"answering": 250.0},
        }  # fmt: skip
        if isinstance(outcome, TextAnswer):
            result = TextResult(
                answer=outcome, provider="p", model="m", made_for=file_id, made_at=datetime.now(UTC)
            ).model_dump_json()
            await api.blobs.put(key, result.encode())
            rows.append(DocumentRecord(**common, status=DocumentStatus.DONE, artifact_key=key))
        elif outcome is None:
            rows.append(DocumentRecord(**common, status=DocumentStatus.CANCELLED))
        else:
            failure = DocumentFailure(code="model_unavailable", message=outcome)
            rows.append(DocumentRecord(**common, status=DocumentStatus.FAILED, error=failure))
    await api.catalog.add_documents(rows)
    counts = {
        "done": sum(isinstance(outcome, TextAnswer) for outcome in outcomes),
        "failed": sum(isinstance(outcome, str) for outcome in outcomes),
        "cancelled": sum(outcome is None for outcome in outcomes),
    }
    await api.end(batch_id, state, **counts)


async def test_texts_become_documents_of_a_batch_of_their_own_kind(api):
    """With the door's own options; names, spec and metadata hold nothing of a text."""
    sent = requests("summarize", "qa", question="When?", user_metadata={"ticket": 7})
    assert (await post(api, {"requests": sent})).status_code == 202
    batch_id, spec = await batch_of(api)
    assert (spec.pipeline, spec.contract, spec.submitted_count) == ("text", "texts", 2)
    assert (spec.options.workers, spec.options.retries) == (5, 5)
    first, second = await lines_of(api, batch_id)
    assert (first.filename, second.filename) == ("001-summarize.json", "002-qa.json")
    assert second.metadata == {"operation": "qa", "user_metadata": {"ticket": 7}}
    assert "Vela" not in f"{spec!r} {first!r} {second!r}"
    blob = second.blob
    task = orjson.loads(await api.blobs.get(blob.key, offset=blob.offset, size=blob.size_bytes))
    assert (task["text"], task["question"], "user_metadata" in task) == (f"{HARBOUR} 1", "When?", False)


async def test_concurrency_retries_and_the_limit_are_settings():
    """They reach the batch; more texts than the limit are a 400 in the contract's words."""
    limits = Limits(max_batch_requests=2, text_concurrency=3)
    async with api_in_process(Settings(limits=limits, llm=LlmSettings(max_retries=1))) as api:
        await post(api, {"requests": requests("sentiment", "sentiment")})
        _, spec = await batch_of(api)
        assert (spec.options.workers, spec.options.retries) == (3, 1)
        response = await post(api, {"requests": requests(*["sentiment"] * 3)})
        assert (response.status_code, response.json()) == (
            400, {"detail": "Batch size exceeds maximum limit of 2 requests."},
        )  # fmt: skip


@pytest.mark.parametrize("most", [0, 201])
def test_no_deployment_takes_more_than_200_texts(most):
    """The ceiling is no setting."""
    with pytest.raises(ValueError, match="max_batch_requests"):
        Limits(max_batch_requests=most)


async def test_a_client_waits_until_its_batch_has_ended(api):
    """200 with the results in the order of the requests: one failed, the others do not notice."""
    texts = (
        TextAnswer(result="Short."),
        "The language model did not answer (status 500).",
        TextAnswer(questions=("Who?",)),
    )

    async def ends(batch_id):
        await end(api, batch_id, *texts, state=BatchState.COMPLETED_WITH_FAILURES)

    api.engine.on_wait = ends
    response = await post(api, {"requests": requests("summarize", "summarize", "questions")}, prefer="")
    answer = response.json()
    assert response.status_code == 200
    assert (answer["total_requests"], answer["completed"], answer["failed"]) == (3, 2, 1)
    first, second, third = answer["results"]
    assert first["response"] == {
        "operation": "summarize", "success": True, "result": "Short.", "metadata": {"provider": "p", "model": "m"},
        "processing_time": 0.25, "timestamp": first["response"]["timestamp"], "cache_hit": False,
    }  # fmt: skip
    assert second == {"request_index": 1, "status": "failed", "error": texts[1]}
    assert third["response"]["questions"] == ["Who?"]


async def test_a_batch_that_takes_longer_than_the_client_waits_is_answered_202(api):
    """``Prefer: wait=N``; it goes on, and can be asked for."""
    response = await post(api, {"requests": requests("summarize")}, prefer="wait=1")
    assert response.status_code == 202
    batch_id, _ = await batch_of(api)
    assert response.headers["Location"] == f"/batch_status/{batch_id}"
    assert response.json()["status"] == "processing"


async def test_a_client_that_does_not_wait_is_answered_at_once(api):
    """``wait=0`` is no wait, and not the longest one."""

    async def is_asked(_batch_id):
        raise AssertionError("it was waited for")

    api.engine.on_wait = is_asked
    assert (await post(api, {"requests": requests("summarize")}, prefer="wait=0")).status_code == 202


async def test_a_process_that_goes_away_lets_its_clients_go(api):
    """202: the batch is durable, and any other process tells how it ends."""

    async def drains(_batch_id):
        api.parts.readiness.drains_with(lambda: True)

    api.engine.on_wait = drains
    assert (await post(api, {"requests": requests("summarize")}, prefer="")).status_code == 202


async def test_status_shows_what_has_ended_so_far(api):
    """Counts and results, while the rest is under way."""
    name = "mine"
    await post(api, {"batch_id": name, "requests": requests("summarize", "summarize")})
    batch_id, _ = await batch_of(api)
    lines = await lines_of(api, batch_id)
    failed = DocumentRecord(
        file_id=file_id_for(batch_id, 1), tenant_id=DEFAULT_TENANT_ID, batch_id=batch_id, ordinal=1, filename="b",
        collection="default", metadata=lines[1].metadata, status=DocumentStatus.FAILED,
        error=DocumentFailure(code="model_refused", message="The model declined."),
    )  # fmt: skip
    await api.catalog.add_documents([failed])
    running = api.engine.open[batch_id]
    counts = Counts(total=2, in_flight=1, failed=1)
    api.engine.open[batch_id] = running.model_copy(update={"counts": counts})
    status = (await api.http.get(f"/batch_status/{name}")).json()
    assert (status["batch_id"], status["status"], status["message"]) == (
        name,
        "processing",
        "1 of 2 requests have ended.",
    )
    assert (status["total_requests"], status["completed"], status["failed"]) == (2, 0, 1)
    assert status["results"] == [{"request_index": 1, "status": "failed", "error": "The model declined."}]
    assert (await api.http.get(f"/batch_status/{batch_id}")).json()["results"] == status["results"]


async def test_a_cancelled_batch_has_failed_with_a_result_for_every_request(api):
    """What was done stays, what was not says so."""
    await post(api, {"requests": requests("summarize", "summarize")})
    batch_id, _ = await batch_of(api)
    await end(api, batch_id, TextAnswer(result="Short."), None, state=BatchState.CANCELLED)
    status = (await api.http.get(f"/batch_status/{batch_id}")).json()
    assert (status["status"], status["completed"], status["failed"]) == ("failed", 1, 1)
    assert status["results"][1]["error"] == "Cancelled before it was processed."
    assert "cancelled" in status["message"]


async def test_the_same_batch_id_with_other_requests_is_409(api):
    """With the same ones it is the same batch, also after the deployment was set otherwise."""
    body = {"batch_id": "mine", "requests": requests("summarize", "sentiment")}
    first = await post(api, body)
    again = await post(api, body)
    assert (first.json()["batch_id"], again.json()["batch_id"]) == ("mine", "mine")
    assert again.headers["Idempotency-Replayed"] == "true"
    other = await post(api, body | {"requests": requests("summarize")})
    assert (other.status_code, other.json()) == (409, {"detail": "This batch_id stands for a batch of other requests."})
    assert len(api.engine.specs) == 1


@pytest.mark.parametrize("name", ["Märchen 1", "партия", "a?b", "a#b", "100%25"])
async def test_location_leads_to_the_batch_whatever_it_is_called(api, name):
    """In any script, and with what has a meaning in an address."""
    made = await post(api, {"batch_id": name, "requests": requests("summarize")})
    assert made.status_code == 202, made.text
    assert (await api.http.get(made.headers["Location"])).json()["batch_id"] == name


async def test_an_idempotency_key_does_the_same_without_a_name(api):
    """And is no name: the batch goes by its id."""
    body = {"requests": requests("summarize")}
    answers = [await post(api, body, **{"Idempotency-Key": "k"}) for _ in range(2)]
    batch_id, _ = await batch_of(api)
    assert [answer.json()["batch_id"] for answer in answers] == [batch_id, batch_id]
    assert (await api.http.get("/batch_status/k")).status_code == 404


async def test_a_batch_may_name_a_webhook_of_its_own():
    """It is registered for this batch alone; a secret that is made is shown once, in a header."""
    sources = SourceSettings(keys=Fernet.generate_key().decode())
    async with api_in_process(Settings(sources=sources)) as api:
        body = {"batch_id": "heard", "requests": requests("summarize"), "webhook_url": "https://example.com/hook"}
        made = await post(api, body)
        assert made.headers["ingather-webhook-secret"].startswith("whsec_")
        assert "ingather-webhook-secret" not in (await post(api, body)).headers
        batch_id, spec = await batch_of(api)
        [hook] = (await api.http.get("/v1/webhook-endpoints", params={"batch_id": batch_id})).json()["data"]
        assert (hook["url"], spec.is_heard) == ("https://example.com/hook", True)
        assert (await post(api, body | {"webhook_url": "ftp://example.com"})).status_code == 422


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"requests": []}, ["body", "requests"]),
        ({}, ["body", "requests"]),
        ({"requests": requests("translate")}, ["body", "requests", 0, "operation"]),
        ({"requests": requests("qa")}, ["body", "requests", 0]),
        ({"requests": [{"text": "         short ", "operation": "qa", "question": "?"}]}, ["body", "requests", 0, "text"]),
        ({"requests": requests("questions", options={"num_questions": 0})}, ["body", "requests", 0, "options", "num_questions"]),
        ({"requests": requests("summarize"), "batch_id": "a/b"}, ["body", "batch_id"]),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_422_and_says_where(api, body, place):
    """Without the value that was sent."""
    response = await post(api, body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == place
    assert "Vela" not in response.text


async def test_null_options_are_those_of_the_contract(api):
    """As many a client writes what it does not want to say."""
    response = await post(api, {"requests": requests("summarize", options=None)})
    assert response.status_code == 202
    assert (await post(api, {"requests": requests("summarize", options={"max_length": None})})).status_code == 202


async def test_an_engine_that_is_down_is_503(api):
    """With ``Retry-After``."""
    api.engine.is_down = True
    response = await post(api, {"requests": requests("summarize")}, prefer="")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert set(response.json()) == {"detail"}


async def test_an_accident_is_a_500_without_inner_details(api):
    """In the contract's words."""

    async def breaks(_batch_id):
        raise KeyError(HARBOUR)

    api.engine.on_wait = breaks
    response = await post(api, {"requests": requests("summarize")}, prefer="")
    assert (response.status_code, response.json()) == (
        500, {"detail": "Failed to process batch request due to an internal server error."},
    )  # fmt: skip


async def test_without_a_key_it_is_401_and_with_another_tenants_404():
    """Where credentials are required; a name is looked for in the caller's own tenant."""
    async with api_in_process(Settings(auth=AuthSettings(mode="required"))) as api:
        body = {"batch_id": "mine", "requests": requests("summarize")}
        assert (await post(api, body)).status_code == 401
        other = "01900000-0000-7000-8000-00000000000a"
        await new_tenant(api.catalog.accounts, other)
        ours = await key_of(api.catalog.accounts)
        theirs = await key_of(api.catalog.accounts, tenant_id=other)
        made = await post(api, body, **ours)
        assert made.status_code == 202, made.text
        batch_id, _ = await batch_of(api)
        for name in ("mine", batch_id):
            assert (await api.http.get(f"/batch_status/{name}", headers=ours)).status_code == 200
            assert (await api.http.get(f"/batch_status/{name}", headers=theirs)).status_code == 404


async def test_another_doors_batch_is_not_found_at_this_one(api):
    """Though it is in the tenant."""
    batch = await api.submit()
    for name in (batch["id"], NOBODYS, "nothing"):
        response = await api.http.get(f"/batch_status/{name}")
        assert (response.status_code, response.json()) == (404, {"detail": "Batch not found"})


async def test_a_tenants_rules_for_metadata_are_not_for_texts(api):
    """They are for its documents."""
    schema = {"type": "object", "required": ["author"]}
    await api.http.patch(f"/v1/tenants/{DEFAULT_TENANT_ID}", json={"metadata_schema": schema})
    await post(api, {"requests": requests("summarize")})
    _, spec = await batch_of(api)
    assert spec.metadata_rules_key is None


async def test_other_doors_do_not_take_texts(api):
    """A document that was not written here is no text."""
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}], "pipeline": "text"}
    assert (await api.http.post("/v1/batches", json=body)).status_code == 422
