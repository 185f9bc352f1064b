"""What came out: documents, failures, the report, search."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from ingather.cli.commands.options import AsJson, BatchId, parse_pairs, resolve
from ingather.cli.connect import connect
from ingather.cli.console import clean, print_json, print_line, say, show, show_parts
from ingather.cli.errors import CliError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.render import (
    ANOTHER_COPY_NEEDED,
    UNKNOWN_CODE,
    Failed,
    documents_tables,
    error_code_of,
    failure_lines,
    failure_title,
    failures_by_code,
    failures_view,
    hit_view,
    plural,
    size,
)
from ingather.client import Document, IngatherClient
from ingather.client.calls import PAGE_SIZE


def failures(
    batch_id: BatchId = "latest",
    code: Annotated[str | None, typer.Option("--code", help="Only this error code.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Name every file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show failed documents by error code, with what to do."""
    with connect() as client:
        identity = resolve(client, batch_id)
        found = client.documents(identity, status="failed", error_code=code)
        if as_json:
            for document in found:
                print_json(document.raw)
            return
        groups = failures_by_code(found)
        if not groups:
            say(f"No document failed with {clean(code)}." if code else "No failed documents.")
            return
        if every:
            _name_all(client, identity, groups)
        else:
            show(failures_view(groups))
    say(_next_step(identity, list(groups)), "dim")


def _name_all(client: IngatherClient, batch_id: str, groups: Mapping[str, Failed]) -> None:
    """Name every file, code by code. They are read once more for it, and never held all at once."""
    for code, group in groups.items():
        show(failure_title(code, group))
        found = client.documents(batch_id, status="failed", error_code=None if code == UNKNOWN_CODE else code)
        coming = (document for document in found if error_code_of(document) == code)
        while page := list(islice(coming, PAGE_SIZE)):
            show(failure_lines(page))


def _next_step(batch_id: str, codes: list[str]) -> str:
    """A retry, for the failures it can cure."""
    curable = [code for code in codes if code not in ANOTHER_COPY_NEEDED]
    if not curable:
        return "Running them again would end the same way: do what is advised above, then submit them anew."
    chosen = "" if len(curable) == len(codes) else "".join(f" --code {clean(code)}" for code in curable)
    return f"Run {'the others' if chosen else 'them'} again with: ingather retry {batch_id}{chosen}"


def results(
    batch_id: BatchId = "latest",
    status: Annotated[str | None, typer.Option("--status", help="Only documents in this state.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the report here as NDJSON; - is stdout.")
    ] = None,
    text: Annotated[int | None, typer.Option("--text", metavar="N", help="Print the text of document N.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what became of each document, or save the report."""
    with connect() as client:
        identity = resolve(client, batch_id)
        if output is not None:
            _save_report(client, identity, output)
        elif text is not None:
            _print_text(client, identity, text)
        elif as_json:
            for document in client.documents(identity, status=status):
                print_json(document.raw)
        else:
            shown = _Tally()
            show_parts(documents_tables(shown.counted(client.documents(identity, status=status))))
            of_documents = f"{shown.documents:,} {plural('document', shown.documents)}"
            say(f"{of_documents}, {shown.chunks:,} {plural('chunk', shown.chunks)}", "dim")


@dataclass(slots=True)
class _Tally:
    """What passed by."""

    documents: int = 0
    chunks: int = 0

    def counted(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            self.documents += 1
            self.chunks += document.chunks or 0
            yield document


def _save_report(client: IngatherClient, batch_id: str, output: Path) -> None:
    if str(output) == "-":
        for piece in client.report(batch_id):
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return
    # Written beside and moved, so that a broken connection leaves no half report under the wanted name.
    partial = output.with_name(output.name + ".partial")
    written = 0
    try:
        with partial.open("wb") as file:
            for piece in client.report(batch_id):
                written += file.write(piece)
        partial.replace(output)
    except OSError as error:
        raise CliError("The report cannot be written", detail=f"{output}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    say(f"Wrote {size(written)} to {output}")


def _print_text(client: IngatherClient, batch_id: str, ordinal: int) -> None:
    for document in client.documents(batch_id):
        if document.ordinal == ordinal:
            if "text" not in document.links:
                raise CliError("This document has no text", detail=f"{document.filename} is {document.status}.")
            print_line(client.text(batch_id, document.id))
            return
    raise CliError("There is no such document", detail=f"Number {ordinal}.", exit_code=ExitCode.NOT_FOUND)


def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or a few words.")],
    *,
    collection: Annotated[str | None, typer.Option("--collection", "-c", help="Only in this collection.")] = None,
    batch: Annotated[str | None, typer.Option("--batch", help="Only in this batch, or `latest`.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="K=V", help="Only documents with this metadata.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="How many hits.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Search what was ingested, by meaning and by words."""
    pairs = parse_pairs(metadata or [], "--metadata")
    with connect() as client:
        batch_id = resolve(client, batch) if batch else None
        hits = client.search(query, collection=collection, batch_id=batch_id, metadata=pairs, limit=limit)
    if as_json:
        for hit in hits:
            print_json(hit.raw)
    elif hits:
        for position, hit in enumerate(hits, 1):
            show(hit_view(position, hit))
    else:
        say(f"Nothing found for {clean(query)!r}.")
