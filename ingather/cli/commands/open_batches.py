"""Open batches: add documents, seal."""

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from ingather.cli.blocks import BLOCK_BYTES, BlockUpload, room_in_request
from ingather.cli.commands.batches import tell
from ingather.cli.commands.options import AsJson, BatchId, resolve
from ingather.cli.commands.sending import Metadata, selected, sending_lines, used_metadata
from ingather.cli.commands.watch import finish
from ingather.cli.connect import connect
from ingather.cli.console import print_json, print_line, say
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.upload_bar import upload_bar
from ingather.client import IngatherClient


def add(
    batch_id: BatchId,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH…", help="Files, folders, ZIPs; - is standard input.")
    ] = None,
    *,
    ndjson: Annotated[
        Path | None,
        typer.Option("--ndjson", metavar="FILE", help="A manifest, a document a line; - is standard input."),
    ] = None,
    metadata: Metadata = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key adds once, however often it is sent.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Add files, folders or ZIPs to an open batch."""
    if (ndjson is None) == (not paths) or (ndjson is not None and metadata is not None):
        raise CliError(
            "The command is not complete",
            detail="Name what to add: PATH…, or --ndjson FILE, which has its metadata in itself.",
            exit_code=ExitCode.USAGE,
            code="usage",
        )
    key = idempotency_key or str(uuid.uuid4())
    with connect() as client:
        batch_id = resolve(client, batch_id)
        if ndjson is not None:
            with sending_lines(ndjson) as (file, sent):
                count = client.add_lines(batch_id, file, sent=sent, idempotency_key=key).documents
        else:
            count = _add_paths(client, batch_id, paths or [], metadata, key)
    answer: dict[str, Any] = {"batch_id": batch_id, "documents": count}
    if as_json:
        print_json(answer)
    else:
        print_line(f"{batch_id}  {count:,} documents so far")
        say(f"Next: ingather add {batch_id} PATH…, and at last: ingather seal {batch_id}", "dim")


def _add_paths(client: IngatherClient, batch_id: str, paths: list[Path], metadata: Path | None, key: str) -> int:
    with selected(paths) as selection:
        block_bytes = min(BLOCK_BYTES, room_in_request(client.limits()))
        upload = BlockUpload(client, batch_id, key, used_metadata(selection, metadata), block_bytes)
        try:
            with upload_bar(selection) as progress:
                upload.run(selection, progress)
        except KeyboardInterrupt:
            say(
                f"Stopped after {upload.files_sent:,} of {selection.file_count:,} files, which stay in the batch. "
                f"The same command with --idempotency-key {key} adds the others.",
                "yellow",
            )
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        return upload.documents


def seal(
    batch_id: BatchId,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch until the batch ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Seal an open batch: it takes no more documents, and runs."""
    with connect() as client:
        batch = client.seal(resolve(client, batch_id))
        tell(batch, as_json=as_json)
        if watch:
            # A person has just read what the batch is now: told again from its beginning it would go backwards.
            finish(client, batch, as_json=as_json, after=0 if as_json else None)
