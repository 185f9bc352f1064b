"""The ``ingather`` command: the menu, and what becomes of errors.

A command's module is imported when the command runs, so the menu and a typing mistake are answered at once.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from ingather import __version__
from ingather.cli.console import show_error
from ingather.cli.errors import CliError, in_our_words
from ingather.cli.exit_codes import ExitCode
from ingather.client.errors import ClientError


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the menu, and where its command is."""

    name: str
    module: str
    function: str
    summary: str
    """First line of the command's docstring; a test keeps the two alike."""
    panel: str
    group: str = ""
    """Name of the group, where the command has commands of its own; ``function`` is then its callback."""

    def load(self) -> Any:
        if self.group:
            return get_command(getattr(import_module(self.module), self.group))
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(self.name)(self.callback())
        return get_command(app)

    def callback(self) -> Callable[..., None]:
        function: Callable[..., None] = getattr(import_module(self.module), self.function)
        return function


_LOCAL, _BATCHES, _RESULTS, _ADMINISTRATION = "This machine", "Batches", "Results", "Administration"
_COMMANDS = "ingather.cli.commands"

MENU = {
    entry.name: entry
    for entry in (
        Entry("up", "ingather.cli.up", "up", "Run the embedded stack, API and workers in the foreground.", _LOCAL),
        Entry("demo", "ingather.cli.demo", "demo", "Start everything, ingest the samples, search, stop.", _LOCAL),
        Entry("doctor", "ingather.cli.doctor", "doctor", "Check every part and say what to do.", _LOCAL),
        Entry("submit", f"{_COMMANDS}.submit", "submit", "Submit files, folders or ZIPs as one batch.", _BATCHES),
        Entry("add", f"{_COMMANDS}.open_batches", "add", "Add files, folders or ZIPs to an open batch.", _BATCHES),
        Entry(
            "seal",
            f"{_COMMANDS}.open_batches",
            "seal",
            "Seal an open batch: it takes no more documents, and runs.",
            _BATCHES,
        ),
        Entry("list", f"{_COMMANDS}.batches", "list_batches", "List batches, newest first.", _BATCHES),
        Entry("show", f"{_COMMANDS}.batches", "show", "Show one batch: state, counts, times, links.", _BATCHES),
        Entry("watch", f"{_COMMANDS}.watch", "watch", "Watch a batch live; Ctrl-C leaves it running.", _BATCHES),
        Entry("start", f"{_COMMANDS}.batches", "start", "Start a batch that was submitted with --hold.", _BATCHES),
        Entry(
            "pause",
            f"{_COMMANDS}.batches",
            "pause",
            "Pause a batch: documents in flight finish, no new ones start.",
            _BATCHES,
        ),
        Entry("resume", f"{_COMMANDS}.batches", "resume", "Resume a paused batch.", _BATCHES),
        Entry(
            "cancel",
            f"{_COMMANDS}.batches",
            "cancel",
            "Cancel a batch: documents in flight stop, finished ones stay.",
            _BATCHES,
        ),
        Entry(
            "retry", f"{_COMMANDS}.batches", "retry", "Run failed documents again: all, or those you name.", _BATCHES
        ),
        Entry(
            "failures",
            f"{_COMMANDS}.results",
            "failures",
            "Show failed documents by error code, with what to do.",
            _RESULTS,
        ),
        Entry(
            "results",
            f"{_COMMANDS}.results",
            "results",
            "Show what became of each document, or save the report.",
            _RESULTS,
        ),
        Entry(
            "search", f"{_COMMANDS}.results", "search", "Search what was ingested, by meaning and by words.", _RESULTS
        ),
        Entry(
            "tenants",
            f"{_COMMANDS}.administration",
            "tenants",
            "Create, list and delete tenants.",
            _ADMINISTRATION,
            "tenants_app",
        ),
        Entry(
            "users",
            f"{_COMMANDS}.administration",
            "users",
            "Create, list and delete users.",
            _ADMINISTRATION,
            "users_app",
        ),
        Entry(
            "keys",
            f"{_COMMANDS}.administration",
            "keys",
            "Create, list, rotate and delete API keys.",
            _ADMINISTRATION,
            "keys_app",
        ),
        Entry(
            "connections",
            f"{_COMMANDS}.connections",
            "connections",
            "Create, test, browse and delete connections to sources.",
            _ADMINISTRATION,
            "connections_app",
        ),
        Entry(
            "webhooks",
            f"{_COMMANDS}.webhooks",
            "webhooks",
            "Create, test, rotate and delete webhooks; show and repeat deliveries.",
            _ADMINISTRATION,
            "webhooks_app",
        ),
        Entry("audit", f"{_COMMANDS}.audit", "audit", "Show who did what, newest first.", _ADMINISTRATION),
        Entry(
            "handoff",
            f"{_COMMANDS}.handoff",
            "handoff",
            "Push documents to a hand-off list again that was lost.",
            _ADMINISTRATION,
            "handoff_app",
        ),
    )
}


class MenuGroup(TyperGroup):
    """Shows the menu from ``MENU`` and loads a command only when it is the one that runs."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for entry in MENU.values():
            self.commands[entry.name] = TyperCommand(entry.name, help=entry.summary, rich_help_panel=entry.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        entry = MENU.get(args[0]) if args else None
        if entry is not None:
            self.commands[entry.name] = entry.load()
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=MenuGroup,
    name="ingather",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="INGATHER_URL, INGATHER_API_KEY and INGATHER_TENANT say which server; otherwise ./.ingather, then port 8000.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ingather {__version__}")
        raise typer.Exit


@app.callback()
def menu(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Takes documents in, by the thousand, and loses none."""


def main() -> NoReturn:
    """Run a command; every way it can end has its exit code."""
    # Names from elsewhere must not break a terminal or pipe that cannot show them.
    _show_anything(sys.stdout, "replace")
    _show_anything(sys.stderr, "backslashreplace")
    try:
        app(prog_name="ingather")
    except CliError as error:
        _end_with(error)
    except ClientError as error:
        _end_with(in_our_words(error))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our pipe has seen enough; nothing more must be flushed into it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)
    sys.exit(ExitCode.OK)


def _show_anything(stream: Any, errors: Literal["replace", "backslashreplace"]) -> None:
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=errors)


def _end_with(error: CliError) -> NoReturn:
    show_error(error, as_json="--json" in sys.argv)
    sys.exit(error.exit_code)
