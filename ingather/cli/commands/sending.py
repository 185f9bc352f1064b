"""What commands that send documents have in common."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ingather.cli.console import say
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.selection import Selection, match_metadata, read_metadata, select, spool, standard_input
from ingather.cli.upload_bar import byte_bar
from ingather.client.bodies import Sent

SHOWN_NAMES = 5
STDIN_NAME = "stdin"

Metadata = Annotated[
    Path | None, typer.Option("--metadata", help="JSON (filename → object) or CSV with a filename column.")
]


@contextmanager
def selected(paths: Sequence[Path]) -> Iterator[Selection]:
    """The files of some paths, standard input among them; says what is left out."""
    with tempfile.TemporaryDirectory(prefix="ingather-") as folder:
        spooled = [
            spool(standard_input(), Path(folder), STDIN_NAME) if str(path) == "-" else path
            for path in dict.fromkeys(paths)
        ]
        selection = select(spooled)
        for reason in selection.skipped.reasons[:SHOWN_NAMES]:
            say(f"Left out {reason}", "yellow")
        if selection.skipped.count > SHOWN_NAMES:
            say(f"Left out {selection.skipped.count - SHOWN_NAMES:,} more", "yellow")
        yield selection


def used_metadata(selection: Selection, path: Path | None) -> dict[str, dict[str, Any]]:
    """The entries of a metadata file; says which of them fit no file."""
    if path is None:
        return {}
    entries = read_metadata(path)
    _, used = match_metadata(selection, entries)
    unused = [name for name in entries if name not in used]
    if unused:
        names = ", ".join(unused[:SHOWN_NAMES]) + (" …" if len(unused) > SHOWN_NAMES else "")
        say(f"Not used, because no file has the name: metadata for {names}", "yellow")
    return entries


@contextmanager
def sending_lines(path: Path) -> Iterator[tuple[Path, Sent]]:
    """A manifest's file, standard input spooled, with an upload bar."""
    with tempfile.TemporaryDirectory(prefix="ingather-") as folder:
        file = spool(standard_input(), Path(folder), STDIN_NAME) if str(path) == "-" else path
        try:
            size_bytes = file.stat().st_size
        except OSError as error:
            raise CliError(
                "The manifest cannot be read", detail=f"{path}: {error.strerror or error}", exit_code=ExitCode.USAGE
            ) from error
        with byte_bar(f"{path.name if str(path) != '-' else 'standard input'}", size_bytes) as sent:
            yield file, sent
