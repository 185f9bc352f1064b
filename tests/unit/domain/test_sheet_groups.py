"""Which sheets belong together, and which files are no sheets."""

import pytest

from ingather.domain.sheet_groups import (
    NOT_A_SHEET,
    SYSTEM_FILE,
    grouped_by_code,
    grouped_by_task,
    groups_of,
    in_name_order,
    is_inner_archive,
    skip_reason,
)
from ingather.models.content import SheetReading
from ingather.models.sheets import SheetFile
from tests.support.zips import zip_of

JPEG, PDF = b"\xff\xd8\xff\xe0rest", b"%PDF-1.7 rest"


def page(name, *codes, is_cover=False):
    reading = SheetReading(width=10, height=10, page_count=1, codes=codes, is_cover=is_cover)
    return SheetFile(name=name, reading=reading)


def cover(name, code):
    return page(name, code, is_cover=True)


def grouped(files, fallback=None):
    return [(sheet.file.name, sheet.group_code) for sheet in grouped_by_code(files, fallback)]


def test_a_cover_starts_a_group_and_is_no_sheet():
    """The sheets after it belong to it until the next cover."""
    files = [cover("1", "A"), page("2"), page("3"), cover("4", "B"), page("5")]

    assert grouped(files) == [("2", "A"), ("3", "A"), ("5", "B")]


def test_a_sheets_own_code_wins_for_that_sheet():
    """The next one belongs to the cover again."""
    assert grouped([cover("1", "A"), page("2", "OWN"), page("3")]) == [("2", "OWN"), ("3", "A")]


def test_of_several_codes_on_a_sheet_the_first_counts():
    """Readings have them from top to bottom."""
    assert grouped([page("1", "TOP", "BOTTOM")]) == [("1", "TOP")]


def test_sheets_before_the_first_cover_belong_to_the_task_or_to_nobody():
    """None is lost for want of a cover."""
    assert grouped([page("1"), cover("2", "A")]) == [("1", None)]
    assert grouped([page("1"), cover("2", "A")], fallback="12345678") == [("1", "12345678")]


def test_a_file_that_could_not_be_looked_at_is_a_sheet():
    """It fails alone, in the group where it lies."""
    assert grouped([cover("1", "A"), SheetFile(name="2")]) == [("2", "A")]


def test_two_covers_with_the_same_code_are_one_group():
    """It is counted once, where it begins."""
    files = [cover("1", "A"), page("2"), cover("3", "B"), page("4"), cover("5", "A"), page("6")]

    assert groups_of(grouped_by_code(files)) == {"A": 2, "B": 1}


def test_a_group_without_sheets_is_none():
    """A cover at the end starts nothing."""
    assert groups_of(grouped_by_code([cover("1", "A"), page("2"), cover("3", "B")])) == {"A": 1}


def test_without_codes_all_belong_to_the_task():
    """Covers are sheets like any other there."""
    assert groups_of(grouped_by_task([cover("1", "A"), page("2")], "12345678")) == {"12345678": 2}


def test_numbers_in_names_are_ordered_as_people_count():
    """Page 10 comes after page 9, whatever the alphabet says; folders are kept together."""
    names = ["b/1.jpg", "a/10.jpg", "a/9.jpg", "a/09b.jpg", "A/8.jpg"]

    assert [file.name for file in in_name_order(SheetFile(name=name) for name in names)] == [
        "A/8.jpg",
        "a/9.jpg",
        "a/09b.jpg",
        "a/10.jpg",
        "b/1.jpg",
    ]


@pytest.mark.parametrize(
    ("name", "head", "reason"),
    [
        ("scan.jpg", JPEG, None),
        ("scan", JPEG, None),
        ("form.dat", PDF, None),
        ("form.pdf", b"\n\n%PDF-1.4", None),
        ("broken.jpg", b"no image at all", None),
        ("empty.png", b"", None),
        ("readme.txt", b"Hello", NOT_A_SHEET),
        ("table.csv", b"a,b", NOT_A_SHEET),
        ("__MACOSX/scan.jpg", JPEG, SYSTEM_FILE),
        ("folder/._scan.jpg", JPEG, SYSTEM_FILE),
        ("folder/Thumbs.db", b"\xd0\xcf", SYSTEM_FILE),
        (".DS_Store", b"", SYSTEM_FILE),
    ],
)
def test_what_is_no_sheet_is_passed_over_for_a_reason(name, head, reason):
    """What says it is an image stays, so that nobody misses it without knowing."""
    assert skip_reason(name, head) == reason


def test_an_archive_within_the_archive_is_known():
    """A document that only happens to be a ZIP is none."""
    packed = zip_of({"a.jpg": JPEG})
    assert is_inner_archive("inner.zip", packed)
    assert not is_inner_archive("letter.docx", packed)
