"""The hand-off list of a tenant whose own workers parse."""

import uuid
from typing import Annotated

import typer

from ingather.cli.commands.administration import tenant_id_of
from ingather.cli.commands.options import AsJson, resolve
from ingather.cli.connect import connect
from ingather.cli.console import print_json, print_line, say

handoff_app = typer.Typer(no_args_is_help=True, add_completion=False)


@handoff_app.callback()
def handoff() -> None:
    """Push documents to a hand-off list again that was lost."""


@handoff_app.command("push-again")
def push_again(
    batch_ids: Annotated[list[str], typer.Argument(metavar="ID…", help="Batch ids, or `latest` for the newest one.")],
    *,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Name or id of the tenant whose batch it is.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="The same key again pushes only what is missing.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Push every document of these batches that was handed on; for a list that was lost."""
    key = idempotency_key or str(uuid.uuid4())
    if idempotency_key is None:
        # Before anything is pushed: it is needed where the answer does not come.
        say(f"Should this break off, repeat it with --idempotency-key {key}: it pushes what is missing.")
    with connect() as client:
        owner = tenant_id_of(client, tenant)
        for batch_id in [resolve(client, named) for named in batch_ids]:
            pushed = sum(client.push_again(batch_id, idempotency_key=key, tenant_id=owner))
            if as_json:
                print_json({"batch_id": batch_id, "pushed": pushed, "idempotency_key": key})
            else:
                print_line(f"{batch_id} {pushed:,} pushed again")
