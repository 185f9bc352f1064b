"""Submit files, folders and ZIPs as one batch."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ingather.cli.client import IngatherClient
from ingather.cli.commands.options import AsJson, parse_pairs
from ingather.cli.commands.watch import finish
from ingather.cli.connect import connect
from ingather.cli.console import print_json, print_line, say, talk
from ingather.cli.multipart import Sent
from ingather.cli.render import plural, size
from ingather.cli.resources import Batch
from ingather.cli.selection import (
    Selection,
    check_limits,
    match_metadata,
    read_metadata,
    select,
    spool,
    standard_input,
)

SHOWN_NAMES = 5
STDIN_NAME = "stdin"


def submit(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Files, folders, ZIPs; - is standard input.")],
    *,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Where search finds it.")] = None,
    metadata: Annotated[
        Path | None, typer.Option("--metadata", help="JSON (filename → object) or CSV with a filename column.")
    ] = None,
    priority: Annotated[int | None, typer.Option("--priority", min=1, max=5, help="1 is the most urgent.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the batch.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Wait for `ingather start`.")] = False,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="K=V", help="Such as chunk_size=500.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch until the batch ended.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key submits once, however often it is sent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit files, folders or ZIPs as one batch."""
    options = {key: _value(text) for key, text in parse_pairs(option or [], "--option").items()}
    wanted = {"name": name or _folder_name(paths), "collection": collection, "priority": priority, "hold": hold or None}
    spec: dict[str, Any] = {key: value for key, value in wanted.items() if value is not None}
    if options:
        spec["options"] = options
    with connect() as client:
        with _selected(paths) as selection:
            batch = _submit(client, selection, spec, metadata, idempotency_key)
        if as_json:
            print_json(batch.raw)
        else:
            print_line(batch.id)
        if watch:
            finish(client, batch, as_json=as_json, after=0)
    if not as_json:
        say(f"Accepted. Next: ingather {'start' if batch.waiting_for == 'start' else 'watch'} {batch.id}", "dim")


def _folder_name(paths: Sequence[Path]) -> str | None:
    """A folder names its batch; several paths, or a file, leave it to the server."""
    return paths[0].resolve().name[:255] or None if len(paths) == 1 and paths[0].is_dir() else None


def _value(text: str) -> Any:
    """``500``, ``0.2``, ``true`` as what they are; anything else as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextmanager
def _selected(paths: Sequence[Path]) -> Iterator[Selection]:
    with tempfile.TemporaryDirectory(prefix="ingather-") as folder:
        spooled = [
            spool(standard_input(), Path(folder), STDIN_NAME) if str(path) == "-" else path
            for path in dict.fromkeys(paths)
        ]
        selection = select(spooled)
        for reason in selection.skipped[:SHOWN_NAMES]:
            say(f"Left out {reason}", "yellow")
        if len(selection.skipped) > SHOWN_NAMES:
            say(f"Left out {len(selection.skipped) - SHOWN_NAMES:,} more", "yellow")
        yield selection


def _submit(
    client: IngatherClient, selection: Selection, spec: dict[str, Any], metadata: Path | None, key: str | None
) -> Batch:
    entries = read_metadata(metadata) if metadata is not None else {}
    by_name, unmatched = match_metadata(selection.files, entries)
    if unmatched:
        names = ", ".join(unmatched[:SHOWN_NAMES]) + (" …" if len(unmatched) > SHOWN_NAMES else "")
        say(f"Not used, because no file has the name: metadata for {names}", "yellow")
    check_limits(selection.files, client.limits())
    count = len(selection.files)
    with _upload_bar(f"{count:,} {plural('file', count)}, {size(selection.total_bytes)}", selection) as sent:
        return client.submit(selection.files, spec=spec, metadata=by_name, idempotency_key=key, sent=sent)


@contextmanager
def _upload_bar(what: str, selection: Selection) -> Iterator[Sent]:
    if not talk().is_terminal:
        say(f"Uploading {what}")
        yield lambda _: None
        return
    columns = (
        TextColumn("Uploading {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=talk(), transient=True) as progress:
        task = progress.add_task(what, total=max(1, selection.total_bytes))
        yield lambda total: progress.update(task, completed=total)
