"""Where a server is, and who asks it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from ingather import __version__
from ingather.client.errors import AddressError, UnsendableError

USER_AGENT = f"ingather-client/{__version__}"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Server:
    """An address, and what goes with every request to it."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)
    is_local: bool
    """A proxy from the environment cannot reach this machine's own loopback."""

    @classmethod
    def at(cls, base_url: str, api_key: str | None, tenant: str | None, user_agent: str | None) -> Self:
        """A server by its address.

        Raises:
            AddressError: it is none.
            UnsendableError: the key or the tenant is none.
        """
        try:
            parts = urlsplit(base_url)
            is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            if parts.hostname and parts.hostname.isascii():
                parts.hostname.encode("idna")  # as it is looked up: a part of the name may be empty, or too long
        except ValueError as error:
            raise AddressError(base_url) from error
        if not is_whole:
            raise AddressError(base_url)
        headers = {"User-Agent": user_agent or USER_AGENT, "Accept": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {header_value('API key', api_key)}"
        if tenant:
            headers["X-Tenant-ID"] = header_value("tenant", tenant)
        # As it was read: without the line end that an address from a file has.
        return cls(parts.geturl().rstrip("/"), headers, parts.hostname in _LOOPBACK)

    def websocket_url(self, path: str, name: str, parameters: Mapping[str, Any]) -> str:
        """The address of a WebSocket; ``name`` is the last segment of its path."""
        given = {key: value for key, value in parameters.items() if value is not None}
        query = f"?{urlencode(given)}" if given else ""
        return f"ws{self.base_url.removeprefix('http')}{path}/{quote(name, safe='')}{query}"


def header_value(what: str, text: str) -> str:
    """A header's value, without the line end that one from a file has.

    Raises:
        UnsendableError: no header can carry it.
    """
    value = text.strip()
    if not (value.isascii() and value.isprintable()):
        raise UnsendableError(what)
    return value
