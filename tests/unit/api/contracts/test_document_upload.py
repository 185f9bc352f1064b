"""The document upload contract over ASGI: what the form brings, what is refused, what the status says."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from api.engine_waits import PendingWork
from ingather.models.accounts import TenantLimits
from ingather.models.batch import BatchProgress, BatchState, BatchSummary, Counts
from ingather.models.document import DocumentFailure, DocumentRecord, DocumentStatus
from ingather.models.engine import CPU_QUEUE, IO_QUEUE
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.metadata import MetadataRules
from ingather.settings import Limits, Settings
from tests.support.api import api_in_process
from tests.support.submitted import submission

UPLOAD = "/api/v1/documents/ingest/batch"
OTHER_TENANT = "33333333-3333-7333-8333-333333333333"
MAPPING = b'filename,tags,author\na.txt,"technical,api",Doe\n'


def files(*sent, **mapping):
    """The form's parts: files by name, and the mapping where it is to stand."""
    return {"files": [_part(name, content) for name, content in sent] + [_part(*each) for each in mapping.items()]}


def _part(name, content):
    field = name if name in ("metadata_mapping", "other") else "files"
    return (field, (name, content))


async def upload(api, *sent, **options):
    response = await api.http.post(UPLOAD, **files(*(sent or [("a.txt", b"hello")])), **options)
    assert response.status_code == 202, response.text
    return response.json()["batch_id"]


async def status(api, batch_id, **options):
    response = await api.http.get(f"{UPLOAD}/{batch_id}/status", **options)
    assert response.status_code == 200, response.text
    return response.json()


def error(response):
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    return response.status_code, body["error"]["code"], body["error"]["message"]


# Accepted


async def test_an_upload_is_answered_once_it_is_durable(api):
    """202 with the contract's four fields and the way to the status; bytes, record and workflow are there."""
    response = await api.http.post(UPLOAD, **files(("a.txt", b"one"), ("b.txt", b"two")))

    body = response.json()
    assert response.status_code == 202
    assert (body["total_documents"], body["status"]) == (2, "in_progress")
    assert body["message"] == "Batch accepted: 2 documents will be processed."
    assert response.headers["location"].endswith(f"{UPLOAD}/{body['batch_id']}/status")
    assert [line.filename for line in await submission(api, body["batch_id"])] == ["a.txt", "b.txt"]
    assert api.engine.specs[body["batch_id"]].contract == "document_upload"


async def test_it_is_the_same_batch_at_our_own_door(api):
    """The id is a batch's id everywhere."""
    batch_id = await upload(api)
    assert (await api.http.get(f"/v1/batches/{batch_id}")).json()["counts"]["total"] == 1


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_the_mapping_may_stand_anywhere_in_the_form(api, place):
    """Before, between and behind the files it says the same."""
    parts = [("a.txt", b"one"), ("b.txt", b"two")]
    parts.insert(place, ("metadata_mapping", MAPPING))
    described, plain = await submission(api, await upload(api, *parts))
    assert described.metadata == {"tags": ["technical", "api"], "author": "Doe"}
    assert plain.metadata == {}


async def test_a_mapping_may_be_json(api):
    """Fields keep their types."""
    mapping = json.dumps({"a.txt": {"year": 2024, "tags": ["x"]}}).encode()
    [line] = await submission(api, await upload(api, ("a.txt", b"one"), ("metadata_mapping", mapping)))
    assert line.metadata == {"year": 2024, "tags": ["x"]}


async def test_a_mapping_may_be_a_plain_field(api):
    """Clients that send it as text, without a file name, are understood as well."""
    parts = [("files", ("a.txt", b"one")), ("metadata_mapping", (None, MAPPING))]
    response = await api.http.post(UPLOAD, files=parts)
    [line] = await submission(api, response.json()["batch_id"])
    assert line.metadata["author"] == "Doe"


