"""``ingather up``: the embedded stack in the foreground, until Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import os
import signal
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ingather.cli.console import print_json, print_line, say, talk
from ingather.cli.environment import remarks_on_names, settings_here
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.logging import configure_logging
from ingather.stack.errors import PortTakenError, StackError
from ingather.stack.local import DEFAULT_API_PORT, LocalStack
from ingather.stack.shown import without_credentials

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def up(
    port: Annotated[
        int | None,
        typer.Option(help="Port of the API; that of the last run, else 8000, or a free one.", min=1, max=65535),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(".ingather"),
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1, max=64)] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print addresses as one line of JSON.")] = False,
) -> None:
    """Run the embedded stack, API and workers in the foreground.

    Ctrl-C or SIGTERM stops all of it; starting again in the same directory goes on where it stopped.
    """
    configure_logging("auto", "info")
    settings_here()  # before anything runs: parts that refuse them would only die
    for remark in remarks_on_names():
        say(remark, "yellow")
    stack = LocalStack(data_dir, api_port=port, workers=workers)
    try:
        asyncio.run(_run(stack, as_json=as_json, any_port=port is None))
    except StackError as error:
        code = ExitCode.USAGE if isinstance(error, PortTakenError) else ExitCode.ERROR
        raise _as_cli_error(error, code) from error


async def _run(stack: LocalStack, *, as_json: bool, any_port: bool) -> None:
    """Start, tell where everything is, wait for a signal, stop. A further signal changes nothing."""
    asked_to_stop = _listen_for_signals()
    say(f"Starting in {stack.directory.root} …", "dim")
    opened = contextlib.AsyncExitStack()
    starting = asyncio.ensure_future(opened.enter_async_context(stack))
    waiting = asyncio.ensure_future(asked_to_stop.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    starting.result()
    async with opened:
        first_key = stack.first_key
        if as_json:
            print_json(_with_key(stack.describe(), first_key))
        _show_addresses(stack.describe(), moved=any_port and stack.api.port != DEFAULT_API_PORT)
        if stack.first_key_shown_at is not None and os.environ.get("INGATHER_AUTH__MODE") == "required":
            _say_where_the_key_went(stack.first_key_shown_at, stack.directory.root)
        if first_key is not None:
            if not as_json:
                _show_key(first_key)
            stack.first_key_was_shown()
        await waiting
        say("Stopping …", "dim")
    say("Stopped; nothing is left running.", "dim")


def _listen_for_signals() -> asyncio.Event:
    asked_to_stop = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    return asked_to_stop


def _show_addresses(facts: dict[str, Any], *, moved: bool) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    url = facts["api"]["url"]
    for name, address in (
        ("Dashboard", f"{url}/"),
        ("API", url),
        ("API reference", f"{url}/docs"),
        ("Temporal UI", facts["temporal"]["ui_url"]),
        ("Temporal", facts["temporal"]["address"]),
        ("S3", f"{facts['s3']['endpoint_url']}  bucket {facts['s3']['bucket']}"),
        ("Redis", without_credentials(facts["redis"]["url"])),
        ("Data and logs", facts["data_dir"]),
        ("Credentials", f"{facts['data_dir']}/stack.json"),
    ):
        table.add_row(name, address)
    say("Ingather is ready.", "bold green")
    talk().print(table)
    if moved:
        say(f"The API is not at port {DEFAULT_API_PORT}. For curl, and for commands in other folders:", "yellow")
        say(f"  export INGATHER_URL={url}", "cyan")
    say("Ctrl-C stops all of it.", "dim")


def _with_key(facts: dict[str, Any], key: str | None) -> dict[str, Any]:
    return facts if key is None else {**facts, "api": {**facts["api"], "key": key}}


def _show_key(key: str) -> None:
    say("Your first API key, an administrator's; it is shown this once:", "bold")
    print_line(key)
    say("Keep it as INGATHER_API_KEY. It is needed where INGATHER_AUTH__MODE is `required`.", "dim")


def _say_where_the_key_went(shown_at: datetime, root: Path) -> None:
    say(f"The first API key was shown on {shown_at.astimezone():%Y-%m-%d %H:%M} and is kept nowhere.", "dim")
    say(f"Lost it? Stop, remove {root}/first-key and start again: another one is made, and shown.", "dim")


def _as_cli_error(error: StackError, code: ExitCode) -> CliError:
    title, _, detail = str(error).partition(". ")
    return CliError(title, detail=detail, exit_code=code, code="stack_not_started")
