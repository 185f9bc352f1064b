"""The HTTP client: repeats what is safe, translates what is not."""

import io
import resource
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ingather.cli.client import BUSY_PATIENCE, IngatherClient
from ingather.cli.errors import ApiProblemError, CliError, ServerUnreachableError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.multipart import MultipartUpload, UploadFile
from tests.support.api_stand_in import BATCH_ID, Answer, Received, StandIn, batch, document, problem


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def client(server: StandIn, waits: list[float]) -> Iterator[IngatherClient]:
    with IngatherClient(server.url, api_key="ing_live_x", tenant="t-1", sleep=waits.append) as client:
        yield client


def upload(path: Path, content: bytes = b"text") -> UploadFile:
    path.write_bytes(content)
    return UploadFile(path, path.name, len(content))


def test_credentials_and_tenant_travel_in_headers(client: IngatherClient, server: StandIn) -> None:
    """The key is a bearer token, the tenant a header; neither is in the URL."""
    server.has_batch()
    client.batch(BATCH_ID)
    [request] = server.received
    assert (request.headers["authorization"], request.headers["x-tenant-id"]) == ("Bearer ing_live_x", "t-1")
    assert request.query == {}


def test_lists_follow_their_cursor_to_the_end(client: IngatherClient, server: StandIn) -> None:
    """A list is all of its pages, asked for one after the other."""
    path = f"/v1/batches/{BATCH_ID}/documents"
    server.on(
        "GET",
        path,
        Answer({"data": [document(0), document(1)], "has_more": True, "next_cursor": "c1"}),
        Answer({"data": [document(2)], "has_more": False, "next_cursor": None}),
    )
    assert [found.ordinal for found in client.documents(BATCH_ID, status="done")] == [0, 1, 2]
    assert [request.query.get("cursor") for request in server.received] == [None, "c1"]
    assert all(request.query["status"] == "done" for request in server.received)


def test_a_busy_server_is_asked_again_when_it_says(client: IngatherClient, server: StandIn, waits: list[float]) -> None:
    """503 with Retry-After is waited out, and the same idempotency key goes with the second attempt."""
    busy = Answer({}, 503, {"Retry-After": "3"})
    server.on("POST", f"/v1/batches/{BATCH_ID}/pause", busy, Answer(batch("pausing"), 202))
    assert client.control(BATCH_ID, "pause").status == "pausing"
    assert waits == [3.0]
    first, second = server.received
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_patience_with_a_busy_server_ends(client: IngatherClient, server: StandIn, waits: list[float]) -> None:
    """A server that stays busy for a minute is an error, with the server's own words."""
    busy = problem(503, "engine_unavailable", "Workflow engine is unavailable")
    server.on("GET", f"/v1/batches/{BATCH_ID}", busy)
    with pytest.raises(ApiProblemError, match="Workflow engine is unavailable"):
        client.batch(BATCH_ID)
    assert sum(waits) <= BUSY_PATIENCE


def test_an_absent_server_is_tried_again_and_then_named(waits: list[float]) -> None:
    """Nobody listening: three short waits, then an error that says where and what to do."""
    with (
        IngatherClient("http://127.0.0.1:1", sleep=waits.append) as client,
        pytest.raises(ServerUnreachableError) as caught,
    ):
        client.batch(BATCH_ID)
    assert len(waits) == 3
    assert "127.0.0.1:1" in caught.value.detail
    assert "ingather up" in caught.value.action


def test_a_server_that_is_being_restarted_is_waited_for(waits: list[float]) -> None:
    """Once a server has answered, a refused connection is tried again for a quarter of a minute."""
    answers = [httpx.Response(200, json=batch())]

    def handle(request: httpx.Request) -> httpx.Response:
        if not answers:
            raise httpx.ConnectError("refused")
        return answers.pop()

    with IngatherClient("http://server", transport=httpx.MockTransport(handle), sleep=waits.append) as client:
        client.batch(BATCH_ID)
        with pytest.raises(ServerUnreachableError):
            client.batch(BATCH_ID)
    assert sum(waits) > 15


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ExitCode.AUTH),
        (403, ExitCode.AUTH),
        (404, ExitCode.NOT_FOUND),
        (409, ExitCode.ERROR),
        (413, ExitCode.LIMIT),
        (422, ExitCode.ERROR),
        (500, ExitCode.ERROR),
        (504, ExitCode.LIMIT),
    ],
)
def test_a_problem_becomes_its_exit_code(client: IngatherClient, server: StandIn, status: int, code: ExitCode) -> None:
    """Each status has the exit code scripts rely on, and the problem's words and request id are kept."""
    answer = problem(status, "some_code", "It is so", detail="Because.", action="Do this.")
    server.on("GET", f"/v1/batches/{BATCH_ID}", answer)
    with pytest.raises(ApiProblemError) as caught:
        client.batch(BATCH_ID)
    error = caught.value
    assert (error.exit_code, error.title, error.detail) == (code, "It is so", "Because.")
    assert (error.action, error.request_id) == ("Do this.", "req-7")


