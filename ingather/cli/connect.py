"""Which server a command talks to."""

import json
import os
from pathlib import Path

from ingather.cli.client import IngatherClient

DEFAULT_URL = "http://127.0.0.1:8000"
STACK_FILE = Path(".ingather") / "stack.json"


def server_url() -> str:
    """``INGATHER_URL``, else the embedded stack of this folder, else the standard port of this machine."""
    return os.environ.get("INGATHER_URL") or _url_of_stack(STACK_FILE) or DEFAULT_URL


def _url_of_stack(path: Path) -> str | None:
    try:
        url = json.loads(path.read_text(encoding="utf-8"))["api"]["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) else None


def connect() -> IngatherClient:
    """A client for that server, with ``INGATHER_API_KEY`` and ``INGATHER_TENANT`` where they are set."""
    return IngatherClient(
        server_url(),
        api_key=os.environ.get("INGATHER_API_KEY") or None,
        tenant=os.environ.get("INGATHER_TENANT") or None,
    )
