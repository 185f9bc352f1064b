"""Every error is one kind of problem, and says nothing it should not."""

import logging

import pytest

from api.app import create_app
from api.guard import check_bind, is_loopback
from ingather.models.errors import ConfigurationError, error_classes
from ingather.settings import ApiSettings, Settings

MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "errors"}


@pytest.mark.parametrize(
    ("line", "kwargs", "status", "code"),
    [
        ("GET /nowhere", {}, 404, "not_found"),
        ("GET /v1/batches/", {}, 404, "not_found"),
        ("PUT /v1/batches", {}, 405, "method_not_allowed"),
        ("DELETE /v1/search", {}, 405, "method_not_allowed"),
        ("GET /v1/batches?limit=0", {}, 422, "validation_failed"),
        ("GET /v1/batches?limit=abc", {}, 422, "validation_failed"),
        ("GET /v1/search", {}, 422, "validation_failed"),
        ("GET /v1/search?q=%20%20", {}, 422, "validation_failed"),
        ("POST /v1/batches", {"content": b""}, 415, "unsupported_media_type"),
        ("GET /v1/batches", {"content": b"x" * 2_000_000}, 413, "payload_too_large"),
        ("POST /v1/search", {"content": b"x" * 2_000_000}, 413, "payload_too_large"),
    ],
)
async def test_framework_errors_are_problems(api, line, kwargs, status, code):
    """Also those that Starlette answers itself, in plain text."""
    response = await api.http.request(*line.split(), **kwargs)
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem.keys() >= MEMBERS
    assert problem["type"] == f"/problems/{code}"
    assert problem["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/batches", "GET, POST"), ("/v1/tus/u", "DELETE, HEAD, PATCH, POST"), ("/", "GET"), ("/docs", "GET")],
)
async def test_a_wrong_method_names_the_right_ones(api, path, allowed):
    """Allow goes with 405, also of pages that are no operation of the API."""
    assert (await api.http.put(path)).headers["allow"] == allowed


async def test_control_bodies_must_be_json(api):
    """415 for another type, 400 for broken JSON, 422 for the wrong shape."""
    path = f"/v1/batches/{(await api.submit())['id']}/retry"
    wrong_type = await api.http.post(path, content=b"x", headers={"content-type": "text/plain"})
    broken = await api.http.post(path, content=b"{", headers={"content-type": "application/json"})
    wrong_shape = await api.http.post(path, json={"codes": "all", "secret-field": 1})
    assert [r.status_code for r in (wrong_type, broken, wrong_shape)] == [415, 400, 422]
    assert wrong_shape.json()["errors"][0]["pointer"].startswith("#/")


async def test_an_unexpected_error_says_nothing_but_its_request_id(api, caplog):
    """500 without a trace, a message or a value; the log has it all."""

    async def explode(*_args):
        raise RuntimeError("password=hunter2")

    api.parts.batches.page = explode
    with caplog.at_level(logging.ERROR):
        response = await api.http.get("/v1/batches", headers={"X-Request-ID": "trace-me"})
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert response.json()["request_id"] == "trace-me"
    assert "hunter2" not in response.text
    assert "RuntimeError" not in response.text


@pytest.mark.parametrize(("given", "is_kept"), [("abc-123", True), ("a b\tc", False), ("x" * 200, False), ("", False)])
async def test_a_request_id_is_kept_or_made(api, given, is_kept):
    """Out again on every answer; one that could harm a log is replaced."""
    response = await api.http.get("/livez", headers={"X-Request-ID": given})
    assert (response.headers["x-request-id"] == given) is is_kept
    assert response.headers["x-request-id"]


async def test_every_code_is_explained(api):
    """A problem's type leads to what it means."""
    for code in error_classes():
        answer = await api.http.get(f"/problems/{code}")
        assert (answer.status_code, answer.json()["code"]) == (200, code)
    assert (await api.http.get("/problems/nonsense")).status_code == 404


@pytest.mark.parametrize("key", ["", " ", "x" * 300, "a\x7fb"])
async def test_an_unusable_idempotency_key_is_refused(api, key):
    """400, before anything is done."""
    body = {"documents": [{"filename": "a", "content": "YQ=="}]}
    response = await api.http.post("/v1/batches", json=body, headers={"Idempotency-Key": key})
    assert (response.status_code, response.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("server", "headers", "status"),
    [
        (("127.0.0.1", 8000), {"host": "127.0.0.1:8000"}, 200),
        (("127.0.0.1", 8000), {"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
        (("::1", 8000), {"host": "[::1]:8000"}, 200),
        (("10.0.0.5", 8000), {"host": "10.0.0.5:8000"}, 403),
        (("127.0.0.1", 8000), {"host": "evil.example"}, 403),
        (("127.0.0.1", 8000), {"host": "127.0.0.1:8000", "origin": "https://evil.example"}, 403),
        (("127.0.0.1", 8000), {"host": "127.0.0.1:8000", "origin": "null"}, 403),
    ],
)
async def test_only_this_machine_is_served(api, server, headers, status):
    """Another address, another host name or another page's origin is refused."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/livez", "raw_path": b"/livez", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()], "scheme": "http",
        "server": server, "client": ("127.0.0.1", 1), "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await api.app(scope, receive, send)
    assert sent[0]["status"] == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "", "example.invalid"])
def test_binding_to_the_network_is_refused(host):
    """By setting, by uvicorn's argument or by its variable."""
    with pytest.raises(ConfigurationError):
        create_app(Settings(api=ApiSettings(host=host)))
    for arguments, environment in ((["--host", host], {}), ([f"--host={host}"], {}), ([], {"UVICORN_HOST": host})):
        with pytest.raises(ConfigurationError):
            check_bind("127.0.0.1", arguments, environment)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost", "127.8.8.8"])
def test_loopback_is_fine(host):
    """Every spelling of it."""
    assert is_loopback(host)
    check_bind(host, ["--host", host], {"UVICORN_HOST": host})
