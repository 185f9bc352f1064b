"""Texts through the client: what is sent, and how an answer is read."""

import json

from ingather.client import calls
from ingather.client.calls import Answer

RESULT = {
    "batch_id": "mine",
    "total_requests": 2,
    "completed": 1,
    "failed": 1,
    "results": [
        {
            "request_index": 0,
            "status": "completed",
            "response": {
                "operation": "key_points", "success": True, "key_points": ["One."], "cache_hit": True,
                "metadata": {"provider": "extractive"},
            },
        },
        {"request_index": 1, "status": "failed", "error": "The model declined."},
    ],
}  # fmt: skip


def answer(content):
    return Answer(200, {"content-type": "application/json"}, json.dumps(content).encode(), "http://api.test")


def test_texts_are_sent_as_the_contract_has_them():
    """Held back for a minute at most, or answered at once."""
    texts = [{"text": "The harbour of Vela.", "operation": "summarize"}]
    call = calls.process_texts(texts, batch_id="mine")
    assert (call.method, call.path, call.json) == ("POST", "/batch_process", {"requests": texts, "batch_id": "mine"})
    assert (call.headers["Prefer"], call.timeout) == ("wait=60", 105.0)
    assert calls.process_texts(texts, wait=None).headers["Prefer"] == "respond-async"


def test_a_batch_of_texts_may_name_a_webhook():
    """With the secret that its receiver verifies with."""
    call = calls.process_texts([], webhook_url="https://hooks.example.org/", webhook_secret="whsec_abc")
    assert call.json == {
        "requests": [], "webhook_url": "https://hooks.example.org/", "webhook_secret": "whsec_abc",
    }  # fmt: skip


def test_an_answer_tells_each_text_for_itself():
    """In the order of the request; the batch has ended."""
    batch = calls.process_texts([]).read(answer(RESULT))
    assert (batch.id, batch.is_final, batch.total, batch.completed, batch.failed) == ("mine", True, 2, 1, 1)
    first, second = batch.results
    assert (first.key_points, first.cache_hit, first.error) == (("One.",), True, None)
    assert (second.index, second.status, second.error) == (1, "failed", "The model declined.")


def test_a_batch_under_way_says_so():
    """By its id or its name."""
    call = calls.text_batch("my texts")
    assert call.path == "/batch_status/my%20texts"
    batch = call.read(answer(RESULT | {"status": "processing", "message": "1 of 2 requests have ended."}))
    assert (batch.is_final, batch.message) == (False, "1 of 2 requests have ended.")
