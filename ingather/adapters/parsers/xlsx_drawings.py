"""Text boxes and shapes that lie on the sheets of a workbook: calamine reads cells alone."""

import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from html import unescape
from typing import Final

_WORKBOOK: Final = "xl/workbook.xml"
_DRAWINGS: Final = "xl/drawings/drawing"
_MAX_MEMBER_BYTES: Final = 16 * 1024 * 1024
_SHEET = re.compile(r"<(?:\w+:)?sheet\s[^<>]*>")
_RELATIONSHIP = re.compile(r"<(?:\w+:)?Relationship\s[^<>]*>")
_ATTRIBUTE = re.compile(r'(?<![\w:])(?:\w+:)?(\w+)\s*=\s*(?:"([^"]*)"|\'([^\']*)\')')
_TEXT = re.compile(r"<a:t(?:\s[^<>]*)?>([^<]*)<|<(a:br)\b")


def has_drawings(content: bytes) -> bool:
    """Whether any sheet may have some. Cheap. Raises as ``zipfile`` does."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return any(name.startswith(_DRAWINGS) for name in archive.namelist())


def drawn_texts(content: bytes) -> dict[str, str]:
    """What the shapes on each sheet say, a paragraph a line, by the sheet's name. Raises as ``zipfile`` does."""
    texts: dict[str, str] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sheets = dict(_related(archive, _WORKBOOK, "/worksheet"))
        for tag in _SHEET.findall(_read(archive, _WORKBOOK)):
            about = _attributes(tag)
            sheet = sheets.get(about.get("id", ""))
            drawings = [drawing for _, drawing in _related(archive, sheet, "/drawing")] if sheet else []
            lines = [line for drawing in drawings for line in _paragraphs(_read(archive, drawing))]
            if lines:
                texts[about.get("name", "")] = "\n".join(lines)
    return texts


def _related(archive: zipfile.ZipFile, part: str, kind: str) -> Iterator[tuple[str, str]]:
    """Ids and names of the parts of one kind that a part refers to."""
    folder, name = posixpath.split(part)
    for tag in _RELATIONSHIP.findall(_read(archive, f"{folder}/_rels/{name}.rels")):
        about = _attributes(tag)
        if about.get("Type", "").endswith(kind):
            target = posixpath.normpath(posixpath.join("/", folder, about.get("Target", "")))
            yield about.get("Id", ""), target.lstrip("/")


def _read(archive: zipfile.ZipFile, name: str) -> str:
    """A part as text; empty where there is none, and where it is larger than any of its kind."""
    try:
        if archive.getinfo(name).file_size > _MAX_MEMBER_BYTES:
            return ""
    except KeyError:
        return ""
    with archive.open(name) as member:
        return member.read(_MAX_MEMBER_BYTES).decode("utf-8", errors="replace")


def _attributes(tag: str) -> dict[str, str]:
    return {found[1]: unescape(found[2] or found[3] or "") for found in _ATTRIBUTE.finditer(tag)}


def _paragraphs(drawing: str) -> Iterator[str]:
    # What stands in for a shape that an old program does not know tells of that program, not of the sheet.
    first, *rest = drawing.split("<mc:Fallback")
    shown = first + "".join(piece.partition("</mc:Fallback>")[2] for piece in rest)
    for paragraph in shown.split("</a:p>"):
        text = "".join("\n" if found[2] else unescape(found[1]) for found in _TEXT.finditer(paragraph))
        if text.strip():
            yield text
