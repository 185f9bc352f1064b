"""PDF through pdfium. One document at a time in a process: pdfium is not made for threads."""

import contextlib
from collections.abc import Iterator
from itertools import islice

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c

from ingather.adapters.parsers.layout import PAGE_UNREADABLE, paged_document
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError, DocumentEncryptedError

_MAX_BOOKMARKS = 5_000


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
        text: str = text_page.get_text_range()
    finally:
        text_page.close()
    # U+FFFE stands where a word is broken at the end of a line.
    return text.replace("\ufffe\r\n", "").replace("\ufffe", "")


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
