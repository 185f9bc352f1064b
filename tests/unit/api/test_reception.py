"""What makes two requests one, and metadata that comes before its files or behind them."""

import json

import pytest

from ingather.models.document import Submitted
from tests.support.api import ApiInProcess
from tests.support.submitted import submission

BOUNDARY = "b"


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + content + b"\r\n"


async def submit(api: ApiInProcess, *parts: bytes, key: str | None = None, path: str = "/v1/batches"):
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"} | ({"Idempotency-Key": key} if key else {})
    return await api.http.post(path, content=b"".join(parts) + f"--{BOUNDARY}--\r\n".encode(), headers=headers)


A, B = part("files", b"a", "a.txt"), part("files", b"b", "b.txt")
METADATA = part("metadata", json.dumps({"b.txt": {"k": 1}}).encode())
SPEC = part("spec", b'{"name": "n"}')


async def described(api: ApiInProcess, response) -> list[tuple[str, dict]]:
    assert response.status_code == 202, response.text
    return [(line.filename, line.metadata) for line in await submission(api, response.json()["id"])]


@pytest.mark.parametrize("parts", [(SPEC, METADATA, A, B), (A, B, METADATA, SPEC), (A, METADATA, B, SPEC)])
async def test_metadata_finds_its_file_wherever_it_stands(api, parts):
    """Before the files, behind them, or in between; one object of lines is kept."""
    response = await submit(api, *parts)
    assert await described(api, response) == [("a.txt", {}), ("b.txt", {"k": 1})]
    assert len(await api.keys("batches/")) == 1


async def test_metadata_behind_its_file_may_be_too_large_for_it(api):
    """It costs the document, not the batch, as it does in front."""
    response = await submit(api, A, B, part("metadata", json.dumps({"b.txt": {"x": "y" * 70_000}}).encode()))
    first, second = await submission(api, response.json()["id"])
    assert (first.refused, second.refused.code, second.metadata) == (None, "metadata_invalid", {})


@pytest.mark.parametrize("parts", [(METADATA, A), (A, METADATA)])
async def test_metadata_without_a_file_is_refused(api, parts):
    """Wherever it stands; nothing is kept."""
    response = await submit(api, *parts)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (422, "unknown_file")
    assert await api.keys() == []


async def test_the_order_of_fields_does_not_make_another_request(api):
    """A client library that writes its fields in another order replays all the same."""
    first = await submit(api, SPEC, METADATA, A, B, key="k")
    again = await submit(api, A, B, METADATA, SPEC, key="k")
    assert (again.status_code, again.headers.get("idempotency-replayed")) == (202, "true")
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(
    "parts",
    [
        (SPEC, METADATA, B, A),
        (SPEC, METADATA, A, part("files", b"B", "b.txt")),
        (SPEC, METADATA, A, part("files", b"b", "b.txt"), part("files", b"", "c")),
        (SPEC, part("metadata", b'{"b.txt": {"k": 2}}'), A, B),
        (METADATA, A, B),
        (SPEC, A, B),
    ],
)
async def test_anything_else_does(api, parts):
    """The order of files, a byte, a file more, other metadata, another spec."""
    await submit(api, SPEC, METADATA, A, B, key="k")
    other = await submit(api, *parts, key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_many_lines_are_written_whole(api):
    """More than the store takes at once: each document has its line, in order."""
    count = 5_000
    files = (part("files", b"x", f"{number}-{'n' * 100}.txt") for number in range(count))
    response = await submit(api, *files, METADATA.replace(b"b.txt", b"7-" + b"n" * 100 + b".txt"))
    lines = await submission(api, response.json()["id"])
    assert [int(line.filename.split("-")[0]) for line in lines] == list(range(count))
    assert [line.metadata for line in lines if line.metadata] == [{"k": 1}]
    assert all(isinstance(line, Submitted) and line.blob.size_bytes == 1 for line in lines)


async def test_a_dry_run_lists_a_hundred_refusals_and_counts_all(api):
    """A request of thousands of unreadable files is answered in a few lines."""
    files = (part("files", b"\x00\x01\x02\x03" * 9, f"{number}.bin") for number in range(150))
    preview = (await submit(api, *files, A, path="/v1/batches?dry_run=true")).json()
    assert (preview["documents"], preview["unsupported"], len(preview["refused"])) == (151, 150, 100)
    assert preview["duplicates"] == 149
