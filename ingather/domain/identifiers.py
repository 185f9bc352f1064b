"""Reading the identifiers that clients send."""

import re

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)


def as_uuid(text: str) -> str | None:
    """A UUID as we write it, in lower case; None for what is none."""
    normal = text.strip().lower()
    return normal if _UUID.fullmatch(normal) else None
