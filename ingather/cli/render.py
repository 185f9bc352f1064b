"""What batches, documents, failures and hits look like to people."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ingather.cli.console import clean, out
from ingather.client.calls import PAGE_SIZE
from ingather.client.models import Batch, Document, DocumentCounts, Hit, parse_time

STATUS_STYLES = {
    "completed": "green",
    "done": "green",
    "completed_with_failures": "yellow",
    "failed": "red",
    "cancelled": "magenta",
    "cancelling": "magenta",
    "skipped": "cyan",
    "paused": "blue",
    "pausing": "blue",
    "running": "bold",
    "in_flight": "bold",
}

SELF_EXPLAINING = frozenset({"pending", "paused"})
"""States that say themselves what they wait for."""

_PLACE_UNKNOWN = re.compile(r"^place 0 of \d+")
"""It is in line, and the line has not counted it yet."""

ANOTHER_COPY_NEEDED = frozenset(
    {
        "encrypted",
        "corrupt",
        "empty",
        "unsupported_type",
        "low_quality",
        "metadata_invalid",
        "content_invalid",
        "archive_refused",
        "archive_encrypted",
        "archive_corrupt",
        "archive_too_deep",
        "archive_unsafe_path",
        "archive_symlink",
        "archive_duplicate_name",
        "archive_size_mismatch",
        "archive_overlap",
        "archive_unsupported_compression",
    }
)
"""Failures that the same bytes under the same options meet again, however often they run."""

NAMES_PER_FAILURE = 5
"""File names shown for each error code before the rest is only counted."""

UNKNOWN_CODE = "unknown"
"""Of a failure that has none."""


def status_text(status: str) -> Text:
    return Text(clean(status), STATUS_STYLES.get(status, ""))


def waiting_words(waiting_for: str) -> str:
    """``waiting for place 3 of 7``; what is no thing to wait for is said as it is."""
    said = clean(waiting_for)
    if _PLACE_UNKNOWN.match(said):
        return "waiting in line"
    return said if said.startswith(("no ", "provider ")) else f"waiting for {said}"


def counts_text(counts: DocumentCounts) -> Text:
    """``610 done · 10 failed · …``: only what is not zero, except for done."""
    parts = [
        (counts.done, "done", "green"),
        (counts.failed, "failed", "red"),
        (counts.skipped, "skipped", "cyan"),
        (counts.cancelled, "cancelled", "magenta"),
        (counts.in_flight, "in flight", "bold"),
        (counts.pending, "pending", "dim"),
    ]
    shown = [Text(f"{count:,} {word}", style) for count, word, style in parts if count or word == "done"]
    return Text(" · ").join(shown)


def size(number: int | None) -> str:
    """Bytes for people, decimal units."""
    if number is None:
        return ""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def ago(moment: datetime | None) -> str:
    return f"{duration((datetime.now(UTC) - moment).total_seconds())} ago" if moment else ""


def plain_table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table without frames: it can be read, and cut up by other programs."""
    table = Table(box=box.SIMPLE_HEAD if out().is_terminal else None, pad_edge=False, header_style="bold")
    for name in columns:
        # On a narrow terminal names give way; numbers and ids never lose a digit.
        is_name = name in ("file", "name")
        table.add_column(name, justify="right" if name in right else "left", no_wrap=not is_name, overflow="fold")
    return table


def batches_table(batches: Iterable[Batch]) -> Table:
    table = plain_table("id", "status", "documents", "failed", "created", "name", right=("documents", "failed"))
    for batch in batches:
        counts = batch.counts
        documents = f"{counts.total:,}" if batch.is_final else f"{counts.ended:,}/{counts.total:,}"
        failed = Text(f"{counts.failed:,}", "red" if counts.failed else "dim")
        status = status_text(batch.status)
        if batch.waiting_for and batch.status not in SELF_EXPLAINING:
            status = status + Text(f" {_PLACE_UNKNOWN.sub('in line', clean(batch.waiting_for))}", "dim")
        table.add_row(batch.id, status, documents, failed, ago(batch.created_at), Text(clean(batch.name)))
    return table


