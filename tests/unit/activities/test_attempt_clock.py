"""A batch may bound the whole of an attempt at a document, and not its parse alone."""

import asyncio

import pytest
from temporalio.exceptions import ApplicationError

from activities.attempt_clock import AttemptClock
from ingather.models.batch import ProcessingOptions
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.errors import DocumentTimeoutError, ParserTimeoutError
from tests.support.ingesting import run_activity
from tests.support.sources import SourceStandIn, connection, ref

TEXT = b"The dome opens at nine. Visitors wait at the gate until the lamp is green.\n"
# Long enough for what comes before the stage that hangs, also on a busy machine.
BRIEF = ProcessingOptions(timeout_seconds=0.3, timeout_bounds_attempt=True, max_retries=1)
LONG = ProcessingOptions(timeout_seconds=60, timeout_bounds_attempt=True, max_retries=0)


@pytest.fixture
async def shelf(workshop):
    """A source whose connection is registered."""
    await workshop.catalog.connections.add_connection(connection("shelf"))
    stand_in = workshop.sources.by_id["shelf"] = SourceStandIn({"a.txt": TEXT})
    return stand_in


@pytest.mark.parametrize("activity", ["ingest", "hand_on"])
async def test_a_slow_source_uses_the_attempt_up(workshop, shelf, activity):
    """Tried again as the batch says; then it is the document's outcome, with the stage that took so long."""
    shelf.chunk_gate = asyncio.Event()
    batch_id = await workshop.batch_of_sources(ref("shelf", "a.txt"))
    request = (await workshop.request(batch_id)).model_copy(update={"options": BRIEF})
    run = {
        "ingest": workshop.ingest_activities.ingest_document,
        "hand_on": workshop.handoff_activities.hand_on_document,
    }[activity]

    with pytest.raises(ApplicationError, match=r"longer than the 0\.3 seconds") as raised:
        await run_activity(run, request)
    assert (raised.value.type, raised.value.non_retryable) == ("document_timeout", False)

    output = await run_activity(run, request, attempt=2)
    assert (output.status, output.code, output.stage) == (
        DocumentStatus.FAILED, "document_timeout", Stage.DOWNLOADING,
    )  # fmt: skip


async def test_what_follows_the_parse_counts_too(workshop, preparer):
    """A parser that never answers is the same to an attempt as a source that never does."""
    batch_id = await workshop.batch(TEXT)
    preparer.gate = asyncio.Event()
    brief = BRIEF.model_copy(update={"max_retries": 0})
    output = await workshop.ingest(batch_id, options=brief)
    assert (output.code, output.stage) == ("document_timeout", Stage.PARSING)
    assert (await workshop.row(batch_id)).error.facts == {"timeout_seconds": 0.3}


async def test_the_clock_stands_still_in_line():
    """A busy machine is no document's fault: what others take does not count."""
    clock = AttemptClock(0.05)
    async with clock.running():
        clock.enter(Stage.WAITING)
        left = clock.left_seconds
        await asyncio.sleep(0.1)
        assert clock.left_seconds == left

    async def work() -> None:
        async with clock.running():
            clock.enter(Stage.WRITING)
            await asyncio.Event().wait()

    with pytest.raises(DocumentTimeoutError):
        await work()
    assert clock.left_seconds == 0


async def test_a_time_limit_of_somebody_else_is_not_the_clocks():
    """What is stopped inside for another reason says so itself."""
    clock = AttemptClock(60)
    with pytest.raises(TimeoutError):
        async with clock.running(), asyncio.timeout(0):
            await asyncio.Event().wait()


async def test_a_parser_gets_what_is_left_of_the_attempt(workshop, preparer, shelf):
    """Where that was little, its time-out is the attempt's, which may be tried again; else it is the document's."""
    batch_id = await workshop.batch_of_sources(ref("shelf", "a.txt"))
    preparer.error = ParserTimeoutError("was still parsing", kills=1, quarantined=True)
    assert (await workshop.ingest(batch_id, options=LONG)).code == "parser_timeout"
    assert 0 < preparer.given[0] < 60

    # The download of a source that took nearly all of it.
    used = LONG.model_copy(update={"timeout_seconds": 0.4})
    shelf.seconds_before_bytes = 0.3
    batch_id = await workshop.batch_of_sources(ref("shelf", "a.txt"))
    assert (await workshop.ingest(batch_id, options=used)).code == "document_timeout"
    assert all(seconds < 0.2 for seconds in preparer.given[1:])


async def test_a_batch_that_does_not_ask_bounds_the_parse_alone(workshop, shelf):
    """As ever: a download may take longer than a parse."""
    shelf.seconds_before_bytes = 0.05
    batch_id = await workshop.batch_of_sources(ref("shelf", "a.txt"))
    plain = ProcessingOptions(timeout_seconds=0.04)
    assert (await workshop.ingest(batch_id, options=plain)).status is DocumentStatus.DONE


async def test_copies_are_not_judged_by_a_document_that_had_less_than_its_time(workshop, preparer, monkeypatch):
    """It is to blame for the time that it had; they may have all of it."""
    get = workshop.blobs.get

    async def slowly(key, **place):
        await asyncio.sleep(0.6)
        return await get(key, **place)

    options = LONG.model_copy(update={"timeout_seconds": 3.0})
    batch_id = await workshop.batch(TEXT, TEXT)
    await workshop.ingest(await workshop.batch(b"so that the manifest and all else is at hand"), options=options)
    monkeypatch.setattr(workshop.blobs, "get", slowly)
    preparer.error = ParserTimeoutError("It hung.", kills=1, quarantined=True)
    assert (await workshop.ingest(batch_id, 0, options=options)).code == "parser_timeout"
    preparer.error = None

    assert (await workshop.ingest(batch_id, 1, options=options)).status is DocumentStatus.DONE
