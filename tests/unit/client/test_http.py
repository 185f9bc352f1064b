"""Requests and answers: what is sent, what is repeated, and what an error says. Over both clients."""

import io
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingather.client import (
    ApiError,
    BusyError,
    ConflictError,
    ConnectionLostError,
    ForbiddenError,
    InvalidRequestError,
    NewDocument,
    NotFoundError,
    NotIngatherError,
    ServerFaultError,
    StillRunningError,
    TooLargeError,
    UnauthorizedError,
    UnreachableError,
    UnsendableError,
    UploadError,
    UploadFile,
    UploadStream,
)
from ingather.client.bodies import MultipartUpload
from ingather.client.retries import BUSY_PATIENCE
from tests.support.api_stand_in import BATCH_ID, Answer, Received, StandIn, batch, document, problem
from tests.support.clients import Open, Waits

BATCH = f"/v1/batches/{BATCH_ID}"


def upload(path: Path, content: bytes = b"text") -> UploadFile:
    path.write_bytes(content)
    return UploadFile(path, path.name, len(content))


def test_credentials_and_tenant_travel_in_headers(client: Any, server: StandIn) -> None:
    """The key is a bearer token, the tenant a header; neither is in the URL."""
    server.has_batch()
    client.batch(BATCH_ID)
    [request] = server.received
    assert (request.headers["authorization"], request.headers["x-tenant-id"]) == ("Bearer ing_live_x", "t-1")
    assert request.query == {}


def test_lists_follow_their_cursor_to_the_end(client: Any, server: StandIn) -> None:
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


def test_jobs_are_listed_as_of_the_first_page(client: Any, server: StandIn) -> None:
    """By offset; what is created between two pages shifts nothing."""
    jobs = [{"job_id": f"j-{number}"} for number in range(3)]
    first = {"jobs": jobs[:2], "total_jobs": 3, "has_more": True, "as_of": "2026-03-14T18:42:00Z"}
    server.on("POST", "/batch/jobs/list", Answer(first), Answer({**first, "jobs": jobs[2:], "has_more": False}))
    assert [job.id for job in client.jobs("vera", statuses=["failed"])] == ["j-0", "j-1", "j-2"]
    one, other = (request.json for request in server.requests("POST", "/batch/jobs/list"))
    assert one == {"user_id": "vera", "status_filter": ["failed"], "limit": 200, "offset": 0}
    assert other == {**one, "offset": 2, "as_of": "2026-03-14T18:42:00Z"}


def test_a_busy_server_is_asked_again_when_it_says(client: Any, server: StandIn, waits: Waits) -> None:
    """503 with Retry-After is waited out, and the same idempotency key goes with the second attempt."""
    busy = Answer({}, 503, {"Retry-After": "3"})
    server.on("POST", f"/v1/batches/{BATCH_ID}/pause", busy, Answer(batch("pausing"), 202))
    assert client.pause(BATCH_ID).status == "pausing"
    assert waits == [3.0]
    first, second = server.received
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_patience_with_a_busy_server_ends(client: Any, server: StandIn, waits: Waits) -> None:
    """A server that stays busy for a minute is an error, with the server's own words."""
    busy = problem(503, "engine_unavailable", "Workflow engine is unavailable")
    server.on("GET", f"/v1/batches/{BATCH_ID}", busy)
    with pytest.raises(BusyError, match="Workflow engine is unavailable"):
        client.batch(BATCH_ID)
    assert sum(waits) <= BUSY_PATIENCE


def test_an_absent_server_is_tried_again_and_then_named(open_client: Open, waits: Waits) -> None:
    """Nobody listening: three short waits, then an error that says where."""
    client = open_client("http://127.0.0.1:1", waits=waits)
    with pytest.raises(UnreachableError) as caught:
        client.batch(BATCH_ID)
    assert len(waits) == 3
    assert "127.0.0.1:1" in caught.value.detail
    assert (caught.value.code, caught.value.status) == ("server_unreachable", None)


def test_a_server_that_is_being_restarted_is_waited_for(open_client: Open, waits: Waits) -> None:
    """Once a server has answered, a refused connection is tried again for a quarter of a minute."""
    answers = [httpx.Response(200, json=batch())]

    def handle(request: httpx.Request) -> httpx.Response:
        if not answers:
            raise httpx.ConnectError("refused")
        return answers.pop()

    client = open_client("http://server", transport=httpx.MockTransport(handle), waits=waits)
    client.batch(BATCH_ID)
    with pytest.raises(UnreachableError):
        client.batch(BATCH_ID)
    assert sum(waits) > 15


