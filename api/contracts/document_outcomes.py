"""Why documents of an upload failed, in contract B's words."""

from collections.abc import AsyncIterator
from pathlib import PurePath

from pydantic import BaseModel, ConfigDict

from ingather.domain.metadata_rules import PREFIX as METADATA_PREFIX
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import MetadataInvalidError, ParserKilledError, error_classes
from ingather.ports.catalog import Catalog, DocumentFilter

MAX_LISTED = 10_000
"""The report has them all; this list is read again with every look at the status."""
_PAGE = 1_000
_UNPARSABLE = frozenset({"corrupt", "encrypted", "empty", "unsupported_type"}) | frozenset(
    code for code, cls in error_classes().items() if issubclass(cls, ParserKilledError)
)
_KINDS = {
    "pdf": "PDF", "docx": "DOCX", "pptx": "PPTX", "xlsx": "XLSX", "html": "HTML", "htm": "HTML", "md": "Markdown",
    "markdown": "Markdown", "txt": "text", "csv": "CSV", "eml": "e-mail", "rtf": "RTF", "zip": "ZIP", "png": "image",
    "jpg": "image", "jpeg": "image", "tif": "image", "tiff": "image", "webp": "image", "gif": "image", "bmp": "image",
}  # fmt: skip


class FailedDocument(BaseModel):
    """A document that was not taken in."""

    model_config = ConfigDict(frozen=True)

    filename: str
    """As the client sent it."""
    error: str


async def failed_documents(catalog: Catalog, batch_id: str) -> list[FailedDocument]:
    """Those that failed and those that were cancelled, in the order they were sent; at most ten thousand."""
    found = [record async for record in _failed(catalog, batch_id)]
    found.sort(key=lambda record: record.ordinal)
    return [FailedDocument(filename=_sent_name(record), error=_reason(record)) for record in found[:MAX_LISTED]]


async def _failed(catalog: Catalog, batch_id: str) -> AsyncIterator[DocumentRecord]:
    for status in (DocumentStatus.FAILED, DocumentStatus.CANCELLED):
        after, count = -1, 0
        while count < MAX_LISTED:
            page = await catalog.list_documents(DocumentFilter(batch_id, status, after_ordinal=after), _PAGE)
            for record in page:
                yield record
            count += len(page)
            if len(page) < _PAGE:
                break
            after = page[-1].ordinal


def _sent_name(record: DocumentRecord) -> str:
    return record.original_filename or record.filename


def _reason(record: DocumentRecord) -> str:
    error = record.error
    if error is None:
        return "Cancelled before it was processed."
    if error.code in _UNPARSABLE:
        return f"Failed to parse {_kind(record)}: {error.message}"
    if error.code == MetadataInvalidError.code and not error.message.startswith(METADATA_PREFIX):
        return METADATA_PREFIX + error.message
    return error.message


def _kind(record: DocumentRecord) -> str:
    return _KINDS.get(PurePath(record.filename).suffix.lstrip(".").lower(), "document")
