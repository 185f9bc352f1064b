"""`ingather tenants`, `users` and `keys`: what they send, and what they say."""

import json

import pytest

from ingather.domain.api_keys import key_hash, key_id_of
from tests.support.api_stand_in import Answer, StandIn, problem
from tests.unit.cli.conftest import Run

ACME = {"id": "11111111-1111-7111-8111-111111111111", "name": "Acme", "pipeline": "ingest", "created_at": "2026-03-14"}
NIGHTLY = {"id": "abcdefgh", "name": "nightly", "tenant_id": ACME["id"], "scopes": ["read"], "user": None}
ADA = {"id": "22222222-2222-7222-8222-222222222222", "username": "ada", "tenant_id": ACME["id"], "scopes": ["read"]}


def page(*items: dict[str, object]) -> Answer:
    return Answer({"data": list(items), "has_more": False, "next_cursor": None})


@pytest.fixture(autouse=True)
def lists(server: StandIn) -> None:
    server.on("GET", "/v1/tenants", page(ACME))
    server.on("GET", "/v1/users", page(ADA))
    server.on("GET", "/v1/api-keys", page(NIGHTLY))


def test_a_tenant_is_created(ingather: Run, server: StandIn, tmp_path) -> None:
    """Settings come from a file; the id is the data, the rest is talk."""
    server.on("POST", "/v1/tenants", Answer(ACME, 201))
    settings = tmp_path / "acme.json"
    settings.write_text('{"fairness_weight": 2}')
    outcome = ingather("tenants", "create", "Acme", "--pipeline", "handoff", "--settings", settings)
    [request] = server.requests("POST", "/v1/tenants")
    assert (outcome.exit_code, outcome.lines) == (0, [ACME["id"]])
    assert request.json == {"name": "Acme", "pipeline": "handoff", "fairness_weight": 2}
    assert request.headers["idempotency-key"]


@pytest.mark.parametrize("group", ["tenants", "users", "keys"])
def test_lists_are_tables_or_json_lines(ingather: Run, group: str) -> None:
    """One object a line for programs."""
    [line] = ingather(group, "list", "--json").lines
    assert json.loads(line) in (ACME, ADA, NIGHTLY)
    assert json.loads(line)["id"] in ingather(group, "list").stdout


def test_a_user_without_a_password_gets_one(ingather: Run, server: StandIn) -> None:
    """Made here, sent, and shown once."""
    server.on("POST", "/v1/users", Answer(ADA, 201))
    outcome = ingather("users", "create", "ada", "--tenant", "Acme")
    [request] = server.requests("POST", "/v1/users")
    assert request.json == {"username": "ada", "password": outcome.lines[0], "tenant_id": ACME["id"]}
    assert len(outcome.lines[0]) >= 20
    as_json = json.loads(ingather("users", "create", "ada", "--json").stdout)
    assert as_json["password"] == server.requests("POST", "/v1/users")[1].json["password"]


def test_a_password_comes_from_a_file(ingather: Run, server: StandIn, tmp_path) -> None:
    """Its first line; it is not shown again."""
    server.on("POST", "/v1/users", Answer(ADA, 201))
    (tmp_path / "password").write_text("correct horse\nbattery\n")
    outcome = ingather("users", "create", "ada", "--password-file", tmp_path / "password")
    assert server.requests("POST", "/v1/users")[0].json["password"] == "correct horse"
    assert "correct" not in outcome.stdout + outcome.stderr


def test_a_key_is_shown_once(ingather: Run, server: StandIn) -> None:
    """As the only line of data, so that a shell can keep it."""
    server.on("POST", "/v1/api-keys", Answer({**NIGHTLY, "key": "ing_live_x"}, 201))
    outcome = ingather(
        "keys", "create", "nightly", "--tenant", ACME["id"], "--scope", "read", "--user", "ada", "--days", 3
    )
    assert (outcome.exit_code, outcome.lines) == (0, ["ing_live_x"])
    sent = server.requests("POST", "/v1/api-keys")[0].json
    assert (sent["name"], sent["tenant_id"], sent["scopes"], sent["user"]) == ("nightly", ACME["id"], ["read"], "ada")
    assert "expires_at" in sent
    assert json.loads(ingather("keys", "create", "nightly", "--json").stdout)["key"] == "ing_live_x"


