"""Submitting a batch: what is accepted, what is refused, and what is left behind."""

import hashlib
import json

import pytest

from ingather.models.batch import BatchState
from ingather.models.errors import StorageUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.settings import EngineSettings, Limits, Settings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.submitted import bytes_of, form, submission


async def test_a_pipeline_that_is_not_offered_is_refused_unless_something_is_measured(api):
    """``noop`` stores nothing of what it calls done: only a deployment that says so takes it."""
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}], "pipeline": "noop"}
    refused = await api.http.post("/v1/batches", json=body)
    async with api_in_process(Settings(engine=EngineSettings(allow_noop=True))) as measured:
        taken = await measured.http.post("/v1/batches", json=body)

    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")
    assert "noop" not in refused.json()["detail"].partition("choose from")[2]
    assert await api.keys() == []
    assert (taken.status_code, taken.json()["pipeline"]) == (202, "noop")


async def test_a_multipart_submission_is_durable_and_started(api):
    """202 with Location, Retry-After and the whole batch; bytes, submission and workflow are there."""
    response = await api.http.post(
        "/v1/batches",
        **form(
            ("one.txt", b"first"),
            ("two.txt", b"second"),
            spec={"name": "two", "collection": "papers", "priority": 2, "metadata": {"team": "x"}},
            metadata={"two.txt": {"author": "me"}},
        ),
    )

    assert response.status_code == 202
    batch = response.json()
    assert response.headers["location"] == batch["links"]["self"]
    assert int(response.headers["retry-after"]) > 0
    assert batch["counts"] == {
        "total": 2, "pending": 2, "in_flight": 0, "done": 0, "failed": 0, "skipped": 0, "cancelled": 0,
    }  # fmt: skip
    assert (batch["name"], batch["collection"], batch["priority"]) == ("two", "papers", 2)
    lines = await submission(api, batch["id"])
    assert [line.filename for line in lines] == ["one.txt", "two.txt"]
    assert [await bytes_of(api, line) for line in lines] == [b"first", b"second"]
    assert lines[1].metadata == {"author": "me"}
    assert lines[0].blob.key == lines[1].blob.key, "small files share a pack"
    assert api.engine.specs[batch["id"]].submitted_count == 2


async def test_a_json_submission_carries_its_documents_inline(api):
    """Base64 content becomes the same thing as an uploaded file."""
    batch = await api.submit(
        name="inline", documents=[{"filename": "a.txt", "content": "aGVs\nbG8=", "metadata": {"k": 1}}]
    )

    [line] = await submission(api, batch["id"])
    assert (await bytes_of(api, line), line.metadata) == (b"hello", {"k": 1})


@pytest.mark.parametrize(
    ("options", "seconds"), [({}, 90.0), ({"timeout_seconds": 30}, 30.0), ({"timeout_seconds": 300}, 300.0)]
)
async def test_a_parse_may_take_what_the_deployment_allows(options, seconds):
    """A batch that does not say gets the deployment's default, and one that says so gets less, or more up to the limit."""
    async with api_in_process(Settings(limits=Limits(parser_seconds=90))) as api:
        batch = await api.submit(options=options)
        assert api.engine.specs[batch["id"]].options.timeout_seconds == seconds


def test_a_default_over_the_limit_is_refused_at_the_start():
    """Who lets a parse take longer says so of both."""
    with pytest.raises(ValueError, match="INGATHER_LIMITS__MAX_PARSER_SECONDS"):
        Limits(parser_seconds=600)


async def test_a_parse_may_not_take_longer(api):
    """Asking for more than the limit is refused by the limit's name, and leaves nothing."""
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}], "options": {"timeout_seconds": 301}}
    response = await api.http.post("/v1/batches", json=body)

    assert (response.status_code, response.json()["code"], response.json()["limit"]) == (
        422,
        "validation_failed",
        "max_parser_seconds",
    )
    assert await api.keys() == []


