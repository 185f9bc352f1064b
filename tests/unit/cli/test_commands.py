"""The commands as a shell sees them: stdout, stderr, exit code."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ingather.cli.exit_codes import ExitCode
from ingather.cli.main import MENU
from ingather.cli.render import ANOTHER_COPY_NEEDED, failures_by_code
from ingather.client import Document
from ingather.client.calls import PAGE_SIZE
from ingather.models.errors import Actor, DocumentError
from tests.support.api_stand_in import (
    BATCH_ID,
    Answer,
    Received,
    StandIn,
    batch,
    control,
    document,
    event,
    failed,
    problem,
)
from tests.unit.cli.conftest import Run

BATCH = f"/v1/batches/{BATCH_ID}"
EVENTS = f"{BATCH}/events"
DOCUMENTS = f"{BATCH}/documents"


def page(*items: dict[str, object], more: str | None = None) -> Answer:
    return Answer({"data": list(items), "has_more": more is not None, "next_cursor": more})


# --- The menu -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MENU)
def test_the_menu_says_what_the_command_says(name: str) -> None:
    """Each line of the menu is the first line of its command's docstring, and the command can be loaded."""
    entry = MENU[name]
    assert (entry.callback().__doc__ or "").splitlines()[0] == entry.summary


def test_the_menu_loads_no_command() -> None:
    """`ingather --help` is answered without importing HTTP or any command."""
    script = "import sys, ingather.cli.main; print('httpx' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_wrong_option_is_a_usage_error(ingather: Run) -> None:
    """An option that does not exist ends with exit code 2, on stderr."""
    outcome = ingather("list", "--wrong")
    assert outcome.exit_code == 2
    assert outcome.stdout == ""


# --- Reading --------------------------------------------------------------------------------


def test_list_as_json_is_a_line_a_batch(ingather: Run, server: StandIn) -> None:
    """With --json every batch is one line of JSON, as the API gave it."""
    server.on("GET", "/v1/batches", page(batch(name="one"), batch(name="two")))
    outcome = ingather("list", "--json")
    assert [json.loads(line)["name"] for line in outcome.lines] == ["one", "two"]
    assert outcome.exit_code == 0


def test_a_piped_table_is_not_cut(ingather: Run, server: StandIn) -> None:
    """Without a terminal there is no colour, no frame, and the whole id."""
    server.on("GET", "/v1/batches", page(batch(name="papers", done=3, failed=1)))
    outcome = ingather("list")
    assert BATCH_ID in outcome.stdout
    assert "\x1b" not in outcome.stdout


def test_a_list_says_why_a_batch_waits(ingather: Run, server: StandIn) -> None:
    """Where the state does not say it itself."""
    waiting = [batch("queued", pending=2, waiting_for="place 2 of 3"), batch("paused", pending=2, waiting_for="resume")]
    server.on("GET", "/v1/batches", page(*waiting))
    outcome = ingather("list")
    assert "queued place 2 of 3" in outcome.stdout
    assert "resume" not in outcome.stdout


def test_an_empty_list_talks_on_stderr(ingather: Run, server: StandIn) -> None:
    """No batches: nothing on stdout, a hint on stderr, exit code 0."""
    server.on("GET", "/v1/batches", page())
    outcome = ingather("list")
    assert (outcome.exit_code, outcome.stdout) == (0, "")
    assert "ingather submit" in outcome.stderr


def test_no_batch_in_a_state_is_not_no_batch(ingather: Run, server: StandIn) -> None:
    """What was asked for is named: there may be others."""
    server.on("GET", "/v1/batches", page())
    assert "No batch is completed with failures." in ingather("list", "--status", "completed_with_failures").stderr


def test_show_without_an_id_is_the_newest_batch(ingather: Run, server: StandIn) -> None:
    """`latest` is the default."""
    server.on("GET", "/v1/batches", page(batch()))
    server.has_batch(done=2, name="papers")
    outcome = ingather("show")
    assert re.search(r"documents\s+2: 2 done", outcome.stdout)
    assert outcome.exit_code == 0


def test_names_cannot_steer_the_terminal(ingather: Run, server: StandIn) -> None:
    """Escape sequences in a file name are shown as dots."""
    server.on("GET", DOCUMENTS, page(document(0, filename="\x1b[31mred\x07.pdf")))
    outcome = ingather("results", BATCH_ID)
    assert "·[31mred·.pdf" in outcome.stdout


