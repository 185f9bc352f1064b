"""Scanned documents without a text layer, made when they are asked for, and a model that sees what is on them."""

import base64
import io
import json
import random
from collections.abc import Iterable
from typing import Any

import pypdfium2 as pdfium
from PIL import Image

from bench.sheet_pages import sheet
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.sheets import read_sheet, sheet_media_type

_SIZE = (620, 877)
"""A4 at 75 dpi."""


def scanned(codes: Iterable[str], kind: str = "PDF") -> bytes:
    """A scan of written sheets with these codes on them, as a PDF or a TIFF; an empty one is blank."""
    dice = random.Random(7)
    pages = [sheet(dice, _SIZE, codes=(code,)) if code else Image.new("L", _SIZE, "white") for code in codes]
    file = io.BytesIO()
    pages[0].save(file, kind, save_all=True, append_images=pages[1:])
    return file.getvalue()


def blank_pdf(pages: int) -> bytes:
    """So many pages that nothing is on."""
    pdf, file = pdfium.PdfDocument.new(), io.BytesIO()
    for _ in range(pages):
        pdf.new_page(100, 100).close()
    pdf.save(file)
    pdf.close()
    return file.getvalue()


def bound(*documents: bytes) -> bytes:
    """One PDF of the first pages of several."""
    whole, file = pdfium.PdfDocument.new(), io.BytesIO()
    for document in documents:
        whole.import_pages(pdfium.PdfDocument(document), [0])
    whole.save(file)
    return file.getvalue()


def looks(body: dict[str, Any]) -> str:
    """What a model answers a chat completion that sees codes on pictures, and reads texts in capitals."""
    content = body["messages"][1]["content"]
    if isinstance(content, str):
        return str(json.loads(content)["text"]).upper()
    kind, _, encoded = content[0]["image_url"]["url"].partition(",")
    assert kind == "data:image/png;base64", kind
    picture = base64.b64decode(encoded)
    reading, _ = read_sheet(picture, sheet_media_type(picture), ParseLimits())
    [code] = reading.codes
    return f"# Sheet {code}"