def test_field_errors_are_listed(client: IngatherClient, server: StandIn) -> None:
    """A validation problem names each field that does not fit, and nothing twice."""
    errors = [{"pointer": "#/options/chunk_size", "detail": "must be at least 50", "code": "greater_than_equal"}]
    server.on("GET", f"/v1/batches/{BATCH_ID}", problem(422, "validation_failed", detail="Fix it.", errors=errors))
    with pytest.raises(ApiProblemError) as caught:
        client.batch(BATCH_ID)
    assert caught.value.detail.splitlines() == ["#/options/chunk_size: must be at least 50"]


def test_another_web_server_is_recognised(client: IngatherClient, server: StandIn) -> None:
    """An HTML page from the address is no stack trace, but a hint at INGATHER_URL."""
    server.on("GET", f"/v1/batches/{BATCH_ID}", Answer("<html>hello", 200, {"Content-Type": "text/html"}))
    with pytest.raises(CliError, match="not an Ingather server"):
        client.batch(BATCH_ID)


def test_an_id_cannot_leave_its_path(client: IngatherClient, server: StandIn) -> None:
    """A batch id with slashes stays one segment of the URL."""
    with pytest.raises(ApiProblemError):
        client.batch("../limits?x=1")
    assert server.received[0].path == "/v1/batches/..%2Flimits%3Fx%3D1"


# --- Uploads --------------------------------------------------------------------------------


def test_an_upload_is_a_well_formed_multipart_body(client: IngatherClient, server: StandIn, tmp_path: Path) -> None:
    """Spec and metadata come first as JSON, then each file under its own name."""
    server.on("POST", "/v1/batches", Answer(batch("queued"), 202))
    files = [upload(tmp_path / "a.txt", b"alpha"), UploadFile(tmp_path / "a.txt", 'sub/ü "x".txt', 5)]
    client.submit(files, spec={"name": "n"}, metadata={"a.txt": {"year": 1}}, idempotency_key="k-1")
    [request] = server.received
    assert request.headers["idempotency-key"] == "k-1"
    assert int(request.headers["content-length"]) == len(request.body)
    body = request.body.decode()
    assert body.index('name="spec"') < body.index('name="metadata"') < body.index('filename="a.txt"')
    assert '{"name": "n"}' in body
    assert 'filename="sub/ü \\"x\\".txt"' in body
    assert body.count("\r\nalpha\r\n") == 2


def test_thousands_of_files_need_no_open_file_each(tmp_path: Path) -> None:
    """A file is open only while its bytes are read: a thousand of them fit below a low limit of open files."""
    files = [upload(tmp_path / f"{number}.txt") for number in range(1000)]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        body = MultipartUpload(files, {})
        assert sum(len(piece) for piece in body) == body.content_length
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_large_file_passes_in_small_pieces(tmp_path: Path) -> None:
    """No piece is larger than 256 KiB, whatever the file's size: memory stays flat."""
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    assert max(len(piece) for piece in MultipartUpload([UploadFile(path, "large.bin", 50_000_000)], {})) == 256 * 1024


def test_progress_counts_what_was_sent(tmp_path: Path) -> None:
    """The progress callback ends at exactly the length of the body."""
    seen: list[int] = []
    body = MultipartUpload([upload(tmp_path / "a.txt")], {"spec": {}}, sent=seen.append)
    sink = io.BytesIO()
    for piece in body:
        sink.write(piece)
    assert seen[-1] == body.content_length == len(sink.getvalue())


@pytest.mark.parametrize("change", ["shorter", "gone"])
def test_a_file_that_changes_under_the_upload_submits_nothing(
    client: IngatherClient, server: StandIn, tmp_path: Path, change: str
) -> None:
    """A file that shrank or vanished since it was listed is named; the server gets no whole request."""
    file = upload(tmp_path / "a.txt", b"0123456789")
    if change == "gone":
        file.path.unlink()
    else:
        file.path.write_bytes(b"0123")
    with pytest.raises(CliError) as caught:
        client.submit([file], spec={})
    assert "a.txt" in caught.value.detail
    assert "Nothing was submitted" in caught.value.action


def test_a_broken_upload_is_sent_again_whole(tmp_path: Path) -> None:
    """A connection that breaks during the upload is answered by a second one with the same key and every byte."""
    seen: list[Received] = []

    def handle(request: httpx.Request) -> httpx.Response:
        content = request.read()
        seen.append(Received("POST", request.url.path, {}, dict(request.headers), content))
        if len(seen) == 1:
            raise httpx.WriteError("broken pipe")
        return httpx.Response(202, json=batch("queued"))

    transport = httpx.MockTransport(handle)
    with IngatherClient("http://server", transport=transport, sleep=lambda _: None) as client:
        client.submit([upload(tmp_path / "a.txt", b"alpha")], spec={})
    first, second = seen
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
