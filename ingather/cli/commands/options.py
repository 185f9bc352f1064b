"""Arguments and options that several commands share."""

import json
from typing import Annotated, Any

import typer

from ingather.cli.console import clean
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.client import IngatherClient
from ingather.models.batch import ProcessingOptions

LATEST = "latest"

BatchId = Annotated[str, typer.Argument(metavar="ID", help="Batch id, or `latest` for the newest one.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", "-o", metavar="K=V", help="Such as chunk_size=500; repeat it for more.")
]
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


def processing_options(pairs: list[str]) -> dict[str, Any]:
    """``k=v`` as processing options: ``500``, ``0.2``, ``true`` as what they are, anything else as text.

    Raises:
        CliError: there is no such option. Before anything is sent: the server would refuse it after the upload.
    """
    options = {name: _value(text) for name, text in parse_pairs(pairs, "--option").items()}
    unknown = [name for name in options if name not in ProcessingOptions.model_fields]
    if unknown:
        raise CliError(
            f"There is no processing option {clean(unknown[0])!r}",
            detail="Known are: " + ", ".join(ProcessingOptions.model_fields),
            exit_code=ExitCode.USAGE,
            code="usage",
        )
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
