"""Watch a batch until it ended."""

from typing import Annotated

import typer

from ingather.cli.commands.options import AsJson, BatchId, resolve
from ingather.cli.connect import connect
from ingather.cli.console import say
from ingather.cli.exit_codes import ExitCode, exit_code_for_batch
from ingather.cli.watching import watch_to_end
from ingather.client import IngatherClient
from ingather.client.models import Batch


def watch(
    batch_id: BatchId = "latest",
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Go on behind this seq; 0 begins with the first event.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Watch a batch live; Ctrl-C leaves it running."""
    with connect() as client:
        batch = client.batch(resolve(client, batch_id))
        finish(client, batch, as_json=as_json, after=after)


def finish(client: IngatherClient, batch: Batch, *, as_json: bool, after: int | None = None) -> None:
    """Watch to the end and leave with the exit code of the outcome; Ctrl-C detaches."""
    try:
        ended = watch_to_end(client, batch, as_json=as_json, after=after)
    except KeyboardInterrupt:
        say(f"Left the batch running. Watch it again with: ingather watch {batch.id}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    raise typer.Exit(exit_code_for_batch(ended.status, failed=ended.counts.failed))
