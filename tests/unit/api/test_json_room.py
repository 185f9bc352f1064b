"""JSON in memory: what it may become, how long it may take to arrive, and whose share it is."""

import asyncio
import json

import pytest

from api import body as api_body
from api.json_room import JsonRoom, most_values
from api.shared_budget import SharedBudget
from ingather.models.errors import PayloadTooLargeError
from ingather.settings import Limits, Settings
from tests.support.api import api_in_process
from tests.support.submitted import form, ndjson

MIB = 1024 * 1024
DOCUMENT = {"filename": "a.txt", "content": "aGVsbG8="}
JOBS, BATCHES = "/api/v1/batch/jobs", "/v1/batches"
OTHER = "11111111-1111-7111-8111-111111111111"


def slow_body(*, is_let_go: asyncio.Event):
    """More than a megabyte that begins, and goes on when it is let go."""

    async def chunks():
        yield b" " * (2 * MIB)
        await is_let_go.wait()
        yield json.dumps({"documents": [DOCUMENT]}).encode()

    return {"content": chunks(), "headers": {"content-type": "application/json"}}


@pytest.fixture
async def few_values():
    async with api_in_process(Settings(limits=Limits(max_json_values=1_000))) as running:
        yield running


@pytest.mark.parametrize("path", [JOBS, BATCHES])
@pytest.mark.parametrize(
    "body",
    [
        {"documents": [{"filename": "", "content": ""}] * 500},
        {"documents": [{**DOCUMENT, "metadata": {"deep": [[]] * 1_000}}]},
        {"documents": [1] * 1_001},
    ],
)
async def test_small_text_that_becomes_many_values_is_refused(few_values, path, body):
    """By the limit's name, before anything is made of it."""
    response = await few_values.http.post(path, json=body)

    assert response.status_code == 413, response.text
    assert "max_json_values (1,000)" in response.text
    assert await few_values.keys() == []


async def test_a_long_line_of_many_values_is_refused(few_values):
    """A line of NDJSON holds as much as a body of JSON."""
    line = json.dumps({"filename": "a", "text": "x" * 300_000, "metadata": {"deep": [[]] * 1_000}})
    response = await few_values.http.post(BATCHES, content=line, headers={"content-type": "application/x-ndjson"})
    assert (response.status_code, response.json()["limit"]) == (413, "max_json_values")


@pytest.mark.parametrize("name", ["spec", "metadata"])
async def test_a_long_field_of_many_values_is_refused(few_values, name):
    """A field of a form holds as much as a body of JSON."""
    field = {name: {"metadata": {"deep": [[]] * 1_000, "pad": "x" * 300_000}}}
    response = await few_values.http.post(BATCHES, **form(("a.txt", b"hello"), **field))
    assert (response.status_code, response.json().get("limit")) == (413, "max_json_values")


async def test_a_long_spec_of_many_values_is_refused(few_values):
    """What speaks of the batch is a line like any other."""
    line = {"spec": {"metadata": {"deep": [[]] * 1_000, "pad": "x" * 300_000}}}
    response = await few_values.http.post(BATCHES, **ndjson(line))
    assert (response.status_code, response.json().get("limit")) == (413, "max_json_values")


@pytest.mark.parametrize(
    "value", [1, "a", [], {}, [1, 2, [3]], {"a": {"b": [1, 2]}, "c": None}, [{}, {}, []], ["a,b", {"c:d": "[{"}]]
)
def test_values_are_never_counted_short(value):
    """Each has a sign in front of it, or is the first."""

    def count(node) -> int:
        inner = list(node.values()) + list(node) if isinstance(node, dict) else node if isinstance(node, list) else []
        return 1 + sum(map(count, inner))

    assert most_values(json.dumps(value).encode()) >= count(value)


async def test_a_request_that_is_wrong_in_many_places_names_their_number(api):
    """Listing each would cost more than reading the request did."""
    body = {"documents": [DOCUMENT], **{f"field_{number}": 1 for number in range(2_000)}}
    response = await api.http.post(BATCHES, json=body)

    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert (error["detail"], error["code"]) == ("It does not fit in 2,000 places.", "too_many_errors")


async def test_slow_bodies_of_one_tenant_keep_no_other_waiting(api):
    """However many of them there are: a tenant has half of the room."""
    await api.catalog.add_tenant(OTHER, "other")
    let_go = asyncio.Event()
    slow = [asyncio.create_task(api.http.post(JOBS, **slow_body(is_let_go=let_go))) for _ in range(6)]
    await asyncio.sleep(0.1)

    open_gate = asyncio.Event()
    open_gate.set()
    quick = slow_body(is_let_go=open_gate)
    quick["headers"]["X-Tenant-ID"] = OTHER
    response = await asyncio.wait_for(api.http.post(JOBS, **quick), 10)

    assert (response.status_code, response.json()["tenant_id"]) == (200, OTHER)
    assert not any(task.done() for task in slow)
    let_go.set()
    assert [response.status_code for response in await asyncio.gather(*slow)] == [200] * 6


@pytest.mark.parametrize("path", [JOBS, BATCHES])
async def test_a_body_that_trickles_in_is_refused(api, monkeypatch, path):
    """Never silent for long, and never done: it may not hold its place for ever."""
    monkeypatch.setattr(api_body, "HELD_SECONDS", 0.2)
    monkeypatch.setattr(api_body, "HELD_BYTES_PER_SECOND", 1 << 40)

    async def drops():
        for _ in range(20):
            yield b" "
            await asyncio.sleep(0.05)

    response = await api.http.post(path, content=drops(), headers={"content-type": "application/json"})
    assert (response.status_code, "too slowly" in response.text) == (400, True)


async def test_a_share_is_free_again_once_it_was_held():
    """Of the tenant and of all; also where whoever waited was cancelled."""
    budget = SharedBudget(10, 5)
    async with budget.hold("a", 99):
        waiting = asyncio.create_task(_held(budget, "a", 1))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with budget.hold("b", 5):
            third = asyncio.create_task(_held(budget, "c", 1))
            await asyncio.sleep(0)
            assert not third.done(), "all of it is held"
        await asyncio.wait_for(third, 5)
    async with budget.hold("a", 5), budget.hold("b", 5):
        pass


def test_the_largest_body_has_room():
    """What is within both limits is never refused."""
    JsonRoom(100, 1_000).values("a", b"," * 999)
    with pytest.raises(PayloadTooLargeError):
        JsonRoom(100, 1_000).values("a", b"," * 1_000)


async def _held(budget: SharedBudget, tenant_id: str, size: int) -> None:
    async with budget.hold(tenant_id, size):
        return
