"""What is done to a batch is on record before it ends, whoever died meanwhile."""

import asyncio
import contextlib

import pytest
from temporalio.client import WorkflowFailureError

from ingather.models.audit import THROUGH_TEMPORAL, Actor, AuditType
from ingather.models.batch import BatchState
from ingather.models.messages import ControlRequest, PriorityRequest, RetryRequest, SealRequest
from tests.support.batch_driver import driven, request
from tests.support.fake_activities import DONE, World, failed
from tests.support.waiting import until
from workflows.batch import BatchWorkflow

ADA = Actor(name="ada", credential="key:abcd1234")


def by_ada(name: str) -> ControlRequest:
    return ControlRequest(request_id=name, by=ADA)


async def test_every_message_is_recorded_under_the_name_it_came_with(client):
    """Once each, under the request's own id, with what it changed: the event that the API records too."""
    world = World(gate=asyncio.Event(), open_for=1, outcome=lambda own, round_: DONE if own or round_ else failed())
    async with driven(client, world) as driver:
        handle = await driver.start(hold=True, options={"max_workers": 1})
        await driver.reaches(BatchState.PENDING)
        await handle.execute_update(BatchWorkflow.start, by_ada("1"))
        await until(lambda: world.waiting == 1)
        await handle.execute_update(BatchWorkflow.pause, by_ada("2"))
        await handle.execute_update(BatchWorkflow.resume, by_ada("3"))
        await handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="4", by=ADA, priority=1))
        await handle.execute_update(BatchWorkflow.retry, RetryRequest(request_id="5", by=ADA, codes=("corrupt",)))
        world.gate.set()
        await handle.result()

    found = {(note.which, note.kind): note for note in world.notes}
    assert list(found) == [
        ("1", AuditType.BATCH_STARTED),
        ("2", AuditType.BATCH_PAUSED),
        ("3", AuditType.BATCH_RESUMED),
        ("4", AuditType.BATCH_PRIORITY_CHANGED),
        ("5", AuditType.BATCH_RETRIED),
    ]
    assert {note.by for note in world.notes} == {ADA}
    assert [note.details for note in world.notes[3:]] == [{"priority": 1, "previous": 3}, {"codes": ["corrupt"]}]


async def test_a_message_that_comes_twice_is_recorded_once(client):
    """An update that got no answer in time, and the signal that followed it."""
    world = World(gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting > 0)
        await handle.execute_update(BatchWorkflow.pause, by_ada("once"))
        await handle.signal(BatchWorkflow.pause_signal, by_ada("once"))
        await handle.execute_update(BatchWorkflow.resume, request())
        world.gate.set()
        await handle.result()

    assert [note.which for note in world.notes if note.kind is AuditType.BATCH_PAUSED] == ["once"]


async def test_a_signal_from_temporal_itself_is_recorded_as_that(client):
    """Nobody knows who sent it, and the record says so; one that changed nothing is not there."""
    world = World(gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting > 0)
        await handle.signal("start_signal", {"request_id": "nothing is held"})
        await handle.signal("pause_signal", {"request_id": "by hand"})
        await driver.reaches(BatchState.PAUSING)
        await handle.signal("resume_signal", {"request_id": "by hand too"})
        world.gate.set()
        await handle.result()

    assert [(note.which, note.by) for note in world.notes] == [
        ("by hand", THROUGH_TEMPORAL),
        ("by hand too", THROUGH_TEMPORAL),
    ]


async def test_a_seal_is_recorded_once_for_a_batch(client):
    """Whatever its request is called: a batch is sealed once, and the API's own event has no number either."""
    world = World(document_count=2)
    async with driven(client, world) as driver:
        handle = await driver.start(open=True, submitted_count=1)
        seal = SealRequest(request_id="any", by=ADA, document_count=2, size_bytes=20)
        await handle.execute_update(BatchWorkflow.seal, seal)
        await handle.result()

    [note] = world.notes
    assert (note.kind, note.which, note.by) == (AuditType.BATCH_SEALED, "", ADA)
    assert note.details == {"submitted_count": 2, "submitted_bytes": 20}


@pytest.mark.parametrize(
    ("reason", "which", "by", "details"),
    [
        (by_ada("stop").model_dump_json(), "stop", ADA, {}),
        ("Cancelled from the UI", None, THROUGH_TEMPORAL, {"reason": "Cancelled from the UI"}),
        ("", None, THROUGH_TEMPORAL, {}),
    ],
    ids=["the API", "a person at Temporal", "no reason"],
)
async def test_a_cancellation_is_recorded_from_its_reason(client, reason, which, by, details):
    """The API gives its request as the reason; what a person wrote there is kept as it is."""
    world = World(gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting > 0)
        await handle.cancel(reason=reason)
        with contextlib.suppress(WorkflowFailureError):
            await handle.result()
        run_id = (await handle.describe()).run_id

    [note] = world.notes
    assert (note.kind, note.which) == (AuditType.BATCH_CANCELLED, which or run_id)
    assert (note.by, note.details) == (by, details)


async def test_nobody_waits_for_the_record_but_the_end(client):
    """Steering is answered while the catalog is away; the batch does not close until the last word is written."""
    world = World(gate=asyncio.Event(), audit_gate=asyncio.Event())
    async with driven(client, world) as driver:
        handle = await driver.start()
        await until(lambda: world.waiting > 0)
        for number in range(12):
            action = BatchWorkflow.resume if number % 2 else BatchWorkflow.pause
            await handle.execute_update(action, by_ada(str(number)))
        world.gate.set()
        await until(lambda: world.ended == ["finish_batch"])
        assert world.notes == []
        assert world.calls["record_controls"] == 8
        world.audit_gate.set()
        await handle.result()

    assert sorted(int(note.which) for note in world.notes) == list(range(12))
    assert world.calls["record_controls"] < 12


async def test_a_run_that_goes_on_as_new_leaves_no_note_behind(short_history_client):
    """It waits for the record, as it does for everything that is under way."""
    world = World(document_count=30, gate=asyncio.Event(), audit_gate=asyncio.Event())
    async with driven(short_history_client, world) as driver:
        handle = await driver.start(options={"max_workers": 4})
        await until(lambda: world.waiting > 0)
        first_run = (await handle.describe()).run_id
        await handle.execute_update(BatchWorkflow.set_priority, PriorityRequest(request_id="up", by=ADA, priority=1))
        world.gate.set()
        await until(lambda: len(world.started) >= 8)
        world.audit_gate.set()
        await handle.result()
        assert (await handle.describe()).run_id != first_run

    assert [note.which for note in world.notes] == ["up"]
    assert world.calls["record_controls"] == 1
