"""Contract E, sentence by sentence, over HTTP against the running stack, which has no language model."""

import asyncio
import json
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.examples import examples_of, fits, run_examples
from tests.support.running_stack import RunningStack, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "texts.md"

HARBOUR = (
    "The harbour of Vela was rebuilt in 1931 after the great storm. It cost three million crowns, which the city could"
    " not afford. Fishermen loved the new quay, and trade was wonderful for a decade. The engineer Ada Brandt drew the"
    " plans in a single winter. Old warehouses had to go, a loss that the town still regrets."
)
RESULT = {"batch_id", "total_requests", "completed", "failed", "results", "total_processing_time", "timestamp"}
RESPONSE = {"operation", "success", "metadata", "processing_time", "timestamp", "cache_hit"}
TOO_MANY = {"detail": "Batch size exceeds maximum limit of 50 requests."}
OPERATIONS: list[dict[str, Any]] = [
    {"operation": "summarize", "options": {"max_length": 30}},
    {"operation": "sentiment"},
    {"operation": "key_points", "options": {"max_points": 2}},
    {"operation": "questions", "options": {"num_questions": 2}},
    {"operation": "qa", "question": "Who drew the plans?"},
]


def requests(tag: str, *asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Texts that nobody sent before, with these operations."""
    return [{"text": f"{HARBOUR} Note {number} of {tag}.", **each} for number, each in enumerate(asked)]


def fresh(name: str) -> str:
    return f"{name}-{time.monotonic_ns()}"


async def test_every_operation_is_answered_in_the_order_of_the_requests(visitor: Visitor):
    """200 with all fields of the contract, each response with the one that fits its operation."""
    answer = await visitor.post("/batch_process", {"requests": requests(fresh("all"), *OPERATIONS)}, status=200)

    assert answer.keys() >= RESULT
    assert (answer["total_requests"], answer["completed"], answer["failed"]) == (5, 5, 0)
    assert answer["total_processing_time"] >= 0
    assert datetime.fromisoformat(answer["timestamp"]).utcoffset() is not None
    assert [item["request_index"] for item in answer["results"]] == [0, 1, 2, 3, 4]
    assert {item["status"] for item in answer["results"]} == {"completed"}
    responses = [item["response"] for item in answer["results"]]
    assert all(response.keys() >= RESPONSE and response["success"] for response in responses)
    assert [response["operation"] for response in responses] == [each["operation"] for each in OPERATIONS]
    assert {response["metadata"]["provider"] for response in responses} == {"extractive"}
    assert not any(response["cache_hit"] for response in responses)
    summary, sentiment, points, questions, answered = responses
    assert 0 < len(summary["result"].split()) <= 30
    assert sentiment["sentiment"]["sentiment"] in {"positive", "negative", "neutral"}
    assert 0 <= sentiment["sentiment"]["confidence"] <= 1
    assert sentiment["sentiment"]["explanation"]
    assert len(points["key_points"]) == 2
    assert len(questions["questions"]) == 2
    assert "Ada Brandt" in answered["result"]


async def test_the_same_text_asked_the_same_comes_out_of_the_cache(visitor: Visitor):
    """Also in another batch; asked otherwise, it does not."""
    tag = fresh("cached")
    [first], [again] = requests(tag, *OPERATIONS[:1]), requests(tag, *OPERATIONS[:1])
    other = first | {"options": {"max_length": 12}}
    made = await visitor.post("/batch_process", {"requests": [first]}, status=200)
    found = await visitor.post("/batch_process", {"requests": [other, again]}, status=200)
    hits = [item["response"]["cache_hit"] for item in (*made["results"], *found["results"])]
    assert hits == [False, False, True]
    assert found["results"][1]["response"]["result"] == made["results"][0]["response"]["result"]


async def test_a_clients_own_metadata_comes_back_with_its_result(visitor: Visitor):
    """As it was sent, nulls and all."""
    own = {"ticket": 7, "tags": ["a", None], "owner": None}
    [request] = requests(fresh("own"), {"operation": "sentiment", "user_metadata": own})
    answer = await visitor.post("/batch_process", {"requests": [request]}, status=200)
    assert answer["results"][0]["response"]["metadata"]["user_metadata"] == own


async def test_too_many_texts_are_400(visitor: Visitor):
    """In the contract's words, whatever else is wrong with them."""
    sent = requests(fresh("many"), *[OPERATIONS[1]] * 50, {"operation": "unheard of"})
    assert await visitor.post("/batch_process", {"requests": sent}, status=400) == TOO_MANY


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"text": "too short"}, "text"),
        ({"text": " " * 40}, "text"),
        ({"text": "x" * 10_001}, "text"),
        ({"operation": "translate"}, "operation"),
        ({"operation": "qa"}, 0),
        ({"options": {"max_length": 0}}, "options"),
    ],
)
async def test_a_field_out_of_its_bounds_is_422(visitor: Visitor, change: dict[str, Any], place: str | int):
    """It says where, and not what was sent."""
    sent = requests("bounds", OPERATIONS[0])[0] | change
    answer = await visitor.post("/batch_process", {"requests": [sent]}, status=422)
    assert answer["detail"][0]["loc"][:2] == ["body", "requests"]
    assert place in answer["detail"][0]["loc"]
    assert "x" * 20 not in str(answer)


