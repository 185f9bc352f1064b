"""Scanned sheets: what is on an image or on the pages of a PDF, by its pixels.

Codes are read by zxing, as printed first, and where nothing is found once more with the noise smoothed away. What
else is on the page decides whether it is a cover, and by a coarse picture of it sheets that look the same are found.
"""

import base64
import io
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pypdfium2 as pdfium
import pypdfium2.raw as pdfium_c
import zxingcpp
from PIL import Image, ImageSequence, UnidentifiedImageError

from ingather.adapters.parsers.limits import ParseLimits
from ingather.domain.sheet_codes import printable_code
from ingather.domain.sheet_groups import is_picture
from ingather.models.content import MediaType, SheetReading
from ingather.models.errors import (
    DocumentCorruptError,
    DocumentEncryptedError,
)

Pixels = npt.NDArray[np.uint8]

COVER_INK: Final = 0.05
"""A page with a code of which less than this share is written on, the code left out, is a cover."""
COVER_CODE: Final = 0.25
"""So is one whose code is at least this wide, measured by the page's shorter side."""
_HEAD_BYTES: Final = 1_024
_QR_CODES: Final = zxingcpp.barcode_formats_from_str("QRCode")
_PDF_DPI: Final = 150
_MOST_CODES: Final = 1_000
_ROUNDED_UP: Final = 0.995
"""A page is drawn in whole pixels, and none is left out."""
_CELLS: Final = 96
"""Cells on the shorter side of the grid that ink is counted in."""
_INKY: Final = 24
"""Grey levels darker than the paper, averaged over a cell."""
_PICTURE_ROWS, _PICTURE_COLUMNS = 24, 16


