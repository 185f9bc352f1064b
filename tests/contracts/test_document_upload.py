"""Contract B, sentence by sentence, over HTTP against the running stack."""

import asyncio
import json
import random
import shutil
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.corpus import FILES, needs_corpus
from tests.support.examples import examples_of, fits, run_examples
from tests.support.running_stack import File, Json, RunningStack, Visitor, notes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

UPLOAD = "/api/v1/documents/ingest/batch"
PAGE = Path(__file__).parents[2] / "docs" / "batch-ingestion.md"
DAMAGED = b"%PDF-1.7\nthe rest was lost on the way\n"
MISSING_AUTHOR = "Metadata validation failed: Missing required field 'author'"


def form(files: list[File], mapping: bytes | None = None) -> list[tuple[str, File]]:
    parts: list[tuple[str, File]] = [("files", file) for file in files]
    return parts if mapping is None else [*parts, ("metadata_mapping", ("mapping", mapping))]


async def upload(visitor: Visitor, files: list[File], mapping: bytes | None = None, **options: Any) -> str:
    response = await visitor.http.post(UPLOAD, files=form(files, mapping), **options)
    assert response.status_code == 202, response.text
    return str(response.json()["batch_id"])


async def status(visitor: Visitor, batch_id: str, **options: Any) -> Json:
    response = await visitor.get(f"{UPLOAD}/{batch_id}/status", **options)
    assert response.status_code == 200, response.text
    answer: Json = response.json()
    return answer


async def ended(visitor: Visitor, batch_id: str, seconds: float = 120) -> Json:
    deadline = time.monotonic() + seconds
    while (seen := await status(visitor, batch_id))["status"] == "in_progress":
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.1)
    return seen


async def manifested(visitor: Visitor, batch_id: str) -> None:
    """Until the batch knows its documents by name."""
    deadline = time.monotonic() + 60
    while not (await visitor.get(f"/v1/batches/{batch_id}/documents?limit=1")).json()["data"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def tenant(visitor: Visitor, **settings: Any) -> dict[str, str]:
    """Headers of a new tenant with these settings."""
    name = f"tenant {time.monotonic_ns()}"
    made = await visitor.post("/v1/tenants", {"name": name, **settings}, status=201)
    return {"X-Tenant-ID": made["id"]}


async def error(
    visitor: Visitor, files: list[File], mapping: bytes | None = None, **options: Any
) -> tuple[int, str, str]:
    response = await visitor.http.post(UPLOAD, files=form(files, mapping), **options)
    body = response.json()
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"code", "message"}
    return response.status_code, body["error"]["code"], body["error"]["message"]


async def metadata(visitor: Visitor, batch_id: str) -> dict[str, Json]:
    return {document["filename"]: document["metadata"] for document in await visitor.documents(batch_id)}


# The upload


async def test_the_answer_is_202_with_batch_id_total_documents_status_and_message(visitor: Visitor):
    """`{"batch_id", "total_documents", "status": "in_progress", "message"}`"""
    response = await visitor.http.post(UPLOAD, files=form(notes(2, "answer")))
    body = response.json()
    assert response.status_code == 202
    assert (body["total_documents"], body["status"]) == (2, "in_progress")
    assert body["batch_id"]
    assert body["message"]


async def test_at_most_100_files_a_batch(visitor: Visitor):
    """A hundred are taken, and the limit is published under its setting's name."""
    assert (await visitor.get("/v1/limits")).json()["max_files_per_batch"] == 100
    seen = await ended(visitor, await upload(visitor, notes(100, "hundred", words=20)))
    assert (seen["status"], seen["processed_count"]) == ("completed", 100)


async def test_every_batch_is_visible_under_its_id_at_our_own_door(visitor: Visitor):
    """The batch, its documents, its events and its place in search."""
    batch_id = await upload(visitor, notes(3, "visible"))
    batch = await visitor.ended(batch_id)
    assert batch["counts"]["done"] == 3
    assert len(await visitor.documents(batch_id)) == 3
    assert (await visitor.events(batch_id))[-1]["type"] == "batch.completed"
    assert await visitor.search("note of visible", batch_id=batch_id)


