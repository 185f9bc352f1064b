"""Submissions as they come in real life: in pieces, again, too large, broken off, and called off."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from tests.support.running_stack import RunningStack, Visitor, assert_counted_once, notes, running_stack
from tests.support.up import INGATHER
from tests.support.waiting import until_async
from tests.support.zips import zip_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MOST = 1_500
"""Documents that a batch of this stack may have."""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with a limit that a test can reach, whose API is killed."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("INGATHER_LIMITS__MAX_DOCUMENTS_PER_BATCH", str(MOST))
        with running_stack(tmp_path_factory.mktemp("submissions") / ".ingather") as stack:
            yield stack


@pytest.fixture
async def visitor(deployment: RunningStack) -> AsyncIterator[Visitor]:
    async with deployment.visitor() as visitor:
        yield visitor


def objects_of(stack: RunningStack, batch_id: str) -> list[str]:
    """What lies in object storage for a batch, seen through somebody else's client."""
    facts = stack.up.facts()["s3"]
    s3 = boto3.resource(
        "s3",
        endpoint_url=facts["endpoint_url"],
        region_name=facts["region"],
        aws_access_key_id=facts["access_key_id"],
        aws_secret_access_key=facts["secret_access_key"],
        config=Config(proxies={}),
    )
    return [item.key for item in s3.Bucket(facts["bucket"]).objects.all() if batch_id in item.key]


async def add(visitor: Visitor, batch_id: str, files: Any, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    parts = [("files", file) for file in files]
    return await visitor.http.post(f"/v1/batches/{batch_id}/documents", files=parts, headers=headers)


def ndjson(tag: str, count: int) -> bytes:
    lines = (
        {"filename": name, "text": content.decode(), "metadata": {"tag": tag}}
        for name, content in notes(count, tag, 20)
    )
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def test_an_open_batch_waits_for_its_seal_and_runs_whole(deployment: RunningStack, visitor: Visitor):
    """Documents come in three kinds of body; the batch says what it waits for, then runs all of them once."""
    batch_id = (await visitor.post("/v1/batches", {"open": True, "documents": [], "name": "growing"}))["id"]
    assert (await visitor.http.post(f"/v1/batches/{batch_id}/seal")).json()["code"] == "empty_batch"
    await add(visitor, batch_id, notes(30, "open-form"))
    lines = {"content": ndjson("open-lines", 40), "headers": {"Content-Type": "application/x-ndjson"}}
    await visitor.http.post(f"/v1/batches/{batch_id}/documents", **lines)
    archive = zip_of(dict(notes(10, "open-zip")))
    added = (await add(visitor, batch_id, [("ten.zip", archive)])).json()
    assert (added["documents_added"], added["documents"]) == (1, 71)

    waiting = await visitor.until(batch_id, lambda batch: batch["counts"]["total"] == 71)
    assert (waiting["status"], waiting["waiting_for"]) == ("pending", "seal")
    assert (await visitor.post(f"/v1/batches/{batch_id}/seal"))["status"] != "failed"
    assert (await add(visitor, batch_id, notes(1, "late"))).json()["code"] == "invalid_state"
    await assert_counted_once(deployment, visitor, batch_id, 80)
    documents = await visitor.documents(batch_id, limit=200)
    assert [document["filename"][:9] for document in documents] == ["open-form"] * 30 + ["open-line"] * 40 + [
        "open-zip-"
    ] * 10
    assert documents[35]["metadata"] == {"tag": "open-lines"}


async def test_an_api_killed_between_blocks_loses_and_doubles_none(deployment: RunningStack, visitor: Visitor):
    """The API dies while ten blocks are sent under their keys; whoever sends them again has each of them once."""
    batch_id = (await visitor.post("/v1/batches", {"open": True, "documents": []}))["id"]

    async def bring(number: int) -> None:
        while True:
            try:
                response = await add(visitor, batch_id, notes(20, f"block-{number}", 20), f"block-{number}")
                if response.status_code == 202:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)

    await bring(0)
    bringing = asyncio.gather(*(bring(number) for number in range(10)))
    await asyncio.sleep(0.05)
    killed = deployment.kill("api")
    await deployment.is_back("api", killed)
    await bringing
    await bring(3)
    assert (await visitor.post(f"/v1/batches/{batch_id}/seal"))["counts"]["total"] == 200
    await assert_counted_once(deployment, visitor, batch_id, 200)


