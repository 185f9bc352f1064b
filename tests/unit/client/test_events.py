"""Following a batch: to its end, over any number of connections. Over both clients."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from ingather.client import NotFoundError, StreamEvent, StreamLostError
from ingather.client.following import PATIENCE, Following, Patience
from tests.support.api_stand_in import BATCH_ID, Answer, StandIn, batch, control, event, problem
from tests.support.clients import Open, Waits

EVENTS = f"/v1/batches/{BATCH_ID}/events"
END = event(3, "batch.completed") + control("stream.end")


@dataclass
class Listener:
    heard: list[StreamEvent] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)

    def follow(self, client: Any, after: int | None = None) -> None:
        self.heard += client.events(BATCH_ID, after=after, on_lost=self.losses.append)

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.heard if event.seq is not None]

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.heard]


@pytest.fixture
def listener() -> Listener:
    return Listener()


def cursors(server: StandIn) -> list[str | None]:
    """What each connection asked to go on behind."""
    return [request.headers.get("last-event-id") for request in server.requests("GET", EVENTS)]


def test_it_ends_with_the_stream(client: Any, server: StandIn, listener: Listener) -> None:
    """`stream.end` is the end: nothing is asked after it."""
    server.on("GET", EVENTS, Answer(event(1, "batch.started") + event(2, "batch.completed") + control("stream.end")))
    listener.follow(client, after=0)
    assert listener.types == ["batch.started", "batch.completed", "stream.end"]
    assert cursors(server) == ["0"]
    assert len(server.received) == 1


def test_a_lost_connection_is_resumed_behind_the_last_event(client: Any, server: StandIn, listener: Listener) -> None:
    """After a break the next connection names the last seq seen: no gap, no duplicate."""
    begun = Answer(event(1, "batch.started") + event(2, "batch.progress"), breaks=True)
    server.on("GET", EVENTS, begun, Answer(END))
    listener.follow(client, after=0)
    assert listener.seqs == [1, 2, 3]
    assert cursors(server) == ["0", "2"]
    assert len(listener.losses) == 1


def test_what_was_told_is_not_told_again(client: Any, server: StandIn, listener: Listener) -> None:
    """A server or proxy that repeats itself is not repeated."""
    first, second = event(1, "batch.started"), event(2, "batch.progress")
    server.on("GET", EVENTS, Answer(first + second + first + second + END))
    listener.follow(client, after=0)
    assert listener.seqs == [1, 2, 3]


def test_events_that_did_not_arrive_are_asked_for_again(client: Any, server: StandIn, listener: Listener) -> None:
    """An event that does not follow the one before it is held back until those between are there."""
    server.on("GET", EVENTS, Answer(event(1, "batch.started") + END), Answer(event(2, "batch.progress") + END))
    listener.follow(client, after=0)
    assert listener.seqs == [1, 2, 3]
    assert cursors(server) == ["0", "1"]
    assert listener.losses == ["the events before 3 did not arrive"]


def test_events_that_never_arrive_are_announced(client: Any, server: StandIn, listener: Listener) -> None:
    """Where the server leaves out the same ones again, the reader is told, as the server should have."""
    server.on("GET", EVENTS, Answer(event(1, "batch.started") + END), Answer(END))
    listener.follow(client, after=0)
    assert listener.types == ["batch.started", "stream.reset", "batch.completed", "stream.end"]
    assert listener.heard[1].data["reason"] == "missing"


def test_without_a_cursor_it_resumes_from_where_the_stream_opened(
    client: Any, server: StandIn, listener: Listener
) -> None:
    """A connection lost before the first event goes on behind the snapshot it was given."""
    opened = control("stream.open", mode="live", oldest_seq=1, latest_seq=41) + control("stream.snapshot", **batch())
    server.on("GET", EVENTS, Answer(opened, breaks=True), Answer(event(42, "batch.completed") + control("stream.end")))
    listener.follow(client)
    assert cursors(server) == [None, "41"]


def test_a_snapshot_that_did_not_arrive_is_asked_for_again(client: Any, server: StandIn, listener: Listener) -> None:
    """A connection lost before its snapshot has told nothing to go on behind."""
    opened = control("stream.open", mode="snapshot", oldest_seq=1, latest_seq=41)
    whole = opened + control("stream.snapshot", **batch())
    server.on(
        "GET", EVENTS, Answer(opened, breaks=True), Answer(whole + event(42, "batch.completed") + control("stream.end"))
    )
    listener.follow(client)
    assert cursors(server) == [None, None]
    assert "stream.snapshot" in listener.types


def test_a_server_that_cannot_read_its_log_names_no_place_to_go_on(
    client: Any, server: StandIn, listener: Listener
) -> None:
    """It opens with 0, which would bring the whole history after the snapshot."""
    waiting = control("stream.open", mode="waiting", oldest_seq=0, latest_seq=0)
    opened = waiting + control("stream.snapshot", **batch())
    server.on("GET", EVENTS, Answer(opened, breaks=True), Answer(control("stream.end")))
    listener.follow(client)
    assert cursors(server) == [None, None]


def test_a_reset_forgets_the_old_cursor(client: Any, server: StandIn, listener: Listener) -> None:
    """After `stream.reset` the old seq is never sent again, and whatever comes first is next."""
    reset = control("stream.reset", reason="trimmed") + control("stream.snapshot", **batch("running"))
    server.on("GET", EVENTS, Answer(reset, breaks=True), Answer(event(7, "batch.completed") + control("stream.end")))
    listener.follow(client, after=900)
    assert cursors(server) == ["900", None]
    assert listener.seqs == [7]


def test_nothing_more_to_tell_is_an_end(client: Any, server: StandIn, listener: Listener) -> None:
    """204 on a reconnect of an ended batch ends the stream."""
    server.has_batch(done=1)
    server.on("GET", EVENTS, Answer("", 204))
    listener.follow(client, after=7)
    assert (listener.heard, listener.losses) == ([], [])


def test_a_stream_that_closes_is_opened_again_while_the_batch_runs(
    client: Any, server: StandIn, listener: Listener
) -> None:
    """The batch itself says whether that was the end: when it has ended, and another connection brings nothing more."""
    server.on("GET", f"/v1/batches/{BATCH_ID}", Answer(batch("running")), Answer(batch("completed")))
    server.on("GET", EVENTS, Answer(event(1, "batch.started")), Answer(event(2, "batch.progress")))
    listener.follow(client, after=0)
    assert (listener.seqs, listener.losses) == ([1, 2], ["the server closed the stream"] * 2)


@pytest.mark.parametrize("farewell", ["stream.draining", "stream.lagged"])
def test_a_batch_that_ends_while_the_stream_is_away_is_read_to_its_end(
    client: Any, server: StandIn, listener: Listener, farewell: str
) -> None:
    """What happened between the farewell and the end is asked for, not left out."""
    server.has_batch(done=1)
    begun = Answer(event(1, "batch.started") + control(farewell, retry_ms=100))
    server.on("GET", EVENTS, begun, Answer(event(2, "document.succeeded") + END))
    listener.follow(client, after=0)
    assert listener.seqs == [1, 2, 3]
    assert listener.types[-1] == "stream.end"
    assert cursors(server) == ["0", "1"]


@pytest.mark.parametrize("farewell", ["stream.draining", "stream.lagged"])
def test_a_farewell_says_when_to_come_back(
    client: Any, server: StandIn, listener: Listener, waits: Waits, farewell: str
) -> None:
    """A server that goes away spreads its watchers over some seconds; its wish is granted."""
    server.on("GET", f"/v1/batches/{BATCH_ID}", Answer(batch("running")))
    server.on("GET", EVENTS, Answer(control(farewell, retry_ms=4200)), Answer(control("stream.end")))
    listener.follow(client, after=0)
    assert waits == [4.2]


def test_a_full_house_is_waited_for(client: Any, server: StandIn, listener: Listener, waits: Waits) -> None:
    """429 when the stream is opened is no end: it is opened when the server says."""
    full = Answer({"title": "Too many streams", "code": "too_many_streams"}, 429, {"Retry-After": "3"})
    server.on("GET", EVENTS, full, Answer(control("stream.end")))
    listener.follow(client)
    assert (waits, listener.losses) == ([3.0], ["Too many streams"])


def test_an_unknown_batch_is_said_at_once(client: Any, server: StandIn, listener: Listener) -> None:
    """404 is not retried."""
    server.on("GET", EVENTS, problem(404, "batch_not_found"))
    with pytest.raises(NotFoundError):
        listener.follow(client)
    assert len(server.received) == 1


def test_a_server_that_stays_away_is_given_up() -> None:
    """After five minutes without a connection, with the batch it was about."""
    now = [0.0]
    patience = Patience("batch", BATCH_ID, clock=lambda: now[0])
    while now[0] <= PATIENCE:
        now[0] += patience.lost("refused")
    with pytest.raises(StreamLostError) as caught:
        patience.lost("refused")
    assert caught.value.followed_id == BATCH_ID


def test_an_absent_server_is_waited_for(open_client: Open, listener: Listener) -> None:
    """A connection that cannot be made is lost, like one that breaks."""
    client = open_client("http://127.0.0.1:1")
    stream = client.events(BATCH_ID, on_lost=lambda reason: listener.losses.append(reason) or stop(listener))
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert len(listener.losses) == 3


def stop(listener: Listener) -> None:
    if len(listener.losses) == 3:
        raise KeyboardInterrupt


def test_what_is_no_json_is_told_by_its_name() -> None:
    """A frame nobody can read is passed on empty; it moves no cursor."""
    following = Following(BATCH_ID, 4)
    assert [event.type for event in following.take("stream.note", "not json")] == ["stream.note"]
    assert following.after == 4


def test_history_comes_in_pages(client: Any, server: StandIn) -> None:
    """The same events as JSON, to be asked for from anywhere."""
    envelope = {"id": "5", "seq": 5, "type": "batch.started", "data": {"status": "running"}}
    server.on("GET", EVENTS, Answer({"data": [envelope], "has_more": True, "next_cursor": "5", "ended": False}))
    page = client.event_page(BATCH_ID, after=4, limit=1)
    assert [(event.seq, event.type, event.data) for event in page.events] == [
        (5, "batch.started", {"status": "running"})
    ]
    assert (page.has_more, page.next_after, page.reset) == (True, 5, None)
    assert server.received[0].query == {"after": "4", "limit": "1"}