async def test_a_row_without_a_file_is_a_warning(api):
    """The status and the batch's metadata have it, and the batch goes on."""
    mapping = b"filename,a\nmissing.txt,1\n"
    batch_id = await upload(api, ("metadata_mapping", mapping), ("a.txt", b"one"))
    warnings = ["The metadata mapping has a row for 'missing.txt', which is not among the files."]
    assert (await status(api, batch_id))["warnings"] == warnings
    assert (await api.http.get(f"/v1/batches/{batch_id}")).json()["metadata"] == {"warnings": warnings}


async def test_a_cell_has_the_type_its_schema_asks_for(api):
    """A number in a table is text, unless the tenant's schema wants a number."""
    schema = {"properties": {"year": {"type": "integer"}}}
    await api.catalog.accounts.edit_tenant(DEFAULT_TENANT_ID, {"metadata_schema": schema})
    api.parts.gate.tenants.forget(DEFAULT_TENANT_ID)
    [line] = await submission(
        api, await upload(api, ("metadata_mapping", b"filename,year\na.txt,2024\n"), ("a.txt", b"one"))
    )
    assert line.metadata == {"year": 2024}


async def test_a_tenants_rules_go_with_its_batches(api):
    """Defaults and schema are kept as they are at the moment, for a batch of any door; without any there is nothing to keep."""
    assert api.engine.specs[await upload(api)].metadata_rules_key is None
    changes = {"default_metadata": {"team": "x"}, "collection_schemas": {"papers": {"required": ["author"]}}}
    await api.catalog.accounts.edit_tenant(DEFAULT_TENANT_ID, changes)
    api.parts.gate.tenants.forget(DEFAULT_TENANT_ID)

    own = api.engine.specs[(await api.submit(collection="papers"))["id"]].metadata_rules_key
    through_form = api.engine.specs[await upload(api, params={"collection": "papers"})].metadata_rules_key
    elsewhere = api.engine.specs[await upload(api)].metadata_rules_key

    assert own == through_form != elsewhere
    rules = MetadataRules.model_validate_json(await api.blobs.get(own))
    assert rules == MetadataRules(defaults={"team": "x"}, schemas=({"required": ["author"]},))


async def test_fields_of_other_names_are_let_pass(api):
    """A client may send more than the contract asks for."""
    [line] = await submission(api, await upload(api, ("other", b"x" * 100), ("a.txt", b"one")))
    assert line.filename == "a.txt"


async def test_an_upload_that_is_sent_again_is_the_same_batch(api):
    """With an Idempotency-Key the answer says that it was there already."""
    key = {"Idempotency-Key": "k1"}
    first = await upload(api, headers=key)
    again = await api.http.post(UPLOAD, **files(("a.txt", b"hello")), headers=key)
    assert (again.json()["batch_id"], again.headers["idempotency-replayed"]) == (first, "true")


# Refused


async def test_too_many_files_are_counted_to_the_last(api):
    """The message is the contract's, word by word, and nothing is left behind."""
    response = await api.http.post(UPLOAD, **files(*[(f"{number}.txt", b"x") for number in range(150)]))
    assert error(response) == (
        400,
        "BATCH_TOO_LARGE",
        "Batch exceeds maximum size of 100 files. Uploaded: 150 files",
    )
    assert (await api.keys(), api.engine.specs) == ([], {})


async def test_the_number_of_files_is_a_setting():
    """It is published, and a tenant may have its own."""
    async with api_in_process(Settings(limits=Limits(max_files_per_batch=2))) as api:
        assert (await api.http.get("/v1/limits")).json()["max_files_per_batch"] == 2
        three = files(("a", b"x"), ("b", b"x"), ("c", b"x"))
        assert error(await api.http.post(UPLOAD, **three))[2].startswith("Batch exceeds maximum size of 2 files.")
        limits = TenantLimits(max_files_per_batch=3)
        await api.catalog.accounts.edit_tenant(DEFAULT_TENANT_ID, {"limits": limits.model_dump(mode="json")})
        api.parts.gate.tenants.forget(DEFAULT_TENANT_ID)
        assert (await api.http.post(UPLOAD, **three)).status_code == 202


