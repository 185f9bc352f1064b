"""Scanned sheets in chunks over ASGI: order, repeats, races, what breaks off, and what each answer says."""

import asyncio
import json
import os
import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from api.contracts.sheet_form import MAX_FIELDS
from api.uploads import LARGE_FILES_OF_A_TENANT
from ingather.models.errors import EngineUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.sheets import SheetUpload
from ingather.models.upload import UploadPiece, UploadState
from ingather.models.webhook import Webhook
from ingather.ports.catalog import BatchFilter
from ingather.settings import Limits, Settings
from tests.support.api import api_in_process
from tests.support.chunks import CHUNK_PATH, UPLOAD_PATH, ChunkClient

MIB = 1024 * 1024
OTHER_TENANT = "33333333-3333-7333-8333-333333333333"
SIZES = {
    "one": [10],
    "small": [1_000] * 9 + [17],
    "as_s3_takes_them": [8 * MIB, 8 * MIB, 3],
    "a_little_smaller": [6 * MIB] * 3 + [1],
    "of_all_sizes": [8 * MIB, 100, 6 * MIB, 0, 12 * MIB],
    "tiny_first": [1, 6 * MIB, 200],
    "empty_last": [8 * MIB, 0],
    "nothing": [0],
}


def chunks_of(sizes):
    return [os.urandom(size) for size in sizes]


async def stored_keys(api) -> list[str]:
    """All that uploads and their pieces take up."""
    return [*await api.keys("incoming/"), *await api.keys("uploads/")]


async def submitted(api, batch_id) -> SheetUpload:
    key = (await api.catalog.list_parts(batch_id))[0].key
    return SheetUpload.model_validate_json(await api.blobs.get(key))


async def whole_of(api, batch_id) -> bytes:
    [stored] = (await submitted(api, batch_id)).objects
    return await api.blobs.get(stored.key)


def refused(response):
    body = response.json()
    assert set(body) == {"detail", "message"}
    assert body["detail"] == body["message"]
    return response.status_code, body["detail"]


# Complete


async def test_a_batch_of_sheets_is_heard_where_somebody_listens(api):
    """As one of any other door: its tenant's webhooks hear that it starts."""
    client = ChunkClient(api.http, chunks_of([10]))
    unheard = (await client.taken(0))["batch_id"]
    hook = Webhook(
        webhook_id=str(uuid.uuid4()),
        tenant_id=DEFAULT_TENANT_ID,
        url="https://hooks.example.org/",
        sealed="",
        created_at=datetime.now(UTC),
    )
    await api.catalog.webhooks.add_webhook(hook)
    heard = (await ChunkClient(api.http, chunks_of([11])).taken(0))["batch_id"]
    assert [api.engine.specs[batch_id].is_heard for batch_id in (unheard, heard)] == [False, True]


@pytest.mark.parametrize("sizes", SIZES)
async def test_chunks_in_any_order_become_the_file(api, sizes):
    """Whatever their sizes, wherever they stand in the form: the batch gets the bytes in their order, and nothing else stays."""
    client = ChunkClient(api.http, chunks_of(SIZES[sizes]), chunk_first=len(SIZES[sizes]) % 2 == 0)
    count = len(client.chunks)
    order = list(range(1, count))
    random.Random(7).shuffle(order)
    answers = [await client.taken(index) for index in [0, *order]]

    assert [answer["chunks_received"] for answer in answers] == list(range(1, count + 1))
    assert [answer["is_complete"] for answer in answers] == [False] * (count - 1) + [True]
    last = answers[-1]
    assert (last["status"], last["message"]) == ("uploaded", "Batch uploaded successfully")
    assert await whole_of(api, last["batch_id"]) == b"".join(client.chunks)
    [stored] = (await submitted(api, last["batch_id"])).objects
    assert await stored_keys(api) == [stored.key]
    assert stored.key.startswith(f"uploads/{DEFAULT_TENANT_ID}/{last['batch_id']}/")
    assert (stored.filename, stored.size_bytes) == ("forms.zip", sum(map(len, client.chunks)))
    assert api.parts.chunked_uploads.parted.open_count == 0


async def test_an_answer_says_what_the_contract_says(api):
    """Six fields for each chunk, and three more words for the last; the batch is there under its id."""
    client = ChunkClient(api.http, chunks_of([10, 10]))
    first = await client.taken(0)
    assert first == {
        "upload_id": client.upload_id,
        "chunk_index": 0,
        "chunks_received": 1,
        "total_chunks": 2,
        "is_complete": False,
        "message": "Chunk 1/2 received",
    }
    last = await client.taken(1)
    assert last.keys() - first.keys() == {"batch_id", "status"}
    spec = api.engine.specs[last["batch_id"]]
    assert (spec.contract, spec.pipeline, spec.tenant_id) == ("sheets", "sheets", DEFAULT_TENANT_ID)


async def test_what_is_said_of_a_batch_is_kept_with_it(api):
    """Type, task and notes of the first chunk are the batch's, as long as they may be in any script."""
    notes = "家" * 10_000
    fields = {"upload_type": "zip_no_qr", "task_id": "00001234", "notes": notes, "profile_id": "p1"}
    client = ChunkClient(api.http, [b"x"], fields=fields | {"alignment_mode": ""})
    upload = await submitted(api, (await client.taken(0))["batch_id"])
    assert (upload.upload_type, upload.task_id) == ("zip_no_qr", "00001234")
    assert upload.metadata == {"notes": notes, "profile_id": "p1"}


