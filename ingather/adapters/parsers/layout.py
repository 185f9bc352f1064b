"""From what parsers give to one clean text with exact page and heading positions."""

import re
from collections.abc import Iterable, Sequence

from ingather.models.content import Heading, MediaType, PageSpan, ParsedDocument

NO_TEXT = "no_text"
"""The document could be read and holds no text."""
PAGE_UNREADABLE = "page_unreadable"
"""Some pages could not be read; the others were."""

_UNWANTED = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
_BLANK_LINES = re.compile(r"\n{3,}")
_PAGE_BREAK = "\n\n"
_LINE_ENDS = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
"""All that ``str.splitlines`` and so ``tidy`` takes for one."""
_ENDS_IN_CELLS = re.compile(f"[\t{_LINE_ENDS}]+")
_ENDS_OF_NO_ROW = tuple(end for end in _LINE_ENDS if end not in "\r\n")


def tidy(text: str) -> str:
    """Text without what nobody means: controls, non-characters (pdfium's U+FFFE among them), lone surrogates,
    blanks at line ends, more than one blank line. Idempotent.
    """
    if _UNWANTED.search(text):
        text = _UNWANTED.sub("", text)
    # Lines are split by every line end Unicode has; a regular expression takes ten times as long.
    text = "\n".join([line.rstrip() for line in text.splitlines()])
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip()


def cell_text(text: str) -> str:
    """What a table's cell holds, fit for a row in one line: a line end or tab in it must not look like the row's."""
    return text if text.isprintable() else _ENDS_IN_CELLS.sub(" ", text).strip(" ")


def csv_rows_in_lines(text: str) -> str:
    """A CSV's text whose rows end where CSV ends them, at CR and LF: other line ends are part of a cell."""
    for end in _ENDS_OF_NO_ROW:
        text = text.replace(end, " ")
    return text


def one_line(text: str | None) -> str | None:
    """A title fit for one line of at most 500 characters; None where nothing is left."""
    if not text:
        return None
    return " ".join(_UNWANTED.sub("", text).split())[:500].rstrip() or None


def document(
    media_type: MediaType,
    text: str,
    *,
    headings: Sequence[Heading] = (),
    title: str | None = None,
    warnings: Sequence[str] = (),
) -> ParsedDocument:
    """A document without pages. ``text`` is tidy already; ``headings`` point into it."""
    return ParsedDocument(
        media_type=media_type.value,
        text=text,
        headings=tuple(headings),
        title=one_line(title),
        warnings=(*warnings, *(() if text else (NO_TEXT,))),
    )


def paged_document(
    media_type: MediaType,
    pages: Iterable[str],
    *,
    headings: Sequence[tuple[int, int, str]] = (),
    title: str | None = None,
    warnings: Sequence[str] = (),
) -> ParsedDocument:
    """A document made of pages.

    ``headings`` are ``(page index, level, title)`` in reading order; each is placed where its
    title stands in the page's text, or at the page's start where it does not.
    """
    texts: list[str] = []
    spans: list[PageSpan] = []
    position = 0
    for number, raw in enumerate(pages, 1):
        text = tidy(raw)
        # Blank pages keep their number and take no room.
        if text and position:
            texts.append(_PAGE_BREAK)
            position += len(_PAGE_BREAK)
        spans.append(PageSpan(number, position, position + len(text)))
        texts.append(text)
        position += len(text)
    whole = "".join(texts)
    return ParsedDocument(
        media_type=media_type.value,
        text=whole,
        pages=tuple(spans),
        headings=tuple(_place_on_pages(whole, spans, headings)),
        title=one_line(title),
        warnings=(*warnings, *(() if whole else (NO_TEXT,))),
    )


def locate_headings(text: str, found: Iterable[tuple[int, str]]) -> list[Heading]:
    """Place ``(level, title)`` pairs, in reading order, where each title starts a line of ``text``.

    Titles that are not there are left out: another tool's rendering of the text may differ.
    """
    headings: list[Heading] = []
    position = 0
    for level, raw in found:
        title = one_line(raw)
        if not title:
            continue
        start = _line_start(text, title, position)
        if start is not None:
            headings.append(Heading(level, title, start))
            position = start + len(title)
    return headings


def _line_start(text: str, title: str, position: int) -> int | None:
    while (start := text.find(title, position)) >= 0:
        if start == 0 or text[start - 1] == "\n":
            return start
        position = start + 1
    return None


def _place_on_pages(
    text: str, spans: Sequence[PageSpan], headings: Sequence[tuple[int, int, str]]
) -> Iterable[Heading]:
    last = 0
    for index, level, raw in headings:
        title = one_line(raw)
        if not title or not 0 <= index < len(spans):
            continue
        span = spans[index]
        found = text.find(title, max(span.start, last), span.end)
        start = found if found >= 0 else max(span.start, min(last, span.end))
        yield Heading(level, title, start)
        last = max(last, start)
