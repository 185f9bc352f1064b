"""What went wrong with the server, as a shell and a person are told."""

import pytest

from ingather.cli.errors import in_our_words
from ingather.cli.exit_codes import ExitCode
from ingather.client.errors import (
    AddressError,
    AnswerTimeoutError,
    NotIngatherError,
    StreamLostError,
    UnreachableError,
    UploadError,
    api_error,
)
from tests.support.api_stand_in import BATCH_ID, Answer, StandIn
from tests.unit.cli.conftest import Run


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ExitCode.AUTH),
        (403, ExitCode.AUTH),
        (404, ExitCode.NOT_FOUND),
        (409, ExitCode.ERROR),
        (413, ExitCode.LIMIT),
        (422, ExitCode.ERROR),
        (429, ExitCode.LIMIT),
        (500, ExitCode.ERROR),
        (504, ExitCode.LIMIT),
    ],
)
def test_a_problem_becomes_its_exit_code(status: int, code: ExitCode) -> None:
    """Each status has the exit code scripts rely on, and the problem's words and request id are kept."""
    problem = {"title": "It is so", "detail": "Because.", "action": "Do this.", "code": "some_code"}
    told = in_our_words(api_error(status, problem, "req-7"))
    assert (told.exit_code, told.title, told.detail, told.action) == (code, "It is so", "Because.", "Do this.")
    assert (told.code, told.request_id) == ("some_code", "req-7")


@pytest.mark.parametrize(
    ("error", "exit_code", "advice"),
    [
        (UnreachableError("http://127.0.0.1:1", "connection refused"), ExitCode.ERROR, "`ingather up`"),
        (AnswerTimeoutError("http://127.0.0.1:1/v1/limits", 30), ExitCode.LIMIT, "`ingather doctor`"),
        (StreamLostError("batch", "b-1", 300, "refused"), ExitCode.LIMIT, "ingather watch b-1"),
        (NotIngatherError("http://127.0.0.1:1", "text/html"), ExitCode.ERROR, "INGATHER_URL"),
        (AddressError("localhost"), ExitCode.ERROR, "http://127.0.0.1:8000"),
        (UploadError("Gone", action="Nothing was submitted."), ExitCode.ERROR, "Nothing was submitted"),
        (api_error(401, {"code": "unauthorized"}), ExitCode.AUTH, "INGATHER_API_KEY"),
    ],
)
def test_advice_is_a_command_line_s(error: Exception, exit_code: ExitCode, advice: str) -> None:
    """What to do is said in commands and variables; a program is told otherwise."""
    told = in_our_words(error)
    assert told.exit_code == exit_code
    assert advice in told.action


def test_a_wrong_address_is_a_wrong_variable() -> None:
    """The address came from INGATHER_URL, also where it leads elsewhere."""
    assert in_our_words(AddressError("localhost")).title == "INGATHER_URL is not an address"
    moved = {"title": "The server answered 301", "location": "https://elsewhere"}
    assert in_our_words(api_error(301, moved)).detail == "It points to https://elsewhere: is INGATHER_URL complete?"


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (("list",), "/v1/batches"),
        (("show", BATCH_ID), f"/v1/batches/{BATCH_ID}"),
        (("results", BATCH_ID, "--json"), f"/v1/batches/{BATCH_ID}/documents"),
        (("search", "wind"), "/v1/search"),
        (("tenants", "list"), "/v1/tenants"),
    ],
)
@pytest.mark.parametrize("body", [[], {"x": 1}, {"data": [1]}])
def test_another_service_at_the_address_is_told_in_a_few_words(
    ingather: Run, server: StandIn, command: tuple[str, ...], path: str, body: object
) -> None:
    """What was asked, that it is no answer of ours, and where to look; nothing on stdout, and no stack trace."""
    server.on("GET", path, Answer(body))
    told = ingather(*command)
    assert (told.exit_code, told.stdout) == (ExitCode.ERROR, "")
    assert server.url + path in told.stderr
    assert "not an Ingather server" in told.stderr
    assert "INGATHER_URL" in told.stderr


def test_an_address_that_is_none_is_told_in_a_few_words(ingather: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that only the look-up of its name would stumble over."""
    monkeypatch.setenv("INGATHER_URL", "http://a..b")
    told = ingather("list")
    assert told.exit_code == ExitCode.ERROR
    assert [line.strip() for line in told.stderr.splitlines()] == [
        "✗ INGATHER_URL is not an address", "'http://a..b'", "→ Write it like http://127.0.0.1:8000.",
    ]  # fmt: skip
