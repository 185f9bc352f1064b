"""What the package offers: two clients that do the same, described where one looks for it."""

import inspect
import re
from datetime import datetime
from pathlib import Path

import pytest

import ingather.client
from ingather.client import AsyncIngatherClient, ClientError, IngatherClient, calls
from ingather.client.operations import Operation
from ingather.client.server import Server

REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "client.md"


def offered(client: type) -> set[str]:
    return {name for name in vars(client) if not name.startswith("_") and name not in ("base_url", "session")}


def test_both_clients_do_the_same() -> None:
    """Whatever one can do, the other can, with the same parameters: the functions are the same ones."""
    assert offered(IngatherClient) == offered(AsyncIngatherClient)
    for name in offered(IngatherClient) - {"close"}:
        one, other = getattr(IngatherClient, name), getattr(AsyncIngatherClient, name)
        if isinstance(one, Operation):
            assert one.build is other.build, name
        else:
            assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters), name


@pytest.mark.parametrize("name", sorted(offered(IngatherClient)))
def test_every_operation_says_what_it_does(name: str) -> None:
    """To whoever asks Python, and on the reference page."""
    assert getattr(IngatherClient, name).__doc__
    assert re.search(rf"`{name}[`(]", REFERENCE.read_text(encoding="utf-8")), f"docs/reference/client.md: {name}"


def test_every_error_is_described_and_told_apart() -> None:
    """Each is public and on the reference page."""
    page = REFERENCE.read_text(encoding="utf-8")
    errors = {name for name in ingather.client.__all__ if name.endswith("Error")}
    assert [name for name in sorted(errors) if f"`{name}`" not in page] == []
    assert all(issubclass(getattr(ingather.client, name), ClientError) for name in errors)


def test_every_public_name_is_there() -> None:
    """Also those that are imported when they are asked for; others are not."""
    assert all(hasattr(ingather.client, name) for name in ingather.client.__all__)
    assert not hasattr(ingather.client, "Nothing")


@pytest.mark.parametrize("given", ["ing_live_secret\nx", "schlüssel"])
def test_what_no_header_can_carry_is_checked_at_once(given: str) -> None:
    """And not repeated in the error: it may be a secret."""
    for named in ({"api_key": given}, {"tenant": given}):
        with pytest.raises(ingather.client.UnsendableError) as caught:
            IngatherClient("http://127.0.0.1:8000", **named)
        assert given not in f"{caught.value} {caught.value.action}"
    with pytest.raises(ingather.client.UnsendableError):
        calls.pause("b", idempotency_key=given)


def test_what_was_read_from_a_file_may_end_its_line() -> None:
    """As `open(…).read()` brings it."""
    server = Server.at("http://127.0.0.1:8000/\n", "ing_live_x\n", None, None)
    assert (server.base_url, server.headers["Authorization"]) == ("http://127.0.0.1:8000", "Bearer ing_live_x")


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://a..b",
        f"http://{'a' * 64}.b",
        "http://xn--a.b",
    ],
)
def test_an_address_is_checked_at_once(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ingather.client.AddressError):
        IngatherClient(url)


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00", "9999-12-31T23:59:59"])
def test_a_moment_at_an_end_of_the_calendar_is_sent(written: str) -> None:
    """Without a zone it is this machine's, unless that leads out of the calendar."""
    since = calls.audit(since=datetime.fromisoformat(written)).first.parameters["since"]
    assert since.startswith(written)
