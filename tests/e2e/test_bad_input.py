"""Everything people and attackers send by mistake or on purpose: typed errors, and nobody else notices."""

import asyncio
import base64
import unicodedata
from typing import Any

import httpx
import pytest

from ingather.samples import SAMPLES
from tests.support.running_stack import File, RunningStack, Visitor, notes
from tests.support.zips import (
    ENCRYPTED_FLAG,
    RawEntry,
    bomb,
    matryoshka_bomb,
    nested_zip,
    overlapping_zip,
    quoted_overlap_zip,
    raw_zip,
    zip_of,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SYMLINK_MODE = 0o120777
NOBODYS_ID = "00000000-0000-7000-8000-00000000dead"
PROBLEM = "application/problem+json"


def inline(filename: str, text: str) -> dict[str, Any]:
    return {"filename": filename, "content": base64.b64encode(text.encode()).decode()}


def pdf_of(pages: int) -> bytes:
    """A PDF of blank pages, as small as it can be."""
    kids = " ".join(f"{number} 0 R" for number in range(3, pages + 3))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Count {pages}/MediaBox[0 0 9 9]/Kids[{kids}]>>"]
    objects += ["<</Type/Page/Parent 2 0 R>>"] * pages
    content, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj{body}endobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    head = f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n{table}"
    trailer = f"trailer<</Size {len(places) + 1}/Root 1 0 R>>\nstartxref\n{len(content)}\n%%EOF"
    return bytes(content) + head.encode() + trailer.encode()


async def outcomes(visitor: Visitor, batch_id: str) -> dict[str, str]:
    """Error code or status by file name, when the batch has ended; a failure says what to do."""
    await visitor.ended(batch_id)
    documents = await visitor.documents(batch_id)
    assert all(document["error"]["action"] for document in documents if document["error"])
    return {d["filename"]: d["error"]["code"] if d["error"] else d["status"] for d in documents}


async def problem(response: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal, which is a whole problem document."""
    assert response.headers["content-type"].startswith(PROBLEM), response.text
    body = response.json()
    assert body.keys() >= {"type", "title", "status", "detail", "code", "request_id"}
    assert body["status"] == response.status_code
    return response.status_code, body["code"]


async def test_hostile_names_become_safe_ones(visitor: Visitor):
    """Paths, NUL, newlines, emoji, 10 KB, blanks and doubles: every one is done, under a name of its own."""
    names = [
        "../../etc/passwd",
        "..\\..\\windows\\system32\\notes.txt",
        "nul\x00in.txt",
        "two\r\nlines.txt",
        "🎉 party 👩‍👩‍👧.txt",
        "l" * 10_000 + ".txt",
        "é" * 5_000,
        "",
        "   ",
        "..",
        "twice.txt",
        "twice.txt",
        "TWICE.TXT",
        "cafe\u0301.txt",
        "\u202egnp.txt",
        "lone\ud800surrogate.txt".encode("utf-8", "replace").decode(),
        "CON",
        "-rf *",
        "'; DROP TABLE documents; --.txt",
    ]
    content = {"documents": [inline(name, f"Hostile {n}, {name[:9]!a}") for n, name in enumerate(names)]}
    batch = await visitor.post("/v1/batches", content)
    ended = await visitor.ended(batch["id"])
    assert (ended["status"], ended["counts"]["done"]) == ("completed", len(names))
    assert ended["name"] == f"passwd and {len(names) - 1} more"
    documents = await visitor.documents(batch["id"])
    stored = [document["filename"] for document in documents]
    assert len({name.casefold() for name in stored}) == len(names)
    for name in stored:
        assert name == unicodedata.normalize("NFC", name).strip()
        assert 0 < len(name.encode()) <= 255
        assert not set("/\\\x00\r\n\u202e") & set(name)
    assert stored[0] == "passwd"
    assert stored[4] == names[4]
    assert stored[5].endswith(".txt")
    assert stored[10:13] == ["twice.txt", "twice (2).txt", "TWICE (3).TXT"]
    assert documents[0]["original_filename"] == "../../etc/passwd"
    assert [line["filename"] for line in await visitor.report(batch["id"])] == stored
    events = await visitor.events(batch["id"])
    assert {e["data"]["filename"] for e in events if e["type"] == "document.succeeded"} == set(stored)


async def test_broken_documents_fail_alone(visitor: Visitor):
    """Zero bytes, truncated, encrypted, 50,000 pages, 200 MB, noise: a code each. A wrong extension is no fault."""
    files: list[File] = [
        ("nothing.txt", b""),
        ("half.docx", (SAMPLES / "cooling-manual-truncated.docx").read_bytes()),
        ("sealed.pdf", (SAMPLES / "grant-agreement-sealed.pdf").read_bytes()),
        ("really-a-pdf.docx", (SAMPLES / "operations-handbook.pdf").read_bytes()),
        ("really-text.pdf", b"A plain text that was given the wrong name."),
        ("endless.pdf", pdf_of(50_000)),
        ("torn.pdf", pdf_of(3)[:60]),
        ("heavy.txt", b"heavy " * 33_333_334),
        ("noise.bin", bytes(range(256)) * 40),
        *notes(10, "among-broken"),
    ]
    batch_id = await visitor.submit(files, options={"skip_existing": False})
    found = await outcomes(visitor, batch_id)
    assert {name: found[name] for name, _ in files[:9]} == {
        "nothing.txt": "empty",
        "half.docx": "corrupt",
        "sealed.pdf": "encrypted",
        "really-a-pdf.docx": "done",
        "really-text.pdf": "done",
        "endless.pdf": "too_large",
        "torn.pdf": "corrupt",
        "heavy.txt": "too_large",
        "noise.bin": "unsupported_type",
    }
    assert {found[name] for name, _ in files[9:]} == {"done"}
    documents = {document["filename"]: document for document in await visitor.documents(batch_id)}
    assert documents["really-a-pdf.docx"]["media_type"] == "application/pdf"
    assert documents["really-text.pdf"]["media_type"] == "text/plain"
    # A refusal names the limit, and /v1/limits has it under that name.
    limits = (await visitor.get("/v1/limits")).json()
    for name, limit in (("endless.pdf", "parser_pages"), ("heavy.txt", "max_file_bytes")):
        assert limit in documents[name]["error"]["message"]
        assert limit in limits


async def test_hostile_archives_cost_what_is_bad_in_them(visitor: Visitor):
    """Bombs, slips, links, passwords, nesting and lies: a code each; good entries and good files are done."""
    archives: list[File] = [
        ("bomb.zip", bomb()),
        ("matryoshka.zip", matryoshka_bomb()),
        ("overlapping.zip", overlapping_zip()),
        ("quoted.zip", quoted_overlap_zip()),
        ("slip.zip", zip_of({"../../slipped.txt": b"evil", "beside-slip.txt": b"A fine text beside an evil one."})),
        ("absolute.zip", raw_zip([RawEntry("/etc/absolute.txt")])),
        ("backslash.zip", raw_zip([RawEntry("..\\..\\backslash.txt")])),
        ("link.zip", raw_zip([RawEntry("linked.txt", b"/etc/passwd", mode=SYMLINK_MODE)])),
        ("locked.zip", raw_zip([RawEntry("locked.txt", flags=ENCRYPTED_FLAG)])),
        ("nested.zip", nested_zip(2, "inner.txt", b"Found in a nest.")),
        ("deep.zip", nested_zip(4, "abyss.txt")),
        ("lying.zip", raw_zip([RawEntry("liar.txt", b"much longer than it claims" * 99, claimed_size=3)])),
        ("doubled.zip", raw_zip([RawEntry("same.txt", b"one of two"), RawEntry("SAME.txt", b"two of two")])),
        ("exotic.zip", raw_zip([RawEntry("exotic.txt", method=97)])),
        ("empty.zip", zip_of({})),
        ("torn.zip", zip_of({"a.txt": b"text" * 99})[:80]),
        ("bundle.zip", zip_of({"folder/first.md": b"# First\nGood.", "folder/second.txt": b"Second, and good."})),
    ]
    batch_id = await visitor.submit([*archives, *notes(10, "among-archives")], options={"skip_existing": False})
    found = await outcomes(visitor, batch_id)
    bad = {name: outcome for name, outcome in found.items() if outcome != "done"}
    assert bad == {
        "bomb.zip": "archive_too_large",
        "matryoshka.zip": "archive_too_large",
        "overlapping.zip": "archive_overlap",
        "quoted.zip": "archive_overlap",
        "slipped.txt": "archive_unsafe_path",
        "absolute.txt": "archive_unsafe_path",
        "backslash.txt": "archive_unsafe_path",
        "linked.txt": "archive_symlink",
        "locked.zip": "archive_encrypted",
        "level-2.zip": "archive_too_deep",
        "liar.txt": "archive_size_mismatch",
        "SAME (2).txt": "archive_duplicate_name",
        "exotic.txt": "archive_unsupported_compression",
        "empty.zip": "empty",
        "torn.zip": "archive_corrupt",
    }
    good = {"beside-slip.txt", "inner.txt", "same.txt", "first.md", "second.txt"}
    assert {name for name, outcome in found.items() if outcome == "done"} == good | {
        name for name, _ in notes(10, "among-archives")
    }


async def test_requests_that_cannot_be_meant_are_refused(visitor: Visitor):
    """Each with the status and code of its kind, as a problem document; none leaves a batch behind."""
    http = visitor.http
    before = [batch["id"] for batch in (await visitor.get("/v1/batches")).json()["data"]]
    text = {"Content-Type": "text/plain"}
    json = {"Content-Type": "application/json"}
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    expected = {
        ("POST", "/v1/batches", b'{"documents": []}', "json"): (422, "empty_batch"),
        ("POST", "/v1/batches", b"--b--\r\n", "form"): (422, "empty_batch"),
        ("POST", "/v1/batches", b'{"documents": [', "json"): (400, "bad_request"),
        ("POST", "/v1/batches", b'{"documents": 1}', "json"): (422, "validation_failed"),
        ("POST", "/v1/batches", b"[]", "json"): (422, "validation_failed"),
        ("POST", "/v1/batches", b"just text", "text"): (415, "unsupported_media_type"),
        ("POST", "/v1/batches", b"no boundary here", "form"): (400, "bad_request"),
        ("PUT", "/v1/batches", b"", "json"): (405, "method_not_allowed"),
        ("DELETE", f"/v1/batches/{NOBODYS_ID}", b"", "json"): (405, "method_not_allowed"),
        ("GET", f"/v1/batches/{NOBODYS_ID}", b"", "json"): (404, "batch_not_found"),
        ("GET", "/v1/batches/not-an-id", b"", "json"): (404, "batch_not_found"),
        ("GET", f"/v1/batches/{NOBODYS_ID}/events", b"", "json"): (404, "batch_not_found"),
        ("GET", f"/v1/batches/{NOBODYS_ID}/documents", b"", "json"): (404, "batch_not_found"),
        ("GET", f"/v1/batches/{NOBODYS_ID}/report", b"", "json"): (404, "batch_not_found"),
        ("POST", f"/v1/batches/{NOBODYS_ID}/pause", b"", "json"): (404, "batch_not_found"),
        ("POST", f"/v1/batches/{NOBODYS_ID}/retry", b"{}", "text"): (415, "unsupported_media_type"),
        ("GET", "/v1/nothing", b"", "json"): (404, "not_found"),
        ("GET", "/v1/search", b"", "json"): (422, "validation_failed"),
        ("GET", "/v1/batches?cursor=forged", b"", "json"): (400, "invalid_cursor"),
        ("GET", "/v1/batches?limit=none", b"", "json"): (422, "validation_failed"),
    }
    headers = {"json": json, "text": text, "form": form}
    answers = {
        case: await problem(await http.request(case[0], case[1], content=case[2], headers=headers[case[3]]))
        for case in expected
    }
    assert answers == expected
    assert [batch["id"] for batch in (await visitor.get("/v1/batches")).json()["data"]] == before


async def test_invalid_base64_costs_one_document(visitor: Visitor):
    """The document fails with its code, its neighbour is done."""
    documents = [inline("good.txt", "A good text beside bad base64."), {"filename": "bad.txt", "content": "%%%"}]
    batch = await visitor.post("/v1/batches", {"documents": documents})
    assert await outcomes(visitor, batch["id"]) == {"good.txt": "done", "bad.txt": "content_invalid"}


async def test_a_body_that_stops_half_way_starts_nothing(stack: RunningStack, visitor: Visitor):
    """Closed in the middle of a file, or of a JSON text: no batch, and the next submission is taken as always."""
    before = {batch["id"] for batch in (await visitor.get("/v1/batches")).json()["data"]}
    host, port = stack.base_url.removeprefix("http://").split(":")
    bodies = {
        "multipart/form-data; boundary=b": b'--b\r\nContent-Disposition: form-data; name="files"; filename="f"\r\n\r\nhalf',
        "application/json": b'{"documents": [{"filename": "half.txt", "content": "aGFsZ',
    }
    for content_type, body in bodies.items():
        head = (
            f"POST /v1/batches HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: 9999\r\n\r\n"
        )
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    batch_id = await visitor.submit(notes(2, "after-half-a-body"))
    assert (await visitor.ended(batch_id))["counts"]["done"] == 2
    after = {batch["id"] for batch in (await visitor.get("/v1/batches")).json()["data"]}
    assert after - before == {batch_id}