def batch_details(batch: Batch) -> RenderableType:
    """Everything worth knowing about one batch, a line each."""
    rows: list[tuple[str, Text | str]] = [
        ("id", batch.id),
        ("name", Text(clean(batch.name))),
        ("status", status_text(batch.status)),
        ("documents", Text(f"{batch.counts.total:,}: ") + counts_text(batch.counts)),
        ("progress", f"{batch.progress:.0%}"),
        ("waiting for", Text(clean(batch.waiting_for or ""))),
        ("collection", Text(clean(batch.collection))),
        ("priority", str(batch.priority)),
    ]
    rows += [
        (name.removesuffix("_at").replace("_", " "), _moment(batch.raw.get(name)))
        for name in ("created_at", "started_at", "estimated_completion_at", "ended_at")
    ]
    problem = batch.raw.get("problem")
    if isinstance(problem, dict):
        rows.append(("problem", Text(clean(f"{problem.get('code')}: {problem.get('message')}"), "red")))
        rows.append(("what to do", Text(clean(str(problem.get("action") or "")), "cyan")))
    if batch.stale:
        rows.append(("note", Text("the engine does not answer right now; these numbers may be a little old", "yellow")))
    rows += [(name.replace("_", " "), clean(link)) for name, link in batch.links.items() if name != "self"]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, value)
    return table


def _moment(value: object) -> str:
    moment = parse_time(value)
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if moment else ""


def clock_time(moment: datetime | None) -> str:
    """``14:05`` here, with the day when it is another one; nothing for no time."""
    if moment is None:
        return ""
    here = moment.astimezone()
    is_today = here.date() == datetime.now(UTC).astimezone().date()
    return here.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")


def documents_tables(documents: Iterable[Document]) -> Iterator[Table]:
    """A table of documents in parts, a page each, so that any number of them can be shown.

    There is always one, also of none. Its columns are as wide as what they hold; those of the parts behind it are no
    narrower, as far as the window goes.
    """
    coming = iter(documents)
    part = documents_table(islice(coming, PAGE_SIZE))
    yield part
    widths = _widths(part)
    while page := list(islice(coming, PAGE_SIZE)):
        part = documents_table(page)
        part.show_header = False
        widths = [max(pair) for pair in zip(widths, _widths(part), strict=True)]
        room = out().width - sum(widths) - 3 * len(widths)
        for column, width in zip(part.columns, widths, strict=True):
            column.min_width = width if column.no_wrap else max(1, width + min(0, room))
        yield part


def _widths(table: Table) -> list[int]:
    """What its columns hold, at its widest, their names too."""
    return [max(map(_width, (column.header, *column.cells))) for column in table.columns]


def _width(cell: RenderableType) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(str(cell))


def documents_table(documents: Iterable[Document]) -> Table:
    table = plain_table(
        "#", "file", "status", "type", "size", "pages", "chunks", right=("#", "size", "pages", "chunks")
    )
    for document in documents:
        status = status_text(document.status)
        if document.error is not None:
            status = status + Text(f" {clean(document.error.code)}", "red")
        for warning in document.warnings:
            status = status + Text(f" {clean(warning)}", "yellow")
        table.add_row(
            str(document.ordinal),
            Text(clean(document.filename)),
            status,
            short_type(document.media_type),
            size(document.size_bytes),
            "" if document.pages is None else str(document.pages),
            "" if document.chunks is None else str(document.chunks),
        )
    return table


_SHORT_TYPES = {
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "message/rfc822": "eml",
    "image/*": "image",
    "text/plain": "text",
}


def short_type(media_type: str | None) -> str:
    """``application/pdf`` as ``pdf``: the long names of office formats fit no column."""
    if not media_type:
        return ""
    return _SHORT_TYPES.get(media_type) or clean(media_type.rpartition("/")[2])


@dataclass(slots=True)
class Failed:
    """What failed for one reason: how many documents, and the first of them."""

    count: int = 0
    first: list[Document] = field(default_factory=list)

    @property
    def advice(self) -> str:
        return next((document.error.action for document in self.first if document.error), "")


def error_code_of(document: Document) -> str:
    return document.error.code if document.error else UNKNOWN_CODE


