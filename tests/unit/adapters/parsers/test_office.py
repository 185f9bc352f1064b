"""DOCX, PPTX and XLSX: what is in them, and what must not be."""

import io
import zipfile
from collections.abc import Callable

import docx
import pptx
import pytest
from office_oxide import XlsxWriter
from pptx.util import Inches

from ingather.adapters.parsers import docx as docx_parser
from ingather.adapters.parsers.docx import parse_docx
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.pptx import SLIDE_UNREADABLE, parse_pptx
from ingather.adapters.parsers.xlsx import SHEET_UNREADABLE, parse_xlsx
from ingather.models.content import Heading, ParsedDocument
from ingather.models.errors import DocumentCorruptError, DocumentEncryptedError, DocumentTooLargeError


def saved(document: "docx.document.Document | pptx.presentation.Presentation") -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def guide() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Mirror & care"
    document.add_heading("Washing", level=1)
    document.add_paragraph("Twice a year.")
    document.add_heading("Drying", level=2)
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "cloth", "air"
    return saved(document)


def deck(slides: int = 2) -> bytes:
    presentation = pptx.Presentation()
    for number in range(1, slides + 1):
        slide = presentation.slides.add_slide(presentation.slide_layouts[5])
        slide.shapes.title.text = f"Night {number}"
        slide.shapes.add_textbox(0, 0, Inches(2), Inches(1)).text_frame.text = f"Clear sky {number}"
        slide.notes_slide.notes_text_frame.text = f"Bring blankets {number}"
    return saved(presentation)


def workbook() -> bytes:
    writer = XlsxWriter()
    for name, rows in (("Lenses", [["name", "count"], ["50 mm", 4], ["weight", 1.5]]), ("Empty", [])):
        sheet = writer.add_sheet(name)
        for row, values in enumerate(rows):
            for column, value in enumerate(values):
                writer.set_cell(sheet, row, column, value)
    return writer.to_bytes()


def test_docx_text_headings_and_title() -> None:
    """Paragraphs and tables in order, headings with levels and places, the title from the properties."""
    parsed = parse_docx(guide(), ParseLimits())
    assert parsed.title == "Mirror & care"
    assert "Twice a year." in parsed.text
    assert "cloth\tair" in parsed.text
    assert parsed.headings == (
        Heading(1, "Washing", parsed.text.index("Washing")),
        Heading(2, "Drying", parsed.text.index("Drying")),
    )


def test_docx_has_a_second_reader() -> None:
    """Where the first reader gives up, the second one reads the same document."""
    parsed = docx_parser._parse_with_python_docx(guide(), None, ValueError("first reader gave up"))
    assert "cloth\tair" in parsed.text
    assert [(heading.level, heading.title) for heading in parsed.headings] == [(1, "Washing"), (2, "Drying")]


def test_pptx_slides_are_pages() -> None:
    """Each slide is a page with its title as heading; notes belong to it."""
    parsed = parse_pptx(deck(), ParseLimits())
    assert [page.number for page in parsed.pages] == [1, 2]
    assert [heading.title for heading in parsed.headings] == ["Night 1", "Night 2"]
    second = parsed.text[parsed.pages[1].start : parsed.pages[1].end]
    assert second == "Night 2\nClear sky 2\nBring blankets 2"


def test_xlsx_sheets_are_pages() -> None:
    """Each sheet is a page, its rows are lines; an empty one adds no text and no heading."""
    parsed = parse_xlsx(workbook(), ParseLimits())
    assert parsed.text == "name\tcount\n50 mm\t4\nweight\t1.5"
    assert len(parsed.pages) == 2
    assert parsed.headings == (Heading(1, "Lenses", 0),)


def broken(content: bytes, part: str, sound: bytes, damaged: bytes) -> bytes:
    """The file with something in one of its parts replaced."""
    source, buffer = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    assert sound in source.read(part)
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in source.namelist():
            member = source.read(name)
            archive.writestr(name, member.replace(sound, damaged) if name == part else member)
    return buffer.getvalue()


