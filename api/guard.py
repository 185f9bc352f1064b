"""Refusing to serve the network where nobody has to say who they are."""

import ipaddress
import os
import socket
import sys
from collections.abc import Mapping, Sequence

from ingather.models.errors import ConfigurationError

_ADVICE = "Set INGATHER_AUTH__MODE=required, or bind to 127.0.0.1, ::1 or localhost."


def is_loopback(host: str) -> bool:
    """Whether a server bound to ``host`` can be reached from this machine alone."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        pass
    if not name:
        return False
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(name, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)


def check_bind(host: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Raises ``ConfigurationError`` when settings, or the server's own arguments, would open the API to the network.

    The arguments and ``UVICORN_HOST`` are looked at because ``uvicorn --factory api.app:create_app``
    never reads our settings.
    """
    named = {"INGATHER_API__HOST": host, "--host": _option(arguments, "--host")}
    named["UVICORN_HOST"] = environment.get("UVICORN_HOST")
    for source, value in named.items():
        if value is not None and not is_loopback(value):
            raise ConfigurationError(
                f"{source} is not a loopback address, and with INGATHER_AUTH__MODE=open everybody who reaches it "
                "may do everything.",
                action=_ADVICE,
            )


def check_bind_of_this_process(host: str) -> None:
    """``check_bind`` with this process's own arguments, as far as they are uvicorn's."""
    check_bind(host, _uvicorn_arguments(), os.environ)


def _uvicorn_arguments() -> list[str]:
    is_uvicorn = bool(sys.argv) and "uvicorn" in sys.argv[0]
    return sys.argv[1:] if is_uvicorn else []


def _option(arguments: Sequence[str], name: str) -> str | None:
    for position, argument in enumerate(arguments):
        if argument == name and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None
