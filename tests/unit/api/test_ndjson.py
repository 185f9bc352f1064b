"""NDJSON submissions: a document a line, and every bad line by its number."""

import base64
import json

import pytest

from ingather.settings import Limits, Settings
from tests.support.api import api_in_process
from tests.support.submitted import bytes_of, ndjson, submission


async def test_a_document_a_line(api):
    """Base64 or text, with metadata; empty lines and a byte order mark do not matter."""
    response = await api.http.post(
        "/v1/batches",
        **ndjson(
            "\ufeff" + json.dumps({"filename": "a.bin", "content": base64.b64encode(b"\x00\xff").decode()}),
            "",
            {"filename": "b.txt", "text": "héllo", "metadata": {"k": 1}},
            "  ",
        ),
    )

    assert response.status_code == 202, response.text
    first, second = await submission(api, response.json()["id"])
    assert (first.filename, await bytes_of(api, first)) == ("a.bin", b"\x00\xff")
    assert (second.filename, await bytes_of(api, second), second.metadata) == ("b.txt", "héllo".encode(), {"k": 1})
    assert api.engine.specs[response.json()["id"]].submitted_count == 2


async def test_the_first_line_may_speak_of_the_batch(api):
    """Name, collection and the rest, as in the other kinds of body."""
    spec = {"spec": {"name": "nightly", "collection": "papers", "priority": 2, "options": {"chunk_size": 500}}}
    response = await api.http.post("/v1/batches", **ndjson(spec, {"filename": "a", "text": "x"}))

    batch = response.json()
    assert (batch["name"], batch["collection"], batch["priority"], batch["counts"]["total"]) == (
        "nightly", "papers", 2, 1,
    )  # fmt: skip


async def test_lines_may_be_cut_anywhere(api):
    """Where a chunk of the body ends says nothing about where a line does."""
    content = ndjson({"spec": {"name": "n"}}, *({"filename": f"{n}", "text": "x" * n} for n in range(40)))["content"]

    async def chunks():
        for start in range(0, len(content), 7):
            yield content[start : start + 7]

    response = await api.http.post(
        "/v1/batches", content=chunks(), headers={"content-type": "application/x-ndjson; charset=utf-8"}
    )
    lines = await submission(api, response.json()["id"])
    assert [len(await bytes_of(api, line)) for line in lines] == list(range(40))


async def test_bad_lines_refuse_the_request_by_number(api):
    """Each is named once, the values are not, and nothing is kept."""
    response = await api.http.post(
        "/v1/batches",
        **ndjson(
            {"filename": "fine", "text": "x"},
            "{not json, s3cr3t",
            {"filename": "neither"},
            {"filename": "both", "text": "x", "content": "eA=="},
            {"text": "no name", "colour": "s3cr3t"},
            "[1]",
            {"spec": {"name": "too late"}},
        ),
    )

    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "validation_failed")
    assert [error["pointer"] for error in problem["errors"]] == [
        "line:2#", "line:3#", "line:4#", "line:5#/filename", "line:6#", "line:7#/filename",
    ]  # fmt: skip
    assert problem["errors"][0]["detail"] == "Line 2: It is not valid JSON."
    assert "1 more on this line" in problem["errors"][3]["detail"]
    assert "s3cr3t" not in response.text
    assert await api.keys() == []


async def test_at_most_twenty_bad_lines_are_named(api):
    """Whoever sends the wrong file need not read all of it."""
    response = await api.http.post("/v1/batches", **ndjson(*["nope"] * 500))
    problem = response.json()
    assert (response.status_code, len(problem["errors"])) == (422, 20)
    assert problem["detail"].startswith("20 lines or more")


@pytest.mark.parametrize("is_last", [True, False])
async def test_a_line_over_the_limit_is_named(is_last):
    """The limit is in the message; the lines behind it are still checked."""
    async with api_in_process(Settings(limits=Limits(max_line_bytes=1_024))) as api:
        long = {"filename": "long", "text": "x" * 200_000}
        rest = [] if is_last else [{"filename": "ok", "text": "x"}, "nope"]
        response = await api.http.post("/v1/batches", **ndjson({"filename": "ok", "text": "x"}, long, *rest))

        problem = response.json()
        assert (response.status_code, problem["errors"][0]["code"]) == (422, "line_too_large")
        assert "max_line_bytes (1,024)" in problem["errors"][0]["detail"]
        assert [error["pointer"] for error in problem["errors"]] == ["line:2#"] + ([] if is_last else ["line:4#"])
        assert await api.keys() == []


async def test_a_bad_spec_line_is_named(api):
    """The pointer leads into the spec."""
    response = await api.http.post("/v1/batches", **ndjson({"spec": {"priority": 77}}, {"filename": "a", "text": "x"}))
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "line:1#/spec/priority")


async def test_broken_base64_costs_its_document(api):
    """As in the other bodies: the line can be read, the document cannot."""
    response = await api.http.post(
        "/v1/batches", **ndjson({"filename": "bad", "content": "%%%"}, {"filename": "good", "text": "ok"})
    )
    bad, good = await submission(api, response.json()["id"])
    assert (bad.refused.code, await bytes_of(api, good)) == ("content_invalid", b"ok")


async def test_documents_too_many_are_413(small_api):
    """The limit holds line by line, and nothing stays."""
    response = await small_api.http.post(
        "/v1/batches", **ndjson(*({"filename": f"{n}", "text": "x"} for n in range(4)))
    )
    assert (response.status_code, response.json()["code"]) == (413, "batch_too_large")
    assert await small_api.keys() == []


@pytest.mark.parametrize("lines", [[], ["", " "], [{"spec": {"name": "x"}}]])
async def test_no_documents_are_422(api, lines):
    """empty_batch, whether or not the batch was spoken of."""
    response = await api.http.post("/v1/batches", **ndjson(*lines))
    assert (response.status_code, response.json()["code"]) == (422, "empty_batch")


async def test_a_key_makes_two_requests_one(api):
    """Also where the second writes its JSON differently; other documents are refused."""
    first = await api.http.post(
        "/v1/batches", **keyed(ndjson({"filename": "a", "text": "x", "metadata": {"k": 1, "l": 2}}))
    )
    keys = await api.keys()
    again = await api.http.post(
        "/v1/batches", **keyed(ndjson('{ "metadata": {"l": 2, "k": 1}, "text": "x", "filename": "a" }'))
    )
    other = await api.http.post("/v1/batches", **keyed(ndjson({"filename": "a", "text": "y"})))

    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert await api.keys() == keys


async def test_a_dry_run_keeps_nothing(api):
    """Counted as the other bodies are."""
    response = await api.http.post(
        "/v1/batches?dry_run=true",
        **ndjson({"filename": "a.txt", "text": "hello"}, {"filename": "b.txt", "text": "hello"}),
    )
    assert (response.status_code, response.json()["documents"], response.json()["duplicates"]) == (200, 2, 1)
    assert await api.keys() == []


def keyed(body: dict) -> dict:
    return {**body, "headers": {**body["headers"], "Idempotency-Key": "order-1"}}
