"""Sets of ordinals as text: 1,000 documents in a row are about 180 characters, wherever they begin."""

import base64
import zlib
from collections.abc import Iterable, Iterator
from itertools import compress, count

_COMPRESS_FROM = 256
"""Bytes; below, compression saves nothing worth a look."""
_SPARSE = 16
"""Ordinals this far apart on average are handled one by one; closer ones all at once."""
_DIGITS = bytes.maketrans(b"\0\1", b"01")
_FLAGS = bytes.maketrans(b"01", b"\0\1")


def encode_bitmap(ordinals: Iterable[int]) -> str:
    """Base64 of a little-endian bitmap, after the number of its first byte; empty for the empty set.

    ``0:BQ==`` is {0, 2}, ``125:AQ==`` is {1000}. A long one is deflated: ``0z…``.
    """
    wanted = sorted(ordinals)
    if not wanted:
        return ""
    if len(wanted) * _SPARSE < wanted[-1]:
        first = wanted[0] // 8
        bits = bytearray(wanted[-1] // 8 - first + 1)
        for ordinal in wanted:
            bits[ordinal // 8 - first] |= 1 << ordinal % 8
        return _text(first, bits)
    flags = bytearray(wanted[-1] + 1)
    for ordinal in wanted:
        flags[ordinal] = 1
    return encode_flags(flags)


def encode_flags(flags: bytes | bytearray) -> str:
    """The same text, for the ordinals at which ``flags`` has a one, and no zero. A million take milliseconds."""
    first = flags.find(1) // 8
    return "" if first < 0 else _text(first, _packed(flags[first * 8 : flags.rfind(1) + 1]))


def _packed(flags: bytes | bytearray) -> bytes:
    """Eight flags a byte. A number written in binary is read in one go."""
    return int(flags.translate(_DIGITS)[::-1], 2).to_bytes(-(-len(flags) // 8), "little")


def _text(first: int, bits: bytes | bytearray) -> str:
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
    flags = f"{int.from_bytes(bits, 'little'):b}"[::-1].encode("ascii").translate(_FLAGS)
    offset = int(first) * 8
    if flags.count(1) * _SPARSE > len(flags):
        yield from compress(count(offset), flags)
        return
    place = flags.find(1)
    while place >= 0:
        yield offset + place
        place = flags.find(1, place + 1)
