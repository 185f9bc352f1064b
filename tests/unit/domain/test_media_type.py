"""A document's type is told by its content; its name decides only between kinds of plain text."""

import io
import zipfile

import pytest

from ingather.domain.media_type import detect_media_type
from ingather.models.content import MediaType
from ingather.models.errors import DocumentEmptyError, DocumentEncryptedError, UnsupportedTypeError

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
MAIL = b"Received: from a\r\nFrom: a@b.example\r\nTo: c@d.example\r\nSubject: Dome\r\n\r\nHello"


def zip_of(*members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member in members:
            archive.writestr(member, "x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "filename", "expected"),
    [
        (b"%PDF-1.7\n", "a.pdf", MediaType.PDF),
        (b"\r\n%PDF-1.7\n", "a", MediaType.PDF),
        (b"junk of a mailer\r\n%PDF-1.4\n", "a.pdf", MediaType.PDF),
        (b"%PDF-1.7\n", "a.docx", MediaType.PDF),
        (zip_of("[Content_Types].xml", "word/document.xml"), "a.docx", MediaType.DOCX),
        (zip_of("[Content_Types].xml", "ppt/presentation.xml"), "a.docx", MediaType.PPTX),
        (zip_of("xl\\workbook.xml"), "a", MediaType.XLSX),
        (zip_of("word/document.xml")[:60], "a.docx", MediaType.DOCX),
        (b"{\\rtf1\\ansi hello}", "a.doc", MediaType.RTF),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a.pdf", MediaType.IMAGE),
        (b"II*\x00" + bytes(40), "a.tif", MediaType.IMAGE),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a.webp", MediaType.IMAGE),
        (b"BM" + bytes(12) + b"\x28\x00\x00\x00" + bytes(20), "a.bmp", MediaType.IMAGE),
        (b"BMW is a car maker, and this is a text.", "a.txt", MediaType.TEXT),
        (b"<!DOCTYPE html><p>x", "a.txt", MediaType.HTML),
        (b"<?xml version='1.0'?>\n<html><p>x", "a", MediaType.HTML),
        (b"<!-- a --> <!-- b -->\n<html><p>x", "a", MediaType.HTML),
        (b"<!-- -->" * 1_000, "a", MediaType.TEXT),  # in time linear in their number
        ("<html><p>é".encode("utf-16"), "a.dat", MediaType.HTML),
        (b"<p>no html tag", "a.htm", MediaType.HTML),
        (b"<p>no html tag", "a.txt", MediaType.TEXT),
        (b"# Title", "a.md", MediaType.MARKDOWN),
        (b"a,b\n1,2", "A.CSV", MediaType.CSV),
        (MAIL, "a.eml", MediaType.EML),
        (MAIL, "letter", MediaType.EML),
        (b"From: here\nthe road goes on", "a.txt", MediaType.TEXT),
        (b"plain words", "a.pdf", MediaType.TEXT),
        (b"plain words", "a", MediaType.TEXT),
        (b'{"json": true}', "a.json", MediaType.TEXT),
        ("望遠鏡".encode("utf-16"), "a.txt", MediaType.TEXT),
        ("telescope".encode("utf-16-le"), "a.txt", MediaType.TEXT),
        ("telescope".encode("utf-32-be"), "a.txt", MediaType.TEXT),
        ("телескоп".encode("cp866"), "a.txt", MediaType.TEXT),
        ("observatory\n".encode("cp500"), "a.txt", MediaType.TEXT),
        (bytes(range(256)) * 4, "a.pdf", MediaType.PDF),
        (bytes(range(256)) * 4, "a.xlsx", MediaType.XLSX),
    ],
)
def test_tells_the_type(content: bytes, filename: str, expected: MediaType) -> None:
    """Content decides; where nothing recognises it, the parser its name asks for will call it corrupt."""
    assert detect_media_type(content, filename) is expected


@pytest.mark.parametrize(
    ("content", "filename"),
    [
        (zip_of("a.txt"), "a.zip"),
        (zip_of("a.txt"), "a.docx"),
        (zip_of("a.txt")[:40], "a.zip"),
        (zip_of("mimetype", "OEBPS/content.opf"), "book.epub"),
        (OLE, "old.doc"),
        (OLE + "WordDocument".encode("utf-16-le"), "renamed.docx"),
        (bytes(range(256)) * 4, "a.bin"),
        (b"\x7fELF\x02\x01\x01" + bytes(60), "tool"),
        (b"\x1f\x8b\x08" + bytes(range(256)), "a.csv"),
        (b"\x00\x01\x02\x03" * 50, "a.txt"),
    ],
)
def test_refuses_what_no_parser_is_for(content: bytes, filename: str) -> None:
    """Archives, old Office formats and other binaries are unsupported, whatever they are called."""
    with pytest.raises(UnsupportedTypeError):
        detect_media_type(content, filename)


@pytest.mark.parametrize(
    ("content", "filename"),
    [(OLE, "a.docx"), (OLE, "A.XLSX"), (OLE + "EncryptedPackage".encode("utf-16-le"), "no-name")],
)
def test_encrypted_office_files_are_named_as_such(content: bytes, filename: str) -> None:
    """An OLE container under an Office name is a document with a password."""
    with pytest.raises(DocumentEncryptedError):
        detect_media_type(content, filename)


def test_zero_bytes_are_no_document() -> None:
    """Nothing is nothing, whatever its name."""
    with pytest.raises(DocumentEmptyError):
        detect_media_type(b"", "a.pdf")
