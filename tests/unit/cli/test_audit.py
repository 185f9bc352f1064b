"""`ingather audit` and `handoff push-again`: what they ask, and what they say."""

import json

from tests.support.api_stand_in import BATCH_ID, Answer, StandIn, problem
from tests.unit.cli.conftest import Run

ACME = {"id": "11111111-1111-7111-8111-111111111111", "name": "Acme"}
EVENT = {
    "event_id": "22222222-2222-8222-8222-222222222222",
    "tenant_id": ACME["id"],
    "event_type": "BATCH_PAUSED",
    "resource_type": "batch",
    "resource_id": BATCH_ID,
    "details": {"a": 1, "b": 2, "c": 3, "d": 4},
    "actor": "ada\x1b[31m",
    "timestamp": "2026-03-14T18:42:00.5Z",
}


def page(*items: dict[str, object], cursor: str | None = None) -> Answer:
    return Answer({"data": list(items), "has_more": cursor is not None, "next_cursor": cursor})


def test_events_are_json_lines_for_programs(ingather: Run, server: StandIn) -> None:
    """As they come, page after page, as many as asked for."""
    server.on("GET", "/v1/audit", page(EVENT, EVENT, cursor="next"), page(EVENT, EVENT))
    outcome = ingather("audit", "--limit", 3, "--json")
    assert [json.loads(line) for line in outcome.lines] == [EVENT] * 3


def test_people_see_a_table(ingather: Run, server: StandIn) -> None:
    """What happened to what, by whom; control characters of names stay out of the terminal."""
    server.on("GET", "/v1/audit", page(EVENT))
    shown = ingather("audit").stdout
    assert "BATCH_PAUSED" in shown
    assert "\x1b[31m" not in shown


def test_every_filter_is_asked_for(ingather: Run, server: StandIn) -> None:
    """Times are local unless they say otherwise; a tenant may be named."""
    server.on("GET", "/v1/audit", page())
    server.on("GET", "/v1/tenants", page(ACME))
    options = ("--type", "BATCH_PAUSED", "--resource-type", "batch", "--resource", BATCH_ID, "--actor", "ada")
    outcome = ingather("audit", *options, "--since", "2026-03-14", "--tenant", "Acme")
    [request] = server.requests("GET", "/v1/audit")
    asked = {name: value[0] if isinstance(value, list) else value for name, value in request.query.items()}
    assert asked.pop("since").startswith("2026-03-14T00:00:00")
    assert asked == {
        "event_type": "BATCH_PAUSED", "resource_type": "batch", "resource_id": BATCH_ID, "actor": "ada",
        "tenant_id": ACME["id"], "limit": "50",
    }  # fmt: skip
    assert (outcome.exit_code, outcome.stdout) == (0, "")


def test_a_deleted_tenant_can_still_be_asked_for(ingather: Run, server: StandIn) -> None:
    """An id is not looked up first: the tenant it belonged to is in no list any more."""
    gone = "0197c0de-0000-7000-8000-00000000dead"
    server.on("GET", "/v1/audit", page(EVENT))
    assert ingather("audit", "--tenant", gone, "--json").exit_code == 0
    [request] = server.requests("GET", "/v1/audit")
    assert request.query["tenant_id"] in (gone, [gone])


def test_pushing_again_goes_on_until_all_is_pushed(ingather: Run, server: StandIn) -> None:
    """One key for all requests, so that the command can be repeated; the sum is the answer."""
    more = Answer({"documents": 10_000, "pushed": 10_000, "has_more": True, "next_cursor": "next"})
    last = Answer({"documents": 5, "pushed": 4, "has_more": False, "next_cursor": None})
    server.on("POST", f"/v1/batches/{BATCH_ID}/push-again", more, last)
    [line] = ingather("handoff", "push-again", BATCH_ID, "--idempotency-key", "k", "--json").lines
    assert json.loads(line) == {"batch_id": BATCH_ID, "pushed": 10_004, "idempotency_key": "k"}
    requests = server.requests("POST", f"/v1/batches/{BATCH_ID}/push-again")
    assert [request.headers["idempotency-key"] for request in requests] == ["k", "k"]
    assert "cursor" in str(requests[1].query)


def test_the_key_of_a_push_is_shown_before_it(ingather: Run, server: StandIn) -> None:
    """On stderr, so that a command whose answer was lost can be repeated; one's own key is known already."""
    server.on("POST", f"/v1/batches/{BATCH_ID}/push-again", problem(403, "scope_missing", detail="no"))
    outcome = ingather("handoff", "push-again", BATCH_ID, "--json")
    assert outcome.exit_code != 0
    [sent] = server.requests("POST", f"/v1/batches/{BATCH_ID}/push-again")
    assert f"--idempotency-key {sent.headers['idempotency-key']}" in outcome.stderr
    assert "--idempotency-key" not in ingather("handoff", "push-again", BATCH_ID, "--idempotency-key", "k").stderr
