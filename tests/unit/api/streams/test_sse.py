"""Frames on the wire, and the response around them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import pytest

from api.routes.events import preferred
from api.streams import sse
from api.streams.frames import control_frame, event_frame
from api.streams.history import HistoryPage
from api.streams.sse import StreamResponse
from ingather.domain.event_cursor import Mode, Start
from ingather.models.errors import NotAcceptableError
from ingather.models.events import ControlFrame
from ingather.ports.event_log import LoggedEvent, LogRange
from tests.support.watching import parse


def test_an_event_frame_has_its_cursor() -> None:
    """Id, event and data, in a frame of its own; the body is passed on untouched."""
    frame = event_frame(LoggedEvent(7, "batch.paused", b'{"seq":7}'))

    assert frame == b'id: 7\nevent: batch.paused\ndata: {"seq":7}\n\n'


def test_a_control_frame_moves_no_cursor() -> None:
    """No id, except at the end, where it tells a browser that comes back to stop."""
    assert b"id:" not in control_frame(ControlFrame.SNAPSHOT, {"name": "a\nb\u2028"})
    assert parse(control_frame(ControlFrame.END, {}, cursor=9))[0].id == "9"
    assert parse(control_frame(ControlFrame.SNAPSHOT, {"name": "a\nb\u2028"}))[0].data == {"name": "a\nb\u2028"}


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("*/*", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("application/json", "application/json"),
        ("application/json, text/event-stream;q=0.5", "application/json"),
        ("application/json;q=0.5, text/*", "text/event-stream"),
        ("text/event-stream;q=x, application/json", "application/json"),
        ("text/html, */*;q=0.1", "text/event-stream"),
    ],
)
def test_the_client_chooses_the_form(accept: str, form: str) -> None:
    """By media type and weight; a stream where it has no wish."""
    assert preferred(accept) == form


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "nonsense"])
def test_other_forms_are_refused(accept: str) -> None:
    """406, before a stream begins."""
    with pytest.raises(NotAcceptableError):
        preferred(accept)


def test_a_history_page_holds_the_events_as_logged() -> None:
    """The bodies are JSON already and are not encoded again."""
    events = [LoggedEvent(5, "batch.paused", b'{"seq":5}'), LoggedEvent(6, "batch.resumed", b'{"seq":6}')]
    page = HistoryPage(events, LogRange(5, 9), Start(Mode.RESET, 4, "trimmed"), has_more=True, ended=False)

    assert page.encode() == (
        b'{"data":[{"seq":5},{"seq":6}],"has_more":true,"next_cursor":"6",'
        b'"oldest_seq":5,"latest_seq":9,"reset":"trimmed","ended":false}'
    )


class Connection:
    """The server's side of a connection, as an ASGI application sees it."""

    def __init__(self, *, stalls: bool = False) -> None:
        self.stalls = stalls
        self.gone = asyncio.Event()
        self.sent = b""

    async def receive(self) -> dict[str, object]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, object]) -> None:
        if message["type"] == "http.response.body" and self.stalls:
            await asyncio.sleep(3600)
        self.sent += message.get("body", b"")


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"data: 1\n\n"
        await asyncio.sleep(0.01)


async def respond(connection: Connection, closed: list[bool]) -> None:
    response = StreamResponse(endless(), shutdown=anyio.Event(), on_closed=lambda: closed.append(True))
    await response({"type": "http", "method": "GET"}, connection.receive, connection.send)


async def test_a_stalled_client_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time for one send the stream is closed without an exception, and counted out."""
    monkeypatch.setattr(sse, "SEND_TIMEOUT_SECONDS", 0.1)
    closed: list[bool] = []
    await asyncio.wait_for(respond(Connection(stalls=True), closed), 5)

    assert closed == [True]


async def test_a_stream_ends_with_its_credential(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at again from time to time: after it ended nothing more is sent, and the frames are closed."""
    monkeypatch.setattr(sse, "WELCOME_SECONDS", 0.0)
    answers, closed = iter([True, True, False]), []

    async def is_welcome() -> bool:
        return next(answers)

    async def frames() -> AsyncGenerator[bytes]:
        try:
            async for chunk in endless():
                yield chunk
        finally:
            closed.append(True)

    assert [chunk async for chunk in sse.while_welcome(frames(), is_welcome)] == [b"data: 1\n\n"] * 2
    assert closed == [True]


async def test_a_client_that_leaves_is_counted_out() -> None:
    """Once, as soon as the server hears of it."""
    connection, closed = Connection(), []
    task = asyncio.create_task(respond(connection, closed))
    await asyncio.sleep(0.05)
    connection.gone.set()
    await asyncio.wait_for(task, 5)

    assert closed == [True]
    assert connection.sent.startswith(b"data: 1\n\n")