def varied_slide() -> bytes:
    """Title, two text boxes, a table, a group with two more, notes."""
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text, slide.placeholders[1].text = "Mirror", "Wash it."
    for text in ("first box", "second box"):
        slide.shapes.add_textbox(0, 0, Inches(2), Inches(1)).text_frame.text = text
    table = slide.shapes.add_table(2, 1, 0, 0, Inches(4), Inches(2)).table
    table.cell(0, 0).text, table.cell(1, 0).text = "row one", "row two"
    group = slide.shapes.add_group_shape()
    for text in ("in the group", "in it too"):
        group.shapes.add_textbox(0, 0, Inches(2), Inches(1)).text_frame.text = text
    slide.notes_slide.notes_text_frame.text = "notes"
    return saved(presentation)


WHOLE_SLIDE = (
    "Mirror",
    "Wash it.",
    "first box",
    "second box",
    "row one",
    "row two",
    "in the group",
    "in it too",
    "notes",
)


@pytest.mark.parametrize(
    ("part", "sound", "damaged", "lost"),
    [
        ("slides/slide1.xml", b'type="title"', b'type="banner"', {"Mirror"}),
        ("slides/slide1.xml", b"a:tbl>", b"a:tub>", {"row one", "row two"}),
        ("notesSlides/notesSlide1.xml", b'type="body"', b'type="banner"', {"notes"}),
    ],
)
def test_a_broken_shape_costs_itself_alone(part: str, sound: bytes, damaged: bytes, lost: set[str]) -> None:
    """The rest of its slide is read, and a warning says that something is missing."""
    whole = varied_slide()
    assert parse_pptx(whole, ParseLimits()).text == "\n".join(WHOLE_SLIDE)

    parsed = parse_pptx(broken(whole, f"ppt/{part}", sound, damaged), ParseLimits())

    assert parsed.text.split("\n") == [line for line in WHOLE_SLIDE if line not in lost]
    assert parsed.warnings == (SLIDE_UNREADABLE,)


LINE_ENDS = ("\n", "_x000D_\n", "_x000D_", "\n\n", "_x000B_", "_x000C_", "\x85", "\u2028", "\u2029", "\t")
"""As Excel writes them in a cell: what XML cannot hold by its number."""


def test_a_row_of_a_sheet_stays_one_line() -> None:
    """Whatever line ends and tabs its cells hold."""
    writer = XlsxWriter()
    sheet = writer.add_sheet("Nights")
    for row, end in enumerate(LINE_ENDS):
        writer.set_cell(sheet, row, 0, f"fog{end}and rain{end}")
        writer.set_cell(sheet, row, 1, "closed")

    parsed = parse_xlsx(writer.to_bytes(), ParseLimits())

    assert parsed.text.split("\n") == ["fog and rain\tclosed"] * len(LINE_ENDS)


def test_a_row_of_a_slides_table_stays_one_line() -> None:
    """Paragraphs and line breaks within its cells are blanks."""
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[6])
    table = slide.shapes.add_table(1, 2, 0, 0, Inches(4), Inches(2)).table
    table.cell(0, 0).text, table.cell(0, 1).text = "fog\nand\vrain", "closed"

    assert parse_pptx(saved(presentation), ParseLimits()).text == "fog and rain\tclosed"


def test_a_row_of_a_documents_table_stays_one_line() -> None:
    """For the second reader too."""
    document = docx.Document()
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "fog\nand rain", "closed"
    content = saved(document)

    assert parse_docx(content, ParseLimits()).text == "fog and rain\tclosed"
    assert docx_parser._parse_with_python_docx(content, None, ValueError()).text == "fog and rain\tclosed"


