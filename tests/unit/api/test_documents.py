"""Reading documents: lists, bytes, texts, the report."""

import csv
import io
import json
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from api.routes.documents import content_disposition
from ingather.domain.artifact import encode
from ingather.domain.keys import artifact_key
from ingather.models.batch import BatchState
from ingather.models.content import Chunk, ParsedDocument, Stage
from ingather.models.document import DocumentFailure, DocumentStatus
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from tests.support.batch_of_five import batch_of_five, row

SAMPLES = Path(__file__).parents[3] / "ingather" / "samples" / "documents"


async def test_a_list_shows_what_is_in_flight_and_where(api):
    """The catalog knows ends; the engine knows what a worker has in its hands."""
    batch_id = await batch_of_five(api)
    data = (await api.http.get(f"/v1/batches/{batch_id}/documents")).json()["data"]

    assert [document["status"] for document in data] == ["done", "failed", "in_flight", "in_flight", "pending"]
    assert (data[2]["stage"], data[3]["stage"]) == ("embedding", None)
    assert (data[0]["pages"], data[0]["chunks"]) == (3, 9)
    assert data[1]["error"] == {
        "code": "encrypted", "message": "It is locked.", "stage": "parsing", "action": "Unlock it.", "facts": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "ordinals"),
    [
        ("status=done", [0]), ("status=failed", [1]), ("error_code=encrypted", [1]), ("error_code=empty", []),
        ("status=in_flight", [2, 3]), ("status=pending", [4]), ("status=cancelled", []),
    ],
)  # fmt: skip
async def test_lists_are_filtered(api, query, ordinals):
    """By status, live ones included, and by error code."""
    batch_id = await batch_of_five(api)
    data = (await api.http.get(f"/v1/batches/{batch_id}/documents?{query}")).json()["data"]
    assert [document["ordinal"] for document in data] == ordinals


async def test_lists_are_paged_in_ordinal_order(api):
    """Every document once, whatever the page size; filters go with the cursor."""
    batch_id = await batch_of_five(api)
    for query in ("", "status=pending&"):
        seen, cursor = [], ""
        while cursor is not None:
            page = (await api.http.get(f"/v1/batches/{batch_id}/documents?{query}limit=2{cursor}")).json()
            seen += [document["ordinal"] for document in page["data"]]
            cursor = f"&cursor={page['next_cursor']}" if page["has_more"] else None
        assert seen == ([4] if query else [0, 1, 2, 3, 4])
    cursor = (await api.http.get(f"/v1/batches/{batch_id}/documents?limit=1")).json()["next_cursor"]
    other = await api.http.get(f"/v1/batches/{batch_id}/documents?status=done&cursor={cursor}")
    assert (other.status_code, other.json()["code"]) == (400, "invalid_cursor")


async def test_raw_bytes_are_a_download_a_browser_does_not_run(api):
    """attachment, nosniff, a sandbox, and the name in both spellings."""
    batch = await api.submit()
    record = row(
        batch["id"], 0, DocumentStatus.DONE, raw_key="raw/x", size_bytes=5, sha256="a" * 64, media_type="text/html"
    ).model_copy(update={"filename": 'ü "q"\\.html'})
    await api.catalog.add_documents([record])
    await api.blobs.put("raw/x", b"<hi/>")
    response = await api.http.get(f"/v1/batches/{batch['id']}/documents/{record.file_id}/raw")

    assert (response.content, response.headers["content-type"]) == (b"<hi/>", "text/html; charset=utf-8")
    assert response.headers["content-length"] == "5"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in response.headers["content-security-policy"]
    expected = "attachment; filename=\"_ _q__.html\"; filename*=UTF-8''%C3%BC%20%22q%22%5C.html"
    assert response.headers["content-disposition"] == expected


def test_a_name_cannot_break_out_of_its_header():
    """No control character, quote or line break survives unescaped."""
    header = content_disposition('a"\r\nSet-Cookie: x=1\x00\ud800')
    assert "\r" not in header
    assert "\n" not in header
    assert header.count('"') == 2
    header.encode("ascii")


async def test_the_text_comes_from_the_artifact(api):
    """As its chunks quote it; a document without one has none (yet)."""
    batch = await api.submit()
    done = row(batch["id"], 0, DocumentStatus.DONE, sha256="a" * 64, fingerprint="f")
    await api.catalog.add_documents([done, row(batch["id"], 1)])
    parsed = ParsedDocument(media_type="text/plain", text="Grüße\nan alle")
    artifact = encode(parsed, [], np.zeros((0, 2), np.float32), quality=1.0, embedder="e", versions={})
    await api.blobs.put(artifact_key(DEFAULT_TENANT_ID, "a" * 64, "f"), artifact)

    path = f"/v1/batches/{batch['id']}/documents"
    response = await api.http.get(f"{path}/{done.file_id}/text")
    assert (response.text, response.headers["content-type"]) == ("Grüße\nan alle", "text/plain; charset=utf-8")
    assert (await api.http.get(f"{path}/{file_id_for(batch['id'], 1)}/text")).status_code == 404
    assert (await api.http.get(f"{path}/{file_id_for(batch['id'], 1)}/raw")).status_code == 404


async def test_bytes_and_text_of_a_small_document_come_out_of_shared_objects(api):
    """Its own range, and nothing of its neighbours."""
    batch = await api.submit()
    parsed = ParsedDocument(media_type="text/plain", text="Grüße\nan alle")
    artifact = encode(parsed, [], np.zeros((0, 2), np.float32), quality=1.0, embedder="e", versions={})
    record = row(
        batch["id"], 0, DocumentStatus.DONE, sha256="a" * 64, fingerprint="f", size_bytes=5, media_type="text/plain",
        raw_key="uploads/pack", raw_offset=3, artifact_key="derived/pack", artifact_offset=7,
        artifact_bytes=len(artifact),
    )  # fmt: skip
    await api.catalog.add_documents([record])
    await api.blobs.put("uploads/pack", b"..." + b"hello" + b"...")
    await api.blobs.put("derived/pack", b"." * 7 + artifact + b".")
    path = f"/v1/batches/{batch['id']}/documents/{record.file_id}"

    raw = await api.http.get(f"{path}/raw")

    assert (raw.content, raw.headers["content-length"]) == (b"hello", "5")
    assert (await api.http.get(f"{path}/text")).text == "Grüße\nan alle"


@pytest.mark.parametrize("what", ["text", "chunks"])
async def test_a_damaged_result_is_told_by_its_own_code(api, what):
    """And not as a search index that is away."""
    batch = await api.submit()
    done = row(batch["id"], 0, DocumentStatus.DONE, sha256="a" * 64, fingerprint="f")
    await api.catalog.add_documents([done])
    await api.blobs.put(artifact_key(DEFAULT_TENANT_ID, "a" * 64, "f"), b"damaged")

    response = await api.http.get(f"/v1/batches/{batch['id']}/documents/{done.file_id}/{what}")

    assert (response.status_code, response.json()["code"]) == (500, "artifact_unreadable")