async def test_metadata_that_cannot_be_kept_costs_its_document(api):
    """A number that no store takes is refused with its document; with the batch where it is the batch's own."""
    document = {"filename": "a.txt", "content": "aGVsbG8="}
    batch = await api.submit(documents=[{**document, "metadata": {"n": 2**70}}, document])

    refused, fine = await submission(api, batch["id"])
    assert (refused.refused.code, fine.refused) == ("metadata_invalid", None)
    response = await api.http.post("/v1/batches", json={"documents": [document], "metadata": {"n": 2**70}})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "#/metadata")


async def test_a_large_file_is_streamed_to_an_object_of_its_own(api):
    """Above a megabyte a file does not go into a pack, and its hash is right."""
    large = bytes(range(256)) * 8_192
    response = await api.http.post("/v1/batches", **form(("s.txt", b"s"), ("l.bin", large), ("t.txt", b"t")))

    lines = await submission(api, response.json()["id"])
    assert lines[1].blob.sha256 == hashlib.sha256(large).hexdigest()
    assert [await bytes_of(api, line) for line in lines] == [b"s", large, b"t"]
    assert "/file-" in lines[1].blob.key
    assert "/pack-" in lines[0].blob.key


async def test_packs_hold_at_most_four_megabytes(api):
    """Many small files become a few objects."""
    files = [(f"{n}.bin", bytes([n]) * 900_000) for n in range(20)]
    response = await api.http.post("/v1/batches", **form(*files))

    lines = await submission(api, response.json()["id"])
    assert [await bytes_of(api, line) for line in lines] == [content for _, content in files]
    assert len({line.blob.key for line in lines}) == 5


async def test_a_file_over_the_limit_is_refused_alone(small_api):
    """Its neighbours go on, and none of its bytes stay."""
    response = await small_api.http.post("/v1/batches", **form(("big.bin", b"x" * 2_000_001), ("ok.txt", b"fine")))

    assert response.status_code == 202
    big, fine = await submission(small_api, response.json()["id"])
    assert (big.blob, big.refused.code) == (None, "too_large")
    assert await bytes_of(small_api, fine) == b"fine"
    assert not [key for key in await small_api.keys("uploads/") if "/file-" in key]


async def test_a_small_file_that_outgrows_its_limit_is_refused_too():
    """A limit below a megabyte holds as well."""
    async with api_in_process(Settings(limits=Limits(max_file_bytes=10))) as api:
        response = await api.http.post("/v1/batches", **form(("big.txt", b"x" * 11), ("ok.txt", b"y" * 10)))
        big, fine = await submission(api, response.json()["id"])
        assert (big.refused.code, await bytes_of(api, fine)) == ("too_large", b"y" * 10)


async def test_a_request_over_the_total_limit_is_413_and_leaves_nothing(small_api):
    """Announced or discovered on the way, the limit is named and uploaded objects are removed."""
    body = form(*((f"{n}.bin", b"x" * 1_900_000) for n in range(3)))
    announced = await small_api.http.post("/v1/batches", **body)
    request = small_api.http.build_request("POST", "/v1/batches", **body)
    content = await request.aread()

    async def chunks():
        for start in range(0, len(content), 65_536):
            yield content[start : start + 65_536]

    headers = {"content-type": request.headers["content-type"]}
    discovered = await small_api.http.post("/v1/batches", content=chunks(), headers=headers)

    for response in (announced, discovered):
        assert (response.status_code, response.json()["code"]) == (413, "payload_too_large")
        assert response.json()["limit"] == "max_request_bytes"
    assert await small_api.keys() == []


async def test_more_documents_than_a_batch_holds_is_413(small_api):
    """Both kinds of request are refused, the limit is in the message, and nothing stays."""
    files = [(f"{n}.txt", b"x") for n in range(4)]
    multipart = await small_api.http.post("/v1/batches", **form(*files))
    inline = await small_api.http.post("/v1/batches", json={"documents": [{"filename": "a", "content": "YQ=="}] * 4})

    for response in (multipart, inline):
        assert (response.status_code, response.json()["code"]) == (413, "batch_too_large")
        assert "at most 3" in response.json()["detail"]
    assert await small_api.keys() == []


async def test_the_default_limit_is_a_million_documents(api):
    """More than a workflow runs itself are taken in one request, and the batch takes its limit along."""
    document = {"filename": "a.txt", "content": "YQ=="}
    response = await api.http.post("/v1/batches", json={"documents": [document] * 2_500})
    assert (response.status_code, response.json()["counts"]["total"]) == (202, 2_500)
    spec = api.engine.specs[response.json()["id"]]
    assert (spec.max_documents, spec.submitted_bytes, spec.children_at_once) == (1_000_000, 2_500, 8)
    assert (await api.http.get("/v1/limits")).json()["max_documents_per_batch"] == 1_000_000


async def test_a_batch_takes_the_settings_of_its_submission_along():
    """A lowered limit holds for what archives unpack to as well, and children run as many at a time as was set."""
    settings = Settings(limits=Limits(max_documents_per_batch=5_000), engine=EngineSettings(children_at_once=3))
    async with api_in_process(settings) as api:
        spec = api.engine.specs[(await api.submit())["id"]]
    assert (spec.max_documents, spec.children_at_once) == (5_000, 3)


@pytest.mark.parametrize("body", [form(spec={"name": "x"}), {"json": {"documents": []}}])
async def test_a_batch_without_documents_is_refused(api, body):
    """422 empty_batch."""
    response = await api.http.post("/v1/batches", **body)
    assert (response.status_code, response.json()["code"]) == (422, "empty_batch")


async def test_broken_base64_costs_one_document(api):
    """The document is refused with content_invalid; its neighbours go on."""
    documents = [{"filename": "bad", "content": "%%%"}, {"filename": "good", "content": "b2s="}]
    batch = await api.submit(documents=documents)

    bad, good = await submission(api, batch["id"])
    assert bad.refused.code == "content_invalid"
    assert await bytes_of(api, good) == b"ok"


async def test_metadata_over_the_limit_costs_one_document(api):
    """The document is refused with metadata_invalid and its metadata is not kept."""
    documents = [
        {"filename": "a", "content": "YQ==", "metadata": {"x": "y" * 70_000}},
        {"filename": "b", "content": "YQ=="},
    ]
    batch = await api.submit(documents=documents)

    first, second = await submission(api, batch["id"])
    assert (first.refused.code, first.metadata, second.refused) == ("metadata_invalid", {}, None)


async def test_a_zero_byte_file_is_submitted(api):
    """It fails later, with `empty`, as a document of the batch."""
    response = await api.http.post("/v1/batches", **form(("nothing.txt", b""), ("b.txt", b"b")))

    nothing, b = await submission(api, response.json()["id"])
    assert (nothing.blob.size_bytes, nothing.refused) == (0, None)
    assert await bytes_of(api, b) == b"b"


@pytest.mark.parametrize("name", ["../../etc/passwd", "💥 ünï.txt", " ", "a;b=c.txt", "CON", "x" * 12_000])
async def test_hostile_names_are_kept_as_the_client_sent_them(api, name):
    """Normalising is the manifest's work; the last ten thousand characters are kept."""
    response = await api.http.post("/v1/batches", **form((name, b"x")))
    [line] = await submission(api, response.json()["id"])
    assert line.filename == name[-10_000:]
    inline = await api.submit(documents=[{"filename": name + "\x00\n", "content": "YQ=="}])
    [line] = await submission(api, inline["id"])
    assert line.filename == (name + "\x00\n")[-10_000:]