def with_text_boxes(content: bytes, drawing: str) -> bytes:
    """The workbook with something drawn on its first sheet."""
    relation = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId9" '
        'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/drawing" '
        'Target="../drawings/drawing1.xml"/></Relationships>'
    )
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("xl/worksheets/_rels/sheet1.xml.rels", relation)
        archive.writestr("xl/drawings/drawing1.xml", f"<xdr:wsDr>{drawing}</xdr:wsDr>")
    return buffer.getvalue()


def test_text_boxes_on_a_sheet_are_read() -> None:
    """Behind the rows of the sheet that they lie on, paragraph by paragraph; what stands in for a shape is not."""
    drawing = (
        "<xdr:sp><xdr:txBody><a:p><a:r><a:t>Handle &amp; </a:t></a:r><a:r><a:t>hold</a:t></a:r></a:p><a:p/>"
        '<a:p><a:r><a:t xml:space="preserve">with</a:t></a:r><a:br/><a:r><a:t>care</a:t></a:r></a:p></xdr:txBody></xdr:sp>'
        "<mc:Choice/><mc:Fallback><a:p><a:r><a:t>Needs Excel 2010</a:t></a:r></a:p></mc:Fallback>"
    )
    parsed = parse_xlsx(with_text_boxes(workbook(), drawing), ParseLimits())
    assert parsed.text == "name\tcount\n50 mm\t4\nweight\t1.5\nHandle & hold\nwith\ncare"
    assert (parsed.warnings, len(parsed.pages)) == ((), 2)


def test_a_damaged_drawing_leaves_the_cells() -> None:
    """What is drawn is lost, and a warning says so."""
    content = bytearray(with_text_boxes(workbook(), "<a:p><a:t>lost</a:t></a:p>"))
    content[content.index(b"<a:t>lost")] ^= 1
    parsed = parse_xlsx(bytes(content), ParseLimits())
    assert parsed.text == "name\tcount\n50 mm\t4\nweight\t1.5"
    assert parsed.warnings == (SHEET_UNREADABLE,)


def test_too_many_slides_are_refused() -> None:
    """A deck over the limit is refused by the limit's name."""
    with pytest.raises(DocumentTooLargeError, match="parser_pages"):
        parse_pptx(deck(3), ParseLimits(max_pages=2))


Parse = Callable[[bytes, ParseLimits], ParsedDocument]
EVERY_FORMAT = pytest.mark.parametrize(
    ("parse", "content"), [(parse_docx, guide()), (parse_pptx, deck()), (parse_xlsx, workbook())]
)


@EVERY_FORMAT
def test_bombs_are_refused_before_they_go_off(parse: Parse, content: bytes) -> None:
    """A container that would unpack to more than allowed is not unpacked."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/media/bomb.bin", bytes(30_000_000))
    with pytest.raises(DocumentTooLargeError, match="parser_unpacked_bytes"):
        parse(buffer.getvalue(), ParseLimits(max_unpacked_bytes=10_000_000))


@EVERY_FORMAT
@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
def test_cut_short_is_corrupt(parse: Parse, content: bytes, keep: float) -> None:
    """A truncated file is corrupt, wherever it ends."""
    with pytest.raises(DocumentCorruptError):
        parse(content[: int(len(content) * keep)], ParseLimits())


@EVERY_FORMAT
def test_a_container_without_its_parts_is_corrupt(parse: Parse, content: bytes) -> None:
    """A ZIP with the right names and nothing in them is corrupt."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in zipfile.ZipFile(io.BytesIO(content)).namelist():
            archive.writestr(name, b"<broken")
    with pytest.raises(DocumentCorruptError):
        parse(buffer.getvalue(), ParseLimits())


@EVERY_FORMAT
def test_encrypted_members_are_encrypted(parse: Parse, content: bytes) -> None:
    """A ZIP whose members are flagged as encrypted needs a password."""
    flagged = bytearray(content)
    position = 0
    while (position := flagged.find(b"PK\x01\x02", position)) >= 0:
        flagged[position + 8] |= 1
        position += 4
    with pytest.raises(DocumentEncryptedError):
        parse(bytes(flagged), ParseLimits())
