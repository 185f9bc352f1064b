"""A batch's report as a table, for people with a spreadsheet."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson

COLUMNS: Final = (
    "ordinal", "file_id", "filename", "original_filename", "status", "error_code", "error_message", "error_action",
    "attempts", "size_bytes", "media_type", "page_count", "chunk_count", "quality", "sha256", "duplicate_of",
    "started_at", "ended_at",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


async def csv_of(report: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Rows for the report's JSON lines, however those arrive. The first is the heading, after a byte order mark.

    What a spreadsheet would take for a formula begins with an apostrophe: names of files are other people's.
    """
    yield b"\xef\xbb\xbf" + _row(dict(zip(COLUMNS, COLUMNS, strict=True)))
    kept = b""
    async for content in report:
        *lines, kept = (kept + content).split(b"\n")
        rows = b"".join(_row(_flat(orjson.loads(line))) for line in lines if line)
        if rows:
            yield rows
    if kept:
        yield _row(_flat(orjson.loads(kept)))


def _flat(document: dict[str, Any]) -> dict[str, Any]:
    error = document.get("error") or {}
    return {**document, **{f"error_{name}": error.get(name) for name in ("code", "message", "action")}}


def _row(values: dict[str, Any]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerow([_cell(values.get(column)) for column in COLUMNS])
    return written.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value
