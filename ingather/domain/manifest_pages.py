"""Manifest pages: JSON Lines of document references, read back one line at a time."""

from collections.abc import Iterable, Sequence

from ingather.models.document import DocumentRef
from ingather.models.engine import MANIFEST_PAGE_SIZE


def page_of(ordinal: int) -> tuple[int, int]:
    """Where a document's line is: 0-based page, 0-based line in it."""
    return divmod(ordinal, MANIFEST_PAGE_SIZE)


def encode_page(refs: Iterable[DocumentRef]) -> bytes:
    """One reference a line. The same references always give the same bytes."""
    return b"".join(ref.model_dump_json(exclude_defaults=True).encode() + b"\n" for ref in refs)


def decode_page(page: bytes) -> list[DocumentRef]:
    """Every reference of a page, in order."""
    return [decode_line(line) for line in split_page(page)]


def split_page(page: bytes) -> Sequence[bytes]:
    """The page's lines, undecoded: most readers want one of a thousand."""
    # Not splitlines(): it is only \n that ends a line here, and bytes keep other breaks apart too.
    return page.rstrip(b"\n").split(b"\n") if page else []


def decode_line(line: bytes) -> DocumentRef:
    """One reference."""
    return DocumentRef.model_validate_json(line)
