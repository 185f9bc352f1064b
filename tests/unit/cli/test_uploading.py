"""Large uploads, manifests and open batches: what the command line sends, and what it says when it is stopped."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingather.cli import blocks as blocks_module
from ingather.cli.blocks import BLOCK_BYTES, BLOCK_FILES, blocks
from ingather.client.bodies import UploadFile
from tests.support.api_stand_in import BATCH_ID, Answer, Received, StandIn, batch, problem
from tests.unit.cli.conftest import Run

BATCH = f"/v1/batches/{BATCH_ID}"
DOCUMENTS = f"{BATCH}/documents"
SEAL = f"{BATCH}/seal"


def file(number: int, size_bytes: int = 10) -> UploadFile:
    return UploadFile(Path(f"{number}.txt"), f"{number}.txt", size_bytes)


def folder_of(count: int) -> Path:
    folder = Path("papers")
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05d}.txt").write_text("x")
    return folder


class Intake:
    """Adds up what the blocks bring, as the API does."""

    def __init__(self, server: StandIn) -> None:
        self.names: list[str] = []
        self.keys: list[str] = []
        self.interrupts_at: int | None = None
        server.on("GET", "/v1/limits", Answer({"max_documents_per_batch": 1_000_000}))
        server.on("POST", "/v1/batches", Answer(batch("pending", waiting_for="seal"), 202))
        server.on("POST", DOCUMENTS, self.take)
        server.on("POST", SEAL, Answer(batch("queued", pending=1), 202))
        server.on("GET", BATCH, Answer(batch("pending", waiting_for="seal")))

    def take(self, request: Received) -> Answer:
        if len(self.keys) == self.interrupts_at:
            self.interrupts_at = None
            os.kill(os.getpid(), signal.SIGINT)  # what Ctrl-C sends; the main thread waits for this answer
            time.sleep(0.5)
            return problem(503, "storage_unavailable")
        found = [part.split(b'"')[0].decode() for part in request.body.split(b'filename="')[1:]]
        self.names += found
        self.keys.append(request.headers["idempotency-key"])
        return Answer({"batch_id": BATCH_ID, "documents_added": len(found), "documents": len(self.names)}, 202)


# --- Blocks ---------------------------------------------------------------------------------


def test_blocks_are_bounded_in_number() -> None:
    """Every file comes once, in order, at most a thousand in a block."""
    made = list(blocks(file(number) for number in range(2 * BLOCK_FILES + 1)))
    assert [len(block) for block in made] == [BLOCK_FILES, BLOCK_FILES, 1]
    assert [item.name for block in made for item in block][-1] == f"{2 * BLOCK_FILES}.txt"


def test_blocks_are_bounded_in_bytes() -> None:
    """A file larger than a block is a block of its own."""
    sizes = [BLOCK_BYTES - 1, 1, 1, 2 * BLOCK_BYTES, 5]
    made = list(blocks(file(number, size) for number, size in enumerate(sizes)))
    assert [[item.size_bytes for item in block] for block in made] == [sizes[:2], [1], [2 * BLOCK_BYTES], [5]]


def test_blocks_are_made_as_they_are_needed() -> None:
    """Of a folder without end the first block is there at once."""

    def endless():
        number = 0
        while True:
            yield file(number)
            number += 1

    assert len(next(iter(blocks(endless())))) == BLOCK_FILES


# --- submit ---------------------------------------------------------------------------------


def test_a_small_folder_is_one_request(ingather: Run, server: StandIn) -> None:
    """A thousand files: no open batch."""
    server.on("POST", "/v1/batches", Answer(batch("queued", pending=1_000), 202))
    assert ingather("submit", folder_of(1_000)).exit_code == 0
    assert len([request for request in server.received if request.method == "POST"]) == 1


def test_a_large_folder_goes_in_blocks(ingather: Run, server: StandIn) -> None:
    """Opened, added to, sealed; every file once and in order, under keys that follow from one."""
    intake = Intake(server)
    outcome = ingather("submit", folder_of(2_500), "--collection", "c", "--idempotency-key", "k")

    assert (outcome.exit_code, outcome.stdout.strip()) == (0, BATCH_ID), outcome.stderr
    [opening] = server.requests("POST", "/v1/batches")
    assert opening.json == {"name": "papers", "collection": "c", "open": True, "documents": []}
    assert opening.headers["idempotency-key"] == "k"
    assert intake.names == [f"{number:05d}.txt" for number in range(2_500)]
    assert intake.keys == ["k/0", "k/1", "k/2"]
    assert len(server.requests("POST", SEAL)) == 1
    assert outcome.stderr.count("Uploading") == 1


def test_metadata_goes_with_the_block_of_its_file(ingather: Run, server: StandIn) -> None:
    """Each block carries its own entries; those that fit no file are named once, before the upload."""
    Intake(server)
    Path("m.json").write_text(json.dumps({"01200.txt": {"k": 1}, "nobody.txt": {}}))
    outcome = ingather("submit", folder_of(1_500), "--metadata", "m.json")
    first, second = server.requests("POST", DOCUMENTS)
    assert b'"01200.txt": {"k": 1}' not in first.body
    assert b'"01200.txt": {"k": 1}' in second.body
    assert outcome.stderr.count("nobody.txt") == 1


def test_a_block_that_meets_a_busy_server_is_sent_again_under_its_key(ingather: Run, server: StandIn) -> None:
    """503 with Retry-After, then taken: the server sees one key twice."""
    intake = Intake(server)
    busy = problem(503, "storage_unavailable", detail="away")
    busy.headers["Retry-After"] = "0"
    server.on("POST", DOCUMENTS, busy, intake.take)
    assert ingather("submit", folder_of(1_001), "--idempotency-key", "k").exit_code == 0
    assert [request.headers["idempotency-key"] for request in server.requests("POST", DOCUMENTS)] == [
        "k/0",
        "k/0",
        "k/1",
    ]


@pytest.fixture
def heard_interrupts() -> Iterator[None]:
    """Ctrl-C raises, also where the tests run in the background of a shell that has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard_interrupts")
