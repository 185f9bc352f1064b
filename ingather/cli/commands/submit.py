"""Submit files, folders and ZIPs, or an NDJSON manifest, as one batch."""

import shlex
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ingather.cli.blocks import BLOCK_BYTES, ONE_REQUEST_BYTES, ONE_REQUEST_FILES, BlockUpload, room_in_request
from ingather.cli.commands.options import AsJson
from ingather.cli.commands.processing import Options, processing_options
from ingather.cli.commands.sending import Metadata, selected, sending_lines, used_metadata
from ingather.cli.commands.watch import finish
from ingather.cli.connect import connect
from ingather.cli.console import print_json, print_line, say
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.selection import Selection, check_limits
from ingather.cli.upload_bar import upload_bar
from ingather.client import IngatherClient
from ingather.client.bodies import has_spec_line
from ingather.client.errors import ClientError
from ingather.client.models import Batch


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line asks for."""

    spec: dict[str, Any]
    metadata: dict[str, dict[str, Any]]
    key: str
    block_bytes: int
    stays_open: bool


def submit(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Files, folders, ZIPs; - is standard input.")
    ] = None,
    *,
    ndjson: Annotated[
        Path | None,
        typer.Option("--ndjson", metavar="FILE", help="A manifest, a document a line; - is standard input."),
    ] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Where search finds it.")] = None,
    metadata: Metadata = None,
    priority: Annotated[int | None, typer.Option("--priority", min=1, max=5, help="1 is the most urgent.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the batch.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Wait for `ingather start`.")] = False,
    open_: Annotated[bool, typer.Option("--open", help="Take more with `ingather add` until `ingather seal`.")] = False,
    option: Options = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch until the batch ended.")] = False,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key submits once, however often it is sent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Submit files, folders or ZIPs as one batch."""
    paths = paths or []
    _check_usage(paths, ndjson, metadata, is_open=open_, watch=watch)
    options = processing_options(option or [])
    given = {"name": name, "collection": collection, "priority": priority, "hold": hold or None, "options": options}
    spec: dict[str, Any] = {key: value for key, value in given.items() if value}
    key = idempotency_key or str(uuid.uuid4())
    with connect() as client:
        if ndjson is not None:
            batch = _submit_lines(client, ndjson, spec | ({"open": True} if open_ else {}), key)
        elif not paths:
            batch = client.open_batch(idempotency_key=key, **spec)
        else:
            if folder := _folder_name(paths):
                spec.setdefault("name", folder)
            batch = _submit_paths(client, paths, spec, metadata, key, is_open=open_)
        if as_json:
            print_json(batch.raw)
        else:
            print_line(batch.id)
        if watch:
            finish(client, batch, as_json=as_json, after=0)
    if not as_json:
        if idempotency_key and batch.was_replayed:
            say("This key submitted the batch before; nothing new was submitted.", "yellow")
        else:
            say(_next_step(batch, is_open=open_), "dim")


def _check_usage(
    paths: Sequence[Path], ndjson: Path | None, metadata: Path | None, *, is_open: bool, watch: bool
) -> None:
    problem = ""
    if ndjson is not None and (paths or metadata):
        problem = "--ndjson carries documents and metadata; give neither PATH nor --metadata with it."
    elif ndjson is None and not paths and not is_open:
        problem = "Name what to submit: PATH…, or --ndjson FILE; or --open for a batch that begins empty."
    elif is_open and watch:
        problem = "An open batch runs when it is sealed: watch it with `ingather seal ID --watch`."
    if problem:
        raise CliError("The command is not complete", detail=problem, exit_code=ExitCode.USAGE, code="usage")


def _next_step(batch: Batch, *, is_open: bool) -> str:
    if is_open:
        return f"Open. Next: ingather add {batch.id} PATH…, and at last: ingather seal {batch.id}"
    return f"Accepted. Next: ingather {'start' if batch.waiting_for == 'start' else 'watch'} {batch.id}"


def _folder_name(paths: Sequence[Path]) -> str | None:
    """A folder names its batch; several paths, or a file, leave it to the server."""
    return paths[0].resolve().name[:255] or None if len(paths) == 1 and paths[0].is_dir() else None


def _submit_lines(client: IngatherClient, path: Path, spec: dict[str, Any], key: str) -> Batch:
    with sending_lines(path) as (file, sent):
        if spec and has_spec_line(file):
            raise CliError(
                "The manifest says itself what the batch is like",
                detail=f"{path} begins with a line `spec`; a batch has one.",
                action=f"Drop {_named(spec)}, or the line.",
                exit_code=ExitCode.USAGE,
                code="usage",
            )
        return client.submit_lines(file, sent=sent, idempotency_key=key, **spec)


def _named(spec: Mapping[str, Any]) -> str:
    """What of the command line went into a batch's spec, as it was typed."""
    return ", ".join("--option" if name == "options" else f"--{name}" for name in spec)


def _submit_paths(
    client: IngatherClient,
    paths: Sequence[Path],
    spec: dict[str, Any],
    metadata: Path | None,
    key: str,
    *,
    is_open: bool,
) -> Batch:
    with selected(paths) as selection:
        entries = used_metadata(selection, metadata)
        limits = client.limits()
        check_limits(selection, limits)
        room = room_in_request(limits)
        wanted = _Wanted(spec, entries, key, min(BLOCK_BYTES, room), is_open)
        if is_open or selection.file_count > ONE_REQUEST_FILES or selection.total_bytes > min(ONE_REQUEST_BYTES, room):
            return _submit_in_blocks(client, selection, wanted)
        with upload_bar(selection) as progress:
            return client.submit(
                list(selection),
                metadata=wanted.metadata,
                idempotency_key=key,
                sent=lambda sent: progress(0, sent),
                **wanted.spec,
            )


def _submit_in_blocks(client: IngatherClient, selection: Selection, wanted: _Wanted) -> Batch:
    """Open a batch, add block by block, seal. What breaks off can be gone on with; nothing runs before the seal."""
    batch = client.open_batch(idempotency_key=wanted.key, **wanted.spec)
    upload = BlockUpload(client, batch.id, wanted.key, wanted.metadata, wanted.block_bytes)
    try:
        with upload_bar(selection) as progress:
            upload.run(selection, progress)
        return client.batch(batch.id) if wanted.stays_open else client.seal(batch.id)
    except KeyboardInterrupt:
        _say_how_to_go_on(upload, selection, wanted)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except (CliError, ClientError) as error:
        if error.code != "idempotency_key_reused":
            _say_how_to_go_on(upload, selection, wanted)
        raise


def _say_how_to_go_on(upload: BlockUpload, selection: Selection, wanted: _Wanted) -> None:
    say(
        f"Stopped after {upload.files_sent:,} of {selection.file_count:,} files. They are kept in batch "
        f"{upload.batch_id}, and nothing of it runs before it is complete.",
        "yellow",
    )
    has_key = any(argument.startswith("--idempotency-key") for argument in sys.argv)
    again = sys.argv[1:] if has_key else [*sys.argv[1:], "--idempotency-key", wanted.key]
    say(f"  → go on:     {shlex.join(['ingather', *again])}", "cyan")
    say(f"  → or drop it: ingather cancel {upload.batch_id}", "cyan")
