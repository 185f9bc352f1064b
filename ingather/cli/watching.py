"""What a person sees while a batch runs: a live view on a terminal, plain lines elsewhere, JSON Lines for programs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ingather.cli.console import clean, out, print_json, print_line, say, show
from ingather.cli.onlooker import Onlooker
from ingather.cli.picture import KEPT_FAILURES, BatchPicture, Clock, failure_of
from ingather.cli.render import (
    batch_seconds,
    clock_time,
    counts_text,
    duration,
    failures_by_code,
    failures_view,
    outcome_table,
    status_text,
    waiting_words,
)
from ingather.client import IngatherClient
from ingather.client.models import Batch, StreamEvent

SHOWN_FILES = 8
DETACH_HINT = "Ctrl-C leaves; the batch goes on."
MOVING = frozenset({"running", "retrying", "finalizing"})
"""States in which a pace means something."""
PLAIN_INTERVAL = 5.0
"""Seconds between progress lines where there is no terminal."""


class Audience(Protocol):
    """Who is told what happens."""

    def event(self, event: StreamEvent) -> None: ...

    def lost(self, reason: str) -> None:
        """The connection is gone; another attempt follows."""
        ...


# --- A terminal -----------------------------------------------------------------------------


class LiveAudience:
    """Draws the picture eight times a second, in place."""

    def __init__(self, picture: BatchPicture, hint: str) -> None:
        self._picture = picture
        self._hint = hint
        self._note = ""

    def event(self, event: StreamEvent) -> None:
        self._note = ""
        self._picture.apply(event)

    def lost(self, reason: str) -> None:
        self._note = f"Connection lost ({reason}); trying again …"

    def __rich__(self) -> RenderableType:
        picture = self._picture
        parts: list[RenderableType] = [self._headline(), self._bar(), self._numbers()]
        parts += [Padding(line, (0, 0, 0, 2), expand=False) for line in self._files()]
        if picture.failures:
            parts.append(Text("Newest failures", "bold"))
            for name, code, action in picture.failures:
                line = Text.assemble(
                    ("✗ ", "red"), clean(name), (f"  {clean(code)}", "red"), (f"  {clean(action)}", "cyan")
                )
                line.truncate(max(20, out().width - 4), overflow="ellipsis")
                parts.append(Padding(line, (0, 0, 0, 2), expand=False))
        if self._note:
            parts.append(Text(clean(self._note), "yellow"))
        parts.append(Text(self._hint, "dim"))
        return Group(*parts)

    def _headline(self) -> Text:
        picture = self._picture
        line = Text.assemble((clean(picture.name or picture.batch_id), "bold"), "  ", status_text(picture.status))
        if picture.waiting_for:
            line.append(f"  {waiting_words(picture.waiting_for)}", "dim")
            if ready_at := clock_time(picture.estimated_at):
                line.append(f", done about {ready_at}", "dim")
        line.truncate(out().width, overflow="ellipsis")
        return line

    def _bar(self) -> RenderableType:
        counts = self._picture.counts
        row = Table.grid(expand=True, padding=(0, 1))
        row.add_column(ratio=1)
        row.add_column(no_wrap=True, justify="right")
        share = f"{counts.ended / counts.total:.0%}" if counts.total else ""
        waits = not counts.total
        bar = ProgressBar(total=max(counts.total, 1), completed=counts.ended, pulse=waits)
        row.add_row(bar, f"{counts.ended:,} of {counts.total:,}  {share}")
        return row

    def _numbers(self) -> Text:
        picture = self._picture
        line = counts_text(picture.counts)
        # What was measured before a connection broke says nothing about now.
        is_known = not self._note and picture.status in MOVING
        if is_known and picture.rate:
            line.append(f"   {picture.rate:.1f} documents/s", "bold")
        if is_known and picture.seconds_left is not None:
            line.append(f", {duration(picture.seconds_left)} left")
        return line

    def _files(self) -> Iterator[Text]:
        # Those a worker reports on first: the others wait for one.
        files = sorted(self._picture.files.values(), key=lambda item: (not item[1], item[2]))
        for name, stage, since in files[:SHOWN_FILES]:
            waited = time.monotonic() - since
            line = Text.assemble((f"{clean(stage) or 'working':<10} ", "blue"), clean(name))
            line.truncate(max(20, out().width - 12), overflow="ellipsis")
            yield line.append(f"  {waited:.0f} s", "dim") if waited >= 1 else line
        more = max(len(files), self._picture.counts.in_flight) - SHOWN_FILES
        if files and more > 0:
            yield Text(f"and {more} more", "dim")


# --- A pipe ---------------------------------------------------------------------------------


class PlainAudience:
    """A line for each change of state and each failure, and one for the progress now and then."""

    def __init__(self, picture: BatchPicture, clock: Clock = time.monotonic) -> None:
        self._picture = picture
        self._clock = clock
        self._said_at = -PLAIN_INTERVAL
        self._said = ""

    def event(self, event: StreamEvent) -> None:
        before = self._picture.status
        self._picture.apply(event)
        if event.type == "document.failed":
            name, code, action = failure_of(event.data)
            print_line(f"failed  {name}: {code}. {action}".rstrip())
        if event.type == "stream.reset":
            say("The server no longer has the events in between; going on from its present state.")
        if self._picture.status != before or self._clock() - self._said_at >= PLAIN_INTERVAL:
            self._progress()

    def lost(self, reason: str) -> None:
        say(f"Connection lost ({reason}); trying again.")

    def _progress(self) -> None:
        counts = self._picture.counts
        waits = f"  {waiting_words(self._picture.waiting_for)}" if self._picture.waiting_for else ""
        line = f"{self._picture.status}{waits}  {counts.ended:,} of {counts.total:,}: {counts_text(counts).plain}"
        if line != self._said:
            print_line(line)
        self._said, self._said_at = line, self._clock()


class JsonAudience:
    """Every event as the server sent it, one line each."""

    def event(self, event: StreamEvent) -> None:
        print_json(event.raw)

    def lost(self, reason: str) -> None:
        say(f"Connection lost ({reason}); trying again.")


# --- Together -------------------------------------------------------------------------------


def watch_to_end(
    client: IngatherClient, batch: Batch, *, as_json: bool, after: int | None = None, hint: str = DETACH_HINT
) -> Batch:
    """Show a batch until it ended, then its outcome; the caller decides what the outcome means."""
    if as_json:
        return _follow(client, batch.id, after, JsonAudience())
    with _audience(client, batch, hint) as audience:
        ended = _follow(client, batch.id, after, audience)
    show_outcome(client, ended)
    return ended


def _follow(client: IngatherClient, batch_id: str, after: int | None, audience: Audience) -> Batch:
    """Tell what happens, and answer the batch as it ended."""
    for event in client.events(batch_id, after=after, on_lost=audience.lost):
        audience.event(event)
    return client.batch(batch_id)


@contextmanager
def _audience(client: IngatherClient, batch: Batch, hint: str) -> Iterator[Audience]:
    picture = BatchPicture(batch)
    if not out().is_terminal:
        yield PlainAudience(picture)
        return
    if batch.counts.failed:
        for document in client.documents(batch.id, status="failed", limit=KEPT_FAILURES):
            picture.failures.append(failure_of(document.raw))
    live = LiveAudience(picture, hint)
    # Transient: the outcome table takes its place, and a terminal's history keeps no half-drawn frames.
    with (
        Onlooker(client, picture),
        Live(get_renderable=live.__rich__, console=out(), refresh_per_second=8, transient=True),
    ):
        yield live


def show_outcome(client: IngatherClient, batch: Batch) -> None:
    """How it ended, and each kind of failure with its advice."""
    show(outcome_table(batch, batch_seconds(batch)))
    problem = batch.raw.get("problem")
    if isinstance(problem, Mapping):
        show(Text(clean(f"✗ {problem.get('code')}: {problem.get('message')}"), "red"))
        if problem.get("action"):
            show(Text(clean(f"  → {problem['action']}"), "cyan"))
    if batch.counts.failed:
        show(failures_view(failures_by_code(client.documents(batch.id, status="failed"))))
