"""Uploads over tus in batches: a finished one is named, and is a document or a ZIP like any other."""

import hashlib
import os
import uuid

import pytest

from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.settings import Limits, Settings
from tests.support.api import api_in_process
from tests.support.submitted import bytes_of, form, ndjson, submission
from tests.unit.api.test_tus import BYTES, TUS, created, metadata, patch

OTHER_TENANT = "33333333-3333-7333-8333-333333333333"
ZIP_BEGINS = b"PK\x03\x04"


async def uploaded(api, content: bytes, name: str = "a.txt", **headers: str) -> str:
    """Id of a finished upload."""
    headers = BYTES | {"Upload-Length": str(len(content)), "Upload-Metadata": metadata(filename=name)} | headers
    response = await api.http.post("/v1/tus", content=content, headers=headers)
    assert response.status_code == 201, response.text
    return response.headers["Location"].rsplit("/", 1)[-1]


@pytest.mark.parametrize("body", ["json", "form", "ndjson"])
async def test_a_batch_may_name_what_was_uploaded(api, body):
    """In each kind of request, beside documents that come with it, with the upload's name and hash."""
    upload_id = await uploaded(api, b"hello", "hällo.txt")
    spec = {"uploads": [upload_id], "name": "two"}
    bodies = {
        "json": {"json": {**spec, "documents": [{"filename": "b.txt", "content": "aGVsbG8="}]}},
        "form": form(("b.txt", b"hello"), spec=spec),
        "ndjson": ndjson({"spec": spec}, {"filename": "b.txt", "text": "hello"}),
    }
    response = await api.http.post("/v1/batches", **bodies[body])
    assert response.status_code == 202, response.text
    batch = response.json()
    lines = await submission(api, batch["id"])
    assert [line.filename for line in lines] == ["b.txt", "hällo.txt"]
    assert [await bytes_of(api, line) for line in lines] == [b"hello", b"hello"]
    assert lines[1].blob.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert batch["counts"]["total"] == 2
    assert api.engine.specs[batch["id"]].submitted_bytes == 10
    assert (await api.catalog.uploads.get_upload(upload_id)).used_by == (batch["id"],)


async def test_a_request_sent_again_is_the_same_batch(api):
    """Also when the upload is gone by then; naming another one under the same key is another request."""
    upload_id, other = await uploaded(api, b"hello"), await uploaded(api, b"other")
    headers = {"Idempotency-Key": "k"}
    first = await api.http.post("/v1/batches", json={"uploads": [upload_id]}, headers=headers)
    await api.catalog.uploads.delete_upload(upload_id)
    again = await api.http.post("/v1/batches", json={"uploads": [upload_id]}, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    reused = await api.http.post("/v1/batches", json={"uploads": [other]}, headers=headers)
    assert reused.status_code == 422


async def test_a_request_with_metadata_for_an_upload_may_be_sent_again(api):
    """A replay does not know what the upload was called, and takes the metadata as it was taken then."""
    body = form(spec={"uploads": [await uploaded(api, b"hello")]}, metadata={"a.txt": {"author": "me"}})
    headers = {"Idempotency-Key": "k"} | body.pop("headers", {})
    first = await api.http.post("/v1/batches", **body, headers=headers)
    again = await api.http.post("/v1/batches", **body, headers=headers)

    [line] = await submission(api, first.json()["id"])
    assert line.metadata == {"author": "me"}
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"]), again.text


async def test_the_hash_of_what_came_in_pieces_is_worked_out(api):
    """Once, when a batch first names it."""
    path = await created(api, 10)
    for offset in (0, 5):
        await patch(api, path, offset, b"01234")
    upload_id = path.rsplit("/", 1)[-1]
    batch = await api.submit(documents=[], uploads=[upload_id])
    [line] = await submission(api, batch["id"])
    assert line.blob.sha256 == hashlib.sha256(b"0123401234").hexdigest()
    assert (await api.catalog.uploads.get_upload(upload_id)).sha256 == line.blob.sha256


async def test_an_archive_may_be_larger_than_a_document():
    """What begins as a ZIP is let in; anything else over the limit is a document that failed."""
    async with api_in_process(Settings(limits=Limits(max_file_bytes=100))) as api:
        archive, text = ZIP_BEGINS + os.urandom(200), os.urandom(204)
        ids = [await uploaded(api, archive, "a.zip"), await uploaded(api, text, "b.bin")]
        batch = await api.submit(documents=[], uploads=ids)
        packed, refused = await submission(api, batch["id"])
        assert await bytes_of(api, packed) == archive
        assert (refused.blob, refused.refused.code) == (None, "too_large")


async def test_a_dry_run_says_what_it_would_be(api):
    """Types and bytes, without using the upload."""
    upload_id = await uploaded(api, b"hello")
    response = await api.http.post("/v1/batches", params={"dry_run": True}, json={"uploads": [upload_id]})
    preview = response.json()
    assert (preview["documents"], preview["bytes"], preview["by_type"]) == (1, 5, {"text/plain": 1})
    assert (await api.catalog.uploads.get_upload(upload_id)).used_by == ()


async def test_a_dry_run_says_what_is_too_large():
    """As the submission would: an archive is let in, anything else over the limit is not."""
    async with api_in_process(Settings(limits=Limits(max_file_bytes=100))) as api:
        ids = [await uploaded(api, ZIP_BEGINS + bytes(200), "a.zip"), await uploaded(api, b"x" * 204, "b.txt")]
        response = await api.http.post("/v1/batches", params={"dry_run": True}, json={"uploads": ids})
        assert response.json()["refused"] == [{"filename": "b.txt", "code": "too_large"}]


async def test_what_cannot_be_used_makes_no_batch(api):
    """Unfinished is 409; unknown, another tenant's and no id at all are 404."""
    unfinished = (await created(api, 10)).rsplit("/", 1)[-1]
    await api.catalog.add_tenant(OTHER_TENANT, "other")
    others = await uploaded(api, b"hello", **{"X-Tenant-ID": OTHER_TENANT})
    for upload_id, status, code in (
        (unfinished, 409, "upload_incomplete"),
        (others, 404, "upload_not_found"),
        (str(uuid.uuid4()), 404, "upload_not_found"),
        ("nonsense", 404, "upload_not_found"),
    ):
        tenant = {"X-Tenant-ID": DEFAULT_TENANT_ID}
        response = await api.http.post("/v1/batches", json={"uploads": [upload_id]}, headers=tenant)
        assert (response.status_code, response.json()["code"]) == (status, code)
    assert api.engine.specs == {}


async def test_an_upload_that_a_batch_needs_is_not_given_up(api):
    """409; it goes when the batch has no more use for it."""
    upload_id = await uploaded(api, b"hello")
    await api.submit(documents=[], uploads=[upload_id])
    response = await api.http.delete(f"/v1/tus/{upload_id}", headers=TUS)
    assert (response.status_code, response.json()["code"]) == (409, "invalid_state")


async def test_what_a_refused_request_named_may_be_given_up(api):
    """No batch was made of it."""
    upload_id = await uploaded(api, b"hello")
    body = {"uploads": [upload_id, str(uuid.uuid4())]}
    assert (await api.http.post("/v1/batches", json=body)).status_code == 404
    body = {"uploads": [upload_id], "pipeline": "nonsense"}
    assert (await api.http.post("/v1/batches", json=body)).status_code == 422
    assert (await api.http.delete(f"/v1/tus/{upload_id}", headers=TUS)).status_code == 204
