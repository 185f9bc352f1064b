"""A page as a picture, in the process that calls: PDFs through pdfium, images through Pillow."""

import contextlib
import io
from collections.abc import Callable
from typing import Final

import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
from PIL import Image, ImageOps

from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.models.errors import DocumentCorruptError, DocumentEncryptedError, DocumentError
from ingather.ports.embedder import Embedder
from ingather.ports.page_images import BLANK_PAGE

NO_SUCH_PAGE: Final = "no_such_page"
"""``facts['reason']`` of what is raised for a page that is not there."""
_MOST_PIXELS: Final = 100_000_000
"""Of an image that is opened."""
_TALLEST: Final = 4
"""A page that is more times as tall as wide is drawn narrower."""


def draw_page(
    request: PrepareRequest, _embedder: Embedder | None, _limits: ParseLimits, on_stage: Callable[[Stage], None]
) -> PreparedDocument:
    """The picture in place of an artifact. Blocking. Raises ``DocumentError``."""
    on_stage(Stage.PARSING)
    page = request.page or 1
    is_pdf = b"%PDF-" in request.content[:1024]
    image = _pdf_page(request.content, page, request.width) if is_pdf else _frame(request.content, page, request.width)
    with image:
        drawn = io.BytesIO()
        image.save(drawn, "PNG", compress_level=4)
        is_blank = image.getcolors(1) is not None
    return PreparedDocument(
        artifact=drawn.getvalue(),
        media_type="image/png",
        page_count=1,
        chunk_count=0,
        character_count=0,
        quality=0.0,
        embedded=False,
        warnings=(BLANK_PAGE,) if is_blank else (),
    )


def _no_page(page: int, count: int) -> DocumentError:
    return DocumentError(f"The document has {count} pages, and no page {page}.", reason=NO_SUCH_PAGE)


def _pdf_page(content: bytes, number: int, width: int) -> Image.Image:
    try:
        pdf = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) in (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY):
            raise DocumentEncryptedError("PDF is protected by a password") from error
        raise DocumentCorruptError(f"PDF cannot be opened: {error}") from error
    with contextlib.closing(pdf):
        if number > len(pdf):
            raise _no_page(number, len(pdf))
        try:
            page = pdf[number - 1]
            try:
                points_wide, points_tall = page.get_size()
                wide = min(width, width * _TALLEST * points_wide / max(points_tall, 1))
                bitmap = page.render(scale=max(wide, 1) / max(points_wide, 1), may_draw_forms=False)
                drawn: Image.Image = bitmap.to_pil().convert("RGB")
                return drawn
            finally:
                page.close()
        except pdfium.PdfiumError as error:
            raise DocumentCorruptError(f"page {number} of the PDF cannot be drawn") from error


def _frame(content: bytes, number: int, width: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(content))
        count = getattr(image, "n_frames", 1)
        if number > count:
            raise _no_page(number, count)
        if image.width * image.height > _MOST_PIXELS:
            raise DocumentCorruptError(f"image has {image.width:,} by {image.height:,} pixels, too many to draw")
        image.seek(number - 1)
        upright = (ImageOps.exif_transpose(image) or image).convert("RGB")
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise DocumentCorruptError("image cannot be read") from error
    upright.thumbnail((width, width * _TALLEST))
    return upright
