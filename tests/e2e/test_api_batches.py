"""The life of a batch over HTTP, against real servers and workers."""

import asyncio
import json
import random
import zlib
from collections.abc import AsyncIterator, Callable

import httpx
import psutil
import pytest

from ingather.samples import EXPECTED, QUESTION, sample_paths
from tests.support.zips import ENCRYPTED_FLAG, RawEntry, raw_zip, zip_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
async def http(stack) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=stack.base_url, timeout=90, trust_env=False) as client:
        yield client


def notes(count: int, tag: str) -> list[tuple[str, tuple[str, bytes]]]:
    """Documents of a few pages that nobody submitted before."""
    words = random.Random(tag)
    texts = (
        " ".join(words.choice(["dome", "mirror", "night", "star", tag]) for _ in range(2_000)) for _ in range(count)
    )
    return [("files", (f"{tag}-{number}.txt", text.encode())) for number, text in enumerate(texts)]


async def submit(http: httpx.AsyncClient, files, **spec) -> dict:
    parts = [*files, ("spec", (None, json.dumps(spec)))]
    response = await http.post("/v1/batches", files=parts)
    assert response.status_code == 202, response.text
    return response.json()


async def ended(http: httpx.AsyncClient, batch_id: str) -> dict:
    """The batch at its end; its counts always add up."""
    for _ in range(4):
        batch = (await http.get(f"/v1/batches/{batch_id}", headers={"Prefer": "wait=50"})).json()
        counts = batch["counts"]
        assert counts["total"] == sum(value for name, value in counts.items() if name != "total")
        if batch["ended_at"]:
            return batch
    raise AssertionError(batch)


async def seen(http: httpx.AsyncClient, path: str, is_reached: Callable[[dict], bool]) -> dict:
    """The batch as soon as it is what the test waits for, by long poll."""
    answer = await http.get(path)
    for _ in range(300):
        if is_reached(answer.json()):
            return answer.json()
        answer = await http.get(path)
        changed = await http.get(path, headers={"If-None-Match": answer.headers["etag"], "Prefer": "wait=1"})
        answer = changed if changed.status_code == 200 else answer
    raise AssertionError(answer.json())


async def test_the_samples_go_in_and_can_be_found(http):
    """Each has the outcome it must have; texts, bytes and the report are there; a question finds its answer."""
    files = [("files", (path.name, path.read_bytes())) for path in sample_paths()]
    batch = await submit(http, files, collection="samples", name="samples")
    done = await ended(http, batch["id"])

    documents = (await http.get(f"/v1/batches/{batch['id']}/documents?limit=200")).json()["data"]
    outcomes = {d["filename"]: d["error"]["code"] if d["error"] else d["status"] for d in documents}
    assert outcomes == EXPECTED
    assert (done["status"], done["counts"]["total"]) == ("completed_with_failures", len(EXPECTED))
    assert done["indexed"] == done["counts"]["done"]
    report = (await http.get(f"/v1/batches/{batch['id']}/report")).text.splitlines()
    assert [json.loads(line)["filename"] for line in report] == [d["filename"] for d in documents]
    pdf = next(d for d in documents if d["filename"] == "operations-handbook.pdf")
    assert (await http.get(pdf["links"]["raw"])).content == dict(f[1] for f in files)["operations-handbook.pdf"]
    assert len((await http.get(pdf["links"]["text"])).text) > 100
    [best, *_] = (await http.get("/v1/search", params={"q": QUESTION, "collection": "samples"})).json()["data"]
    assert "wind" in best["text"].lower()


async def test_pause_resume_and_long_poll(http):
    """A pause lets documents in flight finish and starts no more; resume goes on to the end."""
    batch = await submit(http, notes(120, "pause"))
    path = f"/v1/batches/{batch['id']}"
    paused = await http.post(f"{path}/pause")
    assert (paused.status_code, paused.json()["status"] in {"pausing", "paused"}) == (202, True)
    await seen(http, path, lambda batch: batch["status"] == "paused")
    before = (await http.get(path)).json()["counts"]
    await asyncio.sleep(1)
    still = await http.get(path)
    assert (still.json()["counts"], still.json()["waiting_for"]) == (before, "resume")

    waiting = asyncio.create_task(http.get(path, headers={"If-None-Match": still.headers["etag"], "Prefer": "wait=30"}))
    await asyncio.sleep(0.2)
    assert (await http.post(f"{path}/resume")).status_code == 202
    assert (await waiting).status_code == 200
    assert (await ended(http, batch["id"]))["counts"]["done"] == 120


