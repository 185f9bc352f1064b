"""PPTX through python-pptx: a slide is a page, its title a heading."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from pptx import Presentation

from ingather.adapters.parsers.layout import cell_text, paged_document
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.office import open_office
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError

_MAX_GROUP_DEPTH = 20
SLIDE_UNREADABLE = "slide_unreadable"
"""Some shapes of some slides could not be read; the others were."""


def parse_pptx(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """Text of shapes, groups, tables and notes, by slide."""
    title = open_office(content, limits)
    try:
        slides = Presentation(io.BytesIO(content)).slides
        count = len(slides)
    except Exception as error:
        raise DocumentCorruptError(f"PPTX cannot be opened: {type(error).__name__}") from error
    limits.check_pages(count)
    pages: list[str] = []
    headings: list[tuple[int, int, str]] = []
    damaged = False
    for index in range(count):
        try:
            slide = slides[index]
            heading, text = _slide_title(slide), "\n".join(_slide_text(slide))
        except Exception:  # noqa: BLE001 - python-pptx raises whatever lxml and its own lookups raise on a broken part
            damaged = True
            heading, text = None, ""
        pages.append(text)
        if heading:
            headings.append((index, 1, heading))
    if damaged and not any(pages):
        raise DocumentCorruptError(f"none of the {count} slides can be read")
    warnings = (SLIDE_UNREADABLE,) if damaged else ()
    return paged_document(MediaType.PPTX, pages, headings=headings, title=title, warnings=warnings)


def _slide_title(slide: Any) -> str | None:
    shape = slide.shapes.title
    return shape.text_frame.text if shape is not None and shape.has_text_frame else None


def _slide_text(slide: Any) -> Iterator[str]:
    yield from _shapes_text(slide.shapes, 0)
    if slide.has_notes_slide:
        notes = slide.notes_slide.notes_text_frame
        if notes is not None and notes.text.strip():
            yield notes.text


def _shapes_text(shapes: Iterable[Any], depth: int) -> Iterator[str]:
    for shape in shapes:
        if shape.has_text_frame:
            yield shape.text_frame.text
        elif getattr(shape, "has_table", False):
            for row in shape.table.rows:
                yield "\t".join(cell_text(cell.text) for cell in row.cells)
        elif hasattr(shape, "shapes") and depth < _MAX_GROUP_DEPTH:
            yield from _shapes_text(shape.shapes, depth + 1)