def test_what_was_deleted_by_a_lost_answer_is_deleted(open_client: Open) -> None:
    """A repeated DELETE that finds nothing has been answered; a first one that finds nothing has not."""
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        if len(seen) == 1:
            raise httpx.ReadError("reset")
        return httpx.Response(404, json={"code": "not_found", "title": "There is none"})

    client = open_client("http://server", transport=httpx.MockTransport(handle))
    assert client.delete_user("ada") is None
    with pytest.raises(NotFoundError):
        client.delete_user("ada")
    assert seen == ["DELETE"] * 3


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, TooLargeError),
        (422, InvalidRequestError),
        (418, ApiError),
        (500, ServerFaultError),
    ],
)
def test_a_problem_becomes_an_error_of_its_kind(
    client: Any, server: StandIn, status: int, kind: type[ApiError]
) -> None:
    """Its status, code, words and request id are kept."""
    server.on("GET", BATCH, problem(status, "some_code", "It is so", detail="Because.", action="Do this."))
    with pytest.raises(ApiError) as caught:
        client.batch(BATCH_ID)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.title, error.detail) == (status, "some_code", "It is so", "Because.")
    assert (error.action, error.request_id, str(error)) == ("Do this.", "req-7", "It is so: Because.")


def test_an_error_says_when_to_come_back(client: Any, server: StandIn) -> None:
    """A wait longer than the client's patience is the caller's to decide."""
    server.on("GET", BATCH, Answer({"title": "Slow down", "code": "rate_limited"}, 429, {"Retry-After": "300"}))
    with pytest.raises(BusyError) as caught:
        client.batch(BATCH_ID)
    assert (caught.value.retry_after, caught.value.code) == (300.0, "rate_limited")


def test_field_errors_are_listed(client: Any, server: StandIn) -> None:
    """A validation problem names each field that does not fit, and nothing twice."""
    errors = [{"pointer": "#/options/chunk_size", "detail": "must be at least 50", "code": "greater_than_equal"}]
    server.on("GET", f"/v1/batches/{BATCH_ID}", problem(422, "validation_failed", detail="Fix it.", errors=errors))
    with pytest.raises(ApiError) as caught:
        client.batch(BATCH_ID)
    assert caught.value.detail.splitlines() == ["#/options/chunk_size: must be at least 50"]


def test_another_web_server_is_recognised(client: Any, server: StandIn) -> None:
    """An HTML page from the address is no stack trace, but a clear word."""
    server.on("GET", f"/v1/batches/{BATCH_ID}", Answer("<html>hello", 200, {"Content-Type": "text/html"}))
    with pytest.raises(NotIngatherError, match="not an Ingather server"):
        client.batch(BATCH_ID)


@pytest.mark.parametrize("body", [[], {"x": 1}, {"data": 1}, {"data": [1]}, {"id": "b", "counts": [1]}, "[" * 50_000])
def test_json_of_another_service_is_recognised(client: Any, server: StandIn, body: object) -> None:
    """Whatever the port answers, it is said what was asked, and that this is no answer of ours."""
    asked = {f"/v1/batches/{BATCH_ID}": lambda: client.batch(BATCH_ID), "/v1/batches": lambda: list(client.batches())}
    for path, ask in asked.items():
        server.on("GET", path, Answer(body, 200, {"Content-Type": "application/json"}))
        with pytest.raises(NotIngatherError, match="not an Ingather server") as caught:
            ask()
        assert server.url + path in caught.value.detail


def test_an_addition_that_another_service_answers_did_not_arrive(client: Any, server: StandIn) -> None:
    """It is no answer that says how many documents the batch has."""
    server.on("POST", f"/v1/batches/{BATCH_ID}/documents", Answer({"ok": True}))
    with pytest.raises(NotIngatherError):
        client.add_lines(BATCH_ID, [])


def test_a_body_that_is_not_encoded_as_it_says_is_no_answer(client: Any, server: StandIn) -> None:
    """Nor is it one that a repetition would mend."""
    server.on("GET", "/v1/limits", Answer({}, 200, {"Content-Encoding": "gzip"}))
    with pytest.raises(NotIngatherError, match="not encoded as it says"):
        client.limits()
    assert len(server.received) == 1


def test_a_refusal_of_another_service_is_told_by_its_status(client: Any, server: StandIn) -> None:
    """Members that are no problem's are passed over."""
    server.on("GET", "/v1/limits", Answer({"errors": 5, "title": None}, 400))
    with pytest.raises(ApiError, match="The server answered 400"):
        client.limits()