async def test_an_empty_list_is_422_and_no_json_is_400(visitor: Visitor):
    """Each with a detail."""
    assert (await visitor.post("/batch_process", {"requests": []}, status=422))["detail"]
    response = await visitor.http.post("/batch_process", content=b"{", headers={"Content-Type": "application/json"})
    assert (response.status_code, set(response.json())) == (400, {"detail"})


async def test_a_wrong_key_is_401(visitor: Visitor):
    """Also where none is needed."""
    response = await visitor.http.post(
        "/batch_process", json={"requests": requests("401", OPERATIONS[1])}, headers={"X-API-Key": "nobody's"}
    )
    assert (response.status_code, set(response.json())) == (401, {"detail"})


async def test_the_same_batch_id_is_the_same_batch_and_with_other_requests_a_409(visitor: Visitor):
    """The client's id is the batch's name at this door, in its tenant."""
    name = fresh("mine")
    body = {"batch_id": name, "requests": requests(name, *OPERATIONS[:2])}
    first = await visitor.post("/batch_process", body, status=200)
    assert await visitor.post("/batch_process", body, status=200) == first
    assert first["batch_id"] == name
    other = body | {"requests": requests(name, OPERATIONS[1])}
    assert set(await visitor.post("/batch_process", other, status=409)) == {"detail"}
    status = (await visitor.get(f"/batch_status/{name}")).json()
    assert (status["batch_id"], status["status"], status["results"]) == (name, "completed", first["results"])


async def test_respond_async_is_answered_202_and_read_later(visitor: Visitor):
    """``Location`` leads to the status, which has the results as soon as there are any."""
    response = await visitor.http.post(
        "/batch_process", json={"requests": requests(fresh("async"), *OPERATIONS)}, headers={"Prefer": "respond-async"}
    )
    assert response.status_code == 202
    assert int(response.headers["Retry-After"]) > 0
    assert response.json()["status"] in {"pending", "processing"}
    deadline = time.monotonic() + 60
    while (status := (await visitor.get(response.headers["Location"])).json())["status"] != "completed":
        assert status["status"] in {"pending", "processing"}
        assert time.monotonic() < deadline, status
        await asyncio.sleep(0.2)
    assert [item["request_index"] for item in status["results"]] == [0, 1, 2, 3, 4]
    assert (status["total_requests"], status["completed"], status["failed"]) == (5, 5, 0)
    assert status["message"]


async def test_a_batch_of_texts_is_a_batch_like_any_other(visitor: Visitor):
    """At ``/v1/batches`` under its id, with its texts as documents whose names and rows say nothing of them."""
    answer = await visitor.post("/batch_process", {"requests": requests(fresh("like"), *OPERATIONS[:2])}, status=200)
    batch = await visitor.batch(answer["batch_id"])
    assert (batch["pipeline"], batch["status"], batch["counts"]["done"]) == ("text", "completed", 2)
    documents = await visitor.get(f"/v1/batches/{answer['batch_id']}/documents")
    assert [each["filename"] for each in documents.json()["data"]] == ["001-summarize.json", "002-sentiment.json"]
    assert "harbour" not in documents.text


async def test_an_unknown_batch_is_404(visitor: Visitor):
    """By id or by name."""
    for name in ("01900000-0000-7000-8000-000000000000", "never heard of it"):
        response = await visitor.http.get(f"/batch_status/{name}")
        assert (response.status_code, response.json()) == (404, {"detail": "Batch not found"})


async def test_many_clients_wait_at_once_and_each_gets_its_own(visitor: Visitor):
    """Twelve requests of two texts: none fails, none sees another's. (``bench.texts`` has two hundred of five.)"""
    tags = [fresh(f"crowd-{number}") for number in range(12)]
    asked = {"operation": "qa", "question": "Which note is it?"}
    answers = await asyncio.gather(
        *(visitor.post("/batch_process", {"requests": requests(tag, asked, asked)}, status=200) for tag in tags)
    )
    for tag, answer in zip(tags, answers, strict=True):
        assert (answer["completed"], answer["failed"]) == (2, 0)
        results = [item["response"]["result"] for item in answer["results"]]
        assert [f"Note {number} of {tag}." in result for number, result in enumerate(results)] == [True] * 2


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the examples need curl and jq")
def test_each_example_of_the_documentation_runs(stack: RunningStack, tmp_path: Path):
    """In order, in one shell, in an empty folder; and each prints what the page shows."""
    for example, printed in run_examples(examples_of(PAGE), tmp_path, INGATHER_URL=stack.base_url):
        if example.expected is not None:
            answer = json.loads(printed)
            assert fits(example.expected, answer), f"line {example.line}: the page shows another answer than {answer}"
