"""The settings of this machine's environment, for commands that run parts themselves or look at them."""

import os
from collections.abc import Iterator
from pathlib import Path

from ingather.cli.errors import CliError
from ingather.models.errors import ConfigurationError
from ingather.settings import Settings, read_settings, unknown_variables


def settings_here(data_dir: Path | None = None) -> Settings:
    """What the environment says. Raises ``CliError`` that names the variables that do not fit."""
    try:
        return read_settings(data_dir)
    except ConfigurationError as error:
        raise CliError(error.title, detail=error.message, action=error.action, code=error.code) from error


def remarks_on_names() -> Iterator[str]:
    """A sentence for each variable that looks like a setting and is none."""
    for name, meant in unknown_variables(os.environ).items():
        yield f"{name} is no setting{f': perhaps {meant}?' if meant else '.'}"
