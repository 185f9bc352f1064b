"""E-mail through the standard library, with budgets on parts and depth."""

import email.errors
import email.header
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage, Message
from email.parser import BytesParser

from ingather.adapters.parsers.html import decode_html, html_text
from ingather.adapters.parsers.layout import document, one_line, tidy
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.text import decode_text
from ingather.domain.media_type import unicode_codec
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError, DocumentTooLargeError

_SHOWN_HEADERS = ("Subject", "From", "To", "Cc", "Date")
# Compat32 never raises on a malformed header; the modern policies parse each one and some fail.
_POLICY = email.policy.compat32


def parse_email(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The main headers, then the body: plain text before HTML, attached text and e-mails, names of other files."""
    if unicode_codec(content):
        # A mail program never writes a byte order mark or UTF-16, a text editor does; the parser would see no headers.
        content = decode_text(content).encode("utf-8", errors="replace")
    try:
        message = BytesParser(EmailMessage, policy=_POLICY).parsebytes(content)
    except (ValueError, LookupError, RecursionError) as error:
        raise DocumentCorruptError(f"e-mail cannot be read: {type(error).__name__}") from error
    budget = _Budget(limits)
    text = tidy("\n".join(_message_lines(message, budget, 0)))
    return document(MediaType.EML, text, title=_header(message, "Subject"))


class _Budget:
    """Counts parts across the whole e-mail."""

    def __init__(self, limits: ParseLimits) -> None:
        self._limits = limits
        self._parts = 0

    def take(self, depth: int) -> None:
        self._parts += 1
        for name, value, maximum in (
            ("mail_parts", self._parts, self._limits.max_mail_parts),
            ("mail_depth", depth, self._limits.max_mail_depth),
        ):
            if value > maximum:
                raise DocumentTooLargeError(
                    f"e-mail is over the limit {name} of {maximum:,}", limit=name, value=value, maximum=maximum
                )


def _message_lines(message: Message, budget: _Budget, depth: int) -> Iterator[str]:
    for name in _SHOWN_HEADERS:
        if value := _header(message, name):
            yield f"{name}: {value}"
    yield ""
    yield from _part_lines(message, budget, depth)


def _part_lines(part: Message, budget: _Budget, depth: int) -> Iterator[str]:
    budget.take(depth)
    kind = part.get_content_type()
    if kind == "message/rfc822" and part.is_multipart():
        for inner in _children(part):
            yield ""
            yield from _message_lines(inner, budget, depth + 1)
    elif kind == "multipart/alternative" and part.is_multipart():
        yield from _alternative_lines(part, budget, depth)
    elif part.is_multipart():
        for inner in _children(part):
            yield from _part_lines(inner, budget, depth + 1)
    else:
        yield _leaf_text(part)


def _alternative_lines(part: Message, budget: _Budget, depth: int) -> Iterator[str]:
    """The plain text where there is some, otherwise whatever version has text."""
    versions = sorted(_children(part), key=lambda inner: inner.get_content_type() != "text/plain")
    for version in versions:
        lines = list(_part_lines(version, budget, depth + 1))
        if any(line.strip() for line in lines):
            yield from lines
            return


def _children(part: Message) -> list[Message]:
    payload = part.get_payload()
    return [inner for inner in payload if isinstance(inner, Message)] if isinstance(payload, list) else []


def _leaf_text(part: Message) -> str:
    filename = _filename(part) if part.get_content_disposition() == "attachment" else None
    heading = f"\n[{filename}]\n" if filename else ""
    if part.get_content_maintype() != "text":
        return heading
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return heading
    decoded = _decoded(payload, part.get_content_charset())
    if part.get_content_subtype() == "html":
        return heading + html_text(decoded or decode_html(payload))[0]
    return heading + (decoded or decode_text(payload))


def _decoded(payload: bytes, charset: str | None) -> str | None:
    if not charset:
        return None
    try:
        return payload.decode(charset)
    except (LookupError, ValueError):  # not every name of a codec is even a name
        return None


def _filename(part: Message) -> str | None:
    try:
        return _readable(part.get_filename() or "")
    except (LookupError, ValueError):
        return None


def _header(message: Message, name: str) -> str | None:
    sent = next((value for key, value in message.raw_items() if key.lower() == name.lower()), None)
    if sent is None:
        return None
    if not sent.isascii():
        # Bytes as they are, from a program that never heard of encoded words: UTF-8, or what the body is in.
        content = sent.encode("ascii", "surrogateescape")
        sent = _decoded(content, "utf-8") or _decoded(content, message.get_content_charset()) or decode_text(content)
    return _readable(sent)


def _readable(text: str) -> str | None:
    """One line with its encoded words decoded; as it stands where one of them is broken."""
    try:
        return one_line(str(email.header.make_header(email.header.decode_header(text))))
    except (LookupError, ValueError, email.errors.MessageError):
        return one_line(text)