@pytest.mark.parametrize(
    "request_of",
    [
        {},
        {"data": {"a": "b"}},
        {"files": [("metadata_mapping", ("m.csv", MAPPING))]},
        {"files": [("files", ("", b""))]},
    ],
    ids=["nothing", "form-without-files", "mapping-alone", "no-file-chosen"],
)
async def test_an_upload_without_a_file_is_empty(api, request_of):
    """Whatever form the emptiness has."""
    assert error(await api.http.post(UPLOAD, **request_of))[:2] == (400, "EMPTY_BATCH")


async def test_a_file_over_the_limit_is_named():
    """The whole upload is refused, and nothing of it is left."""
    async with api_in_process(Settings(limits=Limits(max_file_bytes=10))) as api:
        response = await api.http.post(UPLOAD, **files(("small.txt", b"x"), ("huge.pdf", b"x" * 11)))
        code, message = error(response)[1:]
        assert (response.status_code, code) == (413, "FILE_TOO_LARGE")
        assert "huge.pdf" in message
        assert await api.keys() == []


@pytest.mark.parametrize(
    "mapping", [b"", b"name,tags\na.txt,x\n", b"\x00\x01\x02", b"[]", b'{"a.txt": 1}', b"x" * (4 * 1024 * 1024 + 1)]
)
@pytest.mark.parametrize("comes_first", [True, False])
async def test_a_mapping_that_cannot_be_used_is_refused(api, mapping, comes_first):
    """Wherever it stands, nothing is left of the upload."""
    parts = [("a.txt", b"one"), ("metadata_mapping", mapping)]
    response = await api.http.post(UPLOAD, **files(*(reversed(parts) if comes_first else parts)))
    assert error(response)[:2] == (422, "INVALID_METADATA_MAPPING")
    assert (await api.keys(), api.engine.specs) == ([], {})


async def test_two_mappings_are_one_too_many(api):
    """Which of them should count is not guessed."""
    parts = [("metadata_mapping", MAPPING), ("metadata_mapping", MAPPING), ("a.txt", b"x")]
    assert error(await api.http.post(UPLOAD, **files(*parts)))[:2] == (422, "INVALID_METADATA_MAPPING")


@pytest.mark.parametrize(
    ("content_type", "body", "told"),
    [
        ("application/json", b"{}", (415, "UNSUPPORTED_MEDIA_TYPE")),
        ("multipart/form-data", b"x", (400, "BAD_REQUEST")),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken", (400, "BAD_REQUEST")),
        (f"multipart/form-data; boundary={'x' * 257}", b"x", (400, "BAD_REQUEST")),
    ],
)
async def test_other_bodies_are_refused_in_the_same_shape(api, content_type, body, told):
    """A wrong type, no boundary, half a body, a boundary that is too long."""
    response = await api.http.post(UPLOAD, content=body, headers={"content-type": content_type})
    assert error(response)[:2] == told


async def test_trouble_behind_the_api_has_the_same_shape(api):
    """503 with Retry-After, and no word about the inside."""
    api.engine.is_down = True
    response = await api.http.post(UPLOAD, **files(("a.txt", b"x")))
    assert error(response)[:2] == (503, "ENGINE_UNAVAILABLE")
    assert int(response.headers["retry-after"]) > 0


async def test_what_nobody_foresaw_has_the_same_shape(api):
    """500, and the message of the exception stays inside."""
    api.parts.batches = None
    response = await api.http.get(f"{UPLOAD}/{file_id_for(OTHER_TENANT, 1)}/status")
    assert error(response)[:2] == (500, "INTERNAL_ERROR")
    assert "NoneType" not in response.text


# Capacity


