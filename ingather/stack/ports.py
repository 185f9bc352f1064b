"""Free loopback ports, kept from one run to the next where nobody took them meanwhile."""

import random
import socket
from collections.abc import Iterable, Mapping

LOOPBACK = "127.0.0.1"

_OURS = range(20_000, 32_768)
"""Below the ports the kernel gives to outgoing connections (from 32768 on Linux, 49152 elsewhere).

Among those, a client that calls a server which has just died can be given the server's own port,
connect to itself, and keep the server from coming back.
"""


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
    """A free port for each name: the previous run's when it is still free, else a new one."""
    kept = {name: port for name, port in (previous or {}).items() if is_free(port)}
    chosen: dict[str, int] = {}
    for name in names:
        port = kept.get(name)
        while port is None or port in chosen.values():
            port = _any_free()
        chosen[name] = port
    return chosen


def _any_free() -> int:
    return next(port for port in iter(lambda: random.choice(_OURS), None) if is_free(port))
