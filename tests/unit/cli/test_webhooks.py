"""`ingather webhooks`: what it sends, and what it says."""

import json

from tests.support.api_stand_in import Answer, StandIn
from tests.unit.cli.conftest import Run

HOOK = {
    "webhook_id": "w-1", "url": "https://hooks.example.org/in", "description": "ops", "event_types": ["batch.failed"],
    "batch_id": None, "is_enabled": False, "disabled_reason": "gone", "created_at": "2026-03-14T18:42:00+00:00",
}  # fmt: skip
DELIVERY = {
    "delivery_id": "d-1", "webhook_id": "w-1", "event_id": "evt_1", "event_type": "batch.failed", "status": "pending",
    "attempts": [{"number": 1, "status_code": 503, "error": "It answered 503."}],
    "next_attempt_at": "2026-03-14T18:47:00+00:00", "created_at": "2026-03-14T18:42:00+00:00",
}  # fmt: skip


def page(*items: dict[str, object]) -> Answer:
    return Answer({"data": list(items), "has_more": False, "next_cursor": None})


def test_a_webhook_is_created_and_its_secret_shown(ingather: Run, server: StandIn) -> None:
    """Both are data; how to go on is talk."""
    server.on("POST", "/v1/webhook-endpoints", Answer({**HOOK, "secret": "whsec_abc"}, 201))
    outcome = ingather("webhooks", "create", "https://hooks.example.org/in", "--event", "batch.failed")
    [request] = server.requests("POST", "/v1/webhook-endpoints")
    assert (outcome.exit_code, outcome.lines) == (0, ["w-1", "whsec_abc"])
    assert request.json == {"url": "https://hooks.example.org/in", "event_types": ["batch.failed"]}
    assert request.headers["idempotency-key"]


def test_webhooks_and_what_was_sent_are_listed(ingather: Run, server: StandIn) -> None:
    """As tables and as JSON lines."""
    server.on("GET", "/v1/webhook-endpoints", page(HOOK))
    server.on("GET", "/v1/webhook-endpoints/w-1/deliveries", page(DELIVERY))
    assert "gone" in ingather("webhooks", "list").stdout
    assert json.loads(ingather("webhooks", "list", "--json").stdout) == HOOK
    assert "503" in ingather("webhooks", "deliveries", "w-1", "--status", "pending").stdout
    assert server.requests("GET", "/v1/webhook-endpoints/w-1/deliveries")[0].query["status"] == "pending"
    assert json.loads(ingather("webhooks", "deliveries", "w-1", "--json").stdout) == DELIVERY


def test_a_webhook_is_changed(ingather: Run, server: StandIn) -> None:
    """Only what is named; all events, or some."""
    server.on("PATCH", "/v1/webhook-endpoints/w-1", Answer(HOOK))
    assert ingather("webhooks", "edit", "w-1", "--enable", "--all-events").exit_code == 0
    [request] = server.requests("PATCH", "/v1/webhook-endpoints/w-1")
    assert request.json == {"is_enabled": True, "event_types": []}
    assert ingather("webhooks", "edit", "w-1", "--all-events", "--event", "batch.failed").exit_code == 2


def test_a_test_says_what_is_wrong(ingather: Run, server: StandIn) -> None:
    """And fails where the receiver did."""
    server.on(
        "POST", "/v1/webhook-endpoints/w-1/test", Answer({"ok": True, "status_code": 204, "message": "", "took_ms": 7})
    )
    assert "took the event" in ingather("webhooks", "test", "w-1").stderr
    server.on(
        "POST",
        "/v1/webhook-endpoints/w-1/test",
        Answer({"ok": False, "status_code": 500, "message": "It answered 500."}),
    )
    outcome = ingather("webhooks", "test", "w-1")
    assert outcome.exit_code == 1
    assert "It answered 500." in outcome.stderr


def test_secrets_are_rotated_events_repeated_webhooks_deleted(ingather: Run, server: StandIn) -> None:
    """What follows is printed: the new secret, the new delivery."""
    server.on("POST", "/v1/webhook-endpoints/w-1/rotate", Answer({**HOOK, "secret": "whsec_new"}))
    server.on(
        "POST", "/v1/webhook-endpoints/w-1/deliveries/d-1/redeliver", Answer({**DELIVERY, "delivery_id": "d-2"}, 202)
    )
    server.on("DELETE", "/v1/webhook-endpoints/w-1", Answer(None, 204))
    assert ingather("webhooks", "rotate", "w-1").lines == ["whsec_new"]
    assert ingather("webhooks", "redeliver", "w-1", "d-1").lines == ["d-2"]
    assert ingather("webhooks", "delete", "w-1").exit_code == 0
