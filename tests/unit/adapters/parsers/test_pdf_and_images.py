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


def pdf_of_glyphs(*glyphs: str) -> bytes:
    """A page with these glyphs from left to right; what each says is told by the font, as word processors do."""
    says = b"".join(
        b"<%04x> <%s>\n" % (code, glyph.encode("utf-16-be").hex().encode()) for code, glyph in enumerate(glyphs, 1)
    )
    to_unicode = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /T def /CMapType 2 def "
        b"1 begincodespacerange <0000> <ffff> endcodespacerange %d beginbfchar\n%sendbfchar endcmap end end"
        % (len(glyphs), says)
    )
    drawn = b"BT /F 20 Tf 50 50 Td <%s> Tj ET" % b"".join(b"%04x" % code for code in range(1, len(glyphs) + 1))
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 100] /Contents 4 0 R /Resources << /Font << /F 5 0 R >> >> >>",
        b"<< /Length %d >> stream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type0 /BaseFont /T /Encoding /Identity-H /DescendantFonts [6 0 R] /ToUnicode 7 0 R >>",
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /T /DW 600 /FontDescriptor 8 0 R /CIDSystemInfo 9 0 R >>",
        b"<< /Length %d >> stream\n%s\nendstream" % (len(to_unicode), to_unicode),
        b"<< /Type /FontDescriptor /FontName /T /Flags 4 /FontBBox [0 0 1000 800] /Ascent 800 /Descent 0 /StemV 80 >>",
        b"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>",
    )
    body = b"".join(b"%d 0 obj %s endobj\n" % (number, each) for number, each in enumerate(objects, 1))
    return b"%PDF-1.7\n" + body + b"trailer << /Root 1 0 R /Size 10 >>\n%%EOF"


@pytest.mark.parametrize(
    ("glyphs", "text"),
    [
        (("م", "لا", "س", "ل", "ا"), "السلام"),
        (("ة", "د", "ا", "ف", "ت", "س", "لا", "ا"), "الاستفادة"),
        (("ي", "لآ", "ا", " ", "ل", "ا", "م"), "مال الآي"),
        (("\U0001f52d", " ", "ن", "لأ", "ا", " ", "\U0001f52d", "ة", "لإ"), "لإة\U0001f52d الأن \U0001f52d"),
        (("\U0001f52d", "a", " ", "لا"), "\U0001f52da لا"),
    ],
)
def test_lines_from_the_right_are_read_as_they_are_written(glyphs: tuple[str, ...], text: str) -> None:
    """Lam and alef in one glyph are in their order, or the word would not be found; so are alef and lam in two."""
    assert parse_pdf(pdf_of_glyphs(*glyphs), ParseLimits()).text == text


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