def test_what_fits_into_no_address_is_not_sent(client: Any, server: StandIn) -> None:
    """A query of 70,000 characters, say."""
    with pytest.raises(UnsendableError, match="too long"):
        client.search("x" * 70_000)
    assert server.received == []


def test_a_name_that_nobody_knows_is_no_refused_connection(open_client: Open) -> None:
    """What to look at is the address, and not the server."""

    def look_up(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no") from socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    client = open_client("http://nowhere", waits=[], transport=httpx.MockTransport(look_up))
    with pytest.raises(UnreachableError, match="there is no host of this name"):
        client.limits()


def test_a_server_without_tls_is_no_refused_connection(open_client: Open, server: StandIn) -> None:
    """``https`` where ``http`` was meant."""
    with pytest.raises(UnreachableError, match="no TLS connection"):
        open_client(server.url.replace("http", "https"), waits=[]).limits()


def test_an_id_cannot_leave_its_path(client: Any, server: StandIn) -> None:
    """A batch id with slashes stays one segment of the URL."""
    with pytest.raises(ApiError):
        client.batch("../limits?x=1")
    assert server.received[0].path == "/v1/batches/..%2Flimits%3Fx%3D1"


# --- Uploads --------------------------------------------------------------------------------


def test_an_upload_is_a_well_formed_multipart_body(client: Any, server: StandIn, tmp_path: Path) -> None:
    """Spec and metadata come first as JSON, then each file under its own name."""
    server.on("POST", "/v1/batches", Answer(batch("queued"), 202))
    files = [upload(tmp_path / "a.txt", b"alpha"), UploadFile(tmp_path / "a.txt", 'sub/ü "x".txt', 5)]
    client.submit(files, name="n", metadata={"a.txt": {"year": 1}}, idempotency_key="k-1")
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
    client: Any, server: StandIn, tmp_path: Path, change: str
) -> None:
    """A file that shrank or vanished since it was listed is named; the server gets no whole request."""
    file = upload(tmp_path / "a.txt", b"0123456789")
    if change == "gone":
        file.path.unlink()
    else:
        file.path.write_bytes(b"0123")
    with pytest.raises(UploadError) as caught:
        client.submit([file])
    assert "a.txt" in caught.value.detail
    assert "Nothing was submitted" in caught.value.action


def test_a_broken_upload_is_sent_again_whole(open_client: Open, tmp_path: Path) -> None:
    """A connection that breaks during the upload is answered by a second one with the same key and every byte."""
    seen: list[Received] = []
    with (tmp_path / "stream.bin").open("w+b") as stream:
        stream.write(b"skipped, streamed")
        stream.seek(9)
        client = open_client("http://server", transport=httpx.MockTransport(breaking_once(seen)))
        client.submit([upload(tmp_path / "a.txt", b"alpha"), ("b.bin", stream)])
    first, second = seen
    assert first.body == second.body
    assert b"\r\n\r\nstreamed\r\n" in second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


def test_what_can_be_read_once_is_sent_once(open_client: Open) -> None:
    """A generator of documents that has begun is not begun again: the break is the caller's."""
    seen: list[Received] = []
    client = open_client("http://server", transport=httpx.MockTransport(breaking_once(seen)))
    with pytest.raises(UnreachableError):
        client.submit_lines(NewDocument(f"{number}.txt", "text") for number in range(3))
    assert len(seen) == 1
    client.submit_lines([NewDocument("a.txt", "text")])


def breaking_once(seen: list[Received]) -> Callable[[httpx.Request], httpx.Response]:
    """A server that takes a whole body, and breaks the first connection."""

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(Received("POST", request.url.path, {}, dict(request.headers), request.content))
        if len(seen) == 1:
            raise httpx.WriteError("broken pipe")
        return httpx.Response(202, json=batch("queued"))

    return handle


