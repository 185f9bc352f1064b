"""Pictures of a document's pages, for people to look at."""

from typing import Protocol

DRAWN_TYPES = frozenset({"application/pdf", "image/*"})
"""Media types, as documents have them, of what is drawn."""
BLANK_PAGE = "blank_page"
"""Warning of a drawing that is of one colour all over."""
LARGEST_DRAWN_BYTES = 100 * 1000 * 1000
"""The bytes are held in memory while a page is drawn."""


class PageImages(Protocol):
    """Draws."""

    async def draw(self, content: bytes, *, page: int, width: int) -> bytes:
        """A page, 1-based, as a PNG that is so many pixels wide, or less where it is small.

        Not blocking. Raises ``PageNotDrawableError``, the ``DocumentError`` that fits a damaged or encrypted document,
        or ``DependencyError``.
        """
        ...

    async def close(self) -> None:
        """Draw no more."""
        ...
