"""Tenants, users and API keys: create, list, delete."""

import json
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ingather.cli import console
from ingather.cli.commands.options import AsJson
from ingather.cli.connect import connect, is_uuid
from ingather.cli.console import clean, print_json, print_line, say
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.render import plain_table
from ingather.client import IngatherClient
from ingather.client.models import ApiKey, Tenant, User
from ingather.domain.api_keys import key_hash, new_key

_Named = Tenant | User | ApiKey
AnyNamed = TypeVar("AnyNamed", Tenant, User, ApiKey)

TenantOption = Annotated[str | None, typer.Option("--tenant", help="Name or id; your own when left out.")]
TenantFilter = Annotated[
    str | None, typer.Option("--tenant", help="Of this one alone: name or id. An administrator sees all when left out.")
]
ScopeOption = Annotated[list[str] | None, typer.Option("--scope", help="read, write or admin; repeat it for more.")]
NameOrId = Annotated[str, typer.Argument(metavar="NAME|ID", help="The name, where only one has it, or the id.")]

tenants_app = typer.Typer(no_args_is_help=True, add_completion=False)
users_app = typer.Typer(no_args_is_help=True, add_completion=False)
keys_app = typer.Typer(no_args_is_help=True, add_completion=False)

_LONGEST_DAYS = 36_500
"""Of a key that ends at all."""

# --- Tenants --------------------------------------------------------------------------------


@tenants_app.callback()
def tenants() -> None:
    """Create, list and delete tenants."""


