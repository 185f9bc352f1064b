"""Style sheets and scripts: where they are, what is ours and what is vendored, and the address that changes with them."""

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

STATIC_FOLDER = Path(__file__).parent / "static"
VENDORED = STATIC_FOLDER / "vendor" / "vendored.json"
"""What others wrote: name, version, licence, origin and SHA-256 of each file."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that a page loads."""

    url: str
    """With part of its hash, so that browsers may keep it for ever."""
    integrity: str
    """For the attribute of that name: a browser refuses another content."""


@cache
def asset(name: str) -> Asset:
    """A file below ``static``."""
    digest = hashlib.sha256((STATIC_FOLDER / name).read_bytes()).digest()
    return Asset(f"/assets/{name}?v={digest.hex()[:12]}", f"sha256-{base64.b64encode(digest).decode()}")


def vendored() -> dict[str, dict[str, str]]:
    """The vendored files by name, as they were taken over."""
    found: dict[str, dict[str, str]] = json.loads(VENDORED.read_text(encoding="utf-8"))
    return found
