"""Pages as they are served: what they show, what they refuse, what they do."""

import re

import pytest

from api.dashboard.pages.batch import DocumentsChosen, _log
from api.dashboard.rendering import environment, query_of
from ingather.models.batch import BatchState
from tests.support.batch_of_five import batch_of_five

HTMX = {"HX-Request": "true"}


@pytest.mark.parametrize("path", ["/", "/submit", "/search", "/search?q=dome"])
async def test_a_page_brings_its_policy(api, path):
    """Scripts and styles from here alone, in no frame, in no cache."""
    response = await api.http.get(path)
    assert response.status_code == 200, response.text
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert response.headers["cache-control"] == "private, no-store"


async def test_all_that_a_page_loads_is_there(api):
    """And may be kept for ever, under an address that changes with it."""
    page = (await api.http.get("/")).text
    for url in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page):
        response = await api.http.get(url)
        assert response.status_code == 200, url
        assert "immutable" in response.headers["cache-control"]


async def test_the_front_page_shows_the_batches(api):
    """Each with its name, state and counts; the way on leads to the API and the Temporal UI."""
    api.parts.temporal_ui_url = "http://127.0.0.1:8233"
    batch = await api.submit(name="Minutes & <notes>")
    page = (await api.http.get("/")).text
    assert "Minutes &amp; &lt;notes&gt;" in page
    assert f'href="/batches/{batch["id"]}"' in page
    for target in ("/docs", "http://127.0.0.1:8233"):
        assert f'href="{target}"' in page


async def test_batches_are_found_by_name_and_by_id(api):
    """Part of the name in any case, or how the id begins."""
    first, second = await api.submit(name="Minutes of March"), await api.submit(name="Letters")
    for question, found in (("march", first), (second["id"][:18], second)):
        listed = (await api.http.get("/v1/batches", params={"q": question})).json()["data"]
        assert [each["id"] for each in listed] == [found["id"]]
    assert "No batch fits" in (await api.http.get("/?q=nobody")).text


async def test_a_list_goes_on_where_it_ended(api):
    """Page by page, with a way back to the first."""
    for number in range(27):
        await api.submit(name=f"batch {number}", documents=[{"filename": "a.txt", "content": "aGVsbG8="}])
    first = (await api.http.get("/")).text
    [following] = re.findall(r'rel="next" href="([^"]+)"', first)
    second = (await api.http.get(following.replace("&amp;", "&"))).text
    assert ("batch 1<" in second, "batch 26<" in second) == (True, False)
    assert "First page" in second


async def test_a_part_that_is_the_same_is_not_sent_again(api):
    """204, so that nothing flickers and nothing loses the focus."""
    await api.submit()
    first = await api.http.get("/?fragment=rows", headers=HTMX)
    [seen] = re.findall(r"seen=([0-9a-f]{16})", first.text)
    again = await api.http.get(f"/?fragment=rows&seen={seen}", headers=HTMX)
    assert (first.status_code, again.status_code) == (200, 204)


async def test_a_batch_is_steered_from_its_page(api):
    """Pause, resume, cancel: each does what the API does, comes back to the page and says so, once."""
    batch = await api.submit(name="to be steered")
    where = f"/batches/{batch['id']}"
    assert "Pause" in (await api.http.get(where)).text
    response = await api.http.post(f"{where}/pause")
    assert (response.status_code, response.headers["location"]) == (303, where)
    page = (await api.http.get(where)).text
    assert "No new documents begin" in page
    assert "Resume" in page
    assert "No new documents begin" not in (await api.http.get(where)).text
    await api.http.post(f"{where}/edit", data={"name": "steered", "priority": "1"})
    changed = (await api.http.get(f"/v1/batches/{batch['id']}")).json()
    assert (changed["name"], changed["priority"]) == ("steered", 1)
    assert [name for _, name, _ in api.engine.messages] == ["pause", "set_priority"]


async def test_all_documents_are_told_by_where_they_stand(api):
    """Those in flight by their stage, while it runs and after; each number leads to its documents."""
    batch_id = await batch_of_five(api)
    shown = stages_shown((await api.http.get(f"/batches/{batch_id}?fragment=flight", headers=HTMX)).text)
    assert shown == [
        ("pending", "1"), ("in_flight", "2"), "1 waiting for its turn", "1 embedding",
        ("done", "1"), ("failed", "1"), ("skipped", "0"), ("cancelled", "0"),
    ]  # fmt: skip
    await api.end(batch_id, BatchState.COMPLETED_WITH_FAILURES, codes={"empty": 1}, done=3, failed=1, skipped=1)
    shown = stages_shown((await api.http.get(f"/batches/{batch_id}")).text)
    assert shown == [
        ("pending", "0"), ("in_flight", "0"), ("done", "3"), ("failed", "1"), ("skipped", "1"), ("cancelled", "0"),
    ]  # fmt: skip


