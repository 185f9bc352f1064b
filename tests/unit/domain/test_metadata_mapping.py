"""Metadata mappings: what a table or an object says, and what is refused."""

import csv
import io
import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingather.domain.filenames import normalise_filename
from ingather.domain.metadata_mapping import (
    MAX_MAPPING_BYTES,
    MAX_ROWS,
    MAX_WARNINGS,
    MetadataMapping,
    cell_value,
    parse_mapping,
)
from ingather.models.errors import MappingInvalidError

TABLE = 'filename,category,tags\nguide.pdf,manual,"technical,api"\nnotes.txt,,draft\n'

# Tables


def test_a_table_gives_each_file_its_fields():
    """A column is a field, a cell with commas a list, an empty cell nothing."""
    assert parse_mapping(TABLE.encode()).rows == {
        "guide.pdf": {"category": "manual", "tags": ["technical", "api"]},
        "notes.txt": {"tags": "draft"},
    }


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_a_table_may_come_in_what_spreadsheets_write(encoding):
    """UTF-8 with and without its mark, UTF-16, and Windows' own encoding say the same."""
    table = "filename,author\nübersicht.pdf,José\n"
    assert parse_mapping(table.encode(encoding)).rows == {"übersicht.pdf": {"author": "José"}}


@pytest.mark.parametrize(
    "table",
    [
        "filename;author\na.pdf;Doe\n",
        "filename\tauthor\na.pdf\tDoe\n",
        "sep=;\r\nfilename;author\r\na.pdf;Doe\r\n",
        "sep=|\nfilename|author\na.pdf|Doe\n",
        " FileName , author \n\n a.pdf , Doe \n\n",
        "author,Filename\nDoe,a.pdf\n",
        "filename,author,,\na.pdf,Doe,,\n",
        "filename,author\ra.pdf,Doe\r",
    ],
    ids=["semicolons", "tabs", "excel-hint", "own-separator", "spaces", "any-order", "empty-columns", "old-mac"],
)
def test_a_table_may_be_laid_out_as_programs_do_it(table):
    """Separators, spaces, blank lines, the order of columns and empty ones at the end do not matter."""
    [row] = parse_mapping(table.encode()).rows.items()
    assert row == ("a.pdf", {"author": "Doe"})


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "no column 'filename'"),
        (b"name,author\na.pdf,Doe\n", "no column 'filename'"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "neither CSV nor JSON"),
        (b"%PDF-1.7\nstream", "no column 'filename'"),
        ("filename,author\n".encode("utf-16-le"), "neither CSV nor JSON"),
        (b"\xff\xfe\x00", "no known encoding"),
        (b"filename\n\x81\x8d", "no known encoding"),
        (b'filename,author\n"a.pdf,Doe\n', "not valid CSV"),
        (b"filename,author\na.pdf,technical,api\n", "Line 2"),
        (b"filename,author,\na.pdf,Doe,x\n", "column 3, which has no name"),
        (b"filename,author,author\na.pdf,Doe,Roe\n", "the column 'author' twice"),
        (b"filename,Filename\na.pdf,b.pdf\n", "the column 'filename' twice"),
        (b"filename" + b",x" * 1_000, "more than 999 columns"),
        (b"filename\n" + b"".join(b"%d\n" % n for n in range(MAX_ROWS + 1)), "more than 20,000 rows"),
        (b"filename," + b"x" * 200_000, "not valid CSV"),
    ],
)
def test_a_table_that_takes_guessing_is_refused(raw, told):
    """The refusal says what is wrong with it, and where."""
    with pytest.raises(MappingInvalidError) as caught:
        parse_mapping(raw)
    assert told in caught.value.message


def test_what_is_only_odd_is_a_warning():
    """A file named twice gets the last row; a row that names no file is left out."""
    mapping = parse_mapping(b"filename,n\na.pdf,1\n,2\na.pdf,3\n")
    assert mapping.rows == {"a.pdf": {"n": "3"}}
    assert mapping.warnings == (
        "Line 3 of the metadata mapping names no file.",
        "The metadata mapping has 'a.pdf' again in line 4; the last row counts.",
    )


@pytest.mark.parametrize(
    ("cell", "declared", "value"),
    [
        ("technical,api", None, ["technical", "api"]),
        (" a , ,b ", None, ["a", "b"]),
        (",", None, ","),
        ("2024", None, "2024"),
        ("2024", {"type": "integer"}, 2024),
        ("2024.5", {"type": ["number", "null"]}, 2024.5),
        ("TRUE", {"type": "boolean"}, True),
        ("soon", {"type": "integer"}, "soon"),
        ("1e999", {"type": "integer"}, "1e999"),
        ("Doe, John", {"type": "string"}, "Doe, John"),
        ("technical", {"type": "array"}, ["technical"]),
        ("1,2", {"type": "array", "items": {"type": "integer"}}, [1, 2]),
        ("technical", {"type": ["string", "array"]}, "technical"),
        ("technical,api", {"type": ["string", "array"]}, ["technical", "api"]),
        ("x", {"type": {"odd": 1}}, "x"),
    ],
)
def test_a_cell_becomes_what_the_schema_says(cell, declared, value):
    """Tables hold text alone, so a schema that asks for a number gets one where the cell holds one."""
    assert cell_value(cell, declared) == value


def test_the_first_schema_that_knows_a_field_decides():
    """A field that no schema knows is text, or a list."""
    schemas = [{"properties": {"year": {"type": "integer"}}}, {"properties": {"year": {"type": "string"}}}, {}]
    assert parse_mapping(b'filename,year,t\na,7,"x,y"\n', schemas).rows == {"a": {"year": 7, "t": ["x", "y"]}}


# JSON