async def test_one_submission_sent_twice_at_once_is_one_batch(deployment: RunningStack, visitor: Visitor):
    """Five requests with one key at the same moment: one batch, every document once."""
    parts = [("files", file) for file in notes(50, "five-times")]
    headers = {"Idempotency-Key": "five-times"}
    answers = await asyncio.gather(*(visitor.http.post("/v1/batches", files=parts, headers=headers) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    [batch_id] = {answer.json()["id"] for answer in answers}
    await assert_counted_once(deployment, visitor, batch_id, 50)


async def test_cancelling_an_open_batch_lets_its_uploads_go(deployment: RunningStack, visitor: Visitor):
    """Nothing of what came in is left; the report is, and nobody can retry what is gone."""
    batch_id = (await visitor.post("/v1/batches", {"open": True, "documents": []}))["id"]
    await add(visitor, batch_id, [*notes(20, "called-off"), ("large.bin", os.urandom(3_000_000))])
    assert any("uploads/" in key for key in objects_of(deployment, batch_id))
    await visitor.post(f"/v1/batches/{batch_id}/cancel")
    batch = await visitor.ended(batch_id)
    assert (batch["status"], batch["counts"]["cancelled"]) == ("cancelled", batch["counts"]["total"])

    async def is_let_go() -> bool | None:
        kept = [key for key in objects_of(deployment, batch_id) if "uploads/" in key or "/submission/" in key]
        return not kept or None

    await until_async(is_let_go)  # the last thing a batch does, after it was called cancelled
    assert (await add(visitor, batch_id, notes(1, "late"))).json()["current_status"] == "cancelled"
    await visitor.post(f"/v1/batches/{batch_id}/retry", {"include_cancelled": True}, status=409)


async def test_more_documents_than_a_batch_may_have(visitor: Visitor):
    """Refused with the limit's name before anything starts; hidden in a ZIP, the batch fails and says why."""

    async def form() -> AsyncIterator[bytes]:
        for number in range(MOST + 1):
            disposition = f'form-data; name="files"; filename="{number}.txt"'
            yield f"--b\r\nContent-Disposition: {disposition}\r\n\r\nNumber {number}\r\n".encode()
        yield b"--b--\r\n"

    lines = b"".join(b'{"filename": "%d", "text": "x"}\n' % number for number in range(MOST + 1))
    for body, kind in ((form(), "multipart/form-data; boundary=b"), (lines, "application/x-ndjson")):
        response = await visitor.http.post("/v1/batches", content=body, headers={"Content-Type": kind})
        problem = response.json()
        assert (response.status_code, problem["code"], problem["limit_value"]) == (413, "batch_too_large", MOST)

    hidden = zip_of({f"{number}.txt": f"Number {number}".encode() for number in range(MOST + 1)})
    batch_id = await visitor.submit([("hidden.zip", hidden), *notes(1, "beside-too-many")])
    batch = await visitor.ended(batch_id)
    assert (batch["status"], batch["problem"]["code"]) == ("failed", "batch_too_large")
    assert batch["problem"]["action"]
    assert batch["counts"]["done"] == 0


async def test_a_folder_of_many_files_goes_in_blocks_and_on_after_ctrl_c(
    deployment: RunningStack, visitor: Visitor, tmp_path: Path
):
    """Stopped in mid-upload, the command line says how to go on; going on ends with every file once."""
    folder = tmp_path / "many files"
    folder.mkdir()
    for name, content in notes(1_200, "blocks", 2_000):
        (folder / name).write_bytes(content)
    environment = {**os.environ, "INGATHER_URL": deployment.base_url}

    def start(*options: str) -> subprocess.Popen[str]:
        command = [*INGATHER, "submit", str(folder), *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # Where the tests themselves run in the background, Ctrl-C is ignored, and children would inherit that.
        return subprocess.Popen(command, env=environment, preexec_fn=_heed_ctrl_c, **pipes)  # noqa: PLW1509  # one system call, no lock

    stopped = start()
    assert stopped.stderr is not None
    assert "Uploading 1,200 files" in stopped.stderr.readline()
    stopped.send_signal(signal.SIGINT)
    _, said = await asyncio.to_thread(stopped.communicate, timeout=60)
    assert stopped.returncode == 130, said
    key = said.split("--idempotency-key ")[1].split()[0]

    done = start("--idempotency-key", key, "--watch")
    out, said = await asyncio.to_thread(done.communicate, timeout=150)
    assert done.returncode == 0, out + said
    await assert_counted_once(deployment, visitor, out.split()[0], 1_200)


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