async def test_a_body_that_stops_half_way_starts_nothing(api):
    """A multipart body without its closing boundary is 400, and what was uploaded is removed."""
    body = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n' + b"x" * 3_000_000
    response = await api.http.post(
        "/v1/batches", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )

    assert (response.status_code, response.json()["code"]) == (400, "bad_request")
    assert await api.keys() == []
    assert api.engine.specs == {}


async def test_a_client_that_goes_away_leaves_nothing(api):
    """The connection breaks in the middle of a file: no batch, no objects."""
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n' + b"x" * 2_000_000
    incoming = [
        {"type": "http.request", "body": head, "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return incoming.pop(0) if incoming else {"type": "http.disconnect"}

    async def send(message):
        return None

    scope = {
        "type": "http", "method": "POST", "path": "/v1/batches", "raw_path": b"/v1/batches", "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=b")], "scheme": "http", "server": None,
        "client": None, "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await api.app(scope, receive, send)

    assert await api.keys() == []
    assert api.engine.specs == {}


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        ("text/plain", b"hi", 415, "unsupported_media_type"),
        ("", b"hi", 415, "unsupported_media_type"),
        ("multipart/form-data", b"hi", 400, "bad_request"),
        ("multipart/form-data; boundary=b", b"no boundary here", 400, "bad_request"),
        (f"multipart/form-data; boundary={'b' * 257}", b"hi", 400, "bad_request"),
        ("application/json", b"{nope", 400, "bad_request"),
        ("application/json", b"[]", 422, "validation_failed"),
        ("application/json", b'{"documents":[{"filename":1,"content":"YQ=="}]}', 422, "validation_failed"),
        ("application/json", b'{"documents":[{"filename":"\\ud800","content":"YQ=="}]}', 400, "bad_request"),
        ("application/json", b'{"documents":[{"filename":"a","content":"YQ=="}],"colour":"red"}', 422, "validation_failed"),
    ],
)  # fmt: skip
async def test_a_request_that_cannot_be_read_is_a_problem(api, content_type, body, status, code):
    """Each gets its status and code, and nothing is kept."""
    response = await api.http.post("/v1/batches", content=body, headers={"content-type": content_type})
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert await api.keys() == []


async def test_wrong_fields_are_named_without_their_values(api):
    """A pointer and a reason for each; what was sent is not sent back."""
    response = await api.http.post(
        "/v1/batches",
        json={
            "priority": 77,
            "collection": "s3cr3t\n",
            "options": {"chunk_size": 100, "chunk_overlap": 4242},
            "documents": [{"filename": "a", "content": "YQ=="}, {"filename": "b"}],
        },
    )

    assert response.status_code == 422
    pointers = {error["pointer"] for error in response.json()["errors"]}
    assert {"#/priority", "#/collection", "#/options", "#/documents/1/content"} <= pointers
    said = response.text.replace(response.json()["request_id"], "")
    for value in ("77", "s3cr3t", "4242"):
        assert value not in said


async def test_metadata_for_a_file_that_was_not_sent_is_refused(api):
    """A misspelt name would otherwise lose its metadata in silence."""
    response = await api.http.post("/v1/batches", **form(("a.txt", b"a"), metadata={"b.txt": {}}))
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "#/metadata")
    assert await api.keys() == []


async def test_an_idempotency_key_makes_two_submissions_one(api):
    """The replay answers with the same batch, says so, and keeps nothing new."""
    headers = {"Idempotency-Key": "order-1"}
    first = await api.http.post("/v1/batches", **form(("a.txt", b"a")), headers=headers)
    keys = await api.keys()
    second = await api.http.post("/v1/batches", **form(("a.txt", b"a")), headers=headers)

    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert await api.keys() == keys


async def test_an_idempotency_key_with_another_payload_is_refused(api):
    """422, and the first batch's bytes are untouched."""
    headers = {"Idempotency-Key": "order-1"}
    first = await api.http.post("/v1/batches", **form(("a.txt", b"a")), headers=headers)
    keys = await api.keys()
    other = await api.http.post("/v1/batches", **form(("a.txt", b"b")), headers=headers)

    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await api.keys() == keys
    [line] = await submission(api, first.json()["id"])
    assert await bytes_of(api, line) == b"a"


