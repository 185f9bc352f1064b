"""XLSX through calamine: a sheet is a page, its name a heading."""

import datetime as dt
import io

import python_calamine

from ingather.adapters.parsers.layout import cell_text, paged_document
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.office import BROKEN_ZIP, open_office
from ingather.adapters.parsers.xlsx_drawings import drawn_texts, has_drawings
from ingather.models.content import MediaType, ParsedDocument
from ingather.models.errors import DocumentCorruptError

SHEET_UNREADABLE = "sheet_unreadable"
"""Some sheets, or what is drawn on them, could not be read; the others were."""

_Cell = int | float | str | bool | dt.time | dt.date | dt.timedelta


def parse_xlsx(content: bytes, limits: ParseLimits) -> ParsedDocument:
    """Rows as lines, cells separated by tabs, then text boxes, by sheet. Formulas show their stored results."""
    title = open_office(content, limits)
    try:
        workbook = python_calamine.load_workbook(io.BytesIO(content))
    except (python_calamine.CalamineError, ValueError, OSError) as error:
        raise DocumentCorruptError(f"XLSX cannot be opened: {type(error).__name__}") from error
    names = [sheet.name for sheet in workbook.sheets_metadata if sheet.typ == python_calamine.SheetTypeEnum.WorkSheet]
    limits.check_pages(len(names))
    pages: list[str] = []
    damaged = False
    for name in names:
        try:
            pages.append(_sheet_text(workbook.get_sheet_by_name(name)))
        except (python_calamine.CalamineError, ValueError, OSError):
            damaged = True
            pages.append("")
    if damaged and not any(pages):
        raise DocumentCorruptError(f"none of the {len(names)} sheets can be read")
    try:
        drawn = drawn_texts(content) if has_drawings(content) else {}
    except BROKEN_ZIP:
        damaged, drawn = True, {}
    pages = ["\n".join(filter(None, (page, drawn.get(name)))) for name, page in zip(names, pages, strict=True)]
    headings = [(index, 1, name) for index, name in enumerate(names) if pages[index]]
    warnings = (SHEET_UNREADABLE,) if damaged else ()
    return paged_document(MediaType.XLSX, pages, headings=headings, title=title, warnings=warnings)


def _sheet_text(sheet: python_calamine.CalamineSheet) -> str:
    lines = []
    for row in sheet.iter_rows():
        line = "\t".join(map(_cell_text, row)).rstrip("\t")
        if line:
            lines.append(line)
    return "\n".join(lines)


def _cell_text(value: _Cell) -> str:
    if isinstance(value, str):
        return cell_text(value)
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat(sep=" ") if isinstance(value, dt.datetime) else value.isoformat()
    return str(value)