def test_an_object_gives_each_file_its_fields_as_they_are():
    """Values keep their types; a mark before the text does not matter."""
    rows = {"a.pdf": {"tags": ["x"], "year": 2024, "nested": {"a": None}}, "b.pdf": {}}
    assert parse_mapping(json.dumps(rows).encode()).rows == rows
    assert parse_mapping(("\n " + json.dumps(rows)).encode("utf-8-sig")).rows == rows


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"a.pdf": {"year": }}', "not valid JSON at line 1"),
        (b'{"a.pdf": {"year": NaN}}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'[{"filename": "a.pdf"}]', "must be a JSON object"),
        (b'{"a.pdf": ["x"]}', "entry for 'a.pdf' is not an object"),
        (json.dumps({str(number): {} for number in range(MAX_ROWS + 1)}).encode(), "more than 20,000 entries"),
        (b"{" + b" " * MAX_MAPPING_BYTES, "larger than 4,194,304 bytes"),
    ],
    ids=["broken", "not-a-number", "deep", "list", "no-fields", "many", "large"],
)
def test_json_of_another_form_is_refused(raw, told):
    """The refusal says what is wrong with it."""
    with pytest.raises(MappingInvalidError) as caught:
        parse_mapping(raw)
    assert told in caught.value.message


# Rows and files


def test_a_file_is_found_by_its_name_whatever_its_folder_and_spelling():
    """Systems send the same name in two spellings (NFC, NFD) and with or without folders."""
    mapping = MetadataMapping({"u\u0308bersicht.pdf": {"n": 1}, "in/b.pdf": {"n": 2}, "c.pdf": {"n": 3}})
    assert mapping.find("\u00fcbersicht.pdf") == {"n": 1}
    assert mapping.find("b.pdf") == {"n": 2}
    assert mapping.find("out/c.pdf") == {"n": 3}
    assert mapping.find("C.pdf") is None


def test_files_of_one_name_in_two_folders_are_told_apart():
    """Each has its row under its whole name; the bare name could be either and gets none."""
    mapping = MetadataMapping({"x/a.pdf": {"n": 1}, "y/a.pdf": {"n": 2}})
    assert (mapping.find("x/a.pdf"), mapping.find("y/a.pdf"), mapping.find("a.pdf")) == ({"n": 1}, {"n": 2}, None)


def test_a_row_without_a_file_is_a_warning():
    """It names the row; more than a hundred are summed up."""
    assert MetadataMapping({"a.pdf": {}, "b.pdf": {}}).all_warnings(["a.pdf", "z.pdf"]) == [
        "The metadata mapping has a row for 'b.pdf', which is not among the files."
    ]
    many = MetadataMapping({str(number): {} for number in range(250)}).all_warnings([])
    assert (len(many), many[-1]) == (MAX_WARNINGS, "There are 151 more warnings of this kind.")


# Properties

NAMES = st.text(string.ascii_letters + "üß 世.-_()", min_size=1, max_size=30).map(str.strip).filter(normalise_filename)
FIELDS = st.text(string.ascii_letters, min_size=1, max_size=10).filter(lambda name: name.casefold() != "filename")
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters=","), max_size=40)
TEXTS = TEXTS.map(str.strip)


@given(
    st.lists(FIELDS, min_size=1, max_size=5, unique=True),
    st.dictionaries(NAMES, st.lists(TEXTS, min_size=5, max_size=5), max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_spreadsheet_writes_is_read_back(columns, cells, delimiter, encoding):
    """For all names, fields and texts: the table says what was put into it, whatever its separator and encoding."""
    written = io.StringIO()
    writer = csv.writer(written, delimiter=delimiter)
    writer.writerow(["filename", *columns])
    for name, row in cells.items():
        writer.writerow([name, *row[: len(columns)]])
    expected = {
        name: {column: text for column, text in zip(columns, row, strict=False) if text} for name, row in cells.items()
    }
    assert parse_mapping(written.getvalue().encode(encoding)).rows == expected


@given(st.lists(st.text(string.ascii_letters + " -", min_size=1).map(str.strip).filter(bool), min_size=2, max_size=9))
def test_a_list_in_a_cell_is_read_back(items):
    """For all items without a comma: joined by commas they are a list of the same items."""
    assert cell_value(", ".join(items)) == items


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, st.dictionaries(FIELDS, JSON_VALUES, max_size=4), max_size=6))
def test_json_is_read_back(rows):
    """For all objects of objects: what was written is what is said."""
    assert parse_mapping(json.dumps(rows).encode()).rows == rows


@given(
    st.binary(max_size=400) | st.text(max_size=200).map(lambda text: ("filename," + text).encode("utf-8", "replace"))
)
@example(b"sep=\x00\nfilename")
@example(b'sep="\nfilename,a')
@example(b"filename\r\n\r\r\n,")
def test_whatever_comes_is_read_or_refused(raw):
    """For all bytes: a mapping whose warnings can be told, or the one error there is."""
    try:
        mapping = parse_mapping(raw, [{"properties": {"a": {"type": "array"}}}])
    except MappingInvalidError:
        return
    assert all(isinstance(fields, dict) for fields in mapping.rows.values())
    assert mapping.without_file(mapping.rows) == []
    assert json.dumps(mapping.all_warnings([]))


@given(st.dictionaries(NAMES, st.builds(dict), max_size=8), st.lists(NAMES, max_size=8))
def test_every_row_has_a_file_or_a_warning(rows, filenames):
    """For all rows and files: the rows found by some file and those reported are all there are, none twice."""
    mapping = MetadataMapping(rows)
    reported = mapping.without_file(filenames)
    found = {row for row in rows for name in filenames if mapping.find(name) is rows[row]}
    assert len(reported) == len(set(reported))
    assert set(reported) | found == set(rows)
    assert not set(reported) & found
