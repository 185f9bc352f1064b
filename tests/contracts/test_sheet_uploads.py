"""Contract C's uploads and log-in, and tus, over HTTP against the running stack."""

import asyncio
import base64
import random
import shutil
import uuid
import zipfile
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import httpx
import pytest

from tests.support.chunks import UPLOAD_PATH, ChunkClient
from tests.support.examples import examples_of, run_examples
from tests.support.running_stack import RunningStack, Visitor
from tests.support.tcp_proxy import RoundRobin
from tests.support.watched_world import ApiProcess
from tests.support.watching import parse

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 1024 * 1024
STREAM = "/api/batches/{}/stream"
TUS = {"Tus-Resumable": "1.0.0"}
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "upload-large-files.md"


@pytest.fixture
async def another_api(stack: RunningStack, tmp_path: Path) -> AsyncIterator[int]:
    """Port of a second API process over the same stack."""
    facts = stack.up.facts()
    storage = {f"INGATHER_S3__{name.upper()}": value for name, value in facts["s3"].items()}
    api = ApiProcess(
        storage
        | {
            "TEMPORAL_ADDRESS": facts["temporal"]["address"],
            "INGATHER_REDIS__URL": facts["redis"]["url"],
            "INGATHER_CATALOG__URL": facts["catalog"]["url"],
            "INGATHER_INDEX__URI": facts["index"]["uri"],
        },
        tmp_path / "api.log",
    )
    await asyncio.to_thread(api.start)
    yield api.port
    await api.stop()