# The status


async def test_while_running_the_status_has_an_estimated_completion_time(visitor: Visitor):
    """And it counts up to the total; the fields of an ended batch are not there yet."""
    batch_id = await upload(visitor, notes(60, "running", words=3_000))
    looks = []
    while (seen := await status(visitor, batch_id))["status"] == "in_progress":
        looks.append(seen)
    assert looks
    for look in looks:
        assert datetime.fromisoformat(look["estimated_completion_time"]).utcoffset() is not None
        assert look["processed_count"] + look["failed_count"] <= look["total_documents"] == 60
        assert not {"completed_at", "processing_time_seconds"} & set(look)


async def test_when_ended_the_status_has_completed_at_and_a_processing_time_above_nought(visitor: Visitor):
    """RFC 3339, UTC, with offset."""
    began = datetime.now(UTC)
    seen = await ended(visitor, await upload(visitor, notes(2, "ended")))
    completed_at = datetime.fromisoformat(seen["completed_at"])
    assert began < completed_at < datetime.now(UTC)
    assert completed_at.utcoffset() is not None
    assert seen["processing_time_seconds"] > 0
    assert "estimated_completion_time" not in seen


@pytest.mark.parametrize(("good", "bad", "word"), [(2, 0, "completed"), (1, 1, "partial_failure"), (0, 2, "failed")])
async def test_completed_is_no_failure_partial_failure_some_of_each_failed_all(
    visitor: Visitor, good: int, bad: int, word: str
):
    """The counts agree, and each failed document is listed with its error."""
    files = notes(good, f"words-{word}") + [(f"bad-{number}.pdf", DAMAGED + b"%d" % number) for number in range(bad)]
    seen = await ended(visitor, await upload(visitor, files))
    assert (seen["status"], seen["processed_count"], seen["failed_count"]) == (word, good, bad)
    assert [document["filename"] for document in seen["failed_documents"]] == [name for name, _ in files[good:]]


async def test_skipped_counts_as_processed(visitor: Visitor):
    """What the collection has already is no failure."""
    files = notes(2, "skipped")
    await ended(visitor, await upload(visitor, files))
    again = await upload(visitor, files)
    seen = await ended(visitor, again)
    assert (seen["status"], seen["processed_count"]) == ("completed", 2)
    assert (await visitor.ended(again))["counts"]["skipped"] == 2


async def test_a_paused_batch_is_in_progress_and_a_cancelled_one_ends(visitor: Visitor):
    """The contract has no words for either, so its clients see work going on, then what was not done as failed."""
    batch_id = await upload(visitor, notes(80, "cancelled", words=2_000))
    await visitor.post(f"/v1/batches/{batch_id}/pause")
    assert (await status(visitor, batch_id))["status"] == "in_progress"
    await manifested(visitor, batch_id)
    await visitor.post(f"/v1/batches/{batch_id}/cancel")
    seen = await ended(visitor, batch_id)
    assert seen["processed_count"] + seen["failed_count"] == seen["total_documents"] == 80
    assert {failed["error"] for failed in seen["failed_documents"]} <= {"Cancelled before it was processed."}
    assert len(seen["failed_documents"]) == seen["failed_count"]


# Errors


async def test_batch_too_large_counts_what_was_uploaded(visitor: Visitor):
    """400, "Batch exceeds maximum size of 100 files. Uploaded: 150 files"."""
    assert await error(visitor, notes(150, "many", words=5)) == (
        400,
        "BATCH_TOO_LARGE",
        "Batch exceeds maximum size of 100 files. Uploaded: 150 files",
    )


async def test_empty_batch_is_no_file(visitor: Visitor):
    """400, with a mapping alone as with nothing at all."""
    assert (await error(visitor, [], b"filename\n"))[:2] == (400, "EMPTY_BATCH")
    response = await visitor.http.post(UPLOAD)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "EMPTY_BATCH")


