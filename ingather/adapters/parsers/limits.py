"""What a parser may spend on one document besides time and memory, which its process is held to."""

from dataclasses import dataclass

from ingather.models.errors import DocumentTooLargeError


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """Each over-run is a ``DocumentTooLargeError`` that names its limit."""

    max_pages: int = 20_000
    """Pages, slides or sheets."""
    max_unpacked_bytes: int = 1024 * 1024 * 1024
    """What the members of an Office file may unpack to, together."""
    max_mail_parts: int = 2_000
    """Parts of an e-mail, those of attached e-mails included."""
    max_mail_depth: int = 20
    """E-mails and multiparts within each other."""
    max_pixels: int = 50_000_000
    """Of one page, where pages are looked at as pictures."""

    def check_pages(self, count: int) -> None:
        """Refuse a document with more pages than allowed."""
        if count > self.max_pages:
            raise DocumentTooLargeError(
                f"document has {count:,} pages, the limit (parser_pages) is {self.max_pages:,}",
                limit="parser_pages",
                value=count,
                maximum=self.max_pages,
            )

    def check_pixels(self, width: int, height: int) -> None:
        """Refuse a picture with more pixels than allowed, before they are unpacked."""
        if width * height > self.max_pixels:
            raise DocumentTooLargeError(
                f"page has {width:,} x {height:,} pixels, the limit (parser_pixels) is {self.max_pixels:,}",
                limit="parser_pixels",
                value=width * height,
                maximum=self.max_pixels,
            )
