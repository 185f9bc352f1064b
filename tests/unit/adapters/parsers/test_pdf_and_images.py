"""PDF pages and their limits; images, which have no text while there is no OCR."""

import struct

import pytest

from ingather import samples
from ingather.adapters.parsers.images import parse_image
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.pdf import parse_pdf
from ingather.models.errors import DocumentCorruptError, DocumentEncryptedError, DocumentTooLargeError
from tests.support.scans import blank_pdf


def sample(name: str) -> bytes:
    return (samples.SAMPLES / name).read_bytes()


def tiff(frames: int, *, circle: bool = False) -> bytes:
    directories = b""
    for number in range(frames):
        last = number == frames - 1
        following = 8 if last and circle else 0 if last else 8 + 6 * (number + 1)
        directories += struct.pack("<HI", 0, following)
    return b"II*\x00" + struct.pack("<I", 8) + directories + bytes(16)


def test_pdf_text_by_page() -> None:
    """Each page is a span of the text with its number."""
    parsed = parse_pdf(sample("operations-handbook.pdf"), ParseLimits())
    assert len(parsed.pages) >= 2
    assert all(parsed.text[page.start : page.end].strip() for page in parsed.pages)
    assert "dome" in parsed.text.lower()


def test_pdf_without_text_says_so() -> None:
    """Blank pages are readable, counted and without text."""
    parsed = parse_pdf(blank_pdf(3), ParseLimits())
    assert (len(parsed.pages), parsed.warnings) == (3, ("no_text",))


def test_pdf_with_a_password_is_encrypted() -> None:
    """A password is told apart from damage."""
    with pytest.raises(DocumentEncryptedError):
        parse_pdf(sample("grant-agreement-sealed.pdf"), ParseLimits())


@pytest.mark.parametrize("content", [b"%PDF-1.7\n", b"%PDF-1.4 \xff" + bytes(1_000), b"no pdf at all"])
def test_pdf_of_junk_is_corrupt(content: bytes) -> None:
    """What pdfium cannot open is corrupt."""
    with pytest.raises(DocumentCorruptError):
        parse_pdf(content, ParseLimits())


def test_pdf_over_the_page_limit_is_refused() -> None:
    """A page too many is refused before any page is read, with the limit's name and both numbers."""
    with pytest.raises(DocumentTooLargeError, match="parser_pages") as raised:
        parse_pdf(blank_pdf(11), ParseLimits(max_pages=10))
    assert (raised.value.facts["value"], raised.value.facts["maximum"]) == (11, 10)


def test_images_are_pages_without_text() -> None:
    """An image is one blank page, a TIFF as many as it has frames."""
    png = b"\x89PNG\r\n\x1a\n" + bytes(60)
    assert len(parse_image(png, ParseLimits()).pages) == 1
    parsed = parse_image(tiff(3), ParseLimits())
    assert (len(parsed.pages), parsed.text, parsed.warnings) == (3, "", ("no_text",))


def test_a_tiff_that_goes_in_a_circle_ends() -> None:
    """Frames that name each other are counted once."""
    assert len(parse_image(tiff(3, circle=True), ParseLimits()).pages) == 3


def test_images_cut_short_are_corrupt() -> None:
    """A header alone is no picture."""
    for content in (b"\x89PNG\r\n\x1a\n", b"II*\x00" + struct.pack("<I", 900) + bytes(40)):
        with pytest.raises(DocumentCorruptError):
            parse_image(content, ParseLimits())