async def test_batch_not_found_is_an_unknown_id_or_another_tenants(visitor: Visitor):
    """404, and the two answers are the same."""
    batch_id = await upload(visitor, notes(1, "not-found"))
    other = await tenant(visitor)
    theirs = await visitor.get(f"{UPLOAD}/{batch_id}/status", headers=other)
    unknown = await visitor.get(f"{UPLOAD}/01900000-0000-7000-8000-000000000000/status", headers=other)
    assert theirs.status_code == unknown.status_code == 404
    assert theirs.json() == unknown.json()
    assert theirs.json()["error"]["code"] == "BATCH_NOT_FOUND"


async def test_file_too_large_names_the_file(visitor: Visitor):
    """413, for one file over the per-file limit."""
    headers = await tenant(visitor, limits={"max_file_bytes": 1_000})
    found = await error(visitor, [("small.txt", b"x"), ("huge.txt", b"x" * 1_001)], headers=headers)
    assert found[:2] == (413, "FILE_TOO_LARGE")
    assert "huge.txt" in found[2]


@pytest.mark.parametrize(
    "mapping",
    [b"\x89PNG\r\n\x1a\n\x00", b'filename,a\n"x', b"name,tags\na.txt,b\n", b"[1, 2]"],
    ids=["neither", "unreadable", "no-filename-column", "not-an-object"],
)
async def test_invalid_metadata_mapping_is_neither_unreadable_or_without_a_filename_column(
    visitor: Visitor, mapping: bytes
):
    """422, whether it comes before or behind the files."""
    assert (await error(visitor, notes(1, "mapping"), mapping))[:2] == (422, "INVALID_METADATA_MAPPING")


async def test_capacity_exceeded_says_when_to_come_again(visitor: Visitor):
    """503 and Retry-After, when bytes in flight would pass `max_concurrent_bytes`; then there is room again."""
    headers = await tenant(visitor, limits={"max_concurrent_bytes": 100_000})
    held = await visitor.http.post(
        "/v1/batches",
        files=[("files", ("a.txt", b"a " * 40_000)), ("spec", (None, json.dumps({"hold": True})))],
        headers=headers,
    )
    files = [("b.txt", b"b " * 20_000)]
    response = await visitor.http.post(UPLOAD, files=form(files), headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "CAPACITY_EXCEEDED")
    assert int(response.headers["retry-after"]) > 0

    cancelled = await visitor.http.post(f"/v1/batches/{held.json()['id']}/cancel", headers=headers)
    assert cancelled.status_code == 202
    await visitor.ended(held.json()["id"])
    await ended(visitor, await upload(visitor, files, headers=headers))


async def test_the_default_capacity_is_five_gibibytes(visitor: Visitor):
    """As the contract has it."""
    assert (await visitor.get("/v1/limits")).json()["max_concurrent_bytes"] == 5 * 1024**3


# Metadata


async def test_a_quoted_cell_with_commas_becomes_a_list(visitor: Visitor):
    """CSV: a header row with `filename` and any further columns."""
    files = notes(2, "table")
    rows = f'filename,tags,category\n{files[0][0]},"technical,api",manual\n'
    batch_id = await upload(visitor, files, rows.encode())
    await ended(visitor, batch_id)
    assert await metadata(visitor, batch_id) == {
        files[0][0]: {"tags": ["technical", "api"], "category": "manual"},
        files[1][0]: {},
    }


async def test_json_is_an_object_from_filename_to_an_object_of_fields(visitor: Visitor):
    """Values keep their types, and search can filter by them."""
    files = notes(1, "object")
    batch_id = await upload(visitor, files, json.dumps({files[0][0]: {"year": 2024, "tags": ["x"]}}).encode())
    await ended(visitor, batch_id)
    assert await metadata(visitor, batch_id) == {files[0][0]: {"year": 2024, "tags": ["x"]}}
    assert await visitor.search("note of object", **{"metadata[year]": 2024})


