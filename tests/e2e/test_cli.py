"""The command line against a real stack, told as a user's session, and the demo."""

import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ingather.samples import ANSWER_FILES, EXPECTED, QUESTION, SAMPLES
from tests.support.up import INGATHER, running_up

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True)
class Shell:
    """A folder next to a running stack, which the command line finds by itself."""

    folder: Path

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        command = [*INGATHER, *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INGATHER_")}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # Where the tests themselves run in the background, Ctrl-C is ignored, and children would inherit that.
        return subprocess.Popen(command, cwd=self.folder, env=environment, preexec_fn=_heed_ctrl_c, **pipes)  # noqa: PLW1509  # one system call, no lock

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def json(self, *arguments: object, exit_code: int = 0) -> list[dict[str, Any]]:
        done = self.run(*arguments, "--json")
        assert done.returncode == exit_code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def notes(self, count: int) -> Path:
        """A folder of small documents that nobody submitted before."""
        folder = self.folder / f"notes {uuid.uuid4()}"
        folder.mkdir()
        for number in range(count):
            (folder / f"note-{number:03}.txt").write_text(f"Note {number} of {folder.name}: the night was clear.")
        return folder


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("a users folder")
    with running_up(folder / ".ingather") as up:
        up.wait_ready()
        yield Shell(folder)


@pytest.fixture(scope="module")
def samples(shell: Shell) -> str:
    """Id of a batch of the samples that has ended."""
    events = shell.json("submit", SAMPLES, "--collection", "observatory", "--watch", exit_code=6)
    return str(events[0]["id"])


def test_every_sample_ends_as_promised(shell: Shell, samples: str):
    """Each document of each kind is done, and the two broken ones fail with their code."""
    documents = shell.json("results", samples)
    outcomes = {item["filename"]: item["error"]["code"] if item["error"] else item["status"] for item in documents}
    assert outcomes == EXPECTED


def test_watching_an_ended_batch_tells_its_whole_story(shell: Shell, samples: str):
    """`watch --json --after 0` replays every event, numbered without a gap, to `stream.end`; exit code 6."""
    events = shell.json("watch", samples, "--after", 0, exit_code=6)
    numbers = [event["seq"] for event in events if "seq" in event]
    assert numbers == list(range(1, len(numbers) + 1))
    assert events[-1]["type"] == "stream.end"
    failed = {event["data"]["filename"] for event in events if event["type"] == "document.failed"}
    assert failed == {name for name, outcome in EXPECTED.items() if outcome != "done"}


def test_failures_say_what_to_do(shell: Shell, samples: str):
    """Each error code with its advice and its file."""
    done = shell.run("failures", samples)
    assert done.returncode == 0
    assert "encrypted  1 document" in done.stdout
    assert "Remove the password" in done.stdout
    assert "grant-agreement-sealed.pdf" in done.stdout


def test_the_report_has_a_line_a_document(shell: Shell, samples: str):
    """--output saves the report of the batch as NDJSON."""
    report = shell.folder / "report.jsonl"
    assert shell.run("results", samples, "--output", report).returncode == 0
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert {line["filename"] for line in lines} == EXPECTED.keys()


def test_a_question_finds_its_answer(shell: Shell, samples: str):
    """The first hit is one of the documents that hold the answer; another collection does not have it."""
    hits = shell.json("search", QUESTION, "--collection", "observatory", "--batch", samples)
    assert hits[0]["filename"] in ANSWER_FILES
    assert shell.json("search", QUESTION, "--collection", "elsewhere") == []


def test_the_text_of_a_document_can_be_read(shell: Shell, samples: str):
    """UTF-16 went in, and `results --text` prints the words."""
    [rota] = [item for item in shell.json("results", samples) if item["filename"] == "night-shift-rota.txt"]
    done = shell.run("results", samples, "--text", rota["ordinal"])
    assert "Núria Valls" in done.stdout


def test_a_clean_batch_exits_with_zero(shell: Shell):
    """Metadata from a CSV reaches the documents and filters a search."""
    folder = shell.notes(3)
    table = shell.folder / "metadata.csv"
    table.write_text("filename,shift\nnote-000.txt,early\nnote-001.txt,late\n")
    done = shell.run("submit", folder, "--metadata", table, "--watch")
    assert done.returncode == 0, done.stderr
    batch_id = done.stdout.splitlines()[0]
    hits = shell.json("search", "clear night", "--batch", batch_id, "--metadata", "shift=late")
    assert [hit["filename"] for hit in hits] == ["note-001.txt"]


def test_the_same_key_is_the_same_batch(shell: Shell):
    """Submitting twice with one idempotency key gives one batch."""
    folder, key = shell.notes(2), str(uuid.uuid4())
    first = shell.run("submit", folder, "--idempotency-key", key).stdout
    assert shell.run("submit", folder, "--idempotency-key", key).stdout == first


def test_a_batch_is_held_started_paused_and_resumed(shell: Shell):
    """Steering shows each new state, and the batch ends as if nothing had happened."""
    # Two at a time: on a busy machine the batch would be over before the next command has started.
    batch_id = shell.run("submit", shell.notes(200), "--hold", "-o", "max_workers=2").stdout.strip()
    assert shell.json("show", batch_id)[0]["status"] == "pending"
    shell.json("start", batch_id)
    assert shell.json("pause", batch_id)[0]["status"] in {"pausing", "paused"}
    assert shell.json("resume", batch_id)[0]["status"] == "running"
    assert shell.run("watch", batch_id).returncode == 0
    assert shell.json("show", batch_id)[0]["counts"]["done"] == 200


def test_a_cancelled_batch_can_be_run_again(shell: Shell):
    """A held batch is cancelled, and `retry --include-cancelled --watch` runs all of it."""
    batch_id = shell.run("submit", shell.notes(5), "--hold").stdout.strip()
    shell.run("cancel", batch_id)
    assert shell.run("watch", batch_id).returncode == 1
    done = shell.run("retry", batch_id, "--include-cancelled", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert shell.json("show", batch_id)[0]["counts"]["done"] == 5


def test_ctrl_c_leaves_the_batch_running(shell: Shell):
    """`watch` ends with 130 and says how to go on; the batch is not touched."""
    batch_id = shell.run("submit", shell.notes(1), "--hold").stdout.strip()
    watching = shell.start("watch", batch_id)
    assert watching.stdout is not None
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, stderr = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert f"ingather watch {batch_id}" in stderr
    assert shell.json("show", batch_id)[0]["status"] == "pending"


def test_errors_have_their_exit_codes(shell: Shell):
    """An unknown batch is 4, a command without an object is 2, as is an impossible option, with its name; what the server refuses is 1."""
    assert shell.run("show", uuid.uuid4()).returncode == 4
    assert shell.run("submit").returncode == 2
    refused = shell.run("submit", shell.notes(1), "--option", "chunk_size=1")
    assert refused.returncode == 2
    assert "chunk_size" in refused.stderr
    assert shell.run("list", "--status", "done").returncode == 1


def test_the_demo_shows_everything_and_leaves_nothing(tmp_path: Path):
    """`ingather demo` ends with 0 beside another stack, from a folder with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    done = Shell(folder).run("demo")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("17", "Remove the password", "are intended", QUESTION, "Stopped."):
        assert words in done.stdout
    assert list(folder.iterdir()) == []


def test_a_demo_whose_data_are_kept_can_be_run_twice(tmp_path: Path):
    """With --keep the second run finds the samples already there, and still succeeds."""
    shell = Shell(tmp_path)
    for _ in range(2):
        done = shell.run("demo", "--keep")
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / ".ingather-demo" / "stack.json").exists()


def test_an_interrupted_demo_stops_its_stack(tmp_path: Path):
    """SIGTERM in the middle ends with 130, and no process is left."""
    demo = Shell(tmp_path).start("demo", "--data-dir", tmp_path / "data")
    process = psutil.Process(demo.pid)
    deadline = time.monotonic() + 30
    while len(children := process.children(recursive=True)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    demo.terminate()
    _, stderr = demo.communicate(timeout=60)
    assert demo.returncode == 130, stderr
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
