"""Images: readable, and without text while there is no OCR. TIFF may hold several pages."""

import struct

from ingather.adapters.parsers.layout import paged_document
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError

_SMALLEST_IMAGE_BYTES = 26
"""The smallest of all these formats' files is larger; less was cut off."""


def parse_image(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """A document of blank pages, one a frame of a TIFF, otherwise one."""
    if len(content) < _SMALLEST_IMAGE_BYTES:
        raise DocumentCorruptError(f"image ends after {len(content)} bytes")
    count = _tiff_pages(content, limits) if content[:4] in (b"II*\x00", b"MM\x00*") else 1
    limits.check_pages(count)
    return paged_document(MediaType.IMAGE, [""] * count)


def _tiff_pages(content: bytes, limits: ParseLimits) -> int:
    order = "<" if content[:2] == b"II" else ">"
    offset = struct.unpack_from(order + "I", content, 4)[0]
    seen: set[int] = set()
    # Each directory names the next; a file that was tampered with may go in a circle.
    while offset and offset not in seen and len(seen) <= limits.max_pages:
        seen.add(offset)
        try:
            entries = struct.unpack_from(order + "H", content, offset)[0]
            offset = struct.unpack_from(order + "I", content, offset + 2 + 12 * entries)[0]
        except struct.error as error:
            if len(seen) == 1:
                raise DocumentCorruptError("TIFF is cut short before its first page") from error
            break
    if not seen:
        raise DocumentCorruptError("TIFF has no page")
    return len(seen)
