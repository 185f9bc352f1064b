"""HTML through resiliparse, which reads broken markup and odd charsets as browsers do."""

from collections.abc import Iterator

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import detect_encoding
from resiliparse.parse.html import HTMLTree

from ingather.adapters.parsers.layout import document, locate_headings, tidy
from ingather.adapters.parsers.limits import ParseLimits
from ingather.domain.media_type import unicode_codec
from ingather.models.content import MediaType, ParsedDocument

_HEADINGS = "h1, h2, h3, h4, h5, h6"


def parse_html(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """The visible text of a page."""
    del limits
    text, title, found = html_text(decode_html(content))
    return document(MediaType.HTML, text, headings=locate_headings(text, found), title=title)


def html_text(markup: str) -> tuple[str, str | None, list[tuple[int, str]]]:
    """Tidy text, title and ``(level, title)`` of the headings of some markup."""
    tree = HTMLTree.parse(markup)
    text = tidy(extract_plain_text(tree, preserve_formatting=True, list_bullets=True, alt_texts=True))
    return text, tree.title, list(_headings(tree))


def decode_html(content: bytes) -> str:
    """Text of a page: byte order mark, then clean UTF-8, then what its meta tag says, then a guess."""
    codec = unicode_codec(content)
    if codec is not None:
        return content.decode(codec, errors="replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        encoding = detect_encoding(content, from_html_meta=True) or "cp1252"
    try:
        return content.decode(encoding, errors="replace")
    except LookupError:
        return content.decode("cp1252", errors="replace")


def _headings(tree: HTMLTree) -> Iterator[tuple[int, str]]:
    if tree.body is None:
        return
    for node in tree.body.query_selector_all(_HEADINGS):
        if node.tag and node.text:
            yield int(node.tag[1]), node.text
