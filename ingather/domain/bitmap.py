"""Sets of ordinals as text: 1,000 documents in a row are about 180 characters, wherever they begin."""

import base64
import zlib
from collections.abc import Iterable, Iterator

_COMPRESS_FROM = 256
"""Bytes; below, compression saves nothing worth a look."""


def encode_bitmap(ordinals: Iterable[int]) -> str:
    """Base64 of a little-endian bitmap, after the number of its first byte; empty for the empty set.

    ``0:BQ==`` is {0, 2}, ``125:AQ==`` is {1000}. A long one is deflated: ``0z…``.
    """
    wanted = sorted(ordinals)
    if not wanted:
        return ""
    first = wanted[0] // 8
    bits = bytearray(wanted[-1] // 8 - first + 1)
    for ordinal in wanted:
        bits[ordinal // 8 - first] |= 1 << ordinal % 8
    if len(bits) < _COMPRESS_FROM:
        return f"{first}:{base64.b64encode(bits).decode('ascii')}"
    return f"{first}z{base64.b64encode(zlib.compress(bits)).decode('ascii')}"


def decode_bitmap(text: str) -> Iterator[int]:
    """Ordinals in rising order.

    Raises:
        ValueError: the text is no bitmap.
    """
    if not text:
        return
    form = "z" if "z" in text.partition(":")[0] else ":"
    first, _, encoded = text.partition(form)
    bits = base64.b64decode(encoded, validate=True)
    if form == "z":
        try:
            bits = zlib.decompress(bits)
        except zlib.error as error:
            raise ValueError("the bitmap is cut or damaged") from error
    for index, byte in enumerate(bits, start=int(first)):
        for bit in range(8):
            if byte >> bit & 1:
                yield index * 8 + bit
