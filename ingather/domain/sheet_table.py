"""Rows of sheets as a table, and which sheets look the same."""

import base64
import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.sheets import SheetRow

SAME_STEPS: Final = 2
"""Of four grey levels: what the darkness of a place may differ by on pages that look the same."""
COLUMNS: Final = (
    "ordinal",
    "filename",
    "original_filename",
    "group_code",
    "status",
    "codes",
    "width",
    "height",
    "page_count",
    "media_type",
    "size_bytes",
    "sha256",
    "picture_duplicate_of",
    "error_code",
    "error_message",
    "text",
    "file_id",
)
_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")
_PIECE_CHARACTERS: Final = 256 * 1024


def row_of(record: DocumentRecord, text: str | None = None, duplicate_of: str | None = None) -> SheetRow:
    """A sheet as it ended."""
    found = record.metadata.get("sheet")
    known = found if isinstance(found, dict) else {}
    error = record.error if record.status is DocumentStatus.FAILED else None
    return SheetRow(
        batch_id=record.batch_id,
        tenant_id=record.tenant_id,
        file_id=record.file_id,
        ordinal=record.ordinal,
        filename=record.filename,
        original_filename=record.original_filename,
        group_code=known.get("group"),
        status=record.status,
        error_code=error.code if error else None,
        error_message=error.message if error else None,
        sha256=record.sha256,
        size_bytes=record.size_bytes,
        media_type=record.media_type,
        width=known.get("width"),
        height=known.get("height"),
        page_count=known.get("page_count"),
        codes=tuple(known.get("codes", ())),
        picture_duplicate_of=duplicate_of,
        text=text,
    )


def csv_pieces(rows: Iterable[SheetRow]) -> Iterator[str]:
    """The table with its header, in pieces: a row a sheet, codes separated by spaces."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = row.model_dump(mode="json")
        values["codes"] = " ".join(row.codes)
        writer.writerow([_cell(values[column]) for column in COLUMNS])
        if buffer.tell() >= _PIECE_CHARACTERS:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def _cell(value: object) -> object:
    """A name or a code may begin like a formula; a spreadsheet that opens the table must not run it."""
    if isinstance(value, str) and value.startswith(_FORMULA_SIGNS):
        return f"'{value}"
    return "" if value is None else value


def same_pictures(pictures: Sequence[str]) -> list[int | None]:
    """For each picture the place of the first earlier one that looks the same; None where there is none.

    Pages look the same whose every place is as dark, give or take the scanner's noise: a page stored twice, or packed
    more. A form that is filled in otherwise looks otherwise. Blank pages, whose picture is empty, look like no other.
    Takes half a minute for 20,000; call it in a thread.
    """
    places = [place for place, picture in enumerate(pictures) if picture]
    found: list[int | None] = [None] * len(pictures)
    if not places:
        return found
    # Workflows import this module's neighbours, and have no use for it.
    import numpy as np  # noqa: PLC0415

    cells = np.array([np.frombuffer(base64.b64decode(pictures[place]), dtype=np.int8) for place in places])
    sums = cells.sum(axis=1, dtype=np.int32)
    for row in range(1, len(places)):
        near = np.flatnonzero(np.abs(sums[:row] - sums[row]) <= cells.shape[1])
        same = near[(np.abs(cells[near] - cells[row]) <= SAME_STEPS).all(axis=1)]
        if same.size:
            found[places[row]] = places[int(same[0])]
    return found
