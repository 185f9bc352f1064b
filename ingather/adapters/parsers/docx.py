"""DOCX through office-oxide, which reads text boxes, headers and footnotes; python-docx where it gives up."""

import io
import re
from collections.abc import Iterator

import docx
import office_oxide
from docx.table import Table
from docx.text.paragraph import Paragraph

from ingather.adapters.parsers.layout import cell_text, document, locate_headings, tidy
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.office import open_office
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError

_MARKDOWN_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)
_MARKUP = re.compile(r"\*\*|__|\\(?=[^\w\s])")


def parse_docx(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """Text in reading order, headings by style. Word stores no pages, so there are none."""
    title = open_office(content, limits)
    try:
        with office_oxide.Document.from_bytes(content, "docx") as opened:
            text = tidy(opened.plain_text())
            found = _headings(opened.to_markdown())
    except (office_oxide.OfficeOxideError, ValueError) as error:
        return _parse_with_python_docx(content, title, error)
    return document(MediaType.DOCX, text, headings=locate_headings(text, found), title=title)


def _headings(markdown: str) -> Iterator[tuple[int, str]]:
    for match in _MARKDOWN_HEADING.finditer(markdown):
        yield len(match.group(1)), _MARKUP.sub("", match.group(2))


def _parse_with_python_docx(content: bytes, title: str | None, first_error: Exception) -> ParsedDocument:
    try:
        lines: list[str] = []
        found: list[tuple[int, str]] = []
        for block in docx.Document(io.BytesIO(content)).iter_inner_content():
            if isinstance(block, Paragraph):
                lines.append(block.text)
                style = block.style.name if block.style is not None else None
                if style and (level := re.fullmatch(r"Heading (\d)", style)):
                    found.append((int(level.group(1)), block.text))
            elif isinstance(block, Table):
                lines += ["\t".join(cell_text(cell.text) for cell in row.cells) for row in block.rows]
    except Exception as error:
        raise DocumentCorruptError(
            f"DOCX cannot be read: {type(first_error).__name__}, {type(error).__name__}"
        ) from error
    text = tidy("\n".join(lines))
    return document(MediaType.DOCX, text, headings=locate_headings(text, found), title=title)