def test_ctrl_c_in_an_upload_says_how_to_go_on(ingather: Run, server: StandIn) -> None:
    """What has arrived is kept and does not run; the same command with the key brings the rest, cancel drops it."""
    intake = Intake(server)
    intake.interrupts_at = 2
    folder = folder_of(2_500)
    stopped = ingather("submit", folder)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert server.requests("POST", SEAL) == []
    assert "2,000 of 2,500 files" in stopped.stderr
    assert f"ingather cancel {BATCH_ID}" in stopped.stderr
    key = server.requests("POST", "/v1/batches")[0].headers["idempotency-key"]
    assert f"ingather submit papers --idempotency-key {key}" in stopped.stderr

    intake.keys.clear()
    assert ingather("submit", folder, "--idempotency-key", key).exit_code == 0
    assert intake.keys == [f"{key}/0", f"{key}/1", f"{key}/2"]


def test_files_that_changed_since_are_not_mixed(ingather: Run, server: StandIn) -> None:
    """Going on with other files under the same key would make a batch of neither."""
    Intake(server)
    server.on("POST", DOCUMENTS, problem(422, "idempotency_key_reused", "Idempotency key used with another payload"))
    outcome = ingather("submit", folder_of(1_001), "--idempotency-key", "k")
    assert outcome.exit_code == 1
    assert "not those that were uploaded before" in outcome.stderr
    assert f"ingather cancel {BATCH_ID}" in outcome.stderr


def test_a_server_that_takes_less_gets_less(ingather: Run, server: StandIn) -> None:
    """Blocks stay within the request limit that the server publishes."""
    Intake(server)
    server.on("GET", "/v1/limits", Answer({"max_documents_per_batch": 1_000_000, "max_request_bytes": 1_000_000}))
    folder = Path("papers")
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(b"x" * 400_000)
    assert ingather("submit", folder).exit_code == 0
    assert [len(request.body) < 1_000_000 for request in server.requests("POST", DOCUMENTS)] == [True, True]