async def test_each_chunk_is_told_once(api):
    """What is watched under the batch's id begins with the first chunk, and says nothing of repeats."""
    client = ChunkClient(api.http, chunks_of([MIB, MIB // 2]))
    response = await client.send(0)
    batch_id = response.headers["X-Batch-ID"]
    await client.taken(0)
    assert (await client.taken(1))["batch_id"] == batch_id
    await client.taken(1)
    told = [event.body for event in await api.parts.sheet_progress.read(batch_id)]
    assert len(told) == 2
    assert b'"Chunk 1/2 uploaded (1.00MB)"' in told[0]
    assert b'"Chunk 2/2 uploaded (0.50MB)"' in told[1]


async def test_a_batch_is_asked_about_from_its_first_chunk_on(api):
    """Under the id that the first answer gave: it waits for its upload, however much of it there is and whatever Redis knows."""
    client = ChunkClient(api.http, chunks_of([MIB] * 4))
    batch_id = (await client.send(0)).headers["X-Batch-ID"]
    status, progress = [await api.http.get(f"/api/batches/{batch_id}/{what}") for what in ("status", "progress")]
    assert (status.json()["status"], status.json()["upload_type"]) == ("pending", "zip_with_qr")
    body = progress.json()
    assert (body["stage"], body["stage_percentage"], body["progress_percentage"]) == ("uploading", 25.0, 2.5)
    api.parts.sheet_progress.clear()
    without = (await api.http.get(f"/api/batches/{batch_id}/progress")).json()
    assert (without["status"], without["stage"], without["stage_percentage"]) == ("pending", "uploading", 25.0)
    assert without.keys() >= body.keys() - {"sequence", "retry_round"}
    assert (await api.http.get(f"/api/batches/{batch_id}/results.csv")).status_code == 404


async def test_an_upload_is_no_batch_for_another_tenant_or_after_its_time(api):
    """Neither its status nor its stream, nor a ticket for that."""
    await api.catalog.add_tenant(OTHER_TENANT, "other")
    client = ChunkClient(api.http, chunks_of([10, 10]))
    batch_id = (await client.send(0)).headers["X-Batch-ID"]
    theirs = {"X-Tenant-ID": OTHER_TENANT}
    paths = [f"/api/batches/{batch_id}/{what}" for what in ("status", "progress", "stream")]
    assert [(await api.http.get(path, headers=theirs)).status_code for path in paths] == [404] * 3
    ticket = {"url": "/v1/stream-tickets", "json": {"batch_id": batch_id}}
    assert (await api.http.post(**ticket, headers=theirs)).status_code == 404
    assert (await api.http.post(**ticket)).status_code == 201
    upload = await api.catalog.uploads.get_upload(client.upload_id)
    over = {"expires_at": upload.created_at - timedelta(seconds=1)}
    await api.catalog.uploads.edit_upload(client.upload_id, over)
    assert [(await api.http.get(path)).status_code for path in paths] == [404] * 3


async def test_chunks_are_told_in_the_order_in_which_they_were_counted(api):
    """Whoever comes to tell of a later one first tells of those before it: what follows the last would leave them out."""
    client = ChunkClient(api.http, chunks_of([10] * 4))
    batch_id = (await client.send(0)).headers["X-Batch-ID"]
    piece = UploadPiece(index=3, size_bytes=MIB, key="incoming/x", sha256="ab" * 32)
    await api.catalog.uploads.add_piece(client.upload_id, piece, datetime.now(UTC))  # its process died right then
    await client.taken(2)
    messages = [json.loads(event.body)["message"] for event in await api.parts.sheet_progress.read(batch_id)]
    assert [message[:9] for message in messages] == ["Chunk 1/4", "Chunk 2/4", "Chunk 3/4"]
    assert messages[1] == "Chunk 2/4 uploaded (1.00MB)"


async def test_what_redis_missed_of_an_upload_is_told_with_its_next_chunk(api):
    """It was emptied: a stream that opens before the batch begins hears of every chunk all the same."""
    client = ChunkClient(api.http, chunks_of([10] * 3))
    batch_id = (await client.send(0)).headers["X-Batch-ID"]
    await client.taken(1)
    api.parts.sheet_progress.clear()
    await client.taken(2)
    messages = [json.loads(event.body)["message"] for event in await api.parts.sheet_progress.read(batch_id)]
    assert [message[:9] for message in messages] == ["Chunk 1/3", "Chunk 2/3", "Chunk 3/3"]


# Again, and at the same time


async def test_a_chunk_sent_again_changes_nothing(api):
    """Before the end it is answered as it was, and after it with the batch's id, whichever it is."""
    client = ChunkClient(api.http, chunks_of([10, 10, 10]))
    await client.taken(0)
    await client.taken(2)
    again = await client.taken(2, chunk=b"other bytes")
    assert (again["chunks_received"], again["is_complete"]) == (2, False)
    batch_id = (await client.taken(1))["batch_id"]
    for index in range(3):
        again = await client.taken(index)
        assert (again["batch_id"], again["is_complete"], again["chunks_received"]) == (batch_id, True, 3)
    assert await whole_of(api, batch_id) == b"".join(client.chunks)
    assert len(api.engine.specs) == 1
    assert len(await stored_keys(api)) == 1


async def test_a_first_chunk_sent_again_is_the_same_upload(api):
    """Its answer was lost, so it comes without an id; it gets the first one's, also once the batch has begun."""
    client = ChunkClient(api.http, chunks_of([10, 10]))
    first = await client.taken(0)
    assert await client.taken(0, upload_id=None) == first
    batch_id = (await client.taken(1))["batch_id"]
    again = await client.taken(0, upload_id=None)
    assert (again["upload_id"], again["batch_id"]) == (first["upload_id"], batch_id)
    other = await client.taken(0, upload_id=None, chunk=b"another file")
    assert other["upload_id"] != first["upload_id"]


async def test_everything_at_once_and_twice_is_one_batch(api):
    """Two senders of each chunk, side by side: every chunk counts once, and both senders of a last chunk hear of the batch."""
    client = ChunkClient(api.http, chunks_of([7 * MIB] * 4 + [5]))
    await asyncio.gather(client.send(0), client.send(0))
    answers = await asyncio.gather(*(client.taken(index) for index in (4, 3, 2, 1, 1, 2, 3, 4)))
    ended = [await client.taken(index) for index in range(5)]
    assert len({answer["batch_id"] for answer in [*answers, *ended] if answer["is_complete"]}) == 1
    assert any(answer["is_complete"] for answer in answers)
    assert await whole_of(api, ended[0]["batch_id"]) == b"".join(client.chunks)
    assert len(api.engine.specs) == 1
    assert len(await stored_keys(api)) == 1


async def test_of_two_different_chunks_with_one_number_the_first_is_kept(api):
    """Never a mixture of both."""
    client = ChunkClient(api.http, [b"head", bytes(8 * MIB)])
    await client.taken(0)
    await asyncio.gather(*(client.taken(1, chunk=bytes([value]) * 8 * MIB) for value in (1, 2, 3)))
    content = await whole_of(api, (await client.taken(1))["batch_id"])
    assert content in [b"head" + bytes([value]) * 8 * MIB for value in (1, 2, 3)]


# Broken off


async def test_another_process_goes_on_where_one_stopped(api):
    """All that is known of an upload is in the catalog and in storage: a fresh application over both takes the rest."""
    client = ChunkClient(api.http, chunks_of([6 * MIB, 6 * MIB, 6 * MIB, 9]))
    for index in (0, 2):
        await client.taken(index)
    async with api_in_process(like=api) as other:
        client.http = other.http
        assert (await client.taken(2))["chunks_received"] == 2
        await client.taken(3)
        batch_id = (await client.taken(1))["batch_id"]
    assert await whole_of(api, batch_id) == b"".join(client.chunks)


async def test_a_repeat_begins_the_batch_that_did_not_begin(api):
    """The engine was away when the last chunk came: 503, and any chunk sent again does the rest."""
    client = ChunkClient(api.http, chunks_of([10, 10]))
    await client.taken(0)
    api.engine.fails_to_start = True
    status, text = refused(await client.send(1))
    assert (status, text) == (503, EngineUnavailableError("The workflow engine did not answer in time.").message)
    api.engine.fails_to_start = False
    answer = await client.taken(0)
    assert answer["is_complete"]
    assert list(api.engine.specs) == [answer["batch_id"]]
    upload = await api.catalog.uploads.get_upload(client.upload_id)
    assert upload.state is UploadState.STARTED


async def test_a_batch_that_did_not_begin_is_not_given_up_while_its_upload_may_begin_it(api):
    """However long its chunks took to come, and whoever looks at it meanwhile: the cleaning of uploads begins it."""
    client = ChunkClient(api.http, chunks_of([10, 10]))
    await client.taken(0)
    upload = await api.catalog.uploads.get_upload(client.upload_id)
    began_at = upload.created_at - timedelta(hours=2)
    await api.catalog.uploads.edit_upload(client.upload_id, {"created_at": began_at})
    api.engine.fails_to_start = True
    assert (await client.send(1)).status_code == 503
    api.engine.fails_to_start = False
    assert (await api.http.get(f"/v1/batches/{upload.batch_id}")).json()["status"] == "queued"
    assert (await client.taken(1))["batch_id"] == upload.batch_id
    assert list(api.engine.specs) == [upload.batch_id]


async def test_an_upload_whose_time_is_over_is_unknown(api):
    """From then on every chunk is told to start again, whether or not it was removed yet."""
    client = ChunkClient(api.http, chunks_of([10, 10]))
    await client.taken(0)
    upload = await api.catalog.uploads.get_upload(client.upload_id)
    over = {"expires_at": upload.created_at - timedelta(seconds=1)}
    await api.catalog.uploads.edit_upload(client.upload_id, over)
    expected = (404, f"Upload {client.upload_id} not found. Please restart upload.")
    assert refused(await client.send(1)) == expected
    await api.catalog.uploads.delete_upload(client.upload_id)
    assert refused(await client.send(0)) == expected


# Refused


@pytest.mark.parametrize("chunk_first", [False, True])
async def test_what_does_not_fit_is_refused_in_the_contracts_words(api, chunk_first):
    """400 for a number that is none, 404 for an upload that nobody knows, 422 for a field; nothing of it stays."""
    client = ChunkClient(api.http, chunks_of([10] * 4), chunk_first=chunk_first)
    await client.taken(0)
    unknown = "99999999-9999-7999-8999-999999999999"
    known = await stored_keys(api)
    assert refused(await client.send(5)) == (400, "Invalid chunk_index 5 (total: 4)")
    assert refused(await client.send(-1)) == (400, "Invalid chunk_index -1 (total: 4)")
    assert refused(await client.send(0, total_chunks=0, upload_id=None)) == (400, "Invalid chunk_index 0 (total: 0)")
    assert refused(await client.send(1, total_chunks=5))[0] == 400
    assert refused(await client.send(1, upload_id=None))[0] == 400
    for wrong in (unknown, "nonsense"):
        answer = (404, f"Upload {wrong} not found. Please restart upload.")
        assert refused(await client.send(1, upload_id=wrong)) == answer
    for wrong in (
        {"upload_type": "zip"},
        {"upload_type": "images"},
        {"upload_type": "zip_no_qr", "task_id": "1234567"},
        {"chunk_index": "quetzal"},
        {"filename": None},
    ):
        status, text = refused(await client.send(0, **{"upload_id": None} | wrong))
        assert status == 422, wrong
        assert list(wrong)[-1] in text or "task_id" in text
        assert "quetzal" not in text
    assert await stored_keys(api) == known


async def test_a_chunk_over_the_limit_is_refused_by_its_size():
    """With the size and the limit, whether the client announces it or not; nothing of it stays."""
    limits = Limits(max_chunk_bytes=5 * MIB, max_upload_bytes=6 * MIB, max_upload_chunks=3)
    async with api_in_process(Settings(limits=limits)) as api:
        for chunk_first in (False, True):
            client = ChunkClient(api.http, chunks_of([5 * MIB + 7, 5 * MIB]), chunk_first=chunk_first)
            answer = (413, f"Chunk size {5 * MIB + 7} exceeds maximum {5 * MIB}")
            assert refused(await client.send(0)) == answer
        assert await stored_keys(api) == []
        client = ChunkClient(api.http, chunks_of([5 * MIB, 2 * MIB]))
        await client.taken(0)
        status, text = refused(await client.send(1))
        assert (status, "max_upload_bytes" in text) == (413, True)
        status, text = refused(await client.send(0, upload_id=None, total_chunks=4))
        assert (status, "max_upload_chunks" in text) == (413, True)


async def test_another_tenants_upload_is_not_there(api):
    """Whoever names a tenant finds that one's alone."""
    await api.catalog.add_tenant(OTHER_TENANT, "other")
    client = ChunkClient(api.http, chunks_of([10, 10]))
    await client.taken(0)
    client.headers = {"X-Tenant-ID": OTHER_TENANT}
    status, _ = refused(await client.send(1))
    assert status == 404


async def test_a_form_that_is_none_is_refused(api):
    """No chunk, two chunks, no form at all, a body that breaks off, one of empty fields alone."""
    fields = {"chunk_index": "0", "total_chunks": "1", "filename": "a.zip", "upload_type": "zip_with_qr"}
    assert refused(await api.http.post(CHUNK_PATH, files=[(n, (None, v)) for n, v in fields.items()]))[0] == 422
    twice = [("chunk", ("blob", b"a"))] * 2
    assert refused(await api.http.post(CHUNK_PATH, data=fields, files=twice))[0] == 422
    assert refused(await api.http.post(CHUNK_PATH, json={}))[0] == 415
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    broken = b'--b\r\nContent-Disposition: form-data; name="chunk"; filename="x"\r\n\r\n' + bytes(2 * MIB)
    assert refused(await api.http.post(CHUNK_PATH, content=broken, headers=headers))[0] == 400
    many = b"".join(b'--b\r\nContent-Disposition: form-data; name="%d"\r\n\r\n\r\n' % n for n in range(MAX_FIELDS + 1))
    assert refused(await api.http.post(CHUNK_PATH, content=many + b"--b--\r\n", headers=headers))[0] == 413
    assert await stored_keys(api) == []


# In one request


async def test_a_zip_in_one_request_is_a_batch(api):
    """202 with the batch's id; the file lies below the batch's own prefix."""
    form = {"data": {"upload_type": "zip_with_qr"}, "files": {"file": ("forms.zip", b"PK...")}}
    response = await api.http.post(UPLOAD_PATH, **form)
    assert response.status_code == 202, response.text
    batch_id = response.json()["batch_id"]
    assert await whole_of(api, batch_id) == b"PK..."
    assert (await stored_keys(api))[0].startswith(f"uploads/{DEFAULT_TENANT_ID}/{batch_id}/")


async def test_images_in_one_request_are_a_batch(api):
    """As many as there are, under their own names and in their order."""
    images = [("files", (f"sheet-{number}.png", bytes([number]) * 3)) for number in range(3)]
    data = {"upload_type": "images", "task_id": "12345678"}
    response = await api.http.post(UPLOAD_PATH, data=data, files=images)
    upload = await submitted(api, response.json()["batch_id"])
    assert [stored.filename for stored in upload.objects] == [f"sheet-{number}.png" for number in range(3)]
    assert [await api.blobs.get(stored.key) for stored in upload.objects] == [bytes([n]) * 3 for n in range(3)]


async def test_each_image_of_a_request_is_stored_before_the_next_is_read(api):
    """More large ones than a tenant has turns for are taken one after the other; none waits for one of its own form."""
    count = LARGE_FILES_OF_A_TENANT + 2
    images = [("files", (f"sheet-{number}.png", bytes([number]) * (MIB + 1))) for number in range(count)]
    data = {"upload_type": "images", "task_id": "12345678"}
    response = await api.http.post(UPLOAD_PATH, data=data, files=images)
    upload = await submitted(api, response.json()["batch_id"])
    assert [await api.blobs.get(stored.key, size=1) for stored in upload.objects] == [bytes([n]) for n in range(count)]
    assert {stored.size_bytes for stored in upload.objects} == {MIB + 1}


async def test_the_same_key_is_the_same_batch(api):
    """A repeat is answered with it, and keeps nothing."""
    form = {"data": {"upload_type": "zip_with_qr"}, "files": {"file": ("forms.zip", b"PK...")}}
    headers = {"Idempotency-Key": "k"}
    first = await api.http.post(UPLOAD_PATH, **form, headers=headers)
    again = await api.http.post(UPLOAD_PATH, **form, headers=headers)
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(await stored_keys(api)) == 1


@pytest.mark.parametrize("other", ["content", "name", "notes", "nothing"])
async def test_a_key_does_not_hide_another_upload(api, other):
    """422, so that nobody takes it for handed in; nothing of it stays, and the batch is as it was."""
    form = {"data": {"upload_type": "zip_with_qr"}, "files": {"file": ("forms.zip", b"PK...")}}
    headers = {"Idempotency-Key": "k"}
    first = await api.http.post(UPLOAD_PATH, **form, headers=headers)
    changed = {
        "content": form | {"files": {"file": ("forms.zip", b"PK,,,")}},
        "name": form | {"files": {"file": ("other.zip", b"PK...")}},
        "notes": form | {"data": form["data"] | {"notes": "Monday"}},
        "nothing": form | {"files": {"other": ("forms.zip", b"")}},
    }
    assert refused(await api.http.post(UPLOAD_PATH, **changed[other], headers=headers))[0] == 422
    assert await whole_of(api, first.json()["batch_id"]) == b"PK..."
    assert len(await stored_keys(api)) == 1


@pytest.mark.parametrize("trouble", ["is_down", "fails_to_start"])
async def test_what_cannot_begin_leaves_nothing(api, trouble):
    """503, before the file is read where it is known by then: whoever sends it again sends another upload."""
    form = {"data": {"upload_type": "zip_with_qr"}, "files": {"file": ("forms.zip", b"PK...")}}
    setattr(api.engine, trouble, True)
    assert refused(await api.http.post(UPLOAD_PATH, **form))[0] == 503
    assert await stored_keys(api) == []


async def test_a_batch_that_was_given_up_begins_under_its_key(api):
    """The engine was away, and somebody looked meanwhile: the same request once more is no replay of nothing."""
    form = {"data": {"upload_type": "zip_with_qr"}, "files": {"file": ("forms.zip", b"PK...")}}
    headers = {"Idempotency-Key": "k"}
    api.engine.fails_to_start = True
    assert refused(await api.http.post(UPLOAD_PATH, **form, headers=headers))[0] == 503
    [record] = await api.catalog.list_batches(BatchFilter(tenant_id=DEFAULT_TENANT_ID), 10)
    await api.parts.batches.give_up(record)
    api.engine.fails_to_start = False
    other = form | {"data": form["data"] | {"notes": "Monday"}}
    assert refused(await api.http.post(UPLOAD_PATH, **other, headers=headers))[0] == 422
    response = await api.http.post(UPLOAD_PATH, **form, headers=headers)
    assert (response.json()["batch_id"], list(api.engine.specs)) == (record.batch_id, [record.batch_id])
    assert "Idempotency-Replayed" not in response.headers
    assert (await api.http.get(f"/api/batches/{record.batch_id}/status")).json()["status"] == "processing"
    assert await whole_of(api, record.batch_id) == b"PK..."


async def test_one_request_has_limits_of_its_own():
    """No file, too many bytes in all, a task that is missing: each is refused and keeps nothing."""
    async with api_in_process(Settings(limits=Limits(max_chunk_bytes=5 * MIB))) as api:
        data = {"upload_type": "images", "task_id": "12345678"}
        assert refused(await api.http.post(UPLOAD_PATH, data=data, files={"other": ("x", b"x")}))[0] == 422
        two = [("files", (name, bytes(3 * MIB))) for name in ("a.png", "b.png")]
        answer = refused(await api.http.post(UPLOAD_PATH, data=data, files=two))
        assert answer == (413, f"Upload size {6 * MIB} exceeds maximum {5 * MIB}")
        del data["task_id"]
        assert refused(await api.http.post(UPLOAD_PATH, data=data, files=two[:1]))[0] == 422
        assert await stored_keys(api) == []
        assert api.engine.specs == {}
