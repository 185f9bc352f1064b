"""Manifest pages are JSON Lines, one reference a line."""

from ingather.domain.manifest_pages import decode_line, decode_page, encode_page, page_of, split_page
from ingather.models.content import BlobRef, Stage
from ingather.models.document import DocumentFailure, DocumentRef

REFS = [
    DocumentRef(ordinal=0, filename="a.txt", blob=BlobRef(key="k", size_bytes=3, sha256="a" * 64, offset=7)),
    DocumentRef(ordinal=1, filename="line\u2028\x85break.txt", metadata={"n": 1.5, "s": "x\ny", "deep": {"é": [None]}}),
    DocumentRef(
        ordinal=2,
        filename="c.txt",
        original_filename="../c.txt",
        refused=DocumentFailure(code="archive_symlink", message="link", stage=Stage.EXPANDING, action="pack it"),
    ),
]


def test_a_page_comes_back_as_it_was() -> None:
    """Every field of every reference survives, whatever line breaks its texts hold."""
    assert decode_page(encode_page(REFS)) == REFS


def test_the_same_references_give_the_same_bytes() -> None:
    """A page written again by a later attempt is the same object."""
    assert encode_page(REFS) == encode_page(decode_page(encode_page(REFS)))


def test_one_line_is_read_without_the_others() -> None:
    """A page is split without decoding it."""
    lines = split_page(encode_page(REFS))
    assert len(lines) == 3
    assert decode_line(lines[1]) == REFS[1]


def test_an_empty_page_has_no_references() -> None:
    """Nothing in, nothing out."""
    assert encode_page([]) == b""
    assert decode_page(b"") == []


def test_ordinals_lie_on_pages_of_a_thousand() -> None:
    """Page and line follow from the ordinal."""
    assert (page_of(0), page_of(999), page_of(1_000), page_of(2_042)) == ((0, 0), (0, 999), (1, 0), (2, 42))