async def test_a_document_has_the_number_that_the_command_line_gives_it(api):
    """`ingather retry --ordinal 0` is about the one with the number 0 on the page."""
    batch_id = await batch_of_five(api)
    listed = (await api.http.get(f"/v1/batches/{batch_id}/documents")).json()["data"]
    page = (await api.http.get(f"/batches/{batch_id}")).text
    numbers = re.findall(r'data-label="No\.">(\d+)<', page)
    assert numbers == [str(document["ordinal"]) for document in listed]
    assert numbers[0] == "0"


def stages_shown(page: str) -> list[tuple[str, str] | str]:
    """What a batch's documents by stage say, row by row."""
    [listed] = re.findall(r'<ol class="standings">.*?</ol>', page, re.DOTALL)
    row = r'status=(\w+)#documents">(?s:.*?)<span class="num"[^>]*>([\d,]+)</span>|<b>(\d+)</b> ([^<]+)'
    return [
        (status, count) if status else f"{in_flight} {stage}"
        for status, count, in_flight, stage in re.findall(row, listed)
    ]


async def test_metadata_of_a_batch_is_shown_as_it_was_given(api):
    """Text and numbers as they are, all else as JSON."""
    batch = await api.submit(metadata={"site": "Ridge", "year": 2026, "place": {"dome": True}})
    page = (await api.http.get(f"/batches/{batch['id']}")).text
    for shown in ("Ridge", "2026", '<code>{"dome": true}</code>'):
        assert f"<dd>{shown}</dd>" in page


async def test_failures_are_told_by_code_with_advice(api):
    """The title and advice of the code, and a button for these alone."""
    batch = await api.submit()
    await api.end(batch["id"], BatchState.FAILED, codes={"encrypted": 1}, failed=1)
    page = (await api.http.get(f"/batches/{batch['id']}")).text
    assert "Document is encrypted" in page
    assert "Remove the password and submit the document again." in page
    await api.http.post(f"/batches/{batch['id']}/retry", data={"codes": "encrypted"})
    [(_, name, request)] = api.engine.messages
    assert (name, request.codes) == ("reopen", ("encrypted",))


async def test_what_is_refused_is_said_with_what_to_do(api):
    """In words, with the status of the API's answer; a part of a page leaves the page as it is."""
    missing = "/batches/99999999-9999-7999-8999-999999999999"
    response = await api.http.get(missing)
    assert response.status_code == 404
    assert "Batch not found" in response.text
    assert "Check the id and the tenant" in response.text
    assert (await api.http.get(f"{missing}?fragment=overview", headers=HTMX)).text == ""


async def test_parts_of_a_page_are_there_by_themselves(api):
    """Each that the page asks for again while the batch runs."""
    batch = await api.submit()
    for part in ("overview", "flight", "failures", "documents", "throughput", "timeline"):
        response = await api.http.get(f"/batches/{batch['id']}?fragment={part}", headers=HTMX)
        assert response.status_code == 200, (part, response.text)
        assert "<html" not in response.text


async def test_the_log_shows_events_of_every_kind(api):
    """States, progress and documents, those that failed with their code."""
    batch = await api.submit()
    facts = {"seq": 1, "time": "2026-03-14T12:00:00Z"}
    events = [
        {**facts, "type": "batch.started", "data": {"status": "running"}},
        {**facts, "type": "batch.progress", "data": {"status": "running", "counts": batch["counts"]}},
        {
            **facts,
            "type": "document.started",
            "data": {"document_id": "1", "filename": "a<b>.txt", "status": "in_flight"},
        },
        {
            **facts,
            "type": "document.failed",
            "data": {"document_id": "1", "filename": "a.txt", "error": {"code": "empty"}},
        },
        {**facts, "type": "batch.put_aside", "data": {}},
    ]
    template = environment().get_template("batch/log.html")
    shown = template.render(
        batch=batch, where="/batches/1", events=events, latest_seq=5, seen="", csrf_token="", query_of=query_of
    )
    for text in ("running", "0 of 1", "a&lt;b&gt;.txt", "empty", "batch.put_aside"):
        assert text in shown


class Told:
    """What ``/v1`` tells of a batch's events."""

    def __init__(self, *types: str, ended: bool) -> None:
        self.events = [{"seq": seq, "type": kind} for seq, kind in enumerate(types, start=1)]
        self.ended = ended

    async def get(self, _path: str, *, after: str, limit: int) -> dict:
        found = self.events[int(after) :][:limit]
        is_last = len(found) == len(self.events[int(after) :])
        return {"data": found, "latest_seq": len(self.events), "ended": self.ended and is_last}


@pytest.mark.parametrize("ended", [False, True])
async def test_a_log_is_whole_with_the_last_event_of_all(ended):
    """Not with that of an earlier round: a batch that was retried is told to its end too."""
    told = Told("batch.completed", "batch.retrying", *["document.started"] * 70, "batch.completed", ended=ended)
    log = await _log(told, "/v1/batches/1", {}, DocumentsChosen("", "", ""))
    assert (len(log["events"]), log["events"][0]["seq"], log["is_whole"]) == (60, 73, ended)
