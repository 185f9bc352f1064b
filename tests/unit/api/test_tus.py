"""tus 1.0.0 over ASGI: what is created, resumed, checked, given up, and what is refused."""

import asyncio
import base64
import hashlib
import os
from datetime import timedelta

import pytest
from starlette.requests import ClientDisconnect

from api.service.tus_uploads import Checksum
from ingather.models.errors import StorageUnavailableError
from ingather.models.upload import UploadState
from ingather.settings import Limits, Settings
from tests.support.api import api_in_process

MIB = 1024 * 1024
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}


def metadata(**known: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in known.items())


def checksum(content: bytes, algorithm: str = "sha1") -> dict[str, str]:
    digest = hashlib.new(algorithm, content).digest()
    return {"Upload-Checksum": f"{algorithm} {base64.b64encode(digest).decode()}"}


async def created(api, length: int, **headers: str) -> str:
    """Path of a new upload."""
    response = await api.http.post("/v1/tus", headers=TUS | {"Upload-Length": str(length)} | headers)
    assert response.status_code == 201, response.text
    return response.headers["Location"].removeprefix("http://api.test")


async def patch(api, path: str, offset: int, content, **headers: str):
    return await api.http.patch(path, content=content, headers=BYTES | {"Upload-Offset": str(offset)} | headers)


async def offset_of(api, path: str) -> int:
    response = await api.http.head(path, headers=TUS)
    assert response.status_code == 200
    return int(response.headers["Upload-Offset"])


async def record_of(api, path: str):
    return await api.catalog.uploads.get_upload(path.rsplit("/", 1)[-1])


async def broken_off(content: bytes):
    """A body whose client went away."""
    for start in range(0, len(content), MIB):
        yield content[start : start + MIB]
    raise ClientDisconnect


async def test_options_say_what_is_spoken(api):
    """Version, extensions, the largest size and the checksums."""
    response = await api.http.options("/v1/tus")
    assert response.status_code == 204
    assert response.headers["Tus-Version"] == response.headers["Tus-Resumable"] == "1.0.0"
    assert response.headers["Tus-Extension"] == "creation,creation-with-upload,termination,expiration,checksum"
    assert response.headers["Tus-Max-Size"] == str(64 * 1024 * MIB)
    assert "sha1" in response.headers["Tus-Checksum-Algorithm"].split(",")


async def test_an_upload_is_created_and_said_to_be_empty(api):
    """It has a place, an offset, its length, its metadata as they were sent, and a time until which it stays."""
    said = metadata(filename="Überblick.pdf", other="")
    path = await created(api, 11, **{"Upload-Metadata": said})
    response = await api.http.head(path, headers=TUS)
    assert (response.headers["Upload-Offset"], response.headers["Upload-Length"]) == ("0", "11")
    assert response.headers["Upload-Metadata"] == said
    assert response.headers["Upload-Expires"].endswith(" GMT")
    assert response.headers["Cache-Control"] == "no-store"
    assert (await record_of(api, path)).filename == "Überblick.pdf"


@pytest.mark.parametrize("step", [3 * MIB, 8 * MIB, 5 * MIB + 1, 100 * MIB])
async def test_bytes_of_any_steps_become_the_file(api, step):
    """Smaller than the store's parts, as large, and all in one: one object is left, with its hash where it came at once."""
    content = os.urandom(17 * MIB + 5)
    path = await created(api, len(content))
    for offset in range(0, len(content), step):
        response = await patch(api, path, offset, content[offset : offset + step])
        assert response.status_code == 204
        assert int(response.headers["Upload-Offset"]) == min(offset + step, len(content))
    upload = await record_of(api, path)
    assert upload.state is UploadState.STORED
    assert await api.blobs.get(upload.whole_key) == content
    assert [*await api.keys("uploads/"), *await api.keys("incoming/")] == [upload.whole_key]
    assert upload.sha256 == (hashlib.sha256(content).hexdigest() if step > len(content) else None)


async def test_the_first_bytes_may_come_with_the_creation(api):
    """All of a small file in one request."""
    headers = BYTES | {"Upload-Length": "5"} | checksum(b"hello", "sha256")
    response = await api.http.post("/v1/tus", content=b"hello", headers=headers)
    assert (response.status_code, response.headers["Upload-Offset"]) == (201, "5")
    assert (await record_of(api, response.headers["Location"])).state is UploadState.STORED


async def test_an_empty_file_is_finished_at_once(api):
    """Nothing has to be sent."""
    upload = await record_of(api, await created(api, 0))
    assert (upload.state, await api.blobs.get(upload.whole_key)) == (UploadState.STORED, b"")


async def test_what_came_before_a_break_stays(api):
    """The connection ended in the middle: the client asks how far it came, and goes on, at another process."""
    content = os.urandom(20 * MIB)
    path = await created(api, len(content))
    upload = await record_of(api, path)
    with pytest.raises(ClientDisconnect):
        await api.parts.tus_uploads.append(upload, 0, broken_off(content[: 9 * MIB]))
    assert await offset_of(api, path) == 9 * MIB
    async with api_in_process(like=api) as other:
        assert (await patch(other, path, 9 * MIB, content[9 * MIB :])).status_code == 204
    assert await api.blobs.get((await record_of(api, path)).whole_key) == content


async def test_a_break_with_a_checksum_keeps_nothing(api):
    """Nobody could say whether what came is right."""
    path = await created(api, 20 * MIB)
    upload = await record_of(api, path)
    sent = broken_off(bytes(9 * MIB))
    with pytest.raises(ClientDisconnect):
        await api.parts.tus_uploads.append(upload, 0, sent, Checksum("sha1", b"?"))
    assert await offset_of(api, path) == 0