def narrow(bytes_at_once):
    return Settings(limits=Limits(max_concurrent_bytes=bytes_at_once))


async def test_bytes_in_flight_are_limited():
    """Unfinished batches and this upload together; as soon as one has ended there is room again."""
    async with api_in_process(narrow(1_000)) as api:
        first = await upload(api, ("a.txt", b"x" * 600))
        response = await api.http.post(UPLOAD, **files(("b.txt", b"x" * 600)))

        assert error(response)[:2] == (503, "CAPACITY_EXCEEDED")
        assert int(response.headers["retry-after"]) >= 5
        await api.end(first, BatchState.COMPLETED, done=1)
        await upload(api, ("b.txt", b"x" * 600))


async def test_a_batch_of_another_door_takes_room_as_well():
    """It is the tenant that has so many bytes under way; another tenant has room."""
    async with api_in_process(narrow(1_000)) as api:
        await api.catalog.add_tenant(OTHER_TENANT, "other")
        await api.submit(documents=[{"filename": "a.txt", "content": "eHh4" * 100}] * 3)
        response = await api.http.post(UPLOAD, **files(("b.txt", b"x" * 600)))
        assert error(response)[1] == "CAPACITY_EXCEEDED"
        await upload(api, ("b.txt", b"x" * 600), headers={"X-Tenant-ID": OTHER_TENANT})


async def test_an_upload_of_unknown_size_takes_room_as_it_grows():
    """Nobody passes the limit by not saying how much will come."""
    async with api_in_process(narrow(100_000)) as api:

        async def endless():
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
            while True:
                yield b"x" * 10_000

        response = await api.http.post(
            UPLOAD, content=endless(), headers={"content-type": "multipart/form-data; boundary=x"}
        )
        assert error(response)[:2] == (413, "PAYLOAD_TOO_LARGE"), "it would not fit later either"
        assert await api.keys() == []


async def test_uploads_of_unknown_size_that_begin_together_share_one_limit():
    """Each is held against all the others as they are now, not as they were when it began."""
    async with api_in_process(narrow(100_000)) as api:
        both_began, begun = asyncio.Event(), 0

        async def growing():
            nonlocal begun
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n'
            begun += 1
            if begun == 2:
                both_began.set()
            await both_began.wait()
            for _ in range(7):
                yield b"x" * 10_000
                await asyncio.sleep(0)
            yield b"\r\n--x--\r\n"

        headers = {"content-type": "multipart/form-data; boundary=x"}
        responses = await asyncio.gather(*(api.http.post(UPLOAD, content=growing(), headers=headers) for _ in range(2)))
        assert sorted(response.status_code for response in responses) == [202, 503]


async def test_an_upload_that_can_never_fit_is_not_sent_round():
    """Nothing is under way: to come again would be no use."""
    async with api_in_process(narrow(1_000)) as api:
        response = await api.http.post(UPLOAD, **files(("b.txt", b"x" * 2_000)))
        assert error(response)[:2] == (413, "PAYLOAD_TOO_LARGE")
        assert "retry-after" not in response.headers


async def test_uploads_that_arrive_together_are_counted_together():
    """Room is taken when an upload begins, not when it has become a batch; and given back when it fails."""
    async with api_in_process(narrow(1_500)) as api:
        has_begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow():
            yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.bin"\r\n\r\n' + b"x" * 1_000
            has_begun.set()
            await may_end.wait()
            yield b"\r\n--y"

        sending = asyncio.create_task(
            api.http.post(
                UPLOAD,
                content=slow(),
                headers={"content-type": "multipart/form-data; boundary=x", "content-length": "1100"},
            )
        )
        await has_begun.wait()
        response = await api.http.post(UPLOAD, **files(("b.txt", b"x" * 500)))
        assert error(response)[1] == "CAPACITY_EXCEEDED"
        may_end.set()
        assert error(await sending)[:2] == (400, "BAD_REQUEST")
        await upload(api, ("b.txt", b"x" * 500))


