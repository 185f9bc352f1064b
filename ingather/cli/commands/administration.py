"""Tenants, users and API keys: create, list, delete."""

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from ingather.cli import console
from ingather.cli.client import IngatherClient
from ingather.cli.commands.options import AsJson
from ingather.cli.connect import connect, is_uuid
from ingather.cli.console import clean, print_json, print_line, say
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.render import plain_table
from ingather.domain.api_keys import key_hash, new_key

TenantOption = Annotated[str | None, typer.Option("--tenant", help="Name or id; your own when left out.")]
ScopeOption = Annotated[list[str] | None, typer.Option("--scope", help="read, write or admin; repeat it for more.")]
NameOrId = Annotated[str, typer.Argument(metavar="NAME|ID", help="The name, where only one has it, or the id.")]

tenants_app = typer.Typer(no_args_is_help=True, add_completion=False)
users_app = typer.Typer(no_args_is_help=True, add_completion=False)
keys_app = typer.Typer(no_args_is_help=True, add_completion=False)


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
    settings: Annotated[
        Path | None,
        typer.Option("--settings", help="JSON file: default_metadata, metadata_schema, limits, fairness_weight …"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a tenant and print its id."""
    body = _object_in(settings) if settings else {}
    body |= {"name": name} | _given(tenant_id=tenant_id, pipeline=pipeline)
    with connect() as client:
        made = client.create("/v1/tenants", body)
    _show_made(made, as_json=as_json)


@tenants_app.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """List tenants, newest first."""
    with connect() as client:
        found = client.all_of("/v1/tenants")
    _show(found, ("id", "name", "pipeline", "created_at"), as_json=as_json)


@tenants_app.command("delete")
def delete_tenant(tenant: NameOrId, as_json: AsJson = False) -> None:
    """Delete a tenant: its keys and users go with it, its batches stay on record."""
    with connect() as client:
        _delete(client, "/v1/tenants", tenant, "name", as_json=as_json)


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
        body = {"username": username, "password": chosen or made_up, **_given(scopes=scope)}
        if tenant:
            body["tenant_id"] = _resolve(client, "/v1/tenants", tenant, "name")
        made = client.create("/v1/users", body)
    if made_up is not None:
        made = {**made, "password": made_up}
    _show_made(made, as_json=as_json, shown_once="password")


@users_app.command("list")
def list_users(tenant: TenantOption = None, as_json: AsJson = False) -> None:
    """List users, newest first."""
    with connect() as client:
        found = client.all_of("/v1/users", tenant_filter(client, tenant))
    _show(found, ("id", "username", "tenant_id", "scopes", "created_at"), as_json=as_json)


@users_app.command("delete")
def delete_user(user: NameOrId, as_json: AsJson = False) -> None:
    """Delete a user, and revoke its keys."""
    with connect() as client:
        _delete(client, "/v1/users", user, "username", as_json=as_json)


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
        int | None, typer.Option("--days", min=1, help="How long it is accepted; for ever when left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown once."""
    expires_at = (datetime.now(UTC) + timedelta(days=days)).isoformat() if days else None
    with connect() as client:
        body = {"name": name, **_given(scopes=scope, user=user, expires_at=expires_at)}
        if tenant:
            body["tenant_id"] = _resolve(client, "/v1/tenants", tenant, "name")
        made = client.create("/v1/api-keys", body)
    _show_made(made, as_json=as_json, shown_once="key")


@keys_app.command("list")
def list_keys(tenant: TenantOption = None, as_json: AsJson = False) -> None:
    """List keys, newest first; what they look like, never the keys themselves."""
    with connect() as client:
        found = client.all_of("/v1/api-keys", tenant_filter(client, tenant))
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
        made = client.create(f"/v1/api-keys/{key_id}/rotate", {"grace_seconds": hours * 3_600})
    _show_made(made, as_json=as_json, shown_once="key")


@keys_app.command("delete")
def delete_key(key: NameOrId, as_json: AsJson = False) -> None:
    """Revoke a key; it is refused within two seconds. By name, also the older one it was rotated from."""
    with connect() as client:
        for key_id in _line_of_keys(client, key):
            _delete_one(client, "/v1/api-keys", key_id, key, as_json=as_json)


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


def _show(found: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    if as_json:
        for each in found:
            print_json(each)
        return
    table = plain_table(*(column.replace("_", " ") for column in columns))
    for column in table.columns[1:]:
        # On a narrow terminal all but the id is folded; nothing is cut.
        column.no_wrap = False
    for each in found:
        table.add_row(*(_cell(each.get(column)) for column in columns))
    console.show(table)


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value.get("name") or value.get("username") or value.get("id")
    return clean(" ".join(value) if isinstance(value, list) else str(value or ""))


def _delete(client: IngatherClient, path: str, named: str, field: str, *, as_json: bool) -> None:
    _delete_one(client, path, _resolve(client, path, named, field), named, as_json=as_json)


def _delete_one(client: IngatherClient, path: str, its_id: str, named: str, *, as_json: bool) -> None:
    client.delete(f"{path}/{its_id}")
    if as_json:
        print_json({"id": its_id, "deleted": True})
    else:
        say(f"Deleted {named}." if named == its_id else f"Deleted {named} ({its_id}).")


def _resolve(client: IngatherClient, path: str, named: str, field: str) -> str:
    """The id of what was named by id or by name. Raises ``CliError`` where none or several have the name."""
    return _the_only([str(each["id"]) for each in _named(client, path, named, field)], named)


def _line_of_keys(client: IngatherClient, named: str) -> list[str]:
    """The ids of a line of rotated keys that has this name, newest first; the one key alone, given by its id."""
    found = {str(each["id"]): each.get("rotated_from") for each in _named(client, "/v1/api-keys", named, "name")}
    line = [_the_only([key_id for key_id in found if key_id not in found.values()], named)]
    while (older := found[line[-1]]) in found:
        line.append(str(older))
    return line


def _named(client: IngatherClient, path: str, named: str, field: str) -> list[Mapping[str, Any]]:
    found = client.all_of(path)
    return [each for each in found if each["id"] == named] or [each for each in found if each.get(field) == named]


def _the_only(ids: Sequence[str], named: str) -> str:
    if len(ids) == 1:
        return ids[0]
    if ids:
        raise CliError(
            f"Several have the name {named!r}", detail="\n".join(ids), action="Give the id.", exit_code=ExitCode.USAGE
        )
    raise CliError(f"There is no {named!r}", action="Look with `list`.", exit_code=ExitCode.NOT_FOUND, code="not_found")


def tenant_filter(client: IngatherClient, tenant: str | None) -> dict[str, str]:
    """The query parameter that narrows a list to a tenant, given by name or id.

    An id is taken as it is: what happened to a deleted tenant can still be asked for.
    """
    if tenant and is_uuid(tenant):
        return {"tenant_id": tenant}
    return {"tenant_id": _resolve(client, "/v1/tenants", tenant, "name")} if tenant else {}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}


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
