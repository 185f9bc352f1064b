"""How far an upload is: a bar on a terminal, a line elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ingather.cli.blocks import Progress as FileProgress
from ingather.cli.console import say, talk
from ingather.cli.render import plural, size
from ingather.cli.selection import Selection
from ingather.client.bodies import Sent


@contextmanager
def upload_bar(selection: Selection) -> Iterator[FileProgress]:
    """One bar for all requests of an upload; in a pipe a line at its beginning."""
    count = selection.file_count
    files = plural("file", count)
    what = f"{count:,} {files}, {size(selection.total_bytes)}"
    if not talk().is_terminal:
        say(f"Uploading {what}")
        yield lambda _files, _bytes: None
        return
    with _bar() as bar:
        task = bar.add_task(what, total=max(1, selection.total_bytes))

        def show(sent_files: int, sent_bytes: int) -> None:
            done = f"{sent_files:,} of {what}" if sent_files else what
            bar.update(task, completed=sent_bytes, description=done)

        yield show


@contextmanager
def byte_bar(what: str, total_bytes: int) -> Iterator[Sent]:
    """A bar for one body."""
    if not talk().is_terminal:
        say(f"Uploading {what}, {size(total_bytes)}")
        yield lambda _: None
        return
    with _bar() as bar:
        task = bar.add_task(what, total=max(1, total_bytes))
        yield lambda total: bar.update(task, completed=total)


def _bar() -> Progress:
    columns = (
        TextColumn("Uploading {task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=talk(), transient=True)
