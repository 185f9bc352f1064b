"""Requests to addresses that tenants name: public ones only, and the one that was checked."""

import asyncio
import socket
import threading

import httpx
import pytest
from structlog.testing import capture_logs

from ingather.adapters.guarded_http import AddressRefusedError, check_url, guarded_client
from tests.support.http_stand_in import Told, http_stand_in
from tests.support.waiting import until


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/", "file:///etc/passwd", "gopher://example.org/", "http://", "example.org",
        "http://u:p@example.org/", "http://127.0.0.1/", "http://10.0.0.1/", "http://[fe80::1]/", "http://[::ffff:10.0.0.1]/",
        "http://0.0.0.0/", "http://169.254.169.254/", "http://xn--/", "http://example.org:0/", "http://example.org:65536/",
    ],
)  # fmt: skip
def test_what_can_be_told_from_an_address_is(url):
    """Without asking anybody."""
    with pytest.raises(AddressRefusedError):
        check_url(url)


@pytest.mark.parametrize(
    "url", ["http://example.org", "https://example.org:8443/a?b", "http://8.8.8.8/", "http://[2606:4700::1111]/"]
)
def test_public_addresses_are_taken(url):
    """Names are judged when they are connected to."""
    assert check_url(url).host


async def hello(_asked):
    return Told(200, b"hello")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001"])
async def test_no_name_for_this_machine_is_connected_to(host):
    """However it is spelled."""
    async with http_stand_in(hello) as server, guarded_client() as client:
        with pytest.raises((AddressRefusedError, httpx.NetworkError)):
            await client.get(f"http://{host}:{server.port}/")
        assert server.asked == []


async def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch):
    """A name is asked for once: what it says the next time leads nobody anywhere."""
    answers = ["127.0.0.1", "127.0.0.2"]
    asked = []

    def resolve(host, port, **_options):
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[len(asked) - 1], port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with http_stand_in(hello) as server, guarded_client(allow_private=True) as client:
        response = await client.get(f"http://flighty.example:{server.port}/")
        assert (response.text, asked) == ("hello", ["flighty.example"])
        assert server.asked[0].headers["host"] == f"flighty.example:{server.port}"


async def test_one_private_address_among_several_is_enough_to_refuse(monkeypatch):
    """Nobody chooses for us which of them is used. Which it was is said to the log alone."""

    def resolve(_host, port, **_options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with guarded_client() as client:
        with capture_logs() as logs, pytest.raises(AddressRefusedError, match=r"both\.example leads to") as refused:
            await client.get("http://both.example/")
    assert "10.0.0.1" not in str(refused.value)
    [line] = [each for each in logs if each["event"] == "address.refused"]
    assert (line["host"], line["address"]) == ("both.example", "10.0.0.1")


async def test_names_that_hang_keep_nobody_elses_threads(monkeypatch):
    """However many of them a tenant names; each request ends in its own time."""
    answers, looked_up = threading.Event(), threading.Event()

    def resolve(*_asked, **_options):
        looked_up.set()
        answers.wait()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with guarded_client(timeout=httpx.Timeout(0.2)) as client:
        asking = [asyncio.ensure_future(client.get(f"http://{number}.example/")) for number in range(100)]
        await until(looked_up.is_set)
        try:
            assert await asyncio.wait_for(asyncio.to_thread(len, "other"), 10) == 5
            ends = await asyncio.gather(*asking, return_exceptions=True)
        finally:
            answers.set()
    assert {type(each) for each in ends} == {httpx.TimeoutException}


async def test_redirects_and_proxies_are_not_followed(monkeypatch):
    """The answer itself comes back; a proxy in the environment is not asked."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def elsewhere(_asked):
        return Told(302, headers={"Location": "http://127.0.0.1:1/"})

    async with http_stand_in(elsewhere) as server, guarded_client(allow_private=True) as client:
        assert (await client.get(server.url)).status_code == 302


async def test_a_server_that_hangs_up_is_a_network_error():
    """In httpx's words, whatever the layer below says."""
    async with http_stand_in(hello) as server:
        url = server.url
    async with guarded_client(allow_private=True) as client:
        with pytest.raises(httpx.TransportError):
            await client.get(url)
