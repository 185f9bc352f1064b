"""Processing options on the command line."""

import json
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ingather.cli.commands.options import parse_pairs
from ingather.cli.console import clean
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.models.batch import ProcessingOptions

Options = Annotated[
    list[str] | None, typer.Option("--option", "-o", metavar="K=V", help="Such as chunk_size=500; repeat it for more.")
]


def processing_options(pairs: list[str]) -> dict[str, Any]:
    """``k=v`` as processing options: ``500``, ``0.2``, ``true`` as what they are, anything else as text.

    Raises:
        CliError: there is no such option, or none with such a value. Before anything is sent: the server would refuse it after the upload.
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
    try:
        ProcessingOptions.model_validate(options)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, each['loc'])) or 'option'}: {each['msg']}" for each in error.errors()]
        raise CliError(
            "A processing option has a value it cannot have",
            detail="\n".join(problems),
            exit_code=ExitCode.USAGE,
            code="usage",
        ) from error
    return options


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
