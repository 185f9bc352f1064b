"""Following a batch: to its end, over any number of connections."""

from collections.abc import Iterator

import pytest

from ingather.cli.client import IngatherClient
from ingather.cli.errors import ApiProblemError, CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.follow import PATIENCE, Follower
from ingather.cli.resources import StreamEvent
from tests.support.api_stand_in import BATCH_ID, Answer, StandIn, batch, control, event, problem

EVENTS = f"/v1/batches/{BATCH_ID}/events"


class Listener:
    def __init__(self) -> None:
        self.heard: list[StreamEvent] = []
        self.losses: list[str] = []

    def event(self, event: StreamEvent) -> None:
        self.heard.append(event)

    def lost(self, reason: str) -> None:
        self.losses.append(reason)

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.heard if event.seq is not None]


@pytest.fixture
def client(server: StandIn) -> Iterator[IngatherClient]:
    with IngatherClient(server.url, sleep=lambda _: None) as client:
        yield client


@pytest.fixture
def listener() -> Listener:
    return Listener()


def follow(client: IngatherClient, listener: Listener, after: int | None = None) -> str:
    return Follower(client, BATCH_ID, after=after, sleep=lambda _: None).run(listener).status


def test_it_ends_with_the_stream(client: IngatherClient, server: StandIn, listener: Listener) -> None:
    """`stream.end` is the end; the batch is read once more for its final word."""
    server.has_batch(done=1)
    server.on("GET", EVENTS, Answer(event(1, "batch.started") + event(2, "batch.completed") + control("stream.end")))
    assert follow(client, listener, after=0) == "completed"
    assert listener.seqs == [1, 2]
    assert server.requests("GET", EVENTS)[0].headers["last-event-id"] == "0"


def test_a_lost_connection_is_resumed_behind_the_last_event(
    client: IngatherClient, server: StandIn, listener: Listener
) -> None:
    """After a break the next connection names the last seq seen: no gap, no duplicate."""
    server.has_batch(done=1)
    server.on(
        "GET",
        EVENTS,
        Answer(event(1, "batch.started") + event(2, "batch.progress"), breaks=True),
        Answer(event(3, "batch.completed") + control("stream.end")),
    )
    assert follow(client, listener, after=0) == "completed"
    assert listener.seqs == [1, 2, 3]
    assert [request.headers["last-event-id"] for request in server.requests("GET", EVENTS)] == ["0", "2"]
    assert len(listener.losses) == 1


def test_without_a_cursor_it_resumes_from_where_the_stream_opened(
    client: IngatherClient, server: StandIn, listener: Listener
) -> None:
    """A connection lost before the first event goes on behind the snapshot it was given."""
    server.has_batch(done=1)
    opened = control("stream.open", mode="live", oldest_seq=1, latest_seq=41) + control("stream.snapshot", **batch())
    server.on("GET", EVENTS, Answer(opened, breaks=True), Answer(event(42, "batch.completed") + control("stream.end")))
    assert follow(client, listener) == "completed"
    first, second = server.requests("GET", EVENTS)
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "41"


def test_a_reset_forgets_the_old_cursor(client: IngatherClient, server: StandIn, listener: Listener) -> None:
    """After `stream.reset` the old seq is never sent again."""
    server.has_batch(done=1)
    server.on(
        "GET",
        EVENTS,
        Answer(control("stream.reset") + control("stream.snapshot", **batch("running")), breaks=True),
        Answer(control("stream.end")),
    )
    assert follow(client, listener, after=900) == "completed"
    assert "last-event-id" not in server.requests("GET", EVENTS)[1].headers


def test_nothing_more_to_tell_is_an_end(client: IngatherClient, server: StandIn, listener: Listener) -> None:
    """204 on a reconnect of an ended batch ends the watch."""
    server.has_batch(done=1)
    server.on("GET", EVENTS, Answer("", 204))
    assert follow(client, listener, after=7) == "completed"
    assert listener.heard == []


def test_a_farewell_of_a_stopping_server_is_followed_by_another_connection(
    client: IngatherClient, server: StandIn, listener: Listener
) -> None:
    """A stream that closes while the batch runs is opened again."""
    server.on("GET", f"/v1/batches/{BATCH_ID}", Answer(batch("running")), Answer(batch("completed")))
    server.on(
        "GET", EVENTS, Answer(event(1, "batch.started") + control("stream.draining")), Answer(control("stream.end"))
    )
    assert follow(client, listener, after=0) == "completed"
    assert listener.losses == ["the server closed the stream"]


def test_an_unknown_batch_is_said_at_once(client: IngatherClient, server: StandIn, listener: Listener) -> None:
    """404 is not retried."""
    server.on("GET", EVENTS, problem(404, "batch_not_found"))
    with pytest.raises(ApiProblemError) as caught:
        follow(client, listener)
    assert caught.value.exit_code == ExitCode.NOT_FOUND
    assert len(server.received) == 1


def test_a_server_that_stays_away_ends_the_watch(listener: Listener) -> None:
    """After five minutes without a connection the watch gives up, with the command to go on."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with IngatherClient("http://127.0.0.1:1", sleep=sleep) as client, pytest.raises(CliError) as caught:
        Follower(client, BATCH_ID, sleep=sleep, clock=lambda: now[0]).run(listener)
    assert caught.value.exit_code == ExitCode.LIMIT
    assert f"ingather watch {BATCH_ID}" in caught.value.action
    assert now[0] > PATIENCE
