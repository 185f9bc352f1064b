"""Connections to sources: create, list, test, browse, delete; and batches of what they lead to."""

import base64
import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ingather.cli import console
from ingather.cli.commands.options import AsJson, parse_pairs
from ingather.cli.commands.processing import Options, processing_options
from ingather.cli.commands.watch import finish
from ingather.cli.connect import connect
from ingather.cli.console import clean, print_json, print_line, say
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.render import plain_table
from ingather.client import Connection, Selection, SourceFile
from ingather.models.source import SourceType

connections_app = typer.Typer(no_args_is_help=True, add_completion=False)

ConnectionArgument = Annotated[str, typer.Argument(metavar="ID", help="The connection's id.")]


@connections_app.callback()
def connections() -> None:
    """Create, test, browse and delete connections to sources."""


@connections_app.command("create")
def create(
    connection_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="Made when left out.")] = None,
    *,
    source_type: Annotated[SourceType, typer.Option("--type", help="The kind of source.")],
    settings: Annotated[
        Path | None, typer.Option("--settings", help="JSON file with its settings; - is standard input.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="K=V", help="One setting; others on this machine may see it, so no credential."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Register a connection and print its id."""
    given = (_object_in(settings) if settings else {}) | parse_pairs(set_ or [], "--set")
    with connect() as client:
        made = client.create_connection(source_type.value, given, connection_id=connection_id or None)
    if as_json:
        print_json(made.raw)
        return
    its_id = clean(made.id)
    print_line(its_id)
    say(f"Created. Next: ingather connections test {its_id}", "dim")


@connections_app.command("list")
def list_connections(as_json: AsJson = False) -> None:
    """List connections, newest first; credentials are masked."""
    with connect() as client:
        found = list(client.connections())
    rows = [(each.id, each.source_type, _settings(each), _given(each, "created_at")) for each in found]
    _show(found, ("id", "type", "settings", "created at"), rows, as_json=as_json)


@connections_app.command("test")
def try_it(connection_id: ConnectionArgument, as_json: AsJson = False) -> None:
    """Use a connection as a batch would, and say what is wrong."""
    with connect() as client:
        tested = client.test_connection(connection_id)
    if as_json:
        print_json(tested.raw)
    elif tested.ok:
        say(f"{connection_id} works ({tested.took_ms:.0f} ms).", "green")
    if not tested.ok:
        raise CliError(clean(tested.message), action=clean(tested.action), code=str(tested.code))


@connections_app.command("files")
def files(
    connection_id: ConnectionArgument,
    *,
    folder: Annotated[str | None, typer.Option("--folder", help="Id of a folder; the root when left out.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many.")] = None,
    ids: Annotated[bool, typer.Option("--ids", help="File ids alone, one a line, without folders.")] = False,
    as_json: AsJson = False,
) -> None:
    """List files and folders of a source."""
    with connect() as client:
        found = list(client.connection_files(connection_id, folder=folder, limit=limit))
    if ids:
        for each in found:
            if not each.is_folder:
                print_line(clean(each.id))
        return
    rows = [(each.id, each.name, _size(each), _given(each, "modified_at")) for each in found]
    _show(found, ("file id", "name", "bytes", "modified at"), rows, as_json=as_json)


@connections_app.command("submit")
def submit(
    connection_id: ConnectionArgument,
    file_ids: Annotated[list[str], typer.Argument(metavar="FILE_ID…", help="Files; - reads ids from standard input.")],
    *,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Where search finds them.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the batch.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", min=1, max=5, help="1 is the most urgent.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Wait for `ingather start`.")] = False,
    option: Options = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch until the batch ended.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key submits once, however often it is sent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit files of a source as one batch."""
    selected = list(_lines()) if file_ids == ["-"] else file_ids
    if not selected:
        raise CliError("No file was named", action="Give file ids, one a line.", exit_code=ExitCode.USAGE)
    options = processing_options(option or [])
    given = {"name": name, "collection": collection, "priority": priority, "hold": hold, "options": options}
    spec: dict[str, Any] = {key: value for key, value in given.items() if value}
    with connect() as client:
        selection = Selection(connection_id, client.connection(connection_id).source_type, selected)
        batch = client.submit_sources([selection], idempotency_key=idempotency_key, **spec)
        if as_json:
            print_json(batch.raw)
        else:
            print_line(batch.id)
        if watch:
            finish(client, batch, as_json=as_json, after=0)


@connections_app.command("delete")
def delete(connection_id: ConnectionArgument, as_json: AsJson = False) -> None:
    """Forget a connection and its credentials."""
    with connect() as client:
        client.delete_connection(connection_id)
    if as_json:
        print_json({"connection_id": connection_id, "deleted": True})
    else:
        say(f"Deleted {connection_id}.")


@connections_app.command("new-key")
def new_key() -> None:
    """Make a key that credentials are encrypted with, without a server."""
    say("For INGATHER_SOURCES__KEYS of the API and every worker, the newest first:")
    print_line(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())


def _show(
    found: Sequence[Connection | SourceFile],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    as_json: bool,
) -> None:
    if as_json:
        for each in found:
            print_json(each.raw)
        return
    table = plain_table(*columns)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(clean(cell) for cell in row))
    console.show(table)


def _settings(connection: Connection) -> str:
    """Those that tell connections apart; a list is counted."""
    shown = []
    for name, value in connection.settings.items():
        what = f"{len(value)} of them" if isinstance(value, list) else str(value)
        shown.append(f"{name}={what}")
    return " ".join(shown)


def _size(file: SourceFile) -> str:
    if file.is_folder:
        return "folder"
    return "" if file.size_bytes is None else f"{file.size_bytes:,}"


def _given(each: Connection | SourceFile, time: str) -> str:
    """A time as the server writes it."""
    return str(each.raw.get(time) or "")


def _lines() -> Iterator[str]:
    for line in sys.stdin:
        if text := line.rstrip("\r\n"):
            yield text


def _object_in(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CliError(f"{path} cannot be read", detail=str(error), exit_code=ExitCode.USAGE) from error
    except ValueError as error:
        # Without what stands there: it holds credentials.
        raise CliError(f"{path} is not JSON", exit_code=ExitCode.USAGE) from error
    if not isinstance(content, dict):
        raise CliError(f"{path} is not a JSON object", exit_code=ExitCode.USAGE)
    return content
