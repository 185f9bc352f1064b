"""Where words go: data to stdout, talk to stderr; colour and animation only on a terminal."""

import json
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ingather.cli.errors import CliError

PIPE_WIDTH = 1_000
"""Columns where no window limits a line: a program gets each whole."""


@cache
def out() -> Console:
    """Data for people. Programs get ``print_json``."""
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


@cache
def talk() -> Console:
    """Everything that is not the answer."""
    return Console(
        stderr=True, highlight=False, markup=False, emoji=False, width=None if sys.stderr.isatty() else PIPE_WIDTH
    )


def show(view: RenderableType) -> None:
    """A table or another view as data; in a pipe without the spaces that fill its lines."""
    if out().is_terminal:
        out().print(view)
        return
    _write(line.rstrip() for line in _lines(view))


def show_parts(tables: Iterable[Table]) -> None:
    """One table that comes in parts, each shown as it comes. On a terminal a frame is drawn once, around all of them."""
    if not out().is_terminal:
        for table in tables:
            show(table)
        return
    bottom: list[str] = []
    for number, table in enumerate(tables):
        lines = _lines(table)
        bottom = lines[-2:]
        _write([*lines[1 if number else 0 : -2], ""])
    _write(bottom)


def _lines(view: RenderableType) -> list[str]:
    """As they are printed; the last one is empty, for each ends."""
    with out().capture() as captured:
        out().print(view)
    return captured.get().split("\n")


def _write(lines: Iterable[str]) -> None:
    sys.stdout.write("\n".join(lines))
    sys.stdout.flush()


def print_json(value: Mapping[str, Any]) -> None:
    """One line of JSON on stdout, at once: whoever reads the pipe may be waiting for it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def say(message: str, style: str = "") -> None:
    talk().print(Text(clean(message), style=style), soft_wrap=True)


def print_line(message: str, style: str = "") -> None:
    """A line of data; never wrapped, so that a pipe gets it whole."""
    out().print(Text(clean(message), style=style), soft_wrap=True)


def clean(text: str) -> str:
    """Names and messages from elsewhere must not steer the terminal: control characters become a visible dot."""
    return "".join(c if c.isprintable() or c in " \n" else "·" for c in text)


def show_error(error: CliError, *, as_json: bool) -> None:
    """Tell an error on stderr; with ``--json`` as one object, for programs that read stderr."""
    if as_json:
        sys.stderr.write(json.dumps(error.to_json(), ensure_ascii=False) + "\n")
        return
    say(f"✗ {error.title}", "bold red")
    for line in error.detail.splitlines():
        say(f"  {line}")
    if error.action:
        say(f"  → {error.action}", "cyan")
    if error.request_id:
        say(f"  request {error.request_id}", "dim")