# --- NDJSON ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--collection", "c")])
def test_a_manifest_is_sent_as_it_is(ingather: Run, server: StandIn, options: tuple[str, ...]) -> None:
    """Byte for byte, behind a line about the batch where the command line says something about it."""
    server.on("POST", "/v1/batches", Answer(batch("queued", pending=1), 202))
    text = '{"filename": "a", "text": "x"}\n'
    Path("m.ndjson").write_text(text)
    assert ingather("submit", "--ndjson", "m.ndjson", *options).stdout.strip() == BATCH_ID
    [request] = server.requests("POST", "/v1/batches")
    assert request.headers["content-type"] == "application/x-ndjson"
    head = '{"spec": {"collection": "c"}}\n' if options else ""
    assert request.body.decode() == head + text


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit",),
        ("submit", "--ndjson", "m.ndjson", "a.txt"),
        ("submit", "--ndjson", "missing.ndjson"),
        ("submit", "--open", "--watch"),
        ("submit", "--open", "-o", "chunk_sise=500"),
        ("submit", "--open", "-o", "chunk_size=abc"),
        ("audit", "--type", "BATCH_PAWSED"),
        ("add", BATCH_ID),
        ("add", BATCH_ID, "a.txt", "--ndjson", "m.ndjson"),
    ],
)
def test_a_command_that_says_too_little_or_too_much_is_a_usage_error(
    ingather: Run, server: StandIn, arguments: tuple[str, ...]
) -> None:
    """Exit code 2, and nothing is sent."""
    outcome = ingather(*arguments)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert [request for request in server.received if request.method == "POST"] == []


# --- Open batches ---------------------------------------------------------------------------


def test_a_batch_is_opened_added_to_and_sealed(ingather: Run, server: StandIn) -> None:
    """Three commands; nothing is sealed before it is asked for."""
    intake = Intake(server)
    Path("a.txt").write_text("a")
    opened = ingather("submit", "--open", "--name", "n")
    assert opened.stdout.strip() == BATCH_ID
    assert server.requests("POST", "/v1/batches")[0].json == {"name": "n", "open": True, "documents": []}
    added = ingather("add", BATCH_ID, "a.txt")
    assert added.stdout.strip() == f"{BATCH_ID}  1 documents so far"
    assert intake.names == ["a.txt"]
    assert server.requests("POST", SEAL) == []
    sealed = ingather("seal", BATCH_ID)
    assert sealed.stdout.startswith(f"{BATCH_ID}  queued")


def test_a_batch_can_be_opened_with_files(ingather: Run, server: StandIn) -> None:
    """--open PATH… adds them and leaves the batch open."""
    intake = Intake(server)
    Path("a.txt").write_text("a")
    outcome = ingather("submit", "--open", "a.txt", "--json")
    assert json.loads(outcome.stdout)["waiting_for"] == "seal"
    assert intake.names == ["a.txt"]
    assert server.requests("POST", SEAL) == []


def test_a_manifest_is_added_too(ingather: Run, server: StandIn) -> None:
    """As NDJSON, to the open batch."""
    Intake(server)
    Path("m.ndjson").write_text('{"filename": "a", "text": "x"}\n')
    answer = Answer({"batch_id": BATCH_ID, "documents_added": 1, "documents": 8}, 202)
    server.on("POST", DOCUMENTS, answer)
    assert json.loads(ingather("add", BATCH_ID, "--ndjson", "m.ndjson", "--json").stdout)["documents"] == 8
    [request] = server.requests("POST", DOCUMENTS)
    assert request.headers["content-type"] == "application/x-ndjson"


def test_a_manifest_with_a_spec_of_its_own_takes_none_from_the_options(ingather: Run, server: StandIn) -> None:
    """Two would be one line too many; said before anything is sent, with the option to drop."""
    Path("m.ndjson").write_text('{"spec": {"name": "a"}}\n{"filename": "a", "text": "x"}\n')
    outcome = ingather("submit", "--ndjson", "m.ndjson", "--name", "b")
    assert outcome.exit_code == 2
    assert "Drop --name" in outcome.stderr
    assert server.requests("POST", "/v1/batches") == []


def test_a_thousand_files_are_still_one_request() -> None:
    """The border is a thousand, as in the documentation."""
    assert (blocks_module.ONE_REQUEST_FILES, BLOCK_FILES) == (1_000, 1_000)
