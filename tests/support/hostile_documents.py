"""Small documents that unpack to gigabytes, made when they are asked for."""

import io
import zipfile
import zlib
from functools import cache

MIB = 1024**2
GIB = 1024**3
_CONTENT_TYPES = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/{part}" ContentType="{type}"/></Types>'
)
_RELATIONSHIPS = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
    'officeDocument" Target="{part}"/></Relationships>'
)
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
_SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"


def _office(part: str, kind: str, members: dict[str, tuple[bytes, bytes, bytes, int]]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as office:
        office.writestr("[Content_Types].xml", _CONTENT_TYPES.format(part=part, type=kind))
        office.writestr("_rels/.rels", _RELATIONSHIPS.format(part=part))
        for name, (head, unit, tail, size) in members.items():
            with office.open(name, "w", force_zip64=True) as member:
                member.write(head)
                block = unit * (4 * MIB // max(1, len(unit)))
                for _ in range(size // (4 * MIB)):
                    member.write(block)
                member.write(tail)
    return packed.getvalue()


@cache
def docx_bomb(unpacked_bytes: int = 2 * GIB) -> bytes:
    """A Word file of a few megabytes whose text is gigabytes of one letter."""
    head = (
        b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>'
    )
    tail = b"</w:t></w:r></w:p></w:body></w:document>"
    return _office("word/document.xml", _WORD, {"word/document.xml": (head, b"a", tail, unpacked_bytes)})


@cache
def lying_docx_bomb(unpacked_bytes: int = 2 * GIB) -> bytes:
    """The same, its directory telling that the text takes a thousand bytes."""
    honest = bytearray(docx_bomb(unpacked_bytes))
    directory = honest.rfind(b"PK\x01\x02")
    honest[directory + 24 : directory + 28] = (1_000).to_bytes(4, "little")
    return bytes(honest)


@cache
def xlsx_bomb(unpacked_bytes: int = 2 * GIB) -> bytes:
    """A workbook whose only sheet has millions of rows."""
    workbook = (
        b'<?xml version="1.0"?><workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" '
        b'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets>'
        b'<sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>'
    )
    relationships = (
        b'<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        b'<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" '
        b'Target="worksheets/sheet1.xml"/></Relationships>'
    )
    head = (
        b'<?xml version="1.0"?><worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    )
    row = b'<row><c t="inlineStr"><is><t>aaaaaaaaaaaaaaaa</t></is></c></row>'
    return _office(
        "xl/workbook.xml",
        _SHEET,
        {
            "xl/workbook.xml": (workbook, b"", b"", 0),
            "xl/_rels/workbook.xml.rels": (relationships, b"", b"", 0),
            "xl/worksheets/sheet1.xml": (head, row, b"</sheetData></worksheet>", unpacked_bytes),
        },
    )


@cache
def pdf_bomb(unpacked_bytes: int = 4 * GIB) -> bytes:
    """A page whose text is a stream of gigabytes, packed twice over."""
    packer = zlib.compressobj(9)
    unit = b"BT /F1 12 Tf 10 10 Td (aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa) Tj ET\n"
    block = unit * (1024 * 1024 // len(unit))
    once = b"".join(packer.compress(block) for _ in range(unpacked_bytes // len(block))) + packer.flush()
    stream = zlib.compress(once, 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
            b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>"
        ),
        b"<< /Filter [/FlateDecode /FlateDecode] /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    document = bytearray(b"%PDF-1.7\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(document))
        document += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(document)
    document += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    document += b"".join(b"%010d 00000 n \n" % place for place in places)
    document += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(document)


def laughing_docx() -> bytes:
    """A Word file of a kilobyte whose XML entities multiply to three gigabytes."""
    entities = '<!ENTITY l0 "lol">' + "".join(
        f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10)
    )
    text = (
        f'<?xml version="1.0"?><!DOCTYPE w [{entities}]>'
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        "<w:body><w:p><w:r><w:t>&l9;</w:t></w:r></w:p></w:body></w:document>"
    )
    return _office("word/document.xml", _WORD, {"word/document.xml": (text.encode(), b"", b"", 0)})


def nested_html(depth: int = 300_000) -> bytes:
    """Elements within each other, deeper than a recursive reader's stack."""
    return b"<html><body>" + b"<div>" * depth + b"deep" + b"</div>" * depth + b"</body></html>"


def nested_pdf(depth: int = 200_000) -> bytes:
    """Arrays within each other where the pages should be."""
    return (
        b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages "
        + b"[" * depth
        + b"]" * depth
        + b" >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF"
    )


def nested_rtf(depth: int = 500_000) -> bytes:
    """Groups within each other."""
    return b"{\\rtf1 " + b"{" * depth + b"deep" + b"}" * depth + b"}"


def nested_email(depth: int = 3_000) -> bytes:
    """Parts within each other."""
    head = b"From: a@example.org\r\nTo: b@example.org\r\nSubject: deep\r\n"
    parts = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(depth))
    return head + parts + b"Content-Type: text/plain\r\n\r\ndeep\r\n"