async def test_a_file_without_a_row_gets_the_tenants_default_metadata(visitor: Visitor):
    """A file with a row has what the row says."""
    headers = await tenant(visitor, default_metadata={"team": "dome"})
    files = notes(2, "defaults")
    batch_id = await upload(visitor, files, f"filename,author\n{files[0][0]},Doe\n".encode(), headers=headers)
    await ended(visitor, batch_id)
    assert await metadata(visitor, batch_id) == {files[0][0]: {"author": "Doe"}, files[1][0]: {"team": "dome"}}


async def test_a_row_without_a_file_is_a_warning_and_does_not_fail_the_batch(visitor: Visitor):
    """In the status and in the batch's metadata."""
    batch_id = await upload(visitor, notes(1, "warned"), b"filename,a\nmissing.pdf,1\n")
    seen = await ended(visitor, batch_id)
    assert (seen["status"], len(seen["warnings"])) == ("completed", 1)
    assert "missing.pdf" in seen["warnings"][0]
    assert (await visitor.ended(batch_id))["metadata"]["warnings"] == seen["warnings"]


async def test_a_document_that_does_not_fit_the_schema_fails_alone(visitor: Visitor):
    """`Metadata validation failed: Missing required field 'author'`, in the contract and at our own door."""
    headers = await tenant(visitor, metadata_schema={"type": "object", "required": ["author"]})
    files = notes(2, "schema")
    batch_id = await upload(visitor, files, f"filename,author\n{files[0][0]},Doe\n".encode(), headers=headers)
    seen = await ended(visitor, batch_id)
    assert (seen["status"], seen["processed_count"]) == ("partial_failure", 1)
    assert seen["failed_documents"] == [{"filename": files[1][0], "error": MISSING_AUTHOR}]

    own = await visitor.http.post("/v1/batches", files=form(notes(1, "schema-own")), headers=headers)
    await visitor.ended(own.json()["id"])
    [document] = await visitor.documents(own.json()["id"])
    assert (document["error"]["code"], document["error"]["message"]) == ("metadata_invalid", MISSING_AUTHOR)


async def test_a_collection_may_have_a_schema_of_its_own(visitor: Visitor):
    """It holds there and nowhere else."""
    headers = await tenant(visitor, collection_schemas={"papers": {"required": ["author"]}})
    files = notes(1, "collection")
    strict = await upload(visitor, files, headers=headers, params={"collection": "papers"})
    assert (await ended(visitor, strict))["failed_documents"][0]["error"] == MISSING_AUTHOR
    assert (await ended(visitor, await upload(visitor, files, headers=headers)))["status"] == "completed"


