"""PDF through pdfium. One document at a time in a process: pdfium is not made for threads."""

import contextlib
import re
from collections.abc import Iterator
from itertools import islice

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from ingather.adapters.parsers.layout import PAGE_UNREADABLE, paged_document
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError, DocumentEncryptedError

_MAX_BOOKMARKS = 5_000
_HALVES = re.compile("[\udc00-\udfff][\ud800-\udbff]")
_ALEF_LAM = re.compile("[\u0627\u0623\u0625\u0622]\u0644")


def parse_pdf(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """Text by page, bookmarks as headings."""
    try:
        pdf = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) in (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY):
            raise DocumentEncryptedError("PDF is protected by a password") from error
        raise DocumentCorruptError(f"PDF cannot be opened: {error}") from error
    with contextlib.closing(pdf):
        page_count = len(pdf)
        limits.check_pages(page_count)
        unreadable: list[int] = []
        pages = list(_page_texts(pdf, page_count, unreadable))
        if unreadable and len(unreadable) == page_count:
            raise DocumentCorruptError(f"none of the PDF's {page_count} pages can be read")
        return paged_document(
            MediaType.PDF,
            pages,
            headings=_bookmarks(pdf),
            title=_title(pdf),
            warnings=(PAGE_UNREADABLE,) if unreadable else (),
        )


def _page_texts(pdf: pdfium.PdfDocument, page_count: int, unreadable: list[int]) -> Iterator[str]:
    for index in range(page_count):
        try:
            page = pdf[index]
        except pdfium.PdfiumError:
            unreadable.append(index)
            yield ""
            continue
        try:
            yield _page_text(page)
        finally:
            page.close()


def _page_text(page: pdfium.PdfPage) -> str:
    try:
        text_page = page.get_textpage()
    except pdfium.PdfiumError:
        return ""
    try:
        text: str = text_page.get_text_range(errors="surrogatepass")
        if not text.isascii():
            text = _turned_back(text_page, text)
    finally:
        text_page.close()
    # U+FFFE stands where a word is broken at the end of a line.
    return text.replace("\ufffe\r\n", "").replace("\ufffe", "")


def _turned_back(text_page: pdfium.PdfTextPage, text: str) -> str:
    """What pdfium turned round too much in lines that are read from the right: letters of one glyph, halves of a character.

    Lam and alef are one glyph together, alef and lam never are: where these have one box between them, they were
    turned round.
    """
    pieces: list[str] = []
    end, wide = 0, 0
    for found in _ALEF_LAM.finditer(text):
        # pdfium counts in UTF-16.
        wide += sum(character > "\uffff" for character in text[end : found.start()])
        index = pdfium_c.FPDFText_GetCharIndexFromTextIndex(text_page, found.start() + wide)
        pieces.append(text[end : found.start()])
        pieces.append(found.group()[::-1] if _is_one_glyph(text_page, index) else found.group())
        end = found.end()
    return _HALVES.sub(_joined, "".join([*pieces, text[end:]]))


def _joined(halves: re.Match[str]) -> str:
    return halves.group()[::-1].encode("utf-16-le", "surrogatepass").decode("utf-16-le")


def _is_one_glyph(text_page: pdfium.PdfTextPage, index: int) -> bool:
    """Whether this character and the next, and none of their neighbours, have the same box."""
    count = text_page.count_chars()
    if not 0 <= index < count - 1:
        return False
    neighbours = [other for other in (index - 1, index + 2) if 0 <= other < count]
    try:
        box = text_page.get_charbox(index)
        return box == text_page.get_charbox(index + 1) and all(text_page.get_charbox(n) != box for n in neighbours)
    except pdfium.PdfiumError:
        return False


def _bookmarks(pdf: pdfium.PdfDocument) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    with contextlib.suppress(pdfium.PdfiumError, ValueError):
        for bookmark in islice(pdf.get_toc(max_depth=6), _MAX_BOOKMARKS):
            destination = bookmark.get_dest()
            index = destination.get_index() if destination is not None else None
            if index is not None:
                found.append((index, bookmark.level + 1, bookmark.get_title()))
    # Bookmarks may point backwards; sorting by page keeps their own order within one.
    return sorted(found, key=lambda entry: entry[0])


def _title(pdf: pdfium.PdfDocument) -> str | None:
    with contextlib.suppress(pdfium.PdfiumError, UnicodeDecodeError):
        title: str = pdf.get_metadata_value("Title")
        return title or None
    return None