async def test_a_replay_completes_a_submission_that_broke_off(api):
    """The record was written and the workflow was not started: the same key finishes the work."""
    headers = {"Idempotency-Key": "order-1"}
    api.engine.fails_to_start = True
    broken = await api.http.post("/v1/batches", **form(("a.txt", b"a")), headers=headers)
    assert (broken.status_code, broken.json()["code"]) == (503, "engine_unavailable")
    assert int(broken.headers["retry-after"]) > 0
    assert not await api.keys("uploads/")

    api.engine.fails_to_start = False
    again = await api.http.post("/v1/batches", **form(("a.txt", b"a")), headers=headers)
    assert again.status_code == 202
    [line] = await submission(api, again.json()["id"])
    assert await bytes_of(api, line) == b"a"
    assert again.json()["id"] in api.engine.open
    seen = (await api.http.get(f"/v1/batches/{again.json()['id']}")).json()
    assert seen["status"] == "running"


async def test_a_batch_given_up_while_its_replay_starts_it_goes_on(api):
    """The first request gives up what the second is just about to start: the second one's word holds."""
    begin = api.engine.start

    async def given_up_first(spec, created_at):
        await api.parts.batches.give_up(await api.catalog.get_batch(spec.batch_id))
        await begin(spec, created_at)

    seen = await _replayed(api, given_up_first)
    assert (seen["status"], seen["problem"]) == ("running", None)


async def test_a_batch_started_while_it_is_given_up_goes_on(api):
    """The first request asked the engine before the second one started it, and gives up afterwards."""
    begin = api.engine.start

    async def given_up_afterwards(spec, created_at):
        record = await api.catalog.get_batch(spec.batch_id)
        await begin(spec, created_at)
        await api.parts.batches.give_up(record)

    seen = await _replayed(api, given_up_afterwards)
    assert (seen["status"], seen["problem"]) == ("running", None)


async def test_a_batch_that_ended_at_once_keeps_its_end(api):
    """What comes of being given up by mistake is undone, and nothing that came since."""
    begin = api.engine.start

    async def given_up_and_done(spec, created_at):
        await api.parts.batches.give_up(await api.catalog.get_batch(spec.batch_id))
        await begin(spec, created_at)
        await api.end(spec.batch_id, BatchState.COMPLETED, done=1)

    seen = await _replayed(api, given_up_and_done)
    assert seen["status"] == "completed"


async def _replayed(api, start):
    """The batch, once a request that broke off was sent again; ``start`` is what starting it comes to then."""
    headers = {"Idempotency-Key": "order-1"}
    api.engine.fails_to_start = True
    await api.http.post("/v1/batches", **form(("a.txt", b"a")), headers=headers)
    api.engine.fails_to_start = False
    api.engine.start = start
    again = await api.http.post("/v1/batches", **form(("a.txt", b"a")), headers=headers)
    assert again.status_code == 202
    return (await api.http.get(f"/v1/batches/{again.json()['id']}")).json()


async def test_a_silent_engine_is_told_before_anything_is_uploaded(api):
    """503 with Retry-After, and no object, no record."""
    api.engine.is_down = True
    response = await api.http.post("/v1/batches", **form(("a.txt", b"a")))

    assert (response.status_code, response.json()["code"]) == (503, "engine_unavailable")
    assert await api.keys() == []
    api.engine.is_down = False
    assert (await api.http.get("/v1/batches")).json()["data"] == []