def test_a_key_is_rotated(ingather: Run, server: StandIn) -> None:
    """The new one is shown."""
    server.on("POST", "/v1/api-keys/abcdefgh/rotate", Answer({**NIGHTLY, "key": "ing_live_y"}, 201))
    assert ingather("keys", "rotate", "nightly", "--hours", 1).lines == ["ing_live_y"]
    assert server.requests("POST", "/v1/api-keys/abcdefgh/rotate")[0].json == {"grace_seconds": 3600}


def test_a_rotated_key_keeps_its_name(ingather: Run, server: StandIn) -> None:
    """By name, `rotate` means the newest of the line, and `delete` all of it; an id means that key."""
    server.on("GET", "/v1/api-keys", page({**NIGHTLY, "id": "ijklmnop", "rotated_from": NIGHTLY["id"]}, NIGHTLY))
    server.on("POST", "/v1/api-keys/ijklmnop/rotate", Answer({**NIGHTLY, "key": "ing_live_z"}, 201))
    assert ingather("keys", "rotate", "nightly").lines == ["ing_live_z"]
    paths = ["/v1/api-keys/ijklmnop", "/v1/api-keys/abcdefgh"]
    for path in paths:
        server.on("DELETE", path, Answer(None, 204))
    assert len(ingather("keys", "delete", "nightly", "--json").lines) == 2
    assert ingather("keys", "delete", "abcdefgh").exit_code == 0
    assert [len(server.requests("DELETE", path)) for path in paths] == [1, 2]


@pytest.mark.parametrize(
    ("group", "name", "path"),
    [
        ("tenants", "Acme", f"/v1/tenants/{ACME['id']}"),
        ("tenants", ACME["id"], f"/v1/tenants/{ACME['id']}"),
        ("users", "ada", f"/v1/users/{ADA['id']}"),
        ("keys", "nightly", "/v1/api-keys/abcdefgh"),
    ],
)
def test_things_are_deleted_by_name_or_id(ingather: Run, server: StandIn, group: str, name: str, path: str) -> None:
    """One request, for the id."""
    server.on("DELETE", path, Answer(None, 204))
    outcome = ingather(group, "delete", name, "--json")
    assert (outcome.exit_code, json.loads(outcome.stdout)["deleted"]) == (0, True)
    assert len(server.requests("DELETE", path)) == 1


def test_an_unknown_name_is_not_found(ingather: Run) -> None:
    """Exit code 4; nothing is deleted."""
    assert ingather("tenants", "delete", "nobody").exit_code == 4


def test_a_name_that_several_have_needs_an_id(ingather: Run, server: StandIn) -> None:
    """Exit code 2, with the ids to choose from."""
    server.on("GET", "/v1/api-keys", page(NIGHTLY, {**NIGHTLY, "id": "ijklmnop"}))
    outcome = ingather("keys", "delete", "nightly")
    assert outcome.exit_code == 2
    assert "ijklmnop" in outcome.stderr


def test_a_missing_scope_is_said(ingather: Run, server: StandIn) -> None:
    """Exit code 3 and what to do."""
    server.on("POST", "/v1/tenants", problem(403, "scope_missing", detail="The credential lacks the scope admin."))
    outcome = ingather("tenants", "create", "Acme")
    assert outcome.exit_code == 3
    assert "admin" in outcome.stderr


def test_a_first_key_needs_no_server(ingather: Run, server: StandIn) -> None:
    """The key, and the line for the API's environment that holds its hash alone."""
    key, line = ingather("keys", "generate").lines
    assert line == f"INGATHER_AUTH__FIRST_KEY={key_id_of(key)}.{key_hash(key)}"
    assert not server.received


def test_a_key_s_days_are_days_of_the_calendar(ingather: Run, server: StandIn) -> None:
    """So many that no date is left are a usage error, before anything is asked."""
    told = ingather("keys", "create", "nightly", "--days", "99999999999")
    assert (told.exit_code, told.stdout, server.received) == (2, "", [])
    assert "--days" in told.stderr