def test_failures_are_grouped_with_advice(ingather: Run, server: StandIn) -> None:
    """One block a code, the most frequent first, the advice once, and only some of the names."""
    locked = [failed(number) for number in range(7)]
    server.on("GET", DOCUMENTS, page(failed(9, "corrupt", "Save it again."), *locked))
    outcome = ingather("failures", BATCH_ID)
    assert outcome.stdout.index("encrypted  7 documents") < outcome.stdout.index("corrupt  1 document")
    assert outcome.stdout.count("Remove the password.") == 1
    assert "and 2 more" in outcome.stdout
    assert server.received[0].query["status"] == "failed"


def test_every_failure_is_named_however_many_pages_they_are_on(ingather: Run, server: StandIn) -> None:
    """Code by code, as without --all; what is read for it is a page at a time."""
    pages = [page(failed(0), failed(1, "corrupt"), more="two"), page(*(failed(number) for number in range(2, 9)))]

    def asked(request: Received) -> Answer:
        answer = pages["cursor" in request.query]
        wanted = request.query.get("error_code")
        data = [each for each in answer.body["data"] if wanted in (None, each["error"]["code"])]
        return Answer({**answer.body, "data": data})

    server.on("GET", DOCUMENTS, asked)
    lines = ingather("failures", BATCH_ID, "--all").lines
    assert [line.split(":")[0].strip() for line in lines] == [
        "✗ encrypted  8 documents", "→ Remove the password.", "#0 file-0.pdf",
        *(f"#{number} file-{number}.pdf" for number in range(2, 9)),
        "✗ corrupt  1 document", "→ Remove the password.", "#1 file-1.pdf",
    ]  # fmt: skip


def test_of_many_failures_a_few_are_kept() -> None:
    """A batch of a million that failed is told in the memory of one of ten."""
    found = failures_by_code(Document.from_json(failed(number)) for number in range(1_000))
    assert (found["encrypted"].count, [each.ordinal for each in found["encrypted"].first]) == (1_000, [0, 1, 2, 3, 4])


def test_results_are_shown_page_by_page(ingather: Run, server: StandIn) -> None:
    """In one table with one head, its columns as wide as before; what arrived is shown, whatever becomes of the rest."""
    first = page(*(document(number) for number in range(PAGE_SIZE)), more="two")
    second = page(document(PAGE_SIZE, filename="a", chunks=12_345))
    server.on("GET", DOCUMENTS, first, second)
    told = ingather("results", BATCH_ID)
    assert [line.split()[0] for line in told.lines] == ["#", *map(str, range(PAGE_SIZE + 1))]
    assert len({line.index("done") for line in told.lines[1:]}) == 1
    assert "201 documents, 12,945 chunks" in told.stderr

    server.on("GET", DOCUMENTS, first, problem(400, "invalid_cursor", "Cursor cannot be used here"))
    broken = ingather("results", BATCH_ID)
    assert (broken.exit_code, broken.lines) == (ExitCode.ERROR, told.lines[:-1])