@dataclass(frozen=True, slots=True)
class _Code:
    text: str
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the half-sized page."""


def sheet_media_type(content: bytes) -> MediaType:
    """Image or PDF, by its first bytes. Raises ``DocumentCorruptError`` for what is neither, whatever it is called."""
    head = content[:_HEAD_BYTES]
    if b"%PDF-" in head:
        return MediaType.PDF
    if is_picture(head):
        return MediaType.IMAGE
    raise DocumentCorruptError("the file is called a sheet, and is neither an image nor a PDF")


def read_sheet(content: bytes, media_type: MediaType, limits: ParseLimits) -> tuple[SheetReading, Image.Image]:
    """What is on a file of sheets, and its first page as a picture.

    Raises ``DocumentCorruptError``, ``DocumentEncryptedError`` and ``DocumentTooLargeError``.
    """
    pages = _pdf_pages(content, limits) if media_type is MediaType.PDF else _image_pages(content, limits)
    return _reading(pages, media_type)


def _reading(pages: Iterable[Image.Image], media_type: MediaType) -> tuple[SheetReading, Image.Image]:
    codes: dict[str, None] = {}
    first: tuple[Image.Image, Image.Image, list[_Code]] | None = None
    count = 0
    for page in pages:
        count += 1
        half = page.reduce(2)
        found = _codes(page, half)
        codes.update((code.text, None) for code in found)
        if first is None:
            first = page, half, found
    if first is None:
        raise DocumentCorruptError("the file has no page")
    page, half, found = first
    reading = SheetReading(
        width=page.width,
        height=page.height,
        page_count=count,
        codes=tuple(codes)[:_MOST_CODES],
        is_cover=count == 1 and bool(found) and _is_cover(half, found),
        media_type=media_type.value,
        picture=_picture(half),
    )
    return reading, page


# --- Pages --------------------------------------------------------------------------------


def _image_pages(content: bytes, limits: ParseLimits) -> Iterator[Image.Image]:
    try:
        # Our own limit is checked below, by a number that is published.
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(io.BytesIO(content)) as image:
            limits.check_pages(getattr(image, "n_frames", 1))
            for frame in ImageSequence.Iterator(image):
                limits.check_pixels(frame.width, frame.height)
                if image.format == "JPEG":
                    image.draft("L", image.size)
                yield _grey(frame)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise DocumentCorruptError(f"image cannot be read ({type(error).__name__})") from error


def _grey(frame: Image.Image) -> Image.Image:
    if frame.mode in ("RGBA", "LA", "PA") or "transparency" in frame.info:
        # What is see-through is paper.
        paper = Image.new("RGBA", frame.size, "white")
        frame = Image.alpha_composite(paper, frame.convert("RGBA"))
    if frame.mode.startswith("I") or frame.mode == "F":
        pixels = np.asarray(frame, dtype=np.float32)
        top = float(pixels.max()) or 1.0
        return Image.fromarray((pixels * (255.0 / top)).astype(np.uint8))
    grey = frame.convert("L")
    grey.load()
    return grey


def _pdf_pages(content: bytes, limits: ParseLimits) -> Iterator[Image.Image]:
    try:
        pdf = pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if getattr(error, "err_code", None) in (pdfium_c.FPDF_ERR_PASSWORD, pdfium_c.FPDF_ERR_SECURITY):
            raise DocumentEncryptedError("PDF is protected by a password") from error
        raise DocumentCorruptError(f"PDF cannot be opened: {error}") from error
    with closing(pdf):
        limits.check_pages(len(pdf))
        for index in range(len(pdf)):
            yield _drawn(pdf, index, limits)


def _drawn(pdf: Any, index: int, limits: ParseLimits) -> Image.Image:
    """A page at 150 dpi, or as much as its pixels allow: a page may claim to be as large as a house."""
    try:
        with closing(pdf[index]) as page:
            width, height = page.get_size()
            scale = _PDF_DPI / 72
            pixels = width * height * scale * scale
            if pixels > limits.max_pixels:
                scale *= (limits.max_pixels / pixels) ** 0.5 * _ROUNDED_UP
            with closing(page.render(scale=scale, grayscale=True)) as bitmap:
                drawn: Image.Image = bitmap.to_pil().convert("L").copy()
    except pdfium.PdfiumError as error:
        raise DocumentCorruptError(f"page {index + 1} of the PDF cannot be drawn") from error
    return drawn


# --- Codes --------------------------------------------------------------------------------


def _codes(page: Image.Image, half: Image.Image) -> list[_Code]:
    """Codes with their places on the half-sized page."""
    found = _read(np.asarray(page), 0.5)
    # Four pixels in one: what the scanner added is averaged out.
    return found or _read(np.asarray(half), 1.0)


def _read(pixels: Pixels, scale: float) -> list[_Code]:
    barcodes = zxingcpp.read_barcodes(pixels, formats=_QR_CODES, text_mode=zxingcpp.TextMode.Plain)
    found = [_Code(printable_code(barcode.text), _box(barcode.position, scale)) for barcode in barcodes]
    return sorted((code for code in found if code.text), key=lambda code: (code.box[1], code.box[0]))


def _box(position: Any, scale: float) -> tuple[float, float, float, float]:
    corners = (position.top_left, position.top_right, position.bottom_right, position.bottom_left)
    xs, ys = [corner.x * scale for corner in corners], [corner.y * scale for corner in corners]
    return min(xs), min(ys), max(xs), max(ys)


# --- What else there is -------------------------------------------------------------------


def _is_cover(half: Image.Image, codes: list[_Code]) -> bool:
    widest = max(max(right - left, bottom - top) for left, top, right, bottom in (code.box for code in codes))
    if widest >= COVER_CODE * min(half.size):
        return True
    # From so far away that grains of noise are gone and lines of writing are grey.
    scale = _CELLS / min(half.size)
    size = (max(1, round(half.width * scale)), max(1, round(half.height * scale)))
    cells = np.asarray(half.resize(size, Image.Resampling.BOX), dtype=np.float32)
    inky = cells < np.median(cells) - _INKY
    for code in codes:
        left, top, right, bottom = (edge * scale for edge in code.box)
        inky[max(0, int(top) - 2) : int(bottom) + 3, max(0, int(left) - 2) : int(right) + 3] = False
    return bool(inky.mean() < COVER_INK)


def _picture(half: Image.Image) -> str:
    """How dark each of 384 cells is beside the paper, in steps of four grey levels; empty where none is."""
    small = half.resize((_PICTURE_COLUMNS, _PICTURE_ROWS), Image.Resampling.BOX)
    cells = np.asarray(small, dtype=np.float32)
    darkness = np.clip((np.percentile(cells, 90) - cells) / 4, 0, 63).round().astype(np.uint8)
    return base64.b64encode(darkness.tobytes()).decode() if darkness.max() > 1 else ""
