"""Loopback ports: free, different, and the same as last time where possible."""

import socket

import pytest

from ingather.stack.errors import PortTakenError
from ingather.stack.local import DEFAULT_API_PORT, choose_api_port
from ingather.stack.ports import LOOPBACK, choose_ports, is_free


@pytest.fixture
def taken_port():
    """A port somebody listens on."""
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_ports_are_free_and_all_different():
    """Every name gets a port of its own on which a server can listen."""
    chosen = choose_ports([str(number) for number in range(20)])
    assert len(set(chosen.values())) == 20
    assert all(is_free(port) for port in chosen.values())


def test_ports_are_not_among_those_of_outgoing_connections():
    """A client that retries against a dead server cannot be given the server's port."""
    assert all(port < 32_768 for port in choose_ports(["a", "b", "c"]).values())


def test_a_free_port_of_the_last_run_is_kept():
    """Addresses stay the same from one run to the next."""
    previous = choose_ports(["a"])
    assert choose_ports(["a"], previous) == previous


def test_a_port_that_was_taken_meanwhile_is_replaced(taken_port):
    """A neighbour who took the port keeps it."""
    assert choose_ports(["a"], {"a": taken_port})["a"] != taken_port


def test_two_names_never_share_a_port_even_when_the_last_run_says_so():
    """A damaged record of the last run cannot put two servers on one port."""
    port = choose_ports(["a"])["a"]
    chosen = choose_ports(["a", "b"], {"a": port, "b": port})
    assert chosen["a"] == port
    assert chosen["b"] != port


def test_a_taken_port_asked_for_by_name_is_refused_with_advice(taken_port):
    """An explicit --port is never replaced silently."""
    with pytest.raises(PortTakenError, match=rf"Port {taken_port} is in use.*--port"):
        choose_api_port(taken_port, None, set())


def test_without_a_wish_the_api_keeps_its_port():
    """Like every other part's, so that addresses in a shell go on working; a port of another part is never taken."""
    previous = choose_ports(["api"])["api"]
    assert choose_api_port(None, previous, set()) == previous
    assert choose_api_port(None, previous, {DEFAULT_API_PORT}) == previous
    assert choose_api_port(None, previous, {DEFAULT_API_PORT, previous}) not in {DEFAULT_API_PORT, previous}
