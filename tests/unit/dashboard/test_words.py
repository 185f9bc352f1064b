"""What people read."""

from datetime import UTC, datetime, timedelta

import pytest

from api.dashboard import words
from api.dashboard.pages.batch import actions_for, happening
from api.dashboard.pages.search import marked, tags_of
from api.dashboard.pages.sign_in import _within
from ingather.models.batch import BatchState
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus

NOW = datetime(2026, 3, 14, 12, tzinfo=UTC)
NOTHING = dict.fromkeys(("total", "pending", "in_flight", "done", "failed", "skipped", "cancelled"), 0)


def batch(status: str, **counts: int) -> dict[str, object]:
    return {"status": status, "counts": {**NOTHING, **counts, "total": sum(counts.values())}, "waiting_for": None}


def test_every_state_has_a_name_and_a_tone():
    """Those of batches and of documents; one that comes later is shown as it is called."""
    assert {state.value for state in BatchState} | {status.value for status in DocumentStatus} == set(words.STATES)
    assert {state.value for state in BatchState if state.is_final} == words.OVER
    assert words.state_label("under_review") == "Under review"


def test_every_stage_has_a_name_and_a_place():
    """Those of later versions are shown as they are called, behind the others."""
    assert {stage.value for stage in Stage} | {None} == set(words.STAGES)
    found = words.in_order({"under_review": 1, "embedding": 2, None: 3, "parsing": 4})
    assert list(found.items()) == [
        ("waiting for its turn", 3), ("parsing", 4), ("embedding", 2), ("under review", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (0.25, "250 ms"),
        (4.2, "4.2 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (7_260, "2 h 1 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_said_in_two_units(seconds, said):
    """And never as sixty of the smaller."""
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "said"), [(None, "–"), (0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 kB"), (250_000_000, "250 MB")]
)
def test_sizes_are_said_in_thousands(count, said):
    """As the limits are."""
    assert words.size(count) == said


def test_what_is_not_all_done_is_not_a_hundred_percent():
    """Whoever waits for the last document wants to know that there is one."""
    assert (words.percent(0.99999), words.percent(1.0), words.percent(0.5)) == ("99.9 %", "100 %", "50 %")


def test_a_bar_shows_all_there_is():
    """Its parts add up to its width, and one document of a hundred thousand is seen."""
    parts = words.bar({**NOTHING, "total": 4, "done": 1, "failed": 1, "pending": 2})
    assert sum(part["width"] for part in parts) == 1_000
    [failed] = [
        part
        for part in words.bar({**NOTHING, "total": 100_000, "done": 99_999, "failed": 1})
        if part["name"] == "failed"
    ]
    assert failed["width"] >= 4


def test_the_rate_counts_what_ended_and_was_not_cancelled():
    """A cancel that leaves a thousand undone is no feat."""
    started = (NOW - timedelta(seconds=10)).isoformat()
    running = {
        **batch("running", done=40, failed=10, cancelled=500, pending=5),
        "started_at": started,
        "ended_at": None,
    }
    assert words.rate(running, NOW) == 5.0
    assert words.rate({**running, "started_at": None}, NOW) is None
    assert words.rate({**running, "started_at": "2020-01-01T00:00:00Z"}, NOW) is None, "0.0 says nothing"


@pytest.mark.parametrize(
    ("given", "can"),
    [
        (batch("running", pending=5), ["pause", "cancel"]),
        (batch("running", pending=5, failed=1), ["pause", "retry", "cancel"]),
        (batch("queued", pending=5), ["pause", "cancel"]),
        (batch("paused", pending=5), ["resume", "cancel"]),
        (batch("pending", pending=5), ["start", "cancel"]),
        (batch("pending", pending=5) | {"waiting_for": "seal"}, ["seal", "cancel"]),
        (batch("cancelling", pending=5), []),
        (batch("completed", done=5), []),
        (batch("completed_with_failures", done=5, failed=1), ["retry"]),
        (batch("cancelled", cancelled=1), ["retry"]),
    ],
)
def test_what_can_be_done_depends_on_the_state(given, can):
    """Nothing is offered that would be refused."""
    assert actions_for(given) == can


def test_words_of_every_text_are_marked_only_where_there_are_no_others():
    """And short ones only where they are whole words."""
    assert marked("It belongs to the dome", "be the dome") == "It belongs to the <mark>dome</mark>"
    assert marked("The sun, and a sunken wall", "sun") == "The <mark>sun</mark>, and a sunken wall"
    assert marked("to be, not becoming", "to be") == "<mark>to</mark> <mark>be</mark>, not becoming"


def test_a_passage_is_shown_with_some_of_its_metadata():
    """The first fields that can be said in a few words, of each passage alike."""
    fields = {"site": "Ridge", "place": {"lat": 1}, "by": ["Ada", "Vera"], **{f"field-{n}": n for n in range(9)}}
    assert tags_of(fields) == [("site", "Ridge"), ("by", "Ada, Vera"), *((f"field-{n}", str(n)) for n in range(4))]


def test_passages_are_marked_and_never_markup():
    """The words of the question, in capitals or not, from their beginning; what a document says is text."""
    assert marked("A dome. <b>Domes</b> & mirrors", "dome") == (
        "A <mark>dome</mark>. &lt;b&gt;<mark>Dome</mark>s&lt;/b&gt; &amp; mirrors"
    )
    assert marked("a+b <i>", "+") == "a+b &lt;i&gt;"


@pytest.mark.parametrize(
    ("target", "goes_to"),
    [
        ("/batches/1?status=failed", "/batches/1?status=failed"),
        ("https://elsewhere.example/", "/"),
        ("//elsewhere.example/", "/"),
        ("/\\elsewhere.example/", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("/sign-in?next=/", "/"),
        ("", "/"),
    ],
)
def test_a_sign_in_leads_to_a_page_of_ours(target, goes_to):
    """Wherever a link to it was found."""
    assert _within(target) == goes_to


def test_the_record_is_told_in_sentences():
    """Who did what; an event of later versions is told by its name."""
    asked = {"event_type": "BATCH_RETRIED", "actor": "ada", "details": {"codes": ["encrypted"]}}
    assert happening(asked) == "had encrypted run again"
    assert happening(
        {"event_type": "BATCH_ENDED", "actor": "system", "details": {"state": "completed_with_failures"}}
    ) == ("It ended: completed with failures")
    assert happening({"event_type": "BATCH_PUT_ASIDE", "actor": "ada", "details": {}}) == "put aside it"