def zip_of(size: int, tag: str) -> bytes:
    """A ZIP of that many bytes of text that nobody submitted before, and a little more."""
    line = f"{tag} {random.Random(tag).random()} dome mirror night star\n".encode()
    content = (line * (size // len(line) + 1))[:size]
    held = BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(f"{tag}.txt", content)
    return held.getvalue()


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


async def test_whoever_has_logged_in_uploads_in_chunks(visitor: Visitor):
    """A form gives a token, and with it chunks of sizes that S3 takes and does not take, in any order and again, are one batch."""
    name, password = f"ada-{uuid.uuid4()}", "correct horse"
    await visitor.post("/v1/users", {"username": name, "password": password}, status=201)
    login = await visitor.http.post("/api/auth/login", data={"username": name, "password": password})
    assert login.status_code == 200, login.text
    assert login.json()["token_type"] == "bearer"
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    for size in (9 * MIB, 3 * MIB):
        chunks = cut(zip_of(20 * MIB, f"sheets-{size}-{uuid.uuid4()}"), size)
        client = ChunkClient(
            visitor.http, chunks, filename=f"{uuid.uuid4()}.zip", headers=headers, chunk_first=size > 5 * MIB
        )
        assert (await client.taken(0))["is_complete"] is False
        order = [*range(1, len(chunks)), 1]
        random.Random(size).shuffle(order)
        answers = await asyncio.gather(*map(client.taken, order))
        [batch_id] = {answer["batch_id"] for answer in answers if answer["is_complete"]}
        assert (await client.taken(0, upload_id=None))["batch_id"] == batch_id
        batch = await visitor.batch(batch_id)
        assert (batch["created_by"], batch["pipeline"]) == (name, "sheets")


async def test_two_api_processes_behind_one_address_take_the_chunks_of_one_file(stack: RunningStack, another_api: int):
    """Each connection goes to the next of them: chunks of one upload, and repeats, reach both, and are one batch and its stream."""
    content = zip_of(20 * MIB, f"sheets-{uuid.uuid4()}")
    one_connection_a_request = httpx.Limits(max_keepalive_connections=0)
    async with (
        RoundRobin([stack.up.facts()["ports"]["api"], another_api]) as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=90, limits=one_connection_a_request, trust_env=False) as http,
    ):
        client = ChunkClient(http, cut(content, 3 * MIB), filename=f"{uuid.uuid4()}.zip")
        batch_id = (await client.send(0)).headers["X-Batch-ID"]
        answers = await asyncio.gather(*map(client.taken, [*range(1, len(client.chunks)), 1, 2, 3]))
        repeated = [await client.taken(0) for _ in range(2)]
        assert {answer["batch_id"] for answer in [*answers, *repeated] if answer["is_complete"]} == {batch_id}
        messages = [
            [frame.data["message"] for frame in parse((await http.get(STREAM.format(batch_id))).content) if frame.event]
            for _ in range(2)
        ]
        assert messages[0] == messages[1]
        told = [message.split()[1] for message in messages[0] if message.startswith("Chunk ")]
        assert told == [f"{number}/{len(client.chunks)}" for number in range(1, len(client.chunks) + 1)]
    assert min(proxy.connections.values()) >= len(client.chunks) // 2


async def test_a_wrong_log_in_is_401(visitor: Visitor):
    """In the contract's words, the same for a wrong password and for nobody; a wrong token is refused at every door."""
    name = f"ada-{uuid.uuid4()}"
    await visitor.post("/v1/users", {"username": name, "password": "right"}, status=201)
    answers = [
        await visitor.http.post("/api/auth/login", data={"username": who, "password": "wrong"})
        for who in (name, f"nobody-{uuid.uuid4()}")
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()
    assert set(answers[0].json()) == {"detail", "message"}
    wrong = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}
    refused = await visitor.http.post(UPLOAD_PATH, files={"file": ("a.zip", b"")}, headers=wrong)
    assert (refused.status_code, set(refused.json())) == (401, {"detail", "message"})


async def test_a_zip_in_one_request_is_a_batch(visitor: Visitor):
    """202, and the batch is there."""
    form = {"data": {"upload_type": "zip_with_qr"}, "files": {"file": ("a.zip", zip_of(2 * MIB, str(uuid.uuid4())))}}
    response = await visitor.http.post(UPLOAD_PATH, **form)
    assert response.status_code == 202, response.text
    assert (await visitor.batch(response.json()["batch_id"]))["pipeline"] == "sheets"


async def test_a_file_over_tus_is_a_document_and_a_zip_is_its_documents(visitor: Visitor):
    """Sent with a break, named in a batch, and read back to the byte; what is in a ZIP is documents of the batch."""
    tag = f"tus-{uuid.uuid4()}"
    archive = zip_of(9 * MIB, tag)
    text = f"A single note of {tag}. ".encode() * 10
    ids = []
    for name, content in (("notes.zip", archive), ("note.txt", text)):
        known = base64.b64encode(name.encode()).decode()
        headers = TUS | {"Upload-Length": str(len(content)), "Upload-Metadata": f"filename {known}"}
        made = await visitor.http.post("/v1/tus", headers=headers)
        assert made.status_code == 201, made.text
        path = made.headers["Location"]
        half = len(content) // 2
        for start, stop in ((0, half), (half, len(content))):
            asked = await visitor.http.head(path, headers=TUS)
            assert int(asked.headers["Upload-Offset"]) == start
            sent = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(start)}
            assert (await visitor.http.patch(path, content=content[start:stop], headers=sent)).status_code == 204
        ids.append(path.rsplit("/", 1)[-1])
    batch_id = (await visitor.post("/v1/batches", {"uploads": ids}))["id"]
    batch = await visitor.ended(batch_id)
    assert (batch["status"], batch["counts"]["done"]) == ("completed", 2), batch
    packed, plain = await visitor.documents(batch_id)
    assert (packed["filename"], plain["filename"]) == (f"{tag}.txt", "note.txt")
    assert (await visitor.get(f"/v1/batches/{batch_id}/documents/{plain['id']}/raw")).content == text


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples need curl and jq")
def test_each_example_of_the_how_to_runs(stack: RunningStack, tmp_path: Path):
    """In order, in one shell, in an empty folder."""
    printed = [said for _, said in run_examples(examples_of(PAGE), tmp_path, INGATHER_URL=stack.base_url)]
    assert '"total":1' in printed[0]
    assert "upload-offset: 42" in printed[1].lower()
