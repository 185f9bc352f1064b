"""An HTTP server that answers like our API, from a script: for tests of the command line alone."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BATCH_ID = "0198c0de-0000-7000-8000-000000000001"


def batch(status: str = "completed", **changes: Any) -> dict[str, Any]:
    """A batch as the API shows it; ``done=3, failed=1`` and the like are its counts."""
    names = ("pending", "in_flight", "done", "failed", "skipped", "cancelled")
    counts = {name: changes.pop(name, 0) for name in names}
    counts["total"] = sum(counts.values())
    return {
        "id": BATCH_ID,
        "name": "papers",
        "status": status,
        "collection": "default",
        "priority": 3,
        "counts": counts,
        "progress": 1.0,
        "created_at": "2026-03-14T18:42:00+00:00",
        "started_at": "2026-03-14T18:42:01+00:00",
        "ended_at": "2026-03-14T18:42:04+00:00",
        "links": {"self": f"/v1/batches/{BATCH_ID}"},
        **changes,
    }


def document(ordinal: int, status: str = "done", **changes: Any) -> dict[str, Any]:
    """A document as the API shows it."""
    return {
        "id": f"0198c0de-0000-5000-8000-{ordinal:012d}",
        "ordinal": ordinal,
        "filename": f"file-{ordinal}.pdf",
        "status": status,
        "attempts": 1,
        "media_type": "application/pdf",
        "size_bytes": 1200,
        "pages": 2,
        "chunks": 3,
        "links": {},
        **changes,
    }


def failed(ordinal: int, code: str = "encrypted", action: str = "Remove the password.") -> dict[str, Any]:
    error = {"code": code, "message": "It is locked.", "stage": "parsing", "action": action}
    return document(ordinal, "failed", error=error, pages=None, chunks=None)


def event(seq: int, kind: str, **data: Any) -> str:
    """One SSE frame of an event."""
    envelope = {"id": str(seq), "seq": seq, "type": kind, "time": "…", "batch_id": BATCH_ID, "data": data}
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(envelope)}\n\n"


def control(kind: str, **data: Any) -> str:
    """One SSE frame about the stream itself."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """``body`` is sent as JSON, or as it is when it is text; ``breaks`` ends the connection before it is complete."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    breaks: bool = False


def problem(status: int, code: str, title: str = "No", **more: Any) -> Answer:
    body = {"type": f"/problems/{code}", "title": title, "status": status, "code": code, "request_id": "req-7", **more}
    return Answer(body, status, {"Content-Type": "application/problem+json"})


Reply = Answer | Callable[[Received], Answer]


class StandIn:
    """What to answer, by method and path; a list is answered one by one, its last entry again and again."""

    def __init__(self) -> None:
        self.replies: dict[tuple[str, str], list[Reply]] = {}
        self.received: list[Received] = []
        self.url = ""
        self.on("GET", "/v1/limits", Answer({"max_documents_per_batch": 1000}))

    def on(self, method: str, path: str, *replies: Reply) -> None:
        self.replies[method, path] = list(replies)

    def has_batch(self, **facts: Any) -> None:
        self.on("GET", f"/v1/batches/{BATCH_ID}", Answer(batch(**facts)))

    def requests(self, method: str, path: str) -> list[Received]:
        return [request for request in self.received if (request.method, request.path) == (method, path)]

    def answer(self, request: Received) -> Answer:
        self.received.append(request)
        replies = self.replies.get((request.method, request.path))
        if not replies:
            return problem(404, "not_found", "Nothing here", detail=request.path)
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return reply if isinstance(reply, Answer) else reply(request)


@contextlib.contextmanager
def running() -> Iterator[StandIn]:
    """The stand-in on a free loopback port."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            body = self._chunks() if "Transfer-Encoding" in self.headers else self._whole()
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = stand_in.answer(Received(self.command, parts.path, query, headers, body))
            is_text = isinstance(answer.body, str)
            content = (answer.body if is_text else json.dumps(answer.body)).encode()
            self.send_response(answer.status)
            headers = {"Content-Type": "text/event-stream" if is_text else "application/json"} | answer.headers
            headers["Content-Length"] = str(len(content) + (10 if answer.breaks else 0))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if answer.status != 204:
                self.wfile.write(content)

        def _whole(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def _chunks(self) -> bytes:
            """A body whose length nobody knew: each chunk behind its size in hexadecimal, an empty one at the end."""
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815 - the server looks for these names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing: some tests break their connection."""

    server = Server(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        server.server_close()
