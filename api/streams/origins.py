"""Which pages may open a connection that a browser would send cookies along with."""

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit


def origin_of(address: str) -> str:
    """Scheme, host and port of an address, as a browser would name them."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}".lower()


def is_welcome_origin(headers: Mapping[str, str], allowed: Collection[str]) -> bool:
    """Whether a request comes from no page, from one of this host, or from one of an origin that is allowed."""
    origin = headers.get("origin")
    if not origin:
        return True
    if origin.lower() in allowed:
        return True
    return bool(host := urlsplit(origin).netloc) and host.lower() == headers.get("host", "").lower()