async def test_a_batch_that_was_ended_from_outside_gives_its_room_back():
    """Nobody is refused for a batch that only looks as if it ran."""
    async with api_in_process(narrow(1_000)) as api:
        first = await upload(api, ("a.txt", b"x" * 600))
        del api.engine.open[first]
        summary = BatchSummary(batch_id=first, state=BatchState.FAILED, counts=Counts(total=1, cancelled=1), version=9)
        await api.catalog.finish_batch(summary)
        await upload(api, ("b.txt", b"x" * 600))


# Status


async def running(api, batch_id, state, **counts):
    total = sum(counts.values())
    progress = BatchProgress(
        state=state,
        counts=Counts(total=total, **counts),
        version=5,
        started_at=datetime.now(UTC) - timedelta(seconds=10),
    )
    api.engine.open[batch_id] = progress


@pytest.mark.parametrize("state", [state for state in BatchState if not state.is_final])
async def test_whatever_has_not_ended_is_in_progress(api, state):
    """Waiting, paused and being cancelled are words the contract does not have."""
    batch_id = await upload(api)
    await running(api, batch_id, state, pending=1, done=2, skipped=1, failed=1)
    seen = await status(api, batch_id)
    counts = (seen["total_documents"], seen["processed_count"], seen["failed_count"])
    assert (seen["status"], counts) == ("in_progress", (5, 3, 1))
    assert "estimated_completion_time" in seen
    assert not {"completed_at", "processing_time_seconds"} & set(seen)


@pytest.mark.parametrize(
    ("state", "counts", "told"),
    [
        (BatchState.COMPLETED, {"done": 2}, ("completed", 2, 0)),
        (BatchState.COMPLETED, {"done": 1, "skipped": 1}, ("completed", 2, 0)),
        (BatchState.COMPLETED, {"skipped": 2}, ("completed", 2, 0)),
        (BatchState.COMPLETED_WITH_FAILURES, {"done": 1, "failed": 1}, ("partial_failure", 1, 1)),
        (BatchState.FAILED, {"failed": 2}, ("failed", 0, 2)),
        (BatchState.CANCELLED, {"done": 1, "cancelled": 1}, ("partial_failure", 1, 1)),
        (BatchState.CANCELLED, {"cancelled": 2}, ("failed", 0, 2)),
    ],
)
async def test_how_a_batch_ended_has_one_of_three_words(api, state, counts, told):
    """Skipped counts as processed, cancelled as failed; the time it took is never nought."""
    batch_id = await upload(api)
    await api.end(batch_id, state, **counts)
    seen = await status(api, batch_id)
    assert (seen["status"], seen["processed_count"], seen["failed_count"]) == told
    assert seen["processing_time_seconds"] > 0
    assert datetime.fromisoformat(seen["completed_at"]).utcoffset() is not None
    assert "estimated_completion_time" not in seen


async def test_an_estimate_is_there_before_anything_ended(api):
    """At the pace the contract promises: ten documents a minute."""
    batch_id = await upload(api)
    await running(api, batch_id, BatchState.RUNNING, in_flight=10)
    estimate = datetime.fromisoformat((await status(api, batch_id))["estimated_completion_time"])
    assert timedelta(seconds=50) < estimate - datetime.now(UTC) <= timedelta(seconds=60)


async def test_nothing_is_promised_while_nothing_moves(api):
    """A batch that somebody paused has no estimate."""
    batch_id = await upload(api)
    await running(api, batch_id, BatchState.PAUSED, pending=1)
    assert (await status(api, batch_id))["estimated_completion_time"] is None


@pytest.mark.parametrize("state", [BatchState.QUEUED, BatchState.RUNNING])
async def test_nothing_is_promised_while_no_worker_is_there(api, state):
    """Nobody takes its documents up: a time at the contract's pace would move on for ever."""
    batch_id = await upload(api)
    await running(api, batch_id, state, pending=1)
    api.engine.waits.silent_seconds = dict.fromkeys((CPU_QUEUE, IO_QUEUE), 60.0)
    api.engine.waits.work = PendingWork(scheduled=1)
    assert (await status(api, batch_id))["estimated_completion_time"] is None


