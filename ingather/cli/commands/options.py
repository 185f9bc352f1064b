"""Arguments and options that several commands share."""

from typing import Annotated

import typer

from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.client import IngatherClient

LATEST = "latest"

BatchId = Annotated[str, typer.Argument(metavar="ID", help="Batch id, or `latest` for the newest one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON Lines for programs.")]


def resolve(client: IngatherClient, batch_id: str) -> str:
    """The id itself, or that of the newest batch."""
    if batch_id != LATEST:
        return batch_id
    for batch in client.batches(limit=1):
        return batch.id
    raise CliError(
        "There is no batch yet",
        action="Submit one with `ingather submit PATH`.",
        exit_code=ExitCode.NOT_FOUND,
        code="batch_not_found",
    )


def parse_pairs(pairs: list[str], option: str) -> dict[str, str]:
    """``k=v`` options as a mapping.

    Raises:
        CliError: one of them has no ``=`` or no name.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise CliError(
                f"{option} needs NAME=VALUE", detail=f"It was given {pair!r}.", exit_code=ExitCode.USAGE, code="usage"
            )
        found[name] = value
    return found