async def test_cancel_keeps_what_is_done_and_retry_takes_up_the_rest(http):
    """Counts reconcile after both."""
    batch = await submit(http, notes(120, "cancel"))
    path = f"/v1/batches/{batch['id']}"
    await seen(http, path, lambda batch: batch["counts"]["done"] > 0)
    assert (await http.post(f"{path}/cancel")).json()["status"] == "cancelling"
    cancelled = await ended(http, batch["id"])
    assert cancelled["status"] == "cancelled"
    assert cancelled["counts"]["done"] + cancelled["counts"]["cancelled"] == 120
    assert (await http.post(f"{path}/cancel")).status_code == 202
    assert (await http.post(f"{path}/pause")).json()["current_status"] == "cancelled"

    again = await http.post(f"{path}/retry", json={"include_cancelled": True})
    assert again.status_code == 202, again.text
    retried = await seen(http, path, lambda batch: batch["retry_round"] == 1 and batch["ended_at"] is not None)
    assert retried["counts"]["done"] == 120


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3])
async def test_a_batch_cancelled_as_it_begins_is_cancelled(http, delay):
    """However little of it was done, and all of it can be run again."""
    batch = await submit(http, notes(60, f"early {delay}"))
    path = f"/v1/batches/{batch['id']}"
    await asyncio.sleep(delay)
    assert (await http.post(f"{path}/cancel")).status_code == 202
    cancelled = await ended(http, batch["id"])
    assert (cancelled["status"], cancelled["counts"]["total"]) == ("cancelled", 60)

    if cancelled["counts"]["done"] == 60:
        return  # they were done before the cancel came

    assert (await http.post(f"{path}/retry", json={"include_cancelled": True})).status_code == 202
    retried = await seen(http, path, lambda batch: batch["status"] == "completed")
    assert retried["counts"]["done"] == 60


async def test_bad_input_costs_one_document_each(http):
    """Hostile names and broken files among good ones: typed errors, unique safe names, everything else done."""
    good = notes(3, "good")
    names = ["../../etc/passwd", "CON", "💥.txt", "a" * 9_000 + ".txt", "", "twice.txt", "TWICE.txt"]
    bad = [
        ("files", ("nothing.txt", b"")),
        ("files", ("noise.bin", b"\x00\x01\x02\x03" * 100)),
        ("files", ("torn.pdf", b"%PDF-1.7\n" + b"\xff" * 500)),
        ("files", ("slip.zip", zip_of({"../../evil.txt": b"evil", "fine.txt": b"a fine text"}))),
        ("files", ("locked.zip", raw_zip([RawEntry("a.txt", flags=ENCRYPTED_FLAG)]))),
    ]
    hostile = [("files", (name, f"text {number} {name[:20]}".encode())) for number, name in enumerate(names)]
    batch = await submit(http, [*good, *hostile, *bad])
    done = await ended(http, batch["id"])

    page = (await http.get(f"/v1/batches/{batch['id']}/documents?limit=200")).json()["data"]
    stored = [document["filename"] for document in page]
    assert len({name.casefold() for name in stored}) == len(stored)
    assert all(len(name.encode()) <= 255 and "/" not in name and name.isprintable() for name in stored)
    codes = done["failures_by_code"]
    assert codes["empty"] == 1
    assert codes.keys() >= {"empty", "unsupported_type", "corrupt", "archive_unsafe_path", "archive_encrypted"}
    assert done["counts"]["done"] >= len(good) + len(names)
    for document in page:
        if document["error"]:
            assert document["error"]["action"]


async def test_a_submission_is_one_however_often_it_is_sent(http):
    """The same key at the same moment, twelve times: one batch, one set of documents."""
    files = notes(5, "twelve")
    answers = await asyncio.gather(
        *(http.post("/v1/batches", files=files, headers={"Idempotency-Key": "twelve-times"}) for _ in range(12))
    )
    assert {answer.status_code for answer in answers} == {202}
    [batch_id] = {answer.json()["id"] for answer in answers}
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) >= 1
    assert (await ended(http, batch_id))["counts"] == {
        "total": 5, "pending": 0, "in_flight": 0, "done": 5, "failed": 0, "skipped": 0, "cancelled": 0,
    }  # fmt: skip


async def test_a_hundred_broken_uploads_leave_the_service_as_it_was(stack, http):
    """Connections that end half-way start nothing, and the next submission is taken."""
    before = {batch["id"] for batch in (await http.get("/v1/batches?limit=200")).json()["data"]}
    host, port = stack.base_url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/batches HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 9000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="half.bin"\r\n\r\n'
    ).encode()

    async def break_off(number: int) -> None:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head + zlib.crc32(bytes([number])).to_bytes(4, "big") * (number * 4_000))
        await writer.drain()
        writer.close()

    await asyncio.gather(*(break_off(number) for number in range(100)))
    batch = await submit(http, notes(2, "after"))
    after = {item["id"] for item in (await http.get("/v1/batches?limit=200")).json()["data"]}
    assert after - before == {batch["id"]}
    assert (await ended(http, batch["id"]))["counts"]["done"] == 2


async def test_two_gigabytes_in_one_request_fit_into_a_small_process(stack, http):
    """The API stays under 250 MB while they pass through, a search having been answered before."""
    await http.get("/v1/search", params={"q": "anything"})
    pid = stack.up.facts()["pids"]["api"]
    peak = 0
    piece = bytes(range(256)) * 4_096

    async def body() -> AsyncIterator[bytes]:
        nonlocal peak
        yield b'--b\r\nContent-Disposition: form-data; name="spec"\r\n\r\n{"hold": true}\r\n'
        for number in range(11):
            yield f'--b\r\nContent-Disposition: form-data; name="files"; filename="{number}.bin"\r\n\r\n'.encode()
            for _ in range(186):
                yield piece
                peak = max(peak, resident_bytes(pid))
            yield b"\r\n"
        yield b"--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = await http.post("/v1/batches", content=body(), headers=headers, timeout=200)
    assert response.status_code == 202, response.text
    assert peak < 250_000_000
    assert (await http.post(f"/v1/batches/{response.json()['id']}/cancel")).status_code == 202


def resident_bytes(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss
