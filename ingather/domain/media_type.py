"""What a document is, told from its content; its name only decides between kinds of plain text.

Magic bytes come first, then the member names of a ZIP, then whether the bytes read as text. A
name that promises another type than the content has is overruled by the content; only bytes
that nothing recognises are left to the parser their name asks for, which will call them corrupt.
"""

import io
import re
import struct
import zipfile
from pathlib import PurePosixPath
from typing import Final

from ingather.models.content import MediaType
from ingather.models.errors import DocumentEmptyError, DocumentEncryptedError, UnsupportedTypeError

_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_IMAGES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")
_BMP_HEADER_SIZES: Final = (12, 40, 52, 56, 64, 108, 124)
_PDF_HEADER_WITHIN: Final = 1_024
"""Readers accept a header this far into the file, after whatever a mailer put before it."""

_OFFICE_MEMBERS: Final = (
    ("word/document", MediaType.DOCX),
    ("ppt/presentation", MediaType.PPTX),
    ("xl/workbook", MediaType.XLSX),
)
_OFFICE_SUFFIXES: Final = {
    ".docx": MediaType.DOCX, ".docm": MediaType.DOCX, ".dotx": MediaType.DOCX,
    ".pptx": MediaType.PPTX, ".pptm": MediaType.PPTX, ".ppsx": MediaType.PPTX,
    ".xlsx": MediaType.XLSX, ".xlsm": MediaType.XLSX, ".xlsb": MediaType.XLSX,
}  # fmt: skip
_BINARY_SUFFIXES: Final = {
    ".pdf": MediaType.PDF,
    **_OFFICE_SUFFIXES,
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp"), MediaType.IMAGE),
}
_TEXT_SUFFIXES: Final = {
    ".html": MediaType.HTML, ".htm": MediaType.HTML, ".xhtml": MediaType.HTML,
    ".md": MediaType.MARKDOWN, ".markdown": MediaType.MARKDOWN,
    ".csv": MediaType.CSV, ".tsv": MediaType.CSV,
    ".eml": MediaType.EML,
}  # fmt: skip

_HEAD_BYTES: Final = 8_192
_HTML_START: Final = re.compile(
    # A comment ends at its first mark for good: tried again, a few dozen of them would take for ever.
    r"\s*(?:<\?xml[^>]*>\s*)?(?:(?><!--.*?-->)\s*)*+<(?:!doctype\s+html|html)\b",
    re.IGNORECASE | re.DOTALL,
)
_MAIL_HEADER: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]?.*\n?")
_MAIL_HEADER_NAMES: Final = {
    "from", "to", "subject", "date", "received", "return-path", "message-id", "mime-version", "content-type",
    "delivered-to", "reply-to", "cc", "x-mailer",
}  # fmt: skip
_MAIL_MUST: Final = {"from", "received", "return-path", "message-id", "mime-version", "delivered-to"}
_CONTROL_BYTES: Final = bytes(set(range(32)) - {7, 8, 9, 10, 11, 12, 13, 26, 27, 0x15, 0x25})
"""Bytes that no text has in number, in ASCII, the ISO and Windows code pages or EBCDIC (new line 0x15, 0x25)."""
_CONTROL_SHARE: Final = 0.02


def detect_media_type(content: bytes, filename: str) -> MediaType:
    """The type of a document.

    Raises ``DocumentEmptyError`` for zero bytes, ``DocumentEncryptedError`` for an encrypted Office file (an OLE
    container under an Office name), and ``UnsupportedTypeError`` for content no parser is there
    for: binary formats, archives, the Office formats from before 2007.
    """
    if not content:
        raise DocumentEmptyError(f"{filename} has zero bytes")
    suffix = PurePosixPath(filename).suffix.lower()
    if found := _by_magic(content, filename, suffix):
        return found
    if looks_like_text(content):
        return _text_type(content, suffix)
    if named := _BINARY_SUFFIXES.get(suffix):
        return named
    raise UnsupportedTypeError(f"{filename} is binary data of no known document type", size_bytes=len(content))


def _by_magic(content: bytes, filename: str, suffix: str) -> MediaType | None:
    head = content[:_PDF_HEADER_WITHIN]
    if _is_pdf(head, suffix):
        return MediaType.PDF
    if head.startswith(_ZIP):
        return _zip_type(content, filename, suffix)
    if head.startswith(_OLE):
        _refuse_ole(content, filename, suffix)
    if head.startswith(b"{\\rtf"):
        return MediaType.RTF
    return MediaType.IMAGE if _is_image(head) else None


def _is_pdf(head: bytes, suffix: str) -> bool:
    offset = head.find(b"%PDF-")
    return offset == 0 or (offset > 0 and (suffix == ".pdf" or not head[:offset].strip(b"\xef\xbb\xbf \t\r\n\x00")))


def _is_image(head: bytes) -> bool:
    if head.startswith(_IMAGES) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return True
    return head.startswith(b"BM") and len(head) >= 26 and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADER_SIZES


def _zip_type(content: bytes, filename: str, suffix: str) -> MediaType:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = [name.replace("\\", "/").lower().lstrip("/") for name in archive.namelist()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, struct.error):
        # Cut short or damaged: its parser says so, where the name tells which one.
        if named := _OFFICE_SUFFIXES.get(suffix):
            return named
        raise UnsupportedTypeError(f"{filename} is a damaged ZIP archive, not a document") from None
    for member, media_type in _OFFICE_MEMBERS:
        if any(name.startswith(member) for name in names):
            return media_type
    raise UnsupportedTypeError(f"{filename} is a ZIP archive that holds no Office document")


def _refuse_ole(content: bytes, filename: str, suffix: str) -> None:
    encrypted_stream = "EncryptedPackage".encode("utf-16-le")
    legacy = any(
        name.encode("utf-16-le") in content for name in ("WordDocument", "PowerPoint Document", "Workbook", "__nameid")
    )
    if encrypted_stream in content or (suffix in _OFFICE_SUFFIXES and not legacy):
        raise DocumentEncryptedError(f"{filename} is an Office document protected by a password")
    raise UnsupportedTypeError(f"{filename} is in an Office format from before 2007")


def looks_like_text(content: bytes) -> bool:
    """Whether the bytes read as text in some encoding, judged by their first 64 KB."""
    sample = content[:65_536]
    if text_bom(sample):
        return True
    if b"\x00" in sample:
        return wide_encoding(sample) is not None
    controls = len(sample) - len(sample.translate(None, _CONTROL_BYTES))
    return controls <= len(sample) * _CONTROL_SHARE


def text_bom(content: bytes) -> str | None:
    """The Python codec a byte order mark names. UTF-32 goes first: its mark starts with UTF-16's."""
    for mark, codec in (
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\x00\x00\xfe\xff", "utf-32"),
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if content.startswith(mark):
            return codec
    return None


def unicode_codec(content: bytes) -> str | None:
    """The Python codec that a byte order mark names, or that the zero bytes of UTF-16 and UTF-32 without one tell."""
    return text_bom(content) or (wide_encoding(content) if b"\x00" in content[:4_096] else None)


def wide_encoding(content: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark, told by where its zero bytes stand, if it then reads as text."""
    sample = content[:4_096]
    if len(sample) < 4 or len(sample) % 2:
        return None
    codec = _wide_codec(sample)
    if codec is None:
        return None
    text = sample.decode(codec, errors="replace")
    unreadable = sum(1 for character in text if character == "\ufffd" or (character < " " and not character.isspace()))
    return codec if unreadable <= len(text) * _CONTROL_SHARE else None


def _wide_codec(sample: bytes) -> str | None:
    zeros = [sample[i::4].count(0) / max(1, len(sample[i::4])) for i in range(4)]
    if len(sample) % 4 == 0 and zeros[2] > 0.9 and zeros[3] > 0.95 and zeros[0] < 0.1:
        return "utf-32-le"
    if len(sample) % 4 == 0 and zeros[0] > 0.95 and zeros[1] > 0.9 and zeros[3] < 0.1:
        return "utf-32-be"
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    if even > 0.4 and odd < 0.05:
        return "utf-16-be"
    return None


def _text_type(content: bytes, suffix: str) -> MediaType:
    head = _decoded_head(content)
    if _HTML_START.match(head):
        return MediaType.HTML
    if named := _TEXT_SUFFIXES.get(suffix):
        return named
    return MediaType.EML if _is_mail(head) else MediaType.TEXT


def _decoded_head(content: bytes) -> str:
    head = content[:_HEAD_BYTES]
    codec = unicode_codec(head)
    return head.decode(codec or "latin-1", errors="replace")


def _is_mail(head: str) -> bool:
    names: set[str] = set()
    for line in head.replace("\r\n", "\n").split("\n"):
        if line[:1] in (" ", "\t") and names:
            continue
        found = _MAIL_HEADER.fullmatch(line)
        if not found:
            break
        names.add(found.group(1).lower())
    return len(names & _MAIL_HEADER_NAMES) >= 3 and bool(names & _MAIL_MUST)
