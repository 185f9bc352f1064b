"""Metadata that comes beside the files: a table or a JSON object, from file name to fields.

People make these with a spreadsheet, on any system. So a table may be in UTF-8, UTF-16 or Windows' own
encoding, with or without a byte order mark, with commas, semicolons or tabs. What cannot be understood
without guessing is refused with its place; what is only odd is a warning.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ingather.domain.filenames import normalise_filename, shown
from ingather.models.errors import MappingInvalidError

MAX_MAPPING_BYTES: Final = 4 * 1024 * 1024
MAX_ROWS: Final = 20_000
MAX_CELLS: Final = 200_000
"""Filled cells of a table: each takes some forty times its one or two bytes once it is read."""
MAX_WARNINGS: Final = 100
FILENAME_COLUMN: Final = "filename"

_MARKS: Final = (  # the longer ones first: one of UTF-32 begins like one of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NOT_TEXT: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_DELIMITERS: Final = (",", ";", "\t")
_SPREADSHEET_HINT: Final = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_WHOLE: Final = re.compile(r"[+-]?\d{1,18}")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


@dataclass(frozen=True)
class MetadataMapping:
    """Fields by file name."""

    rows: dict[str, dict[str, Any]]
    warnings: tuple[str, ...] = ()
    """What was odd about it."""
    _plain: dict[str, str | None] = field(init=False, repr=False)
    """Rows by their name without folders and spelling; None where two share one."""

    def __post_init__(self) -> None:
        plain: dict[str, str | None] = {}
        for name in self.rows:
            short = normalise_filename(name)
            plain[short] = None if short in plain else name
        object.__setattr__(self, "_plain", plain)

    def find(self, filename: str) -> dict[str, Any] | None:
        """The fields of a file as it was sent: by its very name, else by its base name."""
        row = self._row_of(filename)
        return None if row is None else self.rows[row]

    def without_file(self, filenames: Iterable[str]) -> list[str]:
        """The rows that none of these files is for, in order."""
        used = {self._row_of(filename) for filename in filenames}
        return [row for row in self.rows if row not in used]

    def all_warnings(self, filenames: Iterable[str]) -> list[str]:
        """What to tell whoever sent it with these files, at most a hundred lines."""
        missing = [f"The metadata mapping has a row for {_named(row)}, which is not among the files."
                   for row in self.without_file(filenames)]  # fmt: skip
        found = [*self.warnings, *missing]
        if len(found) <= MAX_WARNINGS:
            return found
        return [*found[: MAX_WARNINGS - 1], f"There are {len(found) - MAX_WARNINGS + 1} more warnings of this kind."]

    def _row_of(self, filename: str) -> str | None:
        return filename if filename in self.rows else self._plain.get(normalise_filename(filename))


def parse_mapping(raw: bytes, schemas: Sequence[Mapping[str, Any]] = ()) -> MetadataMapping:
    """Read a mapping, whichever of the two it is. Raises ``MappingInvalidError``.

    A table holds nothing but text. Where a schema says what type a field has, its cells become that type; elsewhere
    a cell with a comma in it becomes a list.
    """
    if len(raw) > MAX_MAPPING_BYTES:
        raise MappingInvalidError(f"The metadata mapping is larger than {MAX_MAPPING_BYTES:,} bytes.")
    text = _decoded(raw)
    if text.lstrip()[:1] in ("{", "["):
        return MetadataMapping(_from_json(text))
    if _NOT_TEXT.search(text):
        raise MappingInvalidError("The metadata mapping is neither CSV nor JSON: it holds binary data.")
    return _from_table(text, schemas)


def _decoded(raw: bytes) -> str:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return _strictly(raw, encoding)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return _strictly(raw, "cp1252")


def _strictly(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise MappingInvalidError("The metadata mapping is in no known encoding; save it as UTF-8.") from None


# --- JSON -------------------------------------------------------------------------------------


def _from_json(text: str) -> dict[str, dict[str, Any]]:
    try:
        parsed = orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        where = f" at line {error.lineno}" if isinstance(error, orjson.JSONDecodeError) else ""
        raise MappingInvalidError(f"The metadata mapping is not valid JSON{where}.") from None
    if not isinstance(parsed, dict):
        raise MappingInvalidError("The metadata mapping must be a JSON object from file name to an object of fields.")
    if len(parsed) > MAX_ROWS:
        raise MappingInvalidError(f"The metadata mapping has more than {MAX_ROWS:,} entries.")
    for name, fields in parsed.items():
        if not isinstance(fields, dict):
            raise MappingInvalidError(f"The metadata mapping's entry for {_named(name)} is not an object of fields.")
    return parsed


# --- Tables -----------------------------------------------------------------------------------


def _from_table(text: str, schemas: Sequence[Mapping[str, Any]]) -> MetadataMapping:
    hint = _SPREADSHEET_HINT.match(text)
    delimiters = (hint.group(1), *_DELIMITERS) if hint else _DELIMITERS
    if hint:
        text = text[hint.end() :]
    for delimiter in delimiters:
        lines = _lines(text, delimiter)
        header = [name.strip() for name in next(lines, (0, []))[1]]
        if FILENAME_COLUMN in map(str.casefold, header):
            return _Table(header, schemas).read(lines)
    raise MappingInvalidError(f"The metadata mapping has no column {FILENAME_COLUMN!r} in its first row.")


def _lines(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of its last line."""
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except (csv.Error, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, csv.Error) else "its separator cannot be used"
        raise MappingInvalidError(f"The metadata mapping is not valid CSV: {reason}.") from None


