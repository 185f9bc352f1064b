"""Which sheets belong together, and which files are no sheets.

Files are taken in name order, numbers in names by their value. A cover page starts a group with its code; the sheets
after it belong to it until the next cover. A sheet's own code wins over the cover before it, for this sheet alone.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingather.domain.archives import is_archive, is_junk
from ingather.models.sheets import SheetFile

FILES_A_PAGE = 250
"""Files that are looked at by one activity."""

SYSTEM_FILE = "left by an operating system"
NOT_A_SHEET = "not an image or a PDF"

_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".pdf")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\x00", b"MM\x00*")
_PDF_WITHIN = 1_024
_NUMBER = re.compile(r"([0-9]+)")
_LONGEST_NUMBER = 18


@dataclass(frozen=True, slots=True)
class GroupedSheet:
    """A sheet, and the group it belongs to."""

    file: SheetFile
    group_code: str | None


def name_order(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sort key: as people count, ``page 2`` comes before ``page 10``."""
    parts = tuple(
        (0, int(part[:_LONGEST_NUMBER]), "") if part.isdecimal() and part.isascii() else (1, 0, part.casefold())
        for part in _NUMBER.split(name)
        if part
    )
    return parts, name


def in_name_order(files: Iterable[SheetFile]) -> list[SheetFile]:
    """All files, those of one name as they came."""
    return sorted(files, key=lambda file: name_order(file.name))


def skip_reason(name: str, head: bytes) -> str | None:
    """Why a file of an upload is no sheet; None for one that is, or says it is.

    What is called an image and is none stays: it fails as a sheet, and nobody misses it without knowing.
    """
    if is_junk(name) or name.rsplit("/", 1)[-1].startswith("._"):
        return SYSTEM_FILE
    if name.lower().endswith(_SUFFIXES) or is_picture(head):
        return None
    return NOT_A_SHEET


def is_picture(head: bytes) -> bool:
    """Whether a file that begins like this is an image or a PDF."""
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return head.startswith(_SIGNATURES) or is_webp or b"%PDF-" in head[:_PDF_WITHIN]


def is_inner_archive(name: str, head: bytes) -> bool:
    """Whether a file is an archive within the archive, and may hold sheets that nobody would miss."""
    return is_archive(head) and name.lower().endswith(".zip")


def grouped_by_code(files: Iterable[SheetFile], fallback: str | None = None) -> list[GroupedSheet]:
    """Sheets in their order, covers left out. Those before the first cover belong to ``fallback``."""
    sheets: list[GroupedSheet] = []
    cover_code = fallback
    for file in files:
        codes = file.reading.codes if file.reading else ()
        if codes and file.reading is not None and file.reading.is_cover:
            cover_code = codes[0]
        else:
            sheets.append(GroupedSheet(file, codes[0] if codes else cover_code))
    return sheets


def grouped_by_task(files: Iterable[SheetFile], task_id: str | None) -> list[GroupedSheet]:
    """Every file is a sheet of the task."""
    return [GroupedSheet(file, task_id) for file in files]


def groups_of(sheets: Sequence[GroupedSheet]) -> dict[str | None, int]:
    """Groups in the order in which they begin, with how many sheets each has."""
    return dict(Counter(sheet.group_code for sheet in sheets))
