"""How events read on the wire."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingather.domain.event_stream import encode, is_waiting, live_files, progress_data
from ingather.models.batch import BatchProgress, BatchState, Counts
from ingather.models.content import Stage
from ingather.models.events import Event, EventType
from ingather.models.messages import DocumentHeartbeat

BATCH = "01890000-0000-7000-8000-0000000000aa"
NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


@given(st.text())
def test_no_name_breaks_a_line(name: str) -> None:
    """Whatever a file is called, an encoded event is one line for every client, and says the name unchanged."""
    event = Event(seq=1, type=EventType.DOCUMENT_STARTED, time=NOW, batch_id=BATCH, data={"filename": name})

    body = encode(event)

    assert not {b"\r", b"\n", b"\0"} & {bytes([byte]) for byte in body}
    assert len(body.decode().splitlines()) == 1
    assert orjson.loads(body)["data"]["filename"] == name


def test_the_envelope_is_the_same_everywhere() -> None:
    """Id, seq, type, time in UTC, batch and data."""
    event = Event(seq=42, type=EventType.BATCH_PAUSED, time=NOW, batch_id=BATCH, data={"status": "paused"})

    envelope = orjson.loads(encode(event))

    assert datetime.fromisoformat(envelope.pop("time")) == NOW
    assert envelope == {
        "id": "42",
        "seq": 42,
        "type": "batch.paused",
        "batch_id": BATCH,
        "data": {"status": "paused"},
    }


def test_live_files_show_their_stage_and_their_name() -> None:
    """The name comes with the heartbeat, or from the catalog before the first one."""
    beat = DocumentHeartbeat(stage=Stage.EMBEDDING, filename="a.pdf", started_at=NOW)

    files = live_files(BATCH, {2: NOW, 1: NOW}, {2: beat}, {1: "b.pdf"})

    assert [(file["ordinal"], file["filename"], file["stage"]) for file in files] == [
        (1, "b.pdf", None),
        (2, "a.pdf", "embedding"),
    ]


def test_progress_is_absolute() -> None:
    """One event missed costs nothing: every number is the whole number."""
    counts = Counts(total=4, done=1, failed=1, in_flight=1, pending=1)

    data = progress_data(BatchProgress(state=BatchState.RUNNING, counts=counts, version=8))

    assert data["counts"] == counts.model_dump()
    assert data["progress"] == 0.5


@pytest.mark.parametrize(
    ("value", "in_flight", "waits"),
    [
        (BatchState.PAUSED, 0, True),
        (BatchState.PAUSING, 1, False),
        (BatchState.RUNNING, 0, False),
        (BatchState.PENDING, 0, True),
    ],
)
def test_a_batch_waits_when_only_a_message_can_move_it(value: BatchState, in_flight: int, waits: bool) -> None:
    """Then it is asked less often."""
    counts = Counts(total=2, in_flight=in_flight, pending=2 - in_flight)

    assert is_waiting(BatchProgress(state=value, counts=counts)) is waits
