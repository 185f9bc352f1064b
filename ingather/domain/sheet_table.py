"""Rows of sheets as a table, and which sheets look the same."""

import base64
import csv
import io
from array import array
from collections.abc import Iterable
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
MOST_COMPARED: Final = 50_000
"""Pages of one batch that are compared, the first ones: some minutes' work, and twice as many would be four times that."""
_FORMULA_SIGNS: Final = ("=", "+", "-", "@", "\t", "\r")
_EVERY: Final = 8
"""Of so many places one is compared first."""
_COMPARED_TOGETHER: Final = 2_048
"""Pictures, so that comparing needs a megabyte or two whatever there is to compare."""


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


def csv_header() -> str:
    """The table's first line."""
    return _csv([COLUMNS])


def csv_rows(rows: Iterable[SheetRow]) -> str:
    """What follows: a row a sheet, codes separated by spaces."""
    return _csv(map(_cells, rows))


def _csv(lines: Iterable[Iterable[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\r\n").writerows(lines)
    return buffer.getvalue()


def _cells(row: SheetRow) -> list[object]:
    values = row.model_dump(mode="json")
    values["codes"] = " ".join(row.codes)
    return [_cell(values[column]) for column in COLUMNS]


def _cell(value: object) -> object:
    """A name or a code may begin like a formula; a spreadsheet that opens the table must not run it."""
    if isinstance(value, str) and value.startswith(_FORMULA_SIGNS):
        return f"'{value}"
    return "" if value is None else value


class Pictures:
    """How pages look, 384 bytes each, to find those that look the same.

    Pages look the same whose every place is as dark, give or take the scanner's noise: a page stored twice, or packed
    more. A form that is filled in otherwise looks otherwise. Blank pages, whose picture is empty, look like no other.

    Args:
        pictures: the first sheets', in their order.
        most: how many are compared; later ones are let go.
    """

    def __init__(self, pictures: Iterable[str] = (), *, most: int = MOST_COMPARED) -> None:
        self._most = most
        self._ordinals = array("q")
        self._cells = bytearray()
        for ordinal, picture in enumerate(pictures):
            self.add(ordinal, picture)

    def add(self, ordinal: int, picture: str) -> None:
        """The next sheet's, in base64; ordinals grow."""
        if picture and len(self._ordinals) < self._most:
            self._ordinals.append(ordinal)
            self._cells += base64.b64decode(picture)

    def earlier(self) -> dict[int, int]:
        """For each sheet that looks like an earlier one the first such, by their ordinals.

        Takes half a minute for 20,000; call it in a thread.
        """
        if not self._ordinals:
            return {}
        # Workflows import this module's neighbours, and have no use for it.
        import numpy as np  # noqa: PLC0415

        cells = np.frombuffer(self._cells, dtype=np.int8).reshape(len(self._ordinals), -1)
        sums = cells.sum(axis=1, dtype=np.int32)
        few = np.ascontiguousarray(cells[:, ::_EVERY])  # places all over the page tell most apart already
        found: dict[int, int] = {}
        for row in range(1, len(cells)):
            near = np.flatnonzero(np.abs(sums[:row] - sums[row]) <= cells.shape[1])
            for start in range(0, near.size, _COMPARED_TOGETHER):
                block = near[start : start + _COMPARED_TOGETHER]
                alike = block[(np.abs(few[block] - few[row]) <= SAME_STEPS).all(axis=1)]
                same = alike[(np.abs(cells[alike] - cells[row]) <= SAME_STEPS).all(axis=1)]
                if same.size:
                    found[self._ordinals[row]] = self._ordinals[int(same[0])]
                    break
        return found
