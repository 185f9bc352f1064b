"""`ingather connections`: what it sends, and what it says."""

import base64
import json

from tests.support.api_stand_in import BATCH_ID, Answer, StandIn, batch, problem
from tests.unit.cli.conftest import Run

SITE = {
    "connection_id": "site", "source_type": "http", "settings": {"urls": ["https://x.org/a"], "headers": "********"},
    "created_by": "ada", "created_at": "2026-03-14T18:42:00+00:00",
}  # fmt: skip
FILES = [
    {"file_id": "sub", "name": "sub", "is_folder": True},
    {"file_id": "a.txt", "name": "a.txt", "size_bytes": 1200, "is_folder": False, "modified_at": None},
]


def page(*items: dict[str, object]) -> Answer:
    return Answer({"data": list(items), "has_more": False, "next_cursor": None})


def test_a_connection_is_created(ingather: Run, server: StandIn, tmp_path) -> None:
    """Its settings come from a file; its id is the data."""
    server.on("POST", "/v1/connections", Answer(SITE, 201))
    settings = tmp_path / "site.json"
    settings.write_text('{"headers": {"Authorization": "Bearer shh"}}')
    outcome = ingather(
        "connections", "create", "site", "--type", "http", "--settings", settings, "--set", "base_url=https://x.org/"
    )
    [request] = server.requests("POST", "/v1/connections")
    assert (outcome.exit_code, outcome.lines) == (0, ["site"])
    assert request.json == {
        "connection_id": "site", "source_type": "http",
        "settings": {"headers": {"Authorization": "Bearer shh"}, "base_url": "https://x.org/"},
    }  # fmt: skip
    assert "shh" not in outcome.stderr


def test_settings_that_are_not_json_are_not_quoted(ingather: Run, tmp_path) -> None:
    """They may hold a credential."""
    settings = tmp_path / "site.json"
    settings.write_text("{hunter2")
    outcome = ingather("connections", "create", "--type", "http", "--settings", settings)
    assert outcome.exit_code == 2
    assert "hunter2" not in outcome.stderr


def test_connections_and_files_are_listed(ingather: Run, server: StandIn) -> None:
    """As tables, as JSON lines, and files as ids to submit."""
    server.on("GET", "/v1/connections", page(SITE))
    server.on("GET", "/v1/connections/site/files", page(*FILES))
    assert "site" in ingather("connections", "list").stdout
    assert json.loads(ingather("connections", "list", "--json").stdout) == SITE
    assert "1,200" in ingather("connections", "files", "site", "--folder", "in").stdout
    assert server.requests("GET", "/v1/connections/site/files")[0].query["folder"] == "in"
    assert ingather("connections", "files", "site", "--ids").lines == ["a.txt"]


def test_a_test_says_what_is_wrong(ingather: Run, server: StandIn) -> None:
    """Exit code 1, with what to do; 0 where nothing is."""
    good = {"connection_id": "site", "ok": True, "message": "It works.", "code": None, "action": None, "took_ms": 12.5}
    server.on("POST", "/v1/connections/site/test", Answer(good))
    assert ingather("connections", "test", "site").exit_code == 0
    bad = good | {"ok": False, "message": "Access is refused.", "code": "source_access_denied", "action": "Ask Ada."}
    server.on("POST", "/v1/connections/site/test", Answer(bad))
    outcome = ingather("connections", "test", "site")
    assert outcome.exit_code == 1
    assert "Access is refused." in outcome.stderr
    assert "Ask Ada." in outcome.stderr


def test_files_are_submitted(ingather: Run, server: StandIn) -> None:
    """As the kind of source that the connection is."""
    server.on("GET", "/v1/connections/site", Answer(SITE))
    server.on("POST", "/v1/batches", Answer(batch("queued", pending=2), 202))
    outcome = ingather("connections", "submit", "site", "https://x.org//a", "b", "-c", "papers", "-o", "chunk_size=500")
    [request] = server.requests("POST", "/v1/batches")
    assert (outcome.exit_code, outcome.lines) == (0, [BATCH_ID])
    assert request.json == {
        "collection": "papers",
        "options": {"chunk_size": 500},
        "sources": [{"connection_id": "site", "source_type": "http", "file_ids": ["https://x.org//a", "b"]}],
    }


def test_an_option_that_is_not_known_is_not_sent(ingather: Run, server: StandIn) -> None:
    """It is told apart here, as where files are uploaded."""
    outcome = ingather("connections", "submit", "site", "a", "--option", "chunk_sise=500")
    assert outcome.exit_code == 2
    assert "chunk_sise" in outcome.stderr
    assert not server.received


def test_a_connection_is_deleted(ingather: Run, server: StandIn) -> None:
    """One that is not there is exit code 4."""
    server.on("DELETE", "/v1/connections/site", Answer(None, 204))
    assert ingather("connections", "delete", "site").exit_code == 0
    server.on("DELETE", "/v1/connections/lost", problem(404, "connection_not_found"))
    assert ingather("connections", "delete", "lost").exit_code == 4


def test_a_key_is_made_without_a_server(ingather: Run, server: StandIn) -> None:
    """32 bytes in URL-safe base64."""
    [key] = ingather("connections", "new-key").lines
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert not server.received