async def test_parts_that_were_stored_count_when_the_store_goes_away(api):
    """503 to the request; what the client is told afterwards is what is safe."""
    content = os.urandom(25 * MIB)
    path = await created(api, len(content))
    parted = api.parts.tus_uploads.parted
    put_part = parted.put_part

    async def away(key, multipart_id, number, part):
        if number > 2:
            raise StorageUnavailableError("Object storage did not answer.")
        return await put_part(key, multipart_id, number, part)

    parted.put_part = away
    assert (await patch(api, path, 0, content)).status_code == 503
    del parted.put_part
    assert await offset_of(api, path) in {8 * MIB, 16 * MIB}
    offset = await offset_of(api, path)
    await patch(api, path, offset, content[offset:])
    assert await api.blobs.get((await record_of(api, path)).whole_key) == content


async def test_bytes_at_another_offset_are_refused(api):
    """409 with the offset; nothing is kept. Of two at the same time one goes on."""
    path = await created(api, 10)
    response = await patch(api, path, 3, b"abc")
    assert (response.status_code, response.json()["offset"]) == (409, 0)
    answers = await asyncio.gather(*(patch(api, path, 0, b"abcde") for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [204, 409, 409]
    assert await offset_of(api, path) == 5


async def test_a_wrong_checksum_keeps_nothing(api):
    """460; the same bytes with the right one are taken, by any of the algorithms."""
    content = os.urandom(9 * MIB)
    path = await created(api, len(content))
    for algorithm in ("sha1", "md5", "sha256", "sha512"):
        response = await patch(api, path, 0, content, **checksum(b"other", algorithm))
        assert (response.status_code, response.json()["code"]) == (460, "upload_checksum_mismatch")
        assert await offset_of(api, path) == 0
    assert (await patch(api, path, 0, content, **checksum(content))).status_code == 204
    assert await api.blobs.get((await record_of(api, path)).whole_key) == content
    assert await api.keys("incoming/") == []


async def test_an_upload_that_is_given_up_is_gone(api):
    """With all its bytes, finished or not; one whose time is over as well."""
    for size in (3, 9 * MIB):
        path = await created(api, 9 * MIB)
        await patch(api, path, 0, bytes(size))
        assert (await api.http.delete(path, headers=TUS)).status_code == 204
        assert (await api.http.head(path, headers=TUS)).status_code == 404
        assert (await api.http.delete(path, headers=TUS)).status_code == 404
    assert [*await api.keys("uploads/"), *await api.keys("incoming/")] == []
    assert api.parts.tus_uploads.parted.open_count == 0
    path = await created(api, 5)
    upload = await record_of(api, path)
    over = {"expires_at": upload.created_at - timedelta(seconds=1)}
    await api.catalog.uploads.edit_upload(upload.upload_id, over)
    assert (await patch(api, path, 0, b"hello")).status_code == 404


async def test_a_post_may_stand_for_another_method(api):
    """Where a network lets neither PATCH nor DELETE through."""
    path = await created(api, 5)
    override = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0"}
    assert (await api.http.post(path, content=b"hello", headers=BYTES | override)).status_code == 204
    assert (await api.http.post(path, headers=TUS)).status_code == 405
    override = {"X-HTTP-Method-Override": "DELETE"}
    assert (await api.http.post(path, headers=TUS | override)).status_code == 204


async def test_what_is_not_of_the_protocol_is_refused(api):
    """Each with a problem of its own and the version that is spoken."""
    path = await created(api, 5)
    length = {"Upload-Length": "5"}
    tries = [
        (412, api.http.post("/v1/tus", headers=length)),
        (412, api.http.head(path)),
        (412, api.http.head(path, headers={"Tus-Resumable": "0.2.2"})),
        (400, api.http.post("/v1/tus", headers=TUS)),
        (400, api.http.post("/v1/tus", headers=TUS | length | {"Upload-Metadata": "filename a-b"})),
        (400, api.http.post("/v1/tus", headers=TUS | length | {"Upload-Metadata": "a YQ==,a YQ=="})),
        (413, api.http.post("/v1/tus", headers=TUS | {"Upload-Length": str(65 * 1024 * MIB)})),
        (415, api.http.patch(path, content=b"x", headers=TUS | {"Upload-Offset": "0"})),
        (400, api.http.patch(path, content=b"x", headers=BYTES)),
        (413, patch(api, path, 0, b"too long")),
        (400, patch(api, path, 0, b"x", **{"Upload-Checksum": "crc32 YQ=="})),
        (400, patch(api, path, 0, b"x", **{"Upload-Checksum": "sha1 ?"})),
        (404, api.http.head("/v1/tus/nonsense", headers=TUS)),
    ]
    for status, asking in tries:
        response = await asking
        assert response.status_code == status
        assert response.headers["Tus-Resumable"] == "1.0.0"
    assert await offset_of(api, path) == 0


async def test_the_largest_upload_is_a_setting():
    """Published with the other limits."""
    async with api_in_process(Settings(limits=Limits(max_upload_bytes=10))) as api:
        assert (await api.http.get("/v1/limits")).json()["max_upload_bytes"] == 10
        await created(api, 10)
        response = await api.http.post("/v1/tus", headers=TUS | {"Upload-Length": "11"})
        assert (response.status_code, response.json()["limit"]) == (413, "max_upload_bytes")
