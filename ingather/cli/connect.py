"""Which server a command talks to."""

import json
import os
import uuid
from pathlib import Path

from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.client import IngatherClient

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
    """A client for that server, with ``INGATHER_API_KEY`` and ``INGATHER_TENANT`` where they are set.

    A tenant that is given by its name costs a request: the server knows tenants by their ids. Raises ``CliError`` where the
    caller sees none of that name, or several.
    """
    named = os.environ.get("INGATHER_TENANT")
    return _client(named if not named or is_uuid(named) else _tenant_called(named))


def is_uuid(text: str) -> bool:
    """Whether it is written like an id."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _client(tenant_id: str | None) -> IngatherClient:
    api_key = os.environ.get("INGATHER_API_KEY") or None
    return IngatherClient(server_url(), api_key=api_key, tenant=tenant_id or None, user_agent="ingather-cli")


def _tenant_called(name: str) -> str:
    with _client(None) as client:
        ids = [tenant.id for tenant in client.tenants(name=name)]
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise CliError(
            f"Several tenants have the name {name!r}",
            detail="\n".join(ids),
            action="Export the id as INGATHER_TENANT.",
            exit_code=ExitCode.USAGE,
        )
    raise CliError(
        f"There is no tenant {name!r}",
        action="INGATHER_TENANT takes a tenant's name or id (`ingather tenants list`): export another, or unset it.",
        exit_code=ExitCode.NOT_FOUND,
        code="tenant_not_found",
    )
