"""Look at batches and steer them: list, show, start, pause, resume, cancel, retry."""

from typing import Annotated

import typer

from ingather.cli import console
from ingather.cli.commands.options import AsJson, BatchId, resolve
from ingather.cli.commands.watch import finish
from ingather.cli.connect import connect
from ingather.cli.console import clean, print_json, print_line, say
from ingather.cli.render import batch_details, batches_table, counts_text
from ingather.client.models import Batch


def list_batches(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many to show.")] = 20,
    status: Annotated[str | None, typer.Option("--status", help="Only batches in this state.")] = None,
    as_json: AsJson = False,
) -> None:
    """List batches, newest first."""
    with connect() as client:
        batches = list(client.batches(limit=limit, status=status))
    if as_json:
        for batch in batches:
            print_json(batch.raw)
    elif batches:
        console.show(batches_table(batches))
    elif status:
        say(f"No batch is {clean(status).replace('_', ' ')}.")
    else:
        say("No batches. Submit one with `ingather submit PATH`.")


def show(batch_id: BatchId = "latest", as_json: AsJson = False) -> None:
    """Show one batch: state, counts, times, links."""
    with connect() as client:
        batch = client.batch(resolve(client, batch_id))
    if as_json:
        print_json(batch.raw)
    else:
        console.show(batch_details(batch))


def start(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Start a batch that was submitted with --hold."""
    with connect() as client:
        tell(client.start(resolve(client, batch_id)), as_json=as_json)


def pause(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Pause a batch: documents in flight finish, no new ones start."""
    with connect() as client:
        tell(client.pause(resolve(client, batch_id)), as_json=as_json)


def resume(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Resume a paused batch."""
    with connect() as client:
        tell(client.resume(resolve(client, batch_id)), as_json=as_json)


def cancel(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Cancel a batch: documents in flight stop, finished ones stay."""
    with connect() as client:
        tell(client.cancel(resolve(client, batch_id)), as_json=as_json)


def retry(
    batch_id: BatchId,
    *,
    code: Annotated[list[str] | None, typer.Option("--code", help="Only failures with this error code.")] = None,
    ordinal: Annotated[list[int] | None, typer.Option("--ordinal", help="Only this document, by number.")] = None,
    include_cancelled: Annotated[
        bool, typer.Option("--include-cancelled", help="Also documents that a cancel left undone.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch until the batch ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run failed documents again: all, or those you name."""
    with connect() as client:
        identity = resolve(client, batch_id)
        batch = client.retry(identity, codes=code or (), ordinals=ordinal or (), include_cancelled=include_cancelled)
        tell(batch, as_json=as_json)
        if watch:
            finish(client, batch, as_json=as_json)


def tell(batch: Batch, *, as_json: bool) -> None:
    """What a batch is, now that it was steered."""
    if as_json:
        print_json(batch.raw)
    else:
        print_line(f"{batch.id}  {batch.status}  {counts_text(batch.counts).plain}")