def test_a_table_in_parts_has_one_frame_on_a_terminal(
    ingather: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its empty lines above and below, and its head's line: nothing between one page and the next."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [document(number) for number in range(PAGE_SIZE + 1)]
    server.on("GET", DOCUMENTS, page(*rows[:-1], more="two"), page(rows[-1]))
    lines = ingather("results", BATCH_ID).lines
    assert [number for number, line in enumerate(lines) if not line.strip(" ─")] == [0, 2, PAGE_SIZE + 4]
    assert len({len(line) for line in lines[3:]}) == 1


def test_a_retry_is_advised_where_it_can_help(ingather: Run, server: StandIn) -> None:
    """The same bytes are encrypted every time; what a dead worker left undone may well succeed."""
    locked, late = failed(1), failed(2, "document_timeout", "Retry this code.")
    server.on("GET", DOCUMENTS, page(locked))
    assert "ingather retry" not in ingather("failures", BATCH_ID).stderr
    server.on("GET", DOCUMENTS, page(locked, late))
    assert f"ingather retry {BATCH_ID} --code document_timeout" in ingather("failures", BATCH_ID).stderr
    server.on("GET", DOCUMENTS, page(late))
    assert ingather("failures", BATCH_ID).stderr.strip().endswith(f"ingather retry {BATCH_ID}")


def test_the_codes_that_need_another_copy_are_codes_of_documents() -> None:
    """A code that is renamed there is renamed here; what may be cured by time or an operator is none of them."""
    found = list(DocumentError.__subclasses__())
    for each in found:
        found += each.__subclasses__()
    known = {each.code: each for each in found}
    assert known.keys() >= ANOTHER_COPY_NEEDED
    assert not [code for code in ANOTHER_COPY_NEEDED if known[code].retryable or known[code].actor is not Actor.SENDER]


def test_a_quarantined_document_tells_what_it_did(ingather: Run, server: StandIn) -> None:
    """Stage, signal, memory peak and where its bytes lie, for whoever looks into the crash."""
    killer = failed(3, "parser_crashed", "Report it.")
    killer["error"] |= {"facts": {"quarantined": True, "kills": 2, "exit_signal": 11, "peak_memory_bytes": 64_000_000}}
    server.on("GET", DOCUMENTS, page(killer | {"raw_key": "raw/default/3"}))
    told = " ".join(ingather("failures", BATCH_ID).stdout.split())
    assert "quarantined · while parsing · signal 11 · memory peak 64.0 MB · raw/default/3" in told


def test_no_failure_with_a_code_is_not_no_failure(ingather: Run, server: StandIn) -> None:
    """What was asked for is named: others may have failed."""
    server.on("GET", DOCUMENTS, page())
    assert "No document failed with corrupt." in ingather("failures", BATCH_ID, "--code", "corrupt").stderr
    assert "No failed documents." in ingather("failures", BATCH_ID).stderr


def test_results_say_what_is_missing_from_a_document_that_is_done(ingather: Run, server: StandIn) -> None:
    """A scan without text is done, has no chunks, and says why."""
    scan = document(0, filename="scan.tif", media_type="image/*", chunks=0, warnings=["no_text"])
    server.on("GET", DOCUMENTS, page(scan))
    assert re.search(r"scan\.tif\s+done no_text\s+image", ingather("results", BATCH_ID).stdout)


def test_the_report_is_written_whole_or_not_at_all(ingather: Run, server: StandIn, tmp_path: Path) -> None:
    """--output saves the NDJSON report; a broken connection leaves no file under that name."""
    lines = '{"ordinal":0}\n{"ordinal":1}\n'
    report = Answer(lines, headers={"Content-Type": "application/x-ndjson"})
    broken = Answer(lines, headers={"Content-Type": "application/x-ndjson"}, breaks=True)
    server.on("GET", f"{BATCH}/report", broken, report)
    assert ingather("results", BATCH_ID, "--output", tmp_path / "r.jsonl").exit_code == 1
    assert list(tmp_path.iterdir()) == []
    assert ingather("results", BATCH_ID, "--output", tmp_path / "r.jsonl").exit_code == 0
    assert (tmp_path / "r.jsonl").read_text() == lines
    assert ingather("results", BATCH_ID, "--output", "-").stdout == lines


def test_search_shows_where_the_answer_stands(ingather: Run, server: StandIn) -> None:
    """A hit has its file, page, headings and score; filters reach the server."""
    hit = {
        "text": "Close the dome.",
        "score": 0.5,
        "filename": "handbook.pdf",
        "page": 2,
        "headings": ["When to close"],
    }
    server.on("GET", "/v1/search", Answer({"data": [hit]}))
    outcome = ingather("search", "wind", "--collection", "c", "--batch", BATCH_ID, "--metadata", "year=2026", "-n", 3)
    assert "handbook.pdf, page 2 — When to close  score 0.500" in outcome.stdout
    assert "Close the dome." in outcome.stdout
    query = server.received[0].query
    assert (query["q"], query["collection"], query["batch_id"], query["limit"]) == ("wind", "c", BATCH_ID, "3")
    assert query["metadata[year]"] == "2026"


# --- Errors ---------------------------------------------------------------------------------


def test_what_to_do_about_credentials_is_said_for_a_shell(
    ingather: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server speaks of headers; here there are variables."""
    server.on("GET", "/v1/batches", problem(401, "unauthorized", "Credential is missing", action="Send a header."))
    outcome = ingather("list")
    assert outcome.exit_code == 3
    assert "export INGATHER_API_KEY=" in outcome.stderr
    assert "header" not in outcome.stderr
    monkeypatch.setenv("INGATHER_TENANT", "11111111-1111-7111-8111-111111111111")
    server.on("GET", "/v1/batches", problem(404, "tenant_not_found", "No such tenant", action="Leave X-Tenant-ID out."))
    assert "ingather tenants list" in ingather("list").stderr


def test_a_tenant_is_called_by_its_name(ingather: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked for its id; one that nobody has, or several have, is no guess."""
    monkeypatch.setenv("INGATHER_TENANT", "Acme & Sons")
    acme = {"id": "11111111-1111-7111-8111-111111111111", "name": "Acme & Sons"}
    nothing, page = {"has_more": False, "next_cursor": None}, {"data": [acme], "has_more": False, "next_cursor": None}
    server.on("GET", "/v1/tenants", Answer(page))
    server.on("GET", "/v1/batches", Answer({"data": [], **nothing}))
    assert ingather("list").exit_code == 0
    [asked] = server.requests("GET", "/v1/tenants")
    assert "Acme+%26+Sons" in str(asked.query) or "Acme & Sons" in str(asked.query)
    assert "x-tenant-id" not in asked.headers
    assert server.requests("GET", "/v1/batches")[0].headers["x-tenant-id"] == acme["id"]

    for found, code in (([], 4), ([acme, {**acme, "id": "another"}], 2)):
        server.on("GET", "/v1/tenants", Answer({"data": found, **nothing}))
        outcome = ingather("list")
        assert outcome.exit_code == code
        assert "INGATHER_TENANT" in outcome.stderr


def test_an_error_is_words_on_stderr(ingather: Run, server: StandIn) -> None:
    """Title, detail, action and request id; no stack trace; nothing on stdout; the code of its kind."""
    answer = problem(404, "batch_not_found", "Batch not found", detail="No such id.", action="Check the id.")
    server.on("GET", BATCH, answer)
    outcome = ingather("show", BATCH_ID)
    assert (outcome.exit_code, outcome.stdout) == (4, "")
    for words in ("Batch not found", "No such id.", "Check the id.", "req-7"):
        assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_an_error_is_json_where_json_was_asked_for(ingather: Run, server: StandIn) -> None:
    """With --json stderr holds one object with the same fields."""
    server.on("GET", BATCH, problem(403, "forbidden", "Not allowed"))
    outcome = ingather("show", BATCH_ID, "--json")
    assert outcome.exit_code == 3
    assert json.loads(outcome.stderr)["error"]["code"] == "forbidden"


def test_nobody_there_says_how_to_start_one(ingather: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server the advice is `ingather up`."""
    monkeypatch.setenv("INGATHER_URL", "http://127.0.0.1:1")
    outcome = ingather("list")
    assert outcome.exit_code == 1
    assert "ingather up" in outcome.stderr


def test_the_stack_of_this_folder_is_found(
    ingather: Run, server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without INGATHER_URL the address in ./.ingather/stack.json is used."""
    monkeypatch.delenv("INGATHER_URL")
    (tmp_path / ".ingather").mkdir()
    (tmp_path / ".ingather" / "stack.json").write_text(json.dumps({"api": {"url": server.url}}))
    server.on("GET", "/v1/batches", page(batch()))
    assert ingather("list", "--json").exit_code == 0


# --- Steering -------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["start", "pause", "resume", "cancel"])
def test_control_shows_the_new_state(ingather: Run, server: StandIn, action: str) -> None:
    """The answer is the batch right after, on one line."""
    server.on("POST", f"{BATCH}/{action}", Answer(batch("running", pending=2), 202))
    outcome = ingather(action, BATCH_ID)
    assert outcome.stdout == f"{BATCH_ID}  running  0 done · 2 pending\n"
    assert outcome.exit_code == 0


def test_retry_names_what_to_run_again(ingather: Run, server: StandIn) -> None:
    """Codes and ordinals reach the server as lists."""
    server.on("POST", f"{BATCH}/retry", Answer(batch("retrying", pending=2), 202))
    ingather("retry", BATCH_ID, "--code", "corrupt", "--code", "empty", "--ordinal", 3)
    body = {"codes": ["corrupt", "empty"], "ordinals": [3], "include_cancelled": False}
    assert server.received[0].json == body


# --- Submitting -----------------------------------------------------------------------------


def test_submit_prints_the_id_and_nothing_else(ingather: Run, server: StandIn, tmp_path: Path) -> None:
    """stdout is the batch id, so that a script can take it; the rest is talk."""
    server.on("POST", "/v1/batches", Answer(batch("queued", pending=1), 202))
    (tmp_path / "a.txt").write_text("alpha")
    outcome = ingather("submit", "a.txt", "--collection", "c", "--priority", 1, "--hold", "-o", "chunk_size=500")
    assert outcome.stdout == f"{BATCH_ID}\n"
    body = server.requests("POST", "/v1/batches")[0].body.decode()
    spec = json.loads(re.search(r'name="spec".*?\r\n\r\n(.*?)\r\n', body, re.DOTALL).group(1))
    assert spec == {"collection": "c", "priority": 1, "hold": True, "options": {"chunk_size": 500}}


def test_a_folder_names_its_batch(ingather: Run, server: StandIn, tmp_path: Path) -> None:
    """`ingather submit papers` makes a batch called papers."""
    server.on("POST", "/v1/batches", Answer(batch("queued", pending=1), 202))
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.txt").write_text("alpha")
    ingather("submit", "papers")
    assert '{"name": "papers"}' in server.requests("POST", "/v1/batches")[0].body.decode()


def test_a_submission_that_was_made_before_says_so(ingather: Run, server: StandIn, tmp_path: Path) -> None:
    """Nothing new was accepted, and nobody is told so."""
    (tmp_path / "a.txt").write_text("alpha")
    server.on("POST", "/v1/batches", Answer(batch("queued", pending=1), 202, {"Idempotency-Replayed": "true"}))
    outcome = ingather("submit", "a.txt", "--idempotency-key", "k")
    assert outcome.stdout.strip() == BATCH_ID
    assert "nothing new" in outcome.stderr
    assert "Accepted" not in outcome.stderr


def test_too_many_documents_are_refused_before_the_upload(ingather: Run, server: StandIn, tmp_path: Path) -> None:
    """The limit is the server's own; nothing is sent; exit code 5."""
    server.on("GET", "/v1/limits", Answer({"max_documents_per_batch": 2}))
    with zipfile.ZipFile(tmp_path / "three.zip", "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.txt", "x")
    outcome = ingather("submit", "three.zip")
    assert outcome.exit_code == 5
    assert server.requests("POST", "/v1/batches") == []


def test_metadata_that_fits_no_file_is_mentioned(ingather: Run, server: StandIn, tmp_path: Path) -> None:
    """A typing mistake in the metadata does not pass in silence."""
    server.on("POST", "/v1/batches", Answer(batch("queued", pending=1), 202))
    (tmp_path / "a.txt").write_text("alpha")
    (tmp_path / "m.json").write_text('{"b.txt": {"x": 1}}')
    assert "b.txt" in ingather("submit", "a.txt", "--metadata", "m.json").stderr


# --- Watching -------------------------------------------------------------------------------


def test_watching_a_good_end(ingather: Run, server: StandIn) -> None:
    """Plain lines, then the outcome; exit code 0."""
    server.has_batch(done=2)
    counts = batch(done=2)["counts"]
    server.on(
        "GET", EVENTS, Answer(event(1, "batch.completed", status="completed", counts=counts) + control("stream.end"))
    )
    outcome = ingather("watch", BATCH_ID)
    assert outcome.exit_code == 0
    assert "completed in 3.0 s" in outcome.stdout


def test_watching_an_end_with_failures(ingather: Run, server: StandIn) -> None:
    """Failed documents are told when they fail and at the end with advice; exit code 6."""
    server.has_batch(status="completed_with_failures", done=1, failed=1)
    server.on("GET", DOCUMENTS, page(failed(1)))
    stream = event(1, "document.failed", ordinal=1, filename="x.pdf", error={"code": "encrypted", "action": "Unlock."})
    server.on("GET", EVENTS, Answer(stream + control("stream.end")))
    outcome = ingather("watch", BATCH_ID)
    assert outcome.exit_code == 6
    assert "failed  x.pdf: encrypted. Unlock." in outcome.stdout
    assert "Remove the password." in outcome.stdout


def test_a_cancelled_batch_is_not_a_success(ingather: Run, server: StandIn) -> None:
    """`submit --watch && next` does not go on after a cancel."""
    server.has_batch(status="cancelled", done=1, cancelled=1)
    server.on("GET", EVENTS, Answer(control("stream.end")))
    assert ingather("watch", BATCH_ID).exit_code == 1


def test_a_batch_that_could_not_run_says_why(ingather: Run, server: StandIn) -> None:
    """The problem of the batch as a whole is shown with its advice; exit code 1."""
    trouble = {"code": "batch_too_large", "message": "1,001 documents.", "action": "Split the batch."}
    server.has_batch(status="failed", problem=trouble)
    server.on("GET", EVENTS, Answer(control("stream.end")))
    outcome = ingather("watch", BATCH_ID)
    assert outcome.exit_code == 1
    assert "Split the batch." in outcome.stdout


def test_watching_as_json_is_the_events_alone(ingather: Run, server: StandIn) -> None:
    """With --json every event is a line, as it came, and --after asks for those behind it."""
    server.has_batch(done=1)
    stream = event(5, "batch.started", status="running") + event(6, "batch.completed") + control("stream.end")
    server.on("GET", EVENTS, Answer(stream))
    outcome = ingather("watch", BATCH_ID, "--json", "--after", 4)
    assert [json.loads(line)["type"] for line in outcome.lines] == ["batch.started", "batch.completed", "stream.end"]
    assert json.loads(outcome.lines[0])["seq"] == 5
    assert server.requests("GET", EVENTS)[0].headers["last-event-id"] == "4"