def test_a_stream_of_unknown_length_is_sent_in_chunks(client: Any, server: StandIn) -> None:
    """Nobody has to know the length of what is sent: a pipe can be a document."""
    server.on("POST", "/v1/batches", Answer(batch("queued"), 202))
    client.submit([UploadStream("night.log", Pipe(b"seeing " * 100_000))], collection="logs")
    [request] = server.received
    assert "content-length" not in request.headers
    assert request.headers["transfer-encoding"] == "chunked"
    assert request.body.count(b"seeing ") == 100_000


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def test_documents_go_inline_or_line_by_line(client: Any, server: StandIn) -> None:
    """A few in one piece of JSON; any number as lines behind one about the batch, none kept."""
    server.on("POST", "/v1/batches", Answer(batch("queued"), 202))
    client.submit_documents([NewDocument("a.txt", "hello", {"year": 2026})], name="n", batch_metadata={"by": "Ada"})
    client.submit_lines((NewDocument(f"{number}.bin", b"\x00") for number in range(30_000)), collection="c")
    inline, lines = server.received
    document = {"filename": "a.txt", "content": "aGVsbG8=", "metadata": {"year": 2026}}
    assert inline.json == {"name": "n", "metadata": {"by": "Ada"}, "documents": [document]}
    assert lines.headers["content-type"] == "application/x-ndjson"
    first, *others = lines.body.splitlines()
    assert first == b'{"spec": {"collection": "c"}}'
    assert others[29_999] == b'{"filename": "29999.bin", "content": "AA=="}'


def test_a_dry_run_keeps_nothing(client: Any, server: StandIn, tmp_path: Path) -> None:
    """It is the same request with a word more."""
    facts = {"documents": 1, "bytes": 4, "by_type": {"text/plain": 1}, "duplicates": 0, "unsupported": 0}
    server.on("POST", "/v1/batches", Answer({**facts, "estimated_seconds": 1.5}))
    preview = client.preview([upload(tmp_path / "a.txt")])
    assert (preview.documents, preview.by_type, preview.estimated_seconds) == (1, {"text/plain": 1}, 1.5)
    assert server.received[0].query == {"dry_run": "true"}


def test_an_open_batch_is_filled_and_sealed(client: Any, server: StandIn, tmp_path: Path) -> None:
    """Opened empty, added to under keys of one's own, sealed."""
    server.on("POST", "/v1/batches", Answer(batch("pending", waiting_for="seal"), 202))
    server.on("POST", f"{BATCH}/documents", Answer({"batch_id": BATCH_ID, "documents_added": 1, "documents": 1}, 202))
    server.on("POST", f"{BATCH}/seal", Answer(batch("queued"), 202))
    opened = client.open_batch(name="nightly")
    assert server.received[0].json == {"name": "nightly", "open": True, "documents": []}
    assert client.add(opened.id, [upload(tmp_path / "a.txt")], idempotency_key="block-1").documents == 1
    assert server.received[1].headers["idempotency-key"] == "block-1"
    assert client.seal(opened.id).status == "queued"


# --- Waiting --------------------------------------------------------------------------------


def test_a_batch_is_waited_for_by_long_poll(client: Any, server: StandIn, waits: Waits) -> None:
    """The server holds its answer back; one that does not is asked once a second."""
    server.on("GET", BATCH, Answer(batch("running")), Answer(batch("completed", done=1)))
    assert client.wait(BATCH_ID).status == "completed"
    assert [request.headers["prefer"] for request in server.received] == ["wait=60", "wait=60"]
    assert 0 < sum(waits) <= 1


def test_waiting_has_an_end(client: Any, server: StandIn) -> None:
    """A batch that did not end in time goes on, and the error says which it is."""
    server.on("GET", BATCH, Answer(batch("running")))
    with pytest.raises(StillRunningError) as caught:
        client.wait(BATCH_ID, timeout=0)
    assert caught.value.batch_id == BATCH_ID


# --- Both alike -----------------------------------------------------------------------------


def test_a_name_and_a_priority_are_changed(client: Any, server: StandIn) -> None:
    """Only what was given is sent."""
    server.on("PATCH", BATCH, Answer(batch("queued", priority=1)))
    assert client.edit(BATCH_ID, priority=1).priority == 1
    assert server.received[0].json == {"priority": 1}


def test_a_download_arrives_in_pieces(client: Any, server: StandIn) -> None:
    """The report is passed on as it comes, and one that breaks off says so."""
    server.on("GET", f"{BATCH}/report", Answer('{"ordinal": 0}\n'), Answer('{"ordi', breaks=True))
    assert b"".join(client.report(BATCH_ID)) == b'{"ordinal": 0}\n'
    with pytest.raises(ConnectionLostError, match="in the middle of the report"):
        b"".join(client.report(BATCH_ID))


def test_a_key_is_shown_once_and_never_printed(client: Any, server: StandIn) -> None:
    """The key is in the answer that made it, and in no representation of it."""
    made = {"id": "k1", "name": "nightly", "tenant_id": "t", "scopes": ["read"], "key": "ing_live_secret"}
    server.on("POST", "/v1/api-keys", Answer(made, 201))
    key = client.create_api_key("nightly", scopes=["read"])
    assert key.key == "ing_live_secret"
    assert "secret" not in repr(key)
