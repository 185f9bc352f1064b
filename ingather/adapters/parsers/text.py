"""Plain text in any encoding, CSV and Markdown."""

import re

from charset_normalizer import from_bytes

from ingather.adapters.parsers.layout import csv_rows_in_lines, document, tidy
from ingather.adapters.parsers.limits import ParseLimits
from ingather.domain.media_type import unicode_codec
from ingather.models.content import Heading, MediaType, ParsedDocument

_DETECTION_BYTES = 64 * 1024
"""Enough to tell an encoding; the whole of a large file would take seconds."""

_FENCE = re.compile(r"^(?:```|~~~)")
_ATX_HEADING = re.compile(r"^(#{1,6})[ \t]+(.+?)(?:[ \t]+#+)?$")
_SETEXT_LINE = re.compile(r"^(=+|-+)$")


def decode_text(content: bytes) -> str:
    """Text of bytes in any encoding. Never fails: what cannot be decoded becomes U+FFFD.

    UTF-8 that decodes cleanly is taken at once; guessing costs a thousand times as much.
    """
    codec = unicode_codec(content)
    if codec is not None:
        return content.decode(codec, errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode(_guessed_encoding(content), errors="replace")


def _guessed_encoding(content: bytes) -> str:
    sample = content[:_DETECTION_BYTES]
    if len(content) > len(sample) and (cut := sample.rfind(b"\n")) > 0:
        sample = sample[:cut]  # A multi-byte character cut in half would mislead the guess.
    best = from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"


def parse_text(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """Text as it stands, tidied."""
    del limits
    return document(MediaType.TEXT, tidy(decode_text(content)))


def parse_csv(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """A table as it stands: its own separators read as well as any, and rows of uneven length do no harm."""
    del limits
    return document(MediaType.CSV, tidy(csv_rows_in_lines(decode_text(content))))


def parse_markdown(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """Markdown's source, with its headings found outside code fences. The first one of level 1 is the title."""
    del limits
    text = tidy(decode_text(content))
    headings = _markdown_headings(text)
    title = next((heading.title for heading in headings if heading.level == 1), None)
    return document(MediaType.MARKDOWN, text, headings=headings, title=title)


def _markdown_headings(text: str) -> list[Heading]:
    headings: list[Heading] = []
    position, in_fence, previous, previous_start = 0, False, "", 0
    for line in text.split("\n"):
        if _FENCE.match(line):
            in_fence = not in_fence
        elif not in_fence:
            if found := _ATX_HEADING.match(line):
                headings.append(Heading(len(found.group(1)), found.group(2).strip(), position))
            elif previous and (found := _SETEXT_LINE.match(line)) and not previous.startswith(("#", ">", "-", "|")):
                headings.append(Heading(1 if found.group(1)[0] == "=" else 2, previous.strip(), previous_start))
        previous, previous_start = line.strip(), position
        position += len(line) + 1
    return headings