async def test_a_damaged_file_fails_alone(visitor: Visitor):
    """`Failed to parse PDF: …`, and its neighbours are taken in."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("word/document.xml", "<w:document")
        packed.writestr("[Content_Types].xml", "<Types")
    files = [*notes(1, "damaged"), ("damaged.pdf", DAMAGED), ("damaged.docx", archive.getvalue())]
    seen = await ended(visitor, await upload(visitor, files))
    assert (seen["status"], seen["processed_count"], seen["failed_count"]) == ("partial_failure", 1, 2)
    errors = {failed["filename"]: failed["error"] for failed in seen["failed_documents"]}
    assert errors["damaged.pdf"].startswith("Failed to parse PDF: ")
    assert errors["damaged.docx"].startswith("Failed to parse DOCX: ")


# Streams


async def test_neither_memory_nor_disk_of_the_api_grows_with_the_batch(stack: RunningStack, visitor: Visitor):
    """300 MB in eight files: what the process holds stays within what a few parts of one file take; no temporary file."""
    await ended(visitor, await upload(visitor, [("warm.bin", b"\x00" * 20_000_000)]))
    process = psutil.Process(stack.pid("api"))
    before, written = process.memory_info().rss, process.io_counters().write_bytes
    peak, temporary = before, set[str]()
    chunk = random.Random(1).randbytes(500_000)

    async def body() -> AsyncIterator[bytes]:
        nonlocal peak
        for number in range(8):
            yield f'--b\r\nContent-Disposition: form-data; name="files"; filename="{number}.bin"\r\n\r\n'.encode()
            for piece in range(75):
                yield b"%08d%08d" % (number, piece) + chunk
                peak = max(peak, process.memory_info().rss)
            temporary.update(open_below(process, tempfile.gettempdir()) - open_below(process, str(stack.up.data_dir)))
            yield b"\r\n"
        yield b"--b--\r\n"

    response = await visitor.http.post(
        UPLOAD, content=body(), headers={"content-type": "multipart/form-data; boundary=b"}, timeout=200
    )
    assert response.status_code == 202, response.text
    assert temporary == set()
    assert peak - before < 100_000_000
    assert process.io_counters().write_bytes - written < 10_000_000
    seen = await ended(visitor, response.json()["batch_id"])
    assert seen["failed_count"] == 8, "nothing parses them"


def open_below(process: psutil.Process, folder: str) -> set[str]:
    return {file.path for file in process.open_files() if file.path.startswith(folder)}


# The log


async def test_every_line_about_a_batch_carries_its_batch_id(stack: RunningStack, visitor: Visitor):
    """JSON lines: batch start with its count, each document's start and end, each error, the summary."""
    [(good, content)] = notes(1, "logged")
    batch_id = await upload(visitor, [(good, content), ("lost.pdf", DAMAGED)])
    await ended(visitor, batch_id)
    for _ in range(200):  # the last line is written behind the end that clients see
        lines = log_lines(stack, batch_id)
        by_event = {line["event"]: line for line in lines}
        if "batch.ended" in by_event:
            break
        await asyncio.sleep(0.05)
    assert all(line["batch_id"] == batch_id for line in lines)
    assert by_event["batch.accepted"]["file_count"] == by_event["batch.started"]["document_count"] == 2
    assert {line["filename"] for line in lines if line["event"] == "document.started"} == {good, "lost.pdf"}
    assert by_event["document.ended"]["filename"] == good
    failed = by_event["document.failed"]
    assert failed["filename"] == "lost.pdf"
    assert failed["reason"]
    assert {name: by_event["batch.ended"][name] for name in ("total", "done", "failed")} == {
        "total": 2,
        "done": 1,
        "failed": 1,
    }
    assert "Note 0 of logged" not in json.dumps(lines), "a document's text is nobody's business"


def log_lines(stack: RunningStack, batch_id: str) -> list[Json]:
    """Every line of API and workers that mentions the batch."""
    logs = (stack.up.data_dir / "logs").glob("*.log")
    ours = [log for log in logs if log.stem.startswith(("api", "worker"))]
    found = [line for log in ours for line in log.read_text(encoding="utf-8").splitlines() if batch_id in line]
    return [json.loads(line) for line in found]


# Documentation and pace


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples need curl and jq")
def test_each_example_of_the_documentation_runs(stack: RunningStack, tmp_path: Path):
    """In order, in one shell, in an empty folder; and each prints what the page shows."""
    examples = examples_of(PAGE)
    assert len(examples) >= 8
    for example, printed in run_examples(examples, tmp_path, INGATHER_URL=stack.base_url):
        if example.expected is not None:
            answer = json.loads(printed)
            assert fits(example.expected, answer), f"line {example.line}: the page shows another answer than {answer}"


@needs_corpus
async def test_twenty_mixed_documents_take_less_than_two_minutes(visitor: Visitor):
    """At least ten documents a minute is the floor; `bench/document_upload.py` measures how far above it we are."""
    paths = sorted(path for path in FILES.iterdir() if path.suffix != ".zip")
    files = [(path.name, path.read_bytes()) for path in random.Random(20).sample(paths, 20)]
    began = time.monotonic()
    seen = await ended(visitor, await upload(visitor, files, params={"collection": "floor"}))
    assert seen["processed_count"] + seen["failed_count"] == 20
    assert time.monotonic() - began < 120
