"""Messages about jobs, over WebSockets that break, close and refuse. Over both clients."""

import json
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.sync.server import ServerConnection, serve

from ingather.client import ConnectionLostError, ForbiddenError, InvalidRequestError, UnauthorizedError
from ingather.client.jobs import JobFollowing
from ingather.client.server import Server
from tests.support.clients import Open, Waits

WELCOME = {"type": "connection_established", "user_id": "ada", "job_id": None}

Script = Callable[[ServerConnection], None]


def update(cursor: str, status: str, **more: Any) -> dict[str, Any]:
    job = {"job_id": "j-1", "status": status, "progress_percentage": 50.0, "completed_files": 1, "total_files": 2}
    return {"type": "job_update", "cursor": cursor, "timestamp": "2026-03-14T18:42:00Z", "job": job, **more}


class JobServer:
    """A WebSocket server that does something else with every connection; the last one stays for those that follow."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.refusal: tuple[HTTPStatus, dict[str, str]] | None = None
        self.url = ""

    def queries(self) -> list[dict[str, str]]:
        return [{name: value for name, [value] in parse_qs(urlsplit(path).query).items()} for path in self.paths]

    def refuse(self, connection: ServerConnection, request: Any) -> Any:
        self.paths.append(request.path)
        self.headers.append({name.lower(): value for name, value in request.headers.raw_items()})
        if self.refusal is None:
            return None
        status, headers = self.refusal
        response = connection.respond(status, json.dumps({"detail": "It cannot be."}))
        for name, value in headers.items():
            response.headers[name] = value
        self.refusal = None if "Retry-After" in headers else self.refusal
        return response

    def handle(self, connection: ServerConnection) -> None:
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        script(connection)


@pytest.fixture
def serving() -> Iterator[Callable[..., JobServer]]:
    """``serving(script, …)``: a server for as long as the test lasts."""
    running: list[Any] = []

    def start(*scripts: Script) -> JobServer:
        jobs = JobServer(*scripts)
        server = serve(jobs.handle, "127.0.0.1", 0, process_request=jobs.refuse)
        jobs.url = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        running.append((server, thread))
        return jobs

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join(5)


def says(*messages: dict[str, Any] | str, code: int | None = None, reason: str = "") -> Script:
    """Sends messages, and closes; without a code the connection just breaks."""

    def script(connection: ServerConnection) -> None:
        for message in messages:
            connection.send(message if isinstance(message, str) else json.dumps(message))
        if code is None:
            connection.socket.close()
        else:
            connection.close(code, reason)

    return script


def test_a_job_is_followed_to_its_end(open_client: Open, serving: Callable[..., JobServer]) -> None:
    """Its messages, as they come; they end with the job."""
    file = {
        "type": "file_progress",
        "job_id": "j-1",
        "cursor": "2",
        "file": {"file_id": "f", "current_step": "parsing"},
    }
    jobs = serving(says(WELCOME, update("1", "running"), file, update("3", "completed"), code=1000))
    client = open_client(jobs.url, api_key="ing_live_x")
    welcome, _, progress, end = client.job_messages("ada/../x", job_id="j-1")
    assert (welcome.type, progress.file["current_step"], progress.job_id) == (
        "connection_established",
        "parsing",
        "j-1",
    )
    assert (end.job["status"], end.is_final, end.cursor) == ("completed", True, "3")
    assert jobs.paths == ["/batch/ws/ada%2F..%2Fx?job_id=j-1"]
    assert jobs.headers[0]["authorization"] == "Bearer ing_live_x"


def test_a_cancelled_job_is_followed_until_it_is_over(open_client: Open, serving: Callable[..., JobServer]) -> None:
    """It is called so while its last files are being stopped: what becomes of them, and the last numbers, come as well."""
    cancelling, cancelled = update("1", "cancelled", is_over=False), update("3", "cancelled", is_over=True)
    file = {"type": "file_progress", "job_id": "j-1", "cursor": "2", "file": {"file_id": "f", "status": "pending"}}
    jobs = serving(says(WELCOME, cancelling, code=1001), says(file, cancelled, code=1000))
    found = list(open_client(jobs.url).job_messages("ada", job_id="j-1"))
    assert [(message.cursor, message.is_final) for message in found] == [
        (None, False), ("1", False), ("2", False), ("3", True),
    ]  # fmt: skip


@pytest.mark.parametrize("ending", [{}, {"code": 1001, "reason": "draining"}, {"code": 1011}])
def test_a_lost_connection_goes_on_behind_the_last_message(
    open_client: Open, serving: Callable[..., JobServer], ending: dict[str, Any]
) -> None:
    """Whether it broke or was closed, the next one asks for what was missed."""
    jobs = serving(
        says(WELCOME, update("41", "running"), **ending), says(update("42", "failed", missed_events=True), code=1000)
    )
    losses: list[str] = []
    found = list(open_client(jobs.url).job_messages("ada", job_id="j-1", on_lost=losses.append))
    assert [message.cursor for message in found] == [None, "41", "42"]
    assert [message.missed_events for message in found] == [False, False, True]
    assert jobs.queries() == [{"job_id": "j-1"}, {"job_id": "j-1", "after": "41"}]
    assert len(losses) == 1


def test_all_jobs_of_a_user_are_followed_for_ever(open_client: Open, serving: Callable[..., JobServer]) -> None:
    """The end of one is not the end of the stream; whoever has heard enough leaves."""
    jobs = serving(says(update("1", "completed"), update("2", "cancelled"), "no message", code=1000))
    stream = open_client(jobs.url).job_messages("ada", after="0")
    assert [next(stream).cursor for _ in range(3)] == ["1", "2", "1"]
    stream.close()
    assert jobs.queries()[:2] == [{"after": "0"}, {"after": "2"}]


@pytest.mark.parametrize(
    ("code", "kind"), [(4401, UnauthorizedError), (4403, ForbiddenError), (1008, InvalidRequestError)]
)
def test_a_refusal_by_close_code_is_an_error(
    open_client: Open, serving: Callable[..., JobServer], code: int, kind: type[Exception]
) -> None:
    """4,000 and an HTTP status: not tried again."""
    jobs = serving(says(code=code, reason="It cannot be."))
    with pytest.raises(kind, match="It cannot be"):
        list(open_client(jobs.url).job_messages("ada"))
    assert len(jobs.paths) == 1


def test_a_refused_handshake_is_an_error(open_client: Open, serving: Callable[..., JobServer]) -> None:
    """The HTTP status that answers the handshake is the error of the tree."""
    jobs = serving(says(code=1000))
    jobs.refusal = (HTTPStatus.UNAUTHORIZED, {})
    with pytest.raises(UnauthorizedError, match="It cannot be"):
        list(open_client(jobs.url).job_messages("ada"))


def test_a_full_house_is_waited_for(open_client: Open, serving: Callable[..., JobServer], waits: Waits) -> None:
    """429 is no end: it is tried again when the server says."""
    jobs = serving(says(update("1", "completed"), code=1000))
    jobs.refusal = (HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "7"})
    found = list(open_client(jobs.url, waits=waits).job_messages("ada", job_id="j-1"))
    assert ([message.cursor for message in found], waits) == (["1"], [7.0])


def test_a_quiet_server_is_asked_and_then_left() -> None:
    """A ping after a while without a message; after a second while without an answer the connection counts as lost."""
    following = JobFollowing(Server.at("https://h:1", None, None, None), "ada")
    assert following.url() == "wss://h:1/batch/ws/ada"
    assert json.loads(following.quiet()) == {"type": "ping"}
    assert following.take('{"type": "pong"}') == []
    following.quiet()
    with pytest.raises(ConnectionLostError):
        following.quiet()


def test_pings_are_sent_over_the_wire(open_client: Open, serving: Callable[..., JobServer]) -> None:
    """The question goes out as a message, and its answer is not told."""

    def answering(connection: ServerConnection) -> None:
        assert json.loads(connection.recv()) == {"type": "ping"}
        connection.send('{"type": "pong"}')
        connection.send(json.dumps(update("1", "completed")))

    jobs = serving(answering)
    found = open_client(jobs.url).job_messages("ada", job_id="j-1", ping_after=0.05)
    assert [message.cursor for message in found] == ["1"]
