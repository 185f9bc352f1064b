"""What DOCX, PPTX and XLSX have in common: a ZIP of XML with a title in it, which must not unpack to too much."""

import io
import re
import struct
import zipfile
import zlib
from html import unescape

from ingather.adapters.parsers.limits import ParseLimits
from ingather.models.errors import DocumentCorruptError, DocumentEncryptedError, DocumentTooLargeError

_CORE_PROPERTIES = "docProps/core.xml"
_MAX_PROPERTIES_BYTES = 256 * 1024
_TITLE = re.compile(rb"<dc:title[^>]*>(.*?)</dc:title>", re.DOTALL)
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error, EOFError, OSError, ValueError)
"""What reading a damaged container raises."""


def open_office(content: bytes, limits: ParseLimits) -> str | None:
    """Check the container before a parser unpacks it; answers the document's title.

    Raises ``DocumentCorruptError`` for a damaged ZIP, ``DocumentEncryptedError`` for encrypted members and
    ``DocumentTooLargeError`` for a ZIP bomb.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            if any(member.flag_bits & 0x1 for member in members):
                raise DocumentEncryptedError("members of the Office document are encrypted")
            _check_budget(members, limits)
            return _title(archive)
    except BROKEN_ZIP as error:
        raise DocumentCorruptError(f"Office document is a damaged ZIP: {error}") from error


def _check_budget(members: list[zipfile.ZipInfo], limits: ParseLimits) -> None:
    unpacked = sum(member.file_size for member in members)
    if unpacked > limits.max_unpacked_bytes:
        raise DocumentTooLargeError(
            f"Office document unpacks to {unpacked:,} bytes, "
            f"the limit (parser_unpacked_bytes) is {limits.max_unpacked_bytes:,}",
            limit="parser_unpacked_bytes",
            value=unpacked,
            maximum=limits.max_unpacked_bytes,
        )


def _title(archive: zipfile.ZipFile) -> str | None:
    try:
        if archive.getinfo(_CORE_PROPERTIES).file_size > _MAX_PROPERTIES_BYTES:
            return None
        with archive.open(_CORE_PROPERTIES) as member:
            found = _TITLE.search(member.read(_MAX_PROPERTIES_BYTES))
    except (KeyError, *BROKEN_ZIP):
        return None
    return unescape(found.group(1).decode("utf-8", errors="replace")) if found else None
