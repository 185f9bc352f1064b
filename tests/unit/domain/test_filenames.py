"""File names are normalised, never refused."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingather.domain.filenames import (
    MAX_FILENAME_BYTES,
    FilenameRegistry,
    generated_filename,
    normalise_filename,
    shown,
    stored_original,
)

FORBIDDEN = {"Cc", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("/abs/report.pdf", "report.pdf"),
        ("C:\\Users\\me\\report.pdf", "report.pdf"),
        ("re\x00port\x1b.pdf", "report.pdf"),
        ("two\r\nlines.txt", "two  lines.txt"),
        ("  spaced .txt ", "spaced .txt"),
        ("Cafe\u0301.txt", "Café.txt"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("👩‍👩‍👧 party.txt", "👩‍👩‍👧 party.txt"),
        ("一二三.docx", "一二三.docx"),
        (".gitignore", ".gitignore"),
        ("lone\udc80surrogate.txt", "lonesurrogate.txt"),
        ("line\u2028break.txt", "line break.txt"),
    ],
)
def test_a_name_keeps_what_is_safe_of_it(sent: str, stored: str) -> None:
    """Only the base name is kept, in NFC, without controls, overrides or line breaks."""
    assert normalise_filename(sent) == stored


@pytest.mark.parametrize("sent", ["", " ", "\x00", "..", ".", "../", "a/b/", "\u202e", "\u200d", "\t\n", "..."])
def test_a_name_with_nothing_in_it_is_blank(sent: str) -> None:
    """What has no visible base name gets a generated one, by ordinal."""
    assert normalise_filename(sent) == ""
    assert FilenameRegistry().assign(sent, 42) == "document-0000042"


@pytest.mark.parametrize("letter", ["a", "é", "一", "👍"])
def test_a_long_name_is_cut_and_keeps_its_extension(letter: str) -> None:
    """10 KB of name become at most 255 bytes, whole characters, with the extension."""
    name = normalise_filename(letter * 10_000 + ".pdf")
    assert MAX_FILENAME_BYTES - 4 < len(name.encode()) <= MAX_FILENAME_BYTES
    assert name == letter * len(name.removesuffix(".pdf")) + ".pdf"


def test_a_long_tail_is_not_an_extension() -> None:
    """A dot in the middle of a long name does not protect what follows it."""
    assert normalise_filename("a." + "b" * 300) == "a." + "b" * 253


def test_a_duplicate_gets_a_number_before_its_extension() -> None:
    """Case does not tell names apart, and a numbered name that is taken is passed over."""
    registry = FilenameRegistry()
    names = [registry.assign(name, i) for i, name in enumerate(["a.pdf", "a.pdf", "A.PDF", "a (2).pdf", "a.pdf", "a"])]
    assert names == ["a.pdf", "a (2).pdf", "A (3).PDF", "a (2) (2).pdf", "a (4).pdf", "a"]


def test_a_duplicate_of_the_longest_name_still_fits() -> None:
    """The number takes its room from the name, not from the limit."""
    registry = FilenameRegistry()
    names = [registry.assign("x" * 400 + ".pdf", ordinal) for ordinal in range(12)]
    assert len({name.casefold() for name in names}) == 12
    assert all(len(name.encode()) <= MAX_FILENAME_BYTES and name.endswith(".pdf") for name in names)


def test_a_thousand_equal_names_are_told_apart_quickly() -> None:
    """Numbers go on from the last one given, so equal names cost no search."""
    registry = FilenameRegistry()
    assert [registry.assign("scan.pdf", n) for n in range(20_000)][-1] == "scan (20000).pdf"


def test_a_client_may_send_a_generated_name() -> None:
    """A generated name that is taken is numbered as any other."""
    registry = FilenameRegistry()
    assert registry.assign(generated_filename(1), 0) == "document-0000001"
    assert registry.assign("", 1) == "document-0000001 (2)"


def test_the_original_is_kept_only_when_it_differs() -> None:
    """At most 10,000 characters of it, without NUL, which no database takes."""
    assert stored_original("a.pdf", "a.pdf") is None
    assert stored_original("x/a.pdf", "a.pdf") == "x/a.pdf"
    assert stored_original("a\x00\udc80", "a") == "a\ufffd?"
    assert len(stored_original("y" * 20_000, "y") or "") == 10_000


def test_a_name_in_a_message_is_short() -> None:
    """A message shows one line of at most 80 characters."""
    assert shown("x" * 500 + "\n.txt") == "x" * 79 + "…"
    assert shown("") == "(no name)"


@given(st.lists(st.text(max_size=400), max_size=40))
def test_any_names_become_usable_and_unique(sent: list[str]) -> None:
    """Whatever is sent, what is stored fits, is NFC, has no path, no controls, and is unique; twice the same."""
    first, second = FilenameRegistry(), FilenameRegistry()
    stored = [first.assign(name, ordinal) for ordinal, name in enumerate(sent)]
    assert stored == [second.assign(name, ordinal) for ordinal, name in enumerate(sent)]
    assert len({name.casefold() for name in stored}) == len(stored)
    for name in stored:
        assert 1 <= len(name.encode()) <= MAX_FILENAME_BYTES
        assert unicodedata.is_normalized("NFC", name)
        assert not set(name) & {"/", "\\"}
        assert not {unicodedata.category(character) for character in name} & FORBIDDEN
