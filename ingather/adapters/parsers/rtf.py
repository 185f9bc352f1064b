"""RTF through striprtf."""

import re
from collections.abc import Callable

from striprtf import striprtf

from ingather.adapters.parsers.layout import document, tidy
from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError

_TITLE = re.compile(r"\{\\title\s+([^{}]*)\}")


def parse_rtf(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The text of an RTF file. RTF is ASCII with escapes, so latin-1 keeps every byte until striprtf decodes it."""
    del limits
    source = content.decode("latin-1")
    try:
        text = tidy(_plain(source))
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise DocumentCorruptError(f"RTF cannot be read: {type(error).__name__}") from error
    found = _TITLE.search(source)
    title = _plain("{\\rtf1 " + found.group(1) + "}") if found else None
    return document(MediaType.RTF, text, title=title)


def _plain(source: str) -> str:
    convert: Callable[..., str] = striprtf.rtf_to_text
    return convert(source, errors="replace")