async def test_chunks_are_listed_as_search_finds_them(api):
    """In order, page by page or those that begin on a page, with their places in the text."""
    batch = await api.submit()
    text = "one two three"
    parsed = ParsedDocument(media_type="application/pdf", text=text)
    places = [(0, 3, 1), (4, 7, 2), (8, 13, 2)]
    chunks = [
        Chunk(ordinal=number, text=text[start:end], start=start, end=end, page=page, headings=("Counting",))
        for number, (start, end, page) in enumerate(places)
    ]
    done = row(batch["id"], 0, DocumentStatus.DONE, sha256="a" * 64, fingerprint="f")
    await api.catalog.add_documents([done])
    artifact = encode(parsed, chunks, np.zeros((3, 2), np.float32), quality=1.0, embedder="e", versions={})
    await api.blobs.put(artifact_key(DEFAULT_TENANT_ID, "a" * 64, "f"), artifact)
    path = f"/v1/batches/{batch['id']}/documents/{done.file_id}/chunks"

    first = (await api.http.get(path, params={"limit": 2})).json()
    second = (await api.http.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [chunk["text"] for chunk in first["data"] + second["data"]] == ["one", "two", "three"]
    assert (first["has_more"], second["has_more"]) == (True, False)
    on_two = (await api.http.get(path, params={"page": 2})).json()["data"]
    assert [(chunk["ordinal"], chunk["start"], chunk["end"], chunk["page"]) for chunk in on_two] == [
        (1, 4, 7, 2),
        (2, 8, 13, 2),
    ]
    assert [chunk["ordinal"] for chunk in (await api.http.get(path, params={"first": 2})).json()["data"]] == [2]
    assert (await api.http.get(path, params={"page": 1, "cursor": first["next_cursor"]})).status_code == 400
    for beyond in ({"page": 2**31}, {"page": 10**30}, {"first": 2**63}, {"first": 10**30}):
        none = await api.http.get(path, params=beyond)
        assert (none.status_code, none.json()["data"]) == (200, [])


async def test_pages_of_pdfs_and_images_are_drawn(api):
    """As PNGs of the wanted width; a page that is not there, and a type that is not drawn, is 422."""
    batch = await api.submit()
    kinds = (("operations-handbook.pdf", "application/pdf"), ("weather-policy.html", "text/html"))
    for ordinal, (name, media_type) in enumerate(kinds):
        content = (SAMPLES / name).read_bytes()
        await api.blobs.put(f"raw/{name}", content)
        facts = {"raw_key": f"raw/{name}", "size_bytes": len(content), "sha256": "b" * 64, "media_type": media_type}
        await api.catalog.add_documents([row(batch["id"], ordinal, DocumentStatus.DONE, **facts)])
    pdf, html = (f"/v1/batches/{batch['id']}/documents/{file_id_for(batch['id'], ordinal)}/pages" for ordinal in (0, 1))

    drawn = await api.http.get(f"{pdf}/1/image", params={"width": 200})
    assert (drawn.status_code, drawn.headers["content-type"]) == (200, "image/png")
    assert struct.unpack(">I", drawn.content[16:20]) == (200,)
    assert "sandbox" in drawn.headers["content-security-policy"]
    for path in (f"{pdf}/99/image", f"{html}/1/image"):
        refused = await api.http.get(path)
        assert (refused.status_code, refused.json()["code"]) == (422, "page_not_drawable")


async def test_throughput_is_counted_since_the_beginning(api):
    """By the second for a short batch; before it begins there is none."""
    held = await api.submit(hold=True)
    nothing = (await api.http.get(f"/v1/batches/{held['id']}/throughput")).json()
    assert nothing == {"since": None, "interval_seconds": 1, "documents": []}
    batch_id = await batch_of_five(api)
    began = datetime.now(UTC) - timedelta(seconds=3)
    progress = api.engine.open[batch_id]
    api.engine.open[batch_id] = progress.model_copy(update={"started_at": began})
    ended = row(batch_id, 5, DocumentStatus.DONE, ended_at=began.replace(microsecond=0) + timedelta(seconds=2))
    await api.catalog.add_documents([ended])
    found = (await api.http.get(f"/v1/batches/{batch_id}/throughput")).json()
    assert found["interval_seconds"] == 1
    assert (found["documents"][2], sum(found["documents"])) == (1, 1)


async def test_the_report_is_a_table_for_a_spreadsheet(api):
    """A row a document; a name that a spreadsheet would take for a formula is text."""
    batch = await api.submit()
    failure = DocumentFailure(code="encrypted", message="It is locked.", stage=Stage.PARSING, action="Unlock it.")
    named = {"filename": '=cmd|"/c calc"!A1'}
    record = row(batch["id"], 0, DocumentStatus.FAILED, error=failure).model_copy(update=named)
    await api.catalog.add_documents([record])
    response = await api.http.get(f"/v1/batches/{batch['id']}/report", params={"format": "csv"})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert ".csv" in response.headers["content-disposition"]
    [line] = csv.DictReader(io.StringIO(response.content.decode("utf-8-sig")))
    assert (line["filename"], line["status"], line["error_code"]) == ("'" + named["filename"], "failed", "encrypted")


async def test_the_report_is_streamed_while_the_batch_runs_and_after(api):
    """NDJSON from the catalog first, from the stored report once it is there."""
    batch_id = await batch_of_five(api)
    running = await api.http.get(f"/v1/batches/{batch_id}/report")
    assert running.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line)["status"] for line in running.text.splitlines()][:2] == ["done", "failed"]

    await api.end(batch_id, BatchState.COMPLETED_WITH_FAILURES, done=4, failed=1)
    await api.blobs.put("report", b'{"stored":true}\n')
    api.catalog._batches[batch_id] = api.catalog._batches[batch_id].model_copy(update={"report_key": "report"})
    assert (await api.http.get(f"/v1/batches/{batch_id}/report")).text == '{"stored":true}\n'
