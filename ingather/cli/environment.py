"""The settings of this machine's environment, for commands that run parts themselves or look at them."""

from pathlib import Path

from ingather.cli.errors import CliError
from ingather.models.errors import ConfigurationError
from ingather.settings import Settings, read_settings


def settings_here(data_dir: Path | None = None) -> Settings:
    """What the environment says. Raises ``CliError`` that names the variables that do not fit."""
    try:
        return read_settings(data_dir)
    except ConfigurationError as error:
        raise CliError(error.title, detail=error.message, action=error.action, code=error.code) from error
