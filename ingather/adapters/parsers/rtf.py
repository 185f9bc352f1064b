"""RTF through striprtf."""

import codecs
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from striprtf import striprtf

from ingather.adapters.parsers.layout import document, tidy
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError

_UNREADABLE = (ValueError, LookupError, TypeError, OverflowError)
_HEADER_CHARACTERS: Final = 1_024
_CODE_PAGE = re.compile(r"\\ansicpg(\d+)")
_CODE_PAGES_OF_MACS: Final = {
    "10000": "mac_roman",
    "10006": "mac_greek",
    "10007": "mac_cyrillic",
    "10029": "mac_latin2",
    "10081": "mac_turkish",
}
_INFO = re.compile(r"\{\\info(?![a-z0-9-])")
_TITLE = re.compile(r"\{\\title(?![a-z0-9-])")
_GROUPS = re.compile(r"\\uc(?P<skipped>\d)|\\.|[{}]", re.DOTALL)
_NOT_ASCII = re.compile("[\x80-\xff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_rtf(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The text of an RTF file. RTF is ASCII with escapes, so latin-1 keeps every byte until striprtf decodes it."""
    del limits
    source, encoding = _without_code_page(content.decode("latin-1"))
    try:
        text = tidy(_plain(source, encoding))
    except _UNREADABLE as error:
        raise DocumentCorruptError(f"RTF cannot be read: {type(error).__name__}") from error
    return document(MediaType.RTF, text, title=_title(source, encoding))


def _without_code_page(source: str) -> tuple[str, str]:
    """The source, and the encoding of what it escapes by bytes: striprtf takes one it does not know for UTF-8."""
    found = _CODE_PAGE.search(source, 0, _HEADER_CHARACTERS)
    if found is None:
        return source, "cp1252"
    number = found.group(1)
    encoding = _CODE_PAGES_OF_MACS.get(number, f"cp{number}")
    try:
        codecs.lookup(encoding)
    except LookupError:
        encoding = "cp1252"
    return source[: found.start()] + source[found.end() :], encoding


def _plain(source: str, encoding: str) -> str:
    if "\\bin" not in source:  # what follows it is counted in bytes
        # Bytes that somebody forgot to escape are in the same encoding as those that are.
        source = _NOT_ASCII.sub(lambda found: f"\\'{ord(found.group()):02x}", source)
    convert: Callable[..., str] = striprtf.rtf_to_text
    text = convert(source, encoding=encoding, errors="replace")
    if _SURROGATE.search(text):
        # RTF writes a character beyond U+FFFF as the two halves that UTF-16 has for it.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _title(source: str, encoding: str) -> str | None:
    """Of the info group. Word may tell it twice, first in bytes and then in Unicode: the last one counts."""
    info = _INFO.search(source)
    if info is None:
        return None
    info_end = _end_of_group(source, info.end())
    *_, found = (None, *_TITLE.finditer(source, info.end(), len(source) if info_end is None else info_end))
    if found is None or (end := _end_of_group(source, found.end())) is None:
        return None
    with suppress(*_UNREADABLE):
        return _plain(f"{{\\rtf1\\uc{_skipped_at(source, info.start())}{source[found.end() : end]}}}", encoding)
    return None


def _end_of_group(source: str, position: int) -> int | None:
    """Where the closing brace is of the group that ``position`` is in; None where the file ends before."""
    depth = 1
    for found in _GROUPS.finditer(source, position):
        depth += {"{": 1, "}": -1}.get(found.group(), 0)
        if depth == 0:
            return found.start()
    return None


def _skipped_at(source: str, position: int) -> str:
    """How many characters stand in for one of Unicode there, for readers that know none. It is set by group."""
    skipped = ["1"]
    for found in _GROUPS.finditer(source, 0, position):
        if found.group() == "{":
            skipped.append(skipped[-1])
        elif found.group() == "}" and len(skipped) > 1:
            skipped.pop()
        else:
            skipped[-1] = found.group("skipped") or skipped[-1]
    return skipped[-1]