@tenants_app.command("create")
def create_tenant(
    name: Annotated[str, typer.Argument(help="What it is called.")],
    *,
    tenant_id: Annotated[str | None, typer.Option("--id", help="A UUID it has elsewhere; made when left out.")] = None,
    pipeline: Annotated[str | None, typer.Option("--pipeline", help="ingest (the default) or handoff.")] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option("--settings", help="JSON file: default_metadata, metadata_schema, limits, fairness_weight …"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a tenant and print its id."""
    settings = _object_in(settings_file) if settings_file else {}
    with connect() as client:
        made = client.create_tenant(name, settings, tenant_id=tenant_id, pipeline=pipeline)
    _show_made(made.raw, as_json=as_json)


@tenants_app.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """List tenants, newest first."""
    with connect() as client:
        found = list(client.tenants())
    _show(found, ("id", "name", "pipeline", "created_at"), as_json=as_json)


@tenants_app.command("delete")
def delete_tenant(tenant: NameOrId, as_json: AsJson = False) -> None:
    """Delete a tenant: its keys and users go with it, its batches stay on record."""
    with connect() as client:
        its_id = _the_only(client.tenants(), tenant)
        client.delete_tenant(its_id)
    _show_deleted(its_id, tenant, as_json=as_json)


# --- Users ----------------------------------------------------------------------------------


@users_app.callback()
def users() -> None:
    """Create, list and delete users."""


@users_app.command("create")
def create_user(
    username: Annotated[str, typer.Argument(metavar="NAME", help="Unique in the whole deployment.")],
    *,
    tenant: TenantOption = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", help="Its first line is the password; - is stdin.")
    ] = None,
    password: Annotated[
        str | None, typer.Option("--password", help="Others on this machine may see it; rather use a file.")
    ] = None,
    scope: ScopeOption = None,
    as_json: AsJson = False,
) -> None:
    """Register a user; without a password one is made and shown once."""
    chosen = _first_line(password_file) if password_file else password
    made_up = secrets.token_urlsafe(15) if chosen is None else None
    with connect() as client:
        owner = _the_only(client.tenants(), tenant) if tenant else None
        made = client.create_user(username, chosen or made_up or "", tenant_id=owner, scopes=scope or None)
    _show_made(
        made.raw if made_up is None else {**made.raw, "password": made_up}, as_json=as_json, shown_once="password"
    )


@users_app.command("list")
def list_users(tenant: TenantFilter = None, as_json: AsJson = False) -> None:
    """List users, newest first."""
    with connect() as client:
        found = list(client.users(tenant_id=tenant_id_of(client, tenant)))
    _show(found, ("id", "username", "tenant_id", "scopes", "created_at"), as_json=as_json)


@users_app.command("delete")
def delete_user(user: NameOrId, as_json: AsJson = False) -> None:
    """Delete a user, and revoke its keys."""
    with connect() as client:
        its_id = _the_only(client.users(), user)
        client.delete_user(its_id)
    _show_deleted(its_id, user, as_json=as_json)


# --- API keys -------------------------------------------------------------------------------


@keys_app.callback()
def keys() -> None:
    """Create, list, rotate and delete API keys."""


@keys_app.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    tenant: TenantOption = None,
    scope: ScopeOption = None,
    user: Annotated[str | None, typer.Option("--user", help="The user it acts as.")] = None,
    days: Annotated[
        int | None,
        typer.Option("--days", min=1, max=_LONGEST_DAYS, help="How long it is accepted; for ever when left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown once."""
    expires_at = datetime.now(UTC) + timedelta(days=days) if days else None
    with connect() as client:
        owner = _the_only(client.tenants(), tenant) if tenant else None
        made = client.create_api_key(
            name, tenant_id=owner, scopes=scope or None, user=user or None, expires_at=expires_at
        )
    _show_made(made.raw, as_json=as_json, shown_once="key")


@keys_app.command("list")
def list_keys(tenant: TenantFilter = None, as_json: AsJson = False) -> None:
    """List keys, newest first; what they look like, never the keys themselves."""
    with connect() as client:
        found = list(client.api_keys(tenant_id=tenant_id_of(client, tenant)))
    columns = ("id", "name", "tenant_id", "user", "scopes", "last_used_at", "expires_at")
    _show(found, columns, as_json=as_json)


@keys_app.command("rotate")
def rotate_key(
    key: NameOrId,
    *,
    hours: Annotated[int, typer.Option("--hours", min=0, max=720, help="How long the old key is still accepted.")] = 24,
    as_json: AsJson = False,
) -> None:
    """Make the next key of the same kind, while the old one is accepted for a while."""
    with connect() as client:
        key_id = _line_of_keys(client, key)[0]
        made = client.rotate_api_key(key_id, grace_seconds=hours * 3_600)
    _show_made(made.raw, as_json=as_json, shown_once="key")


@keys_app.command("delete")
def delete_key(key: NameOrId, as_json: AsJson = False) -> None:
    """Revoke a key; it is refused within two seconds. By name, also the older one it was rotated from."""
    with connect() as client:
        for key_id in _line_of_keys(client, key):
            client.delete_api_key(key_id)
            _show_deleted(key_id, key, as_json=as_json)


@keys_app.command("generate")
def generate_key(as_json: AsJson = False) -> None:
    """Make an administrator's first key without a server, and what to set so that the API accepts it."""
    key_id, key = new_key()
    first_key = f"{key_id}.{key_hash(key)}"
    if as_json:
        print_json({"key": key, "first_key": first_key})
        return
    say("The key, shown this once; keep it as INGATHER_API_KEY:")
    print_line(key)
    say("For the API's environment:")
    print_line(f"INGATHER_AUTH__FIRST_KEY={first_key}")


# --- How it is shown ------------------------------------------------------------------------


def _show_made(made: Mapping[str, Any], *, as_json: bool, shown_once: str = "") -> None:
    if as_json:
        print_json(made)
        return
    say(f"Created {made.get('name') or made.get('username')} ({made['id']}).")
    if made.get(shown_once):
        say(f"The {shown_once}, shown this once:")
    print_line(str(made.get(shown_once) or made["id"]))


def _show(found: Sequence[_Named], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        for each in found:
            print_json(each.raw)
        return
    table = plain_table(*(column.replace("_", " ") for column in columns))
    for column in table.columns[1:]:
        # On a narrow terminal all but the id is folded; nothing is cut.
        column.no_wrap = False
    for each in found:
        table.add_row(*(_cell(each.raw.get(column)) for column in columns))
    console.show(table)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("username") or value.get("id")
    return clean(" ".join(value) if isinstance(value, list) else str(value or ""))


def _show_deleted(its_id: str, named: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": its_id, "deleted": True})
    else:
        say(f"Deleted {named}." if named == its_id else f"Deleted {named} ({its_id}).")


# --- What was named -------------------------------------------------------------------------


def _line_of_keys(client: IngatherClient, named: str) -> list[str]:
    """The ids of a line of rotated keys that has this name, newest first; the one key alone, given by its id."""
    found = {key.id: key.rotated_from for key in _named(client.api_keys(), named)}
    line = [_one([key_id for key_id in found if key_id not in found.values()], named)]
    while (older := found[line[-1]]) in found:
        line.append(str(older))
    return line


def _the_only(them: Iterable[AnyNamed], named: str) -> str:
    """The id of what was named by id or by name. Raises ``CliError`` where none or several have the name."""
    return _one([each.id for each in _named(them, named)], named)


def _named(them: Iterable[AnyNamed], named: str) -> list[AnyNamed]:
    found = list(them)
    return [each for each in found if each.id == named] or [each for each in found if _name_of(each) == named]


def _name_of(each: _Named) -> str:
    return each.username if isinstance(each, User) else each.name


def _one(ids: Sequence[str], named: str) -> str:
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise CliError(
            f"Several have the name {named!r}", detail="\n".join(ids), action="Give the id.", exit_code=ExitCode.USAGE
        )
    raise CliError(f"There is no {named!r}", action="Look with `list`.", exit_code=ExitCode.NOT_FOUND, code="not_found")


def tenant_id_of(client: IngatherClient, tenant: str | None) -> str | None:
    """The id of a tenant that was given by name or id; None where none was.

    An id is taken as it is: what happened to a deleted tenant can still be asked for.
    """
    if not tenant or is_uuid(tenant):
        return tenant or None
    return _the_only(client.tenants(), tenant)


def _first_line(path: Path) -> str:
    try:
        text = sys.stdin.readline() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be read", detail=str(error), exit_code=ExitCode.USAGE) from error
    return text.splitlines()[0] if text else ""


def _object_in(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CliError(f"{path} cannot be read", detail=str(error), exit_code=ExitCode.USAGE) from error
    if not isinstance(content, dict):
        raise CliError(f"{path} is not a JSON object", exit_code=ExitCode.USAGE)
    return content
