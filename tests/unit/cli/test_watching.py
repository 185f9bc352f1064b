"""What a person sees of a running batch."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from rich.console import Console

from ingather.cli.onlooker import Onlooker
from ingather.cli.picture import BatchPicture
from ingather.cli.watching import LiveAudience
from ingather.client import IngatherClient
from ingather.client.models import Batch, StreamEvent
from tests.support.api_stand_in import batch, running


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def picture(clock: Clock) -> BatchPicture:
    return BatchPicture(Batch.from_json(batch("running", pending=98, in_flight=2)), clock)


def event(kind: str, **data: Any) -> StreamEvent:
    return StreamEvent(kind, None, data)


def counts(**parts: int) -> Mapping[str, int]:
    return batch(**parts)["counts"]


def drawn(live: LiveAudience) -> str:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(live)
    return captured.get()


def test_pace_and_time_left_follow_the_counters(picture: BatchPicture, clock: Clock):
    """20 documents in 2 seconds are 10 a second; 80 more take 8."""
    clock.now += 2
    picture.apply(event("batch.progress", status="running", counts=counts(done=20, in_flight=2, pending=78)))
    assert picture.rate == pytest.approx(10)
    assert picture.seconds_left == pytest.approx(8)


def test_files_come_and_go(picture: BatchPicture):
    """A document is shown from its start to its end, with the stage a progress event tells."""
    picture.apply(event("document.started", ordinal=3, filename="a.pdf"))
    picture.apply(event("batch.progress", files=[{"ordinal": 3, "filename": "a.pdf", "stage": "embedding"}]))
    assert [(name, stage) for name, stage, _ in picture.files.values()] == [("a.pdf", "embedding")]
    picture.apply(event("document.succeeded", ordinal=3, filename="a.pdf"))
    assert picture.files == {}


def test_a_snapshot_starts_the_picture_anew(picture: BatchPicture):
    """Files that ended while nobody listened do not stay on the screen."""
    picture.apply(event("document.started", ordinal=3, filename="a.pdf"))
    picture.apply(StreamEvent("stream.snapshot", None, batch("paused", done=5, pending=5, waiting_for="resume")))
    assert (picture.status, picture.waiting_for, picture.files, picture.counts.done) == ("paused", "resume", {}, 5)


def test_a_failure_is_shown_with_its_advice(picture: BatchPicture):
    """The newest failure comes first, with code and what to do."""
    error = {"code": "encrypted", "action": "Remove the password."}
    picture.apply(event("document.failed", ordinal=1, filename="first.pdf", error=error))
    picture.apply(event("document.failed", ordinal=2, filename="second.pdf", error=error))
    view = drawn(LiveAudience(picture, "Ctrl-C leaves."))
    assert view.index("second.pdf") < view.index("first.pdf")
    assert "encrypted  Remove the password." in view


def test_a_lost_connection_is_shown_and_the_pace_is_not(picture: BatchPicture, clock: Clock):
    """What was measured before the break is not shown as if it went on."""
    live = LiveAudience(picture, "Ctrl-C leaves.")
    clock.now += 2
    live.event(event("batch.progress", status="running", counts=counts(done=20, in_flight=2, pending=78)))
    assert "10.0 documents/s" in drawn(live)
    live.lost("connection refused")
    view = drawn(live)
    assert "Connection lost (connection refused)" in view
    assert "documents/s" not in view


def test_a_batch_in_line_shows_its_place_and_when_it_should_be_done(picture: BatchPicture):
    """Nothing happens to a batch that waits, so what it waits for is asked and shown."""
    picture.apply(event("batch.queued", status="queued"))
    ready_at = datetime.now().astimezone().replace(microsecond=0)
    picture.look(
        Batch.from_json(
            batch("queued", pending=9, waiting_for="place 3 of 7", estimated_completion_at=ready_at.isoformat())
        )
    )

    assert f"queued  waiting for place 3 of 7, done about {ready_at:%H:%M}" in drawn(LiveAudience(picture, ""))


def test_a_place_that_is_not_known_yet_is_no_number(picture: BatchPicture):
    """Place 0 is said of a batch that the line has not counted yet."""
    picture.look(Batch.from_json(batch("running", pending=9, waiting_for="place 0 of 15: another batch has it")))

    assert "running  waiting in line" in drawn(LiveAudience(picture, ""))


def test_what_is_missing_is_not_waited_for(picture: BatchPicture):
    """``no worker`` is said as it is."""
    picture.look(Batch.from_json(batch("running", pending=9, waiting_for="no worker")))

    assert "running  no worker" in drawn(LiveAudience(picture, ""))


def test_a_look_at_another_state_changes_nothing(picture: BatchPicture):
    """An answer that was on its way while the batch went on does not bring back why it waited."""
    picture.look(Batch.from_json(batch("queued", pending=9, waiting_for="place 1 of 1")))

    assert picture.waiting_for is None


def test_the_outlook_is_asked_for_while_somebody_watches(picture: BatchPicture):
    """A batch to which nothing happens is looked at now and then, and no longer than it is watched."""
    with running() as server:
        server.has_batch(status="running", pending=9, waiting_for="no worker")
        with IngatherClient(server.url) as client, Onlooker(client, picture, interval=0.01):
            deadline = time.monotonic() + 10
            while picture.waiting_for != "no worker" and time.monotonic() < deadline:
                time.sleep(0.01)

    assert picture.waiting_for == "no worker"
