"""Sets of ordinals as bitmaps: 1,000 documents are 125 bytes, in base64 168 characters."""

import base64
from collections.abc import Iterable, Iterator


def encode_bitmap(ordinals: Iterable[int]) -> str:
    """Base64 of a little-endian bitmap, bit ``n`` standing for ordinal ``n``; empty for the empty set."""
    bits = 0
    for ordinal in ordinals:
        bits |= 1 << ordinal
    return base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode("ascii")


def decode_bitmap(text: str) -> Iterator[int]:
    """Ordinals in rising order.

    Raises:
        ValueError: the text is not base64.
    """
    for index, byte in enumerate(base64.b64decode(text, validate=True)):
        for bit in range(8):
            if byte >> bit & 1:
                yield index * 8 + bit