class _Table:
    """Rows under a header."""

    def __init__(self, header: list[str], schemas: Sequence[Mapping[str, Any]]) -> None:
        self._header = header
        names = [FILENAME_COLUMN if name.casefold() == FILENAME_COLUMN else name for name in header]
        twice = next((name for name in names if name and names.count(name) > 1), None) if len(names) < 1_000 else ""
        if twice is not None:
            told = f"the column {twice[:80]!r} twice" if twice else "more than 999 columns"
            raise MappingInvalidError(f"The metadata mapping has {told}.")
        self._name_at = names.index(FILENAME_COLUMN)
        self._declared = [_declared(name, schemas) for name in header]
        self._cells = 0
        self._rows: dict[str, dict[str, Any]] = {}
        self._warnings: list[str] = []

    def read(self, lines: Iterator[tuple[int, list[str]]]) -> MetadataMapping:
        for number, cells in lines:
            self._add(number, [cell.strip() for cell in cells])
        return MetadataMapping(self._rows, tuple(self._warnings))

    def _add(self, number: int, cells: list[str]) -> None:
        if any(cells[len(self._header) :]):
            raise MappingInvalidError(
                f"Line {number} of the metadata mapping has more cells than the first row; "
                'put a cell with commas in quotes, such as "technical,api".'
            )
        name = cells[self._name_at] if self._name_at < len(cells) else ""
        if not name:
            self._warnings.append(f"Line {number} of the metadata mapping names no file.")
            return
        if name in self._rows:
            self._warnings.append(
                f"The metadata mapping has {_named(name)} again in line {number}; the last row counts."
            )
        self._rows[name] = self._fields(number, cells)
        if len(self._rows) > MAX_ROWS:
            raise MappingInvalidError(f"The metadata mapping has more than {MAX_ROWS:,} rows.")

    def _fields(self, number: int, cells: list[str]) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for position, cell in enumerate(cells[: len(self._header)]):
            if not cell or position == self._name_at:
                continue
            if not self._header[position]:
                raise MappingInvalidError(
                    f"Line {number} of the metadata mapping has a value in column {position + 1}, which has no name."
                )
            self._cells += 1
            fields[self._header[position]] = cell_value(cell, self._declared[position])
        if self._cells > MAX_CELLS:
            raise MappingInvalidError(f"The metadata mapping has more than {MAX_CELLS:,} values.")
        return fields


def cell_value(cell: str, declared: Mapping[str, Any] | None = None) -> Any:
    """What a filled cell says, for a field of this schema where it has one."""
    types = _types(declared)
    if "array" in types:
        if "," not in cell and "string" in types:
            return cell
        return [_scalar(item, _items(declared)) for item in _split(cell)]
    if "string" in types:
        return cell
    if types:
        return _scalar(cell, types)
    return _split(cell) or cell if "," in cell else cell


def _split(cell: str) -> list[str]:
    return [item for item in (part.strip() for part in cell.split(",")) if item]


def _scalar(text: str, types: frozenset[str]) -> Any:
    """The text as the first of these types that it can be; as it is where it can be none, for the schema to refuse."""
    if "string" in types:
        return text
    if types & {"integer", "number"} and _WHOLE.fullmatch(text):
        return int(text)
    if "number" in types and _NUMBER.fullmatch(text):
        return float(text)
    if "boolean" in types and text.casefold() in ("true", "false"):
        return text.casefold() == "true"
    return text


def _declared(name: str, schemas: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    for schema in schemas:
        properties = schema.get("properties")
        found = properties.get(name) if isinstance(properties, Mapping) else None
        if isinstance(found, Mapping):
            return found
    return None


def _types(declared: Mapping[str, Any] | None) -> frozenset[str]:
    said = (declared or {}).get("type")
    if isinstance(said, str):
        return frozenset({said})
    return frozenset(kind for kind in said if isinstance(kind, str)) if isinstance(said, list) else frozenset()


def _items(declared: Mapping[str, Any] | None) -> frozenset[str]:
    items = (declared or {}).get("items")
    return _types(items) if isinstance(items, Mapping) else frozenset()


def _named(name: str) -> str:
    return f"'{shown(name)}'"