FAILURES = [
    ("bad.pdf", "corrupt", "PDF cannot be opened", "Failed to parse PDF: PDF cannot be opened"),
    ("locked.DOCX", "encrypted", "it has a password", "Failed to parse DOCX: it has a password"),
    ("bomb.xlsx", "parser_out_of_memory", "over 2 GiB", "Failed to parse XLSX: over 2 GiB"),
    ("none.pdf", "empty", "it has zero bytes", "Failed to parse PDF: it has zero bytes"),
    ("odd", "corrupt", "it cannot be read", "Failed to parse document: it cannot be read"),
    (
        "plain.txt",
        "metadata_invalid",
        "Metadata validation failed: Missing required field 'author'",
        "Metadata validation failed: Missing required field 'author'",
    ),
    ("fat.txt", "metadata_invalid", "The metadata is larger", "Metadata validation failed: The metadata is larger"),
    ("away.txt", "document_timeout", "not finished in time", "not finished in time"),
]


async def test_failed_documents_are_told_in_the_contracts_words(api):
    """By the name the client sent, in the order they came; a cancelled one says so."""
    batch_id = await upload(api)
    records = [_failed(batch_id, number, *failure[:3]) for number, failure in enumerate(FAILURES)]
    cancelled = _document(batch_id, len(records), "rest.txt", DocumentStatus.CANCELLED, original_filename="in/rest.txt")
    await api.catalog.add_documents([*records, cancelled])
    await api.end(batch_id, BatchState.CANCELLED, failed=len(records), cancelled=1)
    assert (await status(api, batch_id))["failed_documents"] == [
        *({"filename": name, "error": told} for name, _, _, told in FAILURES),
        {"filename": "in/rest.txt", "error": "Cancelled before it was processed."},
    ]


def _failed(batch_id, ordinal, filename, code, message):
    error = DocumentFailure(code=code, message=message)
    return _document(batch_id, ordinal, filename, DocumentStatus.FAILED, error=error)


def _document(batch_id, ordinal, filename, status, **fields):
    return DocumentRecord(
        file_id=file_id_for(batch_id, ordinal),
        tenant_id=DEFAULT_TENANT_ID,
        batch_id=batch_id,
        ordinal=ordinal,
        filename=filename,
        collection="default",
        status=status,
        **fields,
    )


@pytest.mark.parametrize("batch_id", ["nonsense", "01900000-0000-7000-8000-000000000000"])
async def test_an_unknown_batch_is_not_found(api, batch_id):
    """What cannot be an id is no other answer than what is none."""
    assert error(await api.http.get(f"{UPLOAD}/{batch_id}/status"))[:2] == (404, "BATCH_NOT_FOUND")


async def test_another_tenants_batch_is_not_found(api):
    """The answer is that of an unknown id, letter by letter."""
    await api.catalog.add_tenant(OTHER_TENANT, "other")
    batch_id = await upload(api)
    as_other = {"X-Tenant-ID": OTHER_TENANT}
    theirs = await api.http.get(f"{UPLOAD}/{batch_id}/status", headers=as_other)
    unknown = await api.http.get(f"{UPLOAD}/{file_id_for(batch_id, 1)}/status", headers=as_other)
    assert error(theirs) == error(unknown)
    assert error(theirs)[:2] == (404, "BATCH_NOT_FOUND")


async def test_an_unknown_tenant_is_not_found(api):
    """For uploads as for the status."""
    response = await api.http.post(UPLOAD, **files(("a.txt", b"x")), headers={"X-Tenant-ID": OTHER_TENANT})
    assert error(response)[:2] == (404, "TENANT_NOT_FOUND")