async def test_a_dry_run_says_what_would_happen_and_keeps_nothing(api):
    """Counts by type, bytes, duplicates and refusals."""
    response = await api.http.post(
        "/v1/batches?dry_run=true",
        **form(("a.pdf", b"%PDF-1.7 x"), ("b.txt", b"hello"), ("c.txt", b"hello"), ("d.bin", b"\x00\x01\x02\x03" * 9)),
    )

    assert response.status_code == 200
    preview = response.json()
    assert (preview["documents"], preview["bytes"], preview["duplicates"], preview["unsupported"]) == (4, 56, 1, 1)
    assert preview["by_type"] == {"application/pdf": 1, "text/plain": 2}
    assert preview["refused"] == [{"filename": "d.bin", "code": "unsupported_type"}]
    assert preview["estimated_seconds"] is None
    assert await api.keys() == []


async def test_a_dry_run_of_an_open_batch_needs_no_document(api):
    """It may begin without any; every other batch is refused as it would be."""
    opened = await api.http.post("/v1/batches?dry_run=true", json={"open": True})
    refused = await api.http.post("/v1/batches?dry_run=true", json={})

    assert (opened.status_code, opened.json()["documents"]) == (200, 0)
    assert (refused.status_code, refused.json()["code"]) == (422, "empty_batch")


@pytest.mark.parametrize("comes_first", [True, False])
async def test_a_dry_run_says_what_metadata_each_document_would_have(api, comes_first):
    """Its own, else the tenant's default, wherever in the request it stands; and why the tenant's schema refuses it."""
    schema = {"properties": {"year": {"type": "integer"}}, "required": ["year"]}
    rules = {"default_metadata": {"year": 1998}, "metadata_schema": schema}
    await api.http.patch(f"/v1/tenants/{DEFAULT_TENANT_ID}", json=rules)
    said = ("metadata", (None, json.dumps({"a.txt": {"year": 2026}, "b.txt": {"author": "Ada"}})))
    files = [("files", (name, b"hello")) for name in ("a.txt", "b.txt", "c.txt")]
    sent = [said, *files] if comes_first else [*files, said]
    preview = (await api.http.post("/v1/batches?dry_run=true", files=sent)).json()
    told = {each["filename"]: (each["metadata"], each["problem"]) for each in preview["metadata"]}
    assert told == {
        "a.txt": ({"year": 2026}, None),
        "b.txt": ({"author": "Ada"}, "Metadata validation failed: Missing required field 'year'"),
        "c.txt": ({"year": 1998}, None),
    }
    assert await api.keys() == []


async def test_prefer_wait_answers_200_once_the_batch_ended(api):
    """And 202 when it did not end in time."""
    held = await api.http.post(
        "/v1/batches", json={"documents": [{"filename": "a", "content": "YQ=="}]}, headers={"Prefer": "wait=0"}
    )
    assert held.status_code == 202

    api.engine.start = ended_at_once(api)
    response = await api.http.post(
        "/v1/batches", json={"documents": [{"filename": "a", "content": "YQ=="}]}, headers={"Prefer": "wait=5"}
    )
    assert (response.status_code, response.json()["status"]) == (200, "completed")


def ended_at_once(api: ApiInProcess):
    start = type(api.engine).start

    async def start_and_end(spec, created_at):
        await start(api.engine, spec, created_at)
        await api.end(spec.batch_id, BatchState.COMPLETED, done=spec.submitted_count)

    return start_and_end


async def test_a_held_batch_waits_for_start(api):
    """Its status is pending and it says what it waits for."""
    batch = await api.submit(hold=True)
    assert (batch["status"], batch["waiting_for"]) == ("pending", "start")


async def test_a_failed_upload_is_503_and_leaves_nothing(api):
    """The store gives up in the middle of a large file."""

    async def put_stream(key, parts):
        async for _ in parts:
            raise StorageUnavailableError("Object storage is away.")

    api.blobs.put_stream = put_stream
    response = await api.http.post("/v1/batches", **form(("l.bin", b"x" * 6_000_000)))

    assert (response.status_code, response.json()["code"]) == (503, "storage_unavailable")
    assert await api.keys() == []