def failures_by_code(documents: Iterable[Document]) -> dict[str, Failed]:
    """Failed documents by error code, the most frequent first; however many there are, a few of each are kept."""
    groups: dict[str, Failed] = {}
    for document in documents:
        group = groups.setdefault(error_code_of(document), Failed())
        group.count += 1
        if len(group.first) < NAMES_PER_FAILURE:
            group.first.append(document)
    return dict(sorted(groups.items(), key=lambda item: -item[1].count))


def failures_view(groups: Mapping[str, Failed]) -> RenderableType:
    """Each error code with its advice and the first files it struck."""
    blocks: list[RenderableType] = []
    for code, group in groups.items():
        blocks += [failure_title(code, group), failure_lines(group.first)]
        if group.count > len(group.first):
            more = Text(f"and {group.count - len(group.first):,} more", "dim")
            blocks.append(Padding(more, (0, 0, 0, 2), expand=False))
    return Group(*blocks)


def failure_title(code: str, group: Failed) -> RenderableType:
    """How many documents an error code struck, with its advice."""
    title = Text.assemble((f"✗ {clean(code)}", "bold red"), f"  {group.count:,} {plural('document', group.count)}")
    if not group.advice:
        return title
    return Group(title, Padding(Text(f"→ {clean(group.advice)}", "cyan"), (0, 0, 0, 2), expand=False))


def failure_lines(documents: Iterable[Document]) -> RenderableType:
    """Failed documents, a line each."""
    return Group(*(Padding(_failure_line(document), (0, 0, 0, 2), expand=False) for document in documents))


def _failure_line(document: Document) -> Text:
    message = document.error.message if document.error else ""
    line = Text.assemble((f"#{document.ordinal} ", "dim"), clean(document.filename))
    if message:
        line.append(f": {clean(message)}", "dim")
    if quarantine := _quarantine(document):
        line.append(f"\n   {quarantine}", "dim")
    return line


def _quarantine(document: Document) -> str:
    """What an operator needs of a document that killed its parser; empty for any other."""
    facts = document.error.facts if document.error else {}
    if not facts.get("quarantined"):
        return ""
    parts = ["quarantined"]
    if document.error and document.error.stage:
        parts.append(f"while {document.error.stage}")
    if facts.get("exit_signal"):
        parts.append(f"signal {facts['exit_signal']}")
    if peak := facts.get("peak_memory_bytes"):
        parts.append(f"memory peak {size(int(peak))}")
    if document.raw_key:
        parts.append(document.raw_key)
    return clean(" · ".join(parts))


def outcome_table(batch: Batch, seconds: float | None = None) -> Table:
    """How a batch ended, on one look."""
    counts = batch.counts
    table = Table(box=box.ROUNDED if out().is_terminal else box.ASCII2, header_style="bold")
    for name in ("documents", "done", "failed", "skipped", "cancelled"):
        table.add_column(name, justify="right")
    table.add_column("outcome")
    values = [(counts.total, ""), (counts.done, "green"), (counts.failed, "red"), (counts.skipped, "cyan")]
    values.append((counts.cancelled, "magenta"))
    cells = [Text(f"{count:,}", style if count else "dim") for count, style in values]
    outcome = status_text(batch.status)
    if seconds is not None:
        outcome = outcome + Text(f" in {duration(seconds) if seconds >= 10 else f'{seconds:.1f} s'}", "dim")
    table.add_row(*cells, outcome)
    return table


def batch_seconds(batch: Batch) -> float | None:
    """Seconds from start to end, when both are known."""
    started, ended = batch.started_at, batch.ended_at
    return (ended - started).total_seconds() if started and ended else None


def hit_view(position: int, hit: Hit, *, text_limit: int = 500) -> RenderableType:
    """A search hit: where it stands, then what it says."""
    place = Text.assemble((f"{position}. ", "dim"), (clean(hit.filename), "bold"))
    if hit.page is not None:
        place.append(f", page {hit.page}")
    if hit.headings:
        place.append(f" — {clean(' › '.join(hit.headings))}", "cyan")
    place.append(f"  score {hit.score:.3f}", "dim")
    words = " ".join(hit.text.split())
    quote = words if len(words) <= text_limit else words[:text_limit].rsplit(" ", 1)[0] + " …"
    return Group(place, Padding(Text(clean(quote)), (0, 0, 1, 3), expand=False))


def plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"
