"""Rows of sheets as a table, and which sheets look the same."""

import base64
import csv
import io
import random
import uuid

from ingather.domain.sheet_table import COLUMNS, Pictures, csv_header, csv_rows, row_of
from ingather.models.document import DocumentFailure, DocumentStatus
from tests.support.catalog_records import done_record


def sheet_record(**fields):
    found = {"group": "14900113", "codes": ["14900113", "X"], "width": 1240, "height": 1754, "page_count": 1}
    return done_record(str(uuid.uuid4()), 0).model_copy(update={"metadata": {"sheet": found}, **fields})


def table(*rows):
    return list(csv.DictReader(io.StringIO(csv_header() + csv_rows(rows), newline="")))


def picture(seed, *, darker_at=None, by=1):
    cells = bytearray(random.Random(seed).choices(range(1, 40), k=384))
    if darker_at is not None:
        cells[darker_at] += by
    return base64.b64encode(cells).decode()


def test_a_row_has_what_is_on_the_sheet():
    """Its group, codes, size, hash and outcome, in the promised columns."""
    [line] = table(row_of(sheet_record()))

    assert tuple(line) == COLUMNS
    assert (line["group_code"], line["codes"], line["width"], line["height"]) == (
        "14900113",
        "14900113 X",
        "1240",
        "1754",
    )
    assert (line["status"], line["error_code"], line["text"]) == ("done", "", "")


def test_a_sheet_that_failed_says_why():
    """The error is on its row, and no other's."""
    error = DocumentFailure(code="corrupt", message="image cannot be read")
    [line] = table(row_of(sheet_record(status=DocumentStatus.FAILED, error=error)))

    assert (line["status"], line["error_code"], line["error_message"]) == ("failed", "corrupt", "image cannot be read")


def test_names_and_texts_cannot_break_the_table():
    """Quotes, commas and line breaks come back as they were."""
    odd = 'a "quoted", name\nwith a break.jpg'
    [line] = table(row_of(sheet_record(filename=odd), text="one\r\ntwo, three"))

    assert (line["filename"], line["text"]) == (odd, "one\r\ntwo, three")


def test_no_cell_is_taken_for_a_formula():
    """A name or a code may be anything; a spreadsheet must not run it."""
    record = sheet_record(filename="=cmd.jpg")
    record.metadata["sheet"]["codes"] = ["@SUM(A1)"]
    [line] = table(row_of(record))

    assert (line["filename"], line["codes"]) == ("'=cmd.jpg", "'@SUM(A1)")


def test_a_table_of_nothing_has_its_header():
    """A batch of covers alone."""
    assert csv_header() + csv_rows([]) == ",".join(COLUMNS) + "\r\n"


def test_a_document_of_which_nothing_is_known_is_a_row_too():
    """Refused before anybody looked at it."""
    row = row_of(sheet_record(metadata={}, status=DocumentStatus.CANCELLED))
    assert (row.group_code, row.width, row.codes) == (None, None, ())


def test_pages_that_are_as_dark_everywhere_look_the_same():
    """Give or take the scanner's noise; each names the first that looks like it."""
    pictures = [picture(1), picture(2), picture(1, darker_at=7, by=2), picture(1, darker_at=8, by=3), picture(2)]

    assert Pictures(pictures).earlier() == {2: 0, 4: 1}


def test_blank_pages_look_like_no_other():
    """Nobody is told that the backs of all sheets are one."""
    assert Pictures(["", "", picture(1), ""]).earlier() == {}
    assert Pictures().earlier() == {}


def test_the_first_of_many_alike_is_found_however_many_there_are():
    """Those that are nearly the same, more than are compared in one go, are passed over on the way."""
    others = [picture(1, darker_at=place, by=3 + times) for times in range(6) for place in range(384)]
    pictures = [*others, picture(1, darker_at=0, by=20), picture(1, darker_at=0, by=20)]
    assert Pictures(pictures).earlier()[len(others) + 1] == len(others)


def test_no_more_are_compared_than_a_batch_can_wait_for():
    """The work grows with their square: the first so many, blank ones not counted, and none of the later ones."""
    pictures = [picture(1), "", picture(2), picture(2), picture(1)]
    assert Pictures(pictures, most=3).earlier() == {3: 2}
    assert Pictures(pictures, most=4).earlier() == {3: 2, 4: 0}
