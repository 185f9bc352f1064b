"""Free loopback ports, kept from one run to the next where nobody took them meanwhile."""

import socket
from collections.abc import Iterable, Mapping

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Servers set this too; without it a port counts as taken for a minute after its last connection.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_ports(names: Iterable[str], previous: Mapping[str, int] | None = None) -> dict[str, int]:
    """A free port for each name: the previous run's when it is still free, else a new one.

    All sockets stay open until every port is chosen, so no two names get the same one.
    """
    kept = {name: port for name, port in (previous or {}).items() if is_free(port)}
    open_probes: list[socket.socket] = []
    chosen: dict[str, int] = {}
    try:
        for name in names:
            port = kept.get(name)
            while port is None or port in chosen.values():
                port = _reserve(open_probes)
            chosen[name] = port
    finally:
        for probe in open_probes:
            probe.close()
    return chosen


def _reserve(open_probes: list[socket.socket]) -> int:
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    open_probes.append(probe)
    probe.bind((LOOPBACK, 0))
    port: int = probe.getsockname()[1]
    return port
