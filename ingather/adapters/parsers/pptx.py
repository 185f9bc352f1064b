"""PPTX through python-pptx: a slide is a page, its title a heading."""

import contextlib
import io
from collections.abc import Iterator
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
    reader = _SlideReader()
    pages: list[str] = []
    headings: list[tuple[int, int, str]] = []
    for index in range(count):
        heading, text = reader.read(slides, index)
        pages.append(text)
        if heading:
            headings.append((index, 1, heading))
    if reader.met_damage and not any(pages):
        raise DocumentCorruptError(f"none of the {count} slides can be read")
    warnings = (SLIDE_UNREADABLE,) if reader.met_damage else ()
    return paged_document(MediaType.PPTX, pages, headings=headings, title=title, warnings=warnings)


class _SlideReader:
    """Reads what can be read: a broken shape costs itself, not its slide."""

    def __init__(self) -> None:
        self.met_damage = False

    def read(self, slides: Any, index: int) -> tuple[str | None, str]:
        """Title and text of a slide."""
        heading: str | None = None
        lines: list[str] = []
        with self._noting():
            slide = slides[index]
            with self._noting():
                heading = _slide_title(slide)
            with self._noting():
                lines += self._shapes_text(slide.shapes, 0)
            with self._noting():
                lines += _notes(slide)
        return heading, "\n".join(lines)

    def _shapes_text(self, shapes: Any, depth: int) -> Iterator[str]:
        for shape in self._each(shapes):
            # What was read of it before it broke, the first rows of a table, is kept.
            with self._noting():
                yield from self._shape_text(shape, depth)

    def _shape_text(self, shape: Any, depth: int) -> Iterator[str]:
        if shape.has_text_frame:
            yield shape.text_frame.text
        elif getattr(shape, "has_table", False):
            for row in shape.table.rows:
                yield "\t".join(cell_text(cell.text) for cell in row.cells)
        elif hasattr(shape, "shapes") and depth < _MAX_GROUP_DEPTH:
            yield from self._shapes_text(shape.shapes, depth + 1)

    def _each(self, shapes: Any) -> Iterator[Any]:
        """Shapes in order. One that python-pptx cannot make ends its iteration: those behind it are asked for by number."""
        given = 0
        with self._noting():
            for shape in shapes:
                given += 1
                yield shape
        for position in range(given + 1, len(shapes)):
            with self._noting():
                yield shapes[position]

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except Exception:  # noqa: BLE001 - python-pptx raises whatever lxml and its own lookups raise on a broken part
            self.met_damage = True


def _slide_title(slide: Any) -> str | None:
    shape = slide.shapes.title
    return shape.text_frame.text if shape is not None and shape.has_text_frame else None


def _notes(slide: Any) -> Iterator[str]:
    if slide.has_notes_slide:
        notes = slide.notes_slide.notes_text_frame
        if notes is not None and notes.text.strip():
            yield notes.text
