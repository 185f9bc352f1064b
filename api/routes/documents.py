"""``/v1/batches/{id}/documents`` and the report."""

from dataclasses import asdict
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, Field
from starlette.responses import StreamingResponse

from api.access import GuardedRoute
from api.cursors import ordinal_of
from api.dependencies import BatchIdPath, BatchTenant, LinksOf, PageSize, Parts
from api.report_csv import csv_of
from api.resources import Document, DocumentPage, document_resource
from ingather.domain.identifiers import as_uuid
from ingather.models.document import DocumentRecord, DocumentStatus
from ingather.models.errors import DocumentNotFoundError
from ingather.ports.catalog import DocumentFilter

router = APIRouter(prefix="/v1/batches/{batch_id}", tags=["documents"], route_class=GuardedRoute)

NDJSON = "application/x-ndjson"

_UNTRUSTED = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-cache",
}
"""A stored document is somebody else's: a browser must neither guess its type nor run it."""


class ChunkView(BaseModel):
    """A searchable piece of a document's text."""

    ordinal: int
    text: str
    start: int
    """First character in the whole text."""
    end: int
    """One past the last."""
    page: int | None = None
    """Where it begins; null for types without pages."""
    headings: list[str] = Field(default_factory=list)
    formulas: list[str] = Field(default_factory=list)


class ChunkPage(BaseModel):
    """Chunks of a document in their order."""

    data: list[ChunkView]
    has_more: bool
    next_cursor: str | None = None


class ThroughputView(BaseModel):
    """Documents that ended, whatever became of them, by interval; cancelled ones are left out."""

    since: AwareDatetime | None
    """When the first interval begins; null while the batch has not begun."""
    interval_seconds: int
    """The longer the batch, the longer: there are at most some ninety of them."""
    documents: list[int]


@router.get("/documents")
async def list_documents(
    *,
    parts: Parts,
    tenant: BatchTenant,
    links: LinksOf,
    batch_id: BatchIdPath,
    limit: PageSize,
    status: DocumentStatus | None = None,
    error_code: Annotated[str | None, Query(max_length=100)] = None,
    cursor: str | None = None,
) -> DocumentPage:
    """Documents of a batch, in ordinal order."""
    filters = {"tenant": tenant, "batch": batch_id, "status": status, "error_code": error_code}
    after = ordinal_of(parts.cursors.decode(cursor, filters)) if cursor else -1
    where = DocumentFilter(batch_id=batch_id, status=status, error_code=error_code, after_ordinal=after)
    found, has_more, last = await parts.documents.page(tenant, where, limit)
    return DocumentPage(
        data=[document_resource(document.record, links, stage=document.stage) for document in found],
        has_more=has_more,
        next_cursor=parts.cursors.encode([last], filters) if has_more else None,
    )


@router.get("/documents/{file_id}")
async def read_document(
    *, parts: Parts, tenant: BatchTenant, links: LinksOf, batch_id: BatchIdPath, file_id: str
) -> Document:
    """One document."""
    document = await parts.documents.one(tenant, batch_id, _file_id(file_id))
    return document_resource(document.record, links, stage=document.stage)


@router.get("/documents/{file_id}/raw", response_class=StreamingResponse)
async def read_raw(parts: Parts, tenant: BatchTenant, batch_id: BatchIdPath, file_id: str) -> Response:
    """The document's own bytes, as a download."""
    record, content = await parts.documents.raw(tenant, batch_id, _file_id(file_id))
    headers = {**_UNTRUSTED, "Content-Disposition": content_disposition(record.filename)}
    if record.size_bytes is not None:
        headers["Content-Length"] = str(record.size_bytes)
    if record.sha256 is not None:
        headers["ETag"] = f'"{record.sha256}"'
    return StreamingResponse(content, headers=headers, media_type=_media_type(record))


@router.get("/documents/{file_id}/text", response_class=Response)
async def read_text(parts: Parts, tenant: BatchTenant, batch_id: BatchIdPath, file_id: str) -> Response:
    """The document's whole text, as its chunks quote it."""
    _, text = await parts.documents.text(tenant, batch_id, _file_id(file_id))
    content = text.encode("utf-8", "replace")
    return Response(content, headers=_UNTRUSTED, media_type="text/plain; charset=utf-8")


@router.get("/documents/{file_id}/chunks")
async def list_chunks(
    *,
    parts: Parts,
    tenant: BatchTenant,
    batch_id: BatchIdPath,
    file_id: str,
    limit: PageSize,
    page: Annotated[int | None, Query(ge=1, description="Those that begin on this page.")] = None,
    first: Annotated[int, Query(ge=0, description="Ordinal to begin with, where there is no cursor.")] = 0,
    cursor: str | None = None,
) -> ChunkPage:
    """What search finds of a document, in order: its chunks with their places in the text."""
    normal = _file_id(file_id)
    filters = {"tenant": tenant, "document": normal, "page": page}
    begin = ordinal_of(parts.cursors.decode(cursor, filters)) if cursor else first
    found, has_more = await parts.documents.chunks(tenant, batch_id, normal, first=begin, limit=limit, page=page)
    return ChunkPage(
        data=[ChunkView(**asdict(chunk)) for chunk in found],
        has_more=has_more,
        next_cursor=parts.cursors.encode([found[-1].ordinal + 1], filters) if has_more else None,
    )


@router.get(
    "/documents/{file_id}/pages/{page}/image",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The page"}},
)
async def read_page_image(
    *,
    parts: Parts,
    tenant: BatchTenant,
    batch_id: BatchIdPath,
    file_id: str,
    page: Annotated[int, Path(ge=1, description="1 is the first.")],
    width: Annotated[int, Query(ge=50, le=2_400, description="Pixels.")] = 1_000,
) -> Response:
    """A page of a PDF, or of an image, as a PNG. It is drawn in a confined process, like all that reads documents."""
    normal = _file_id(file_id)
    record, drawn = await parts.documents.page_image(tenant, batch_id, normal, page=page, width=width)
    headers = {**_UNTRUSTED, "Cache-Control": "private, max-age=600"}
    if record.sha256 is not None:
        headers["ETag"] = f'"{record.sha256[:32]}-{page}-{width}"'
    return Response(drawn, headers=headers, media_type="image/png")


@router.get("/throughput")
async def read_throughput(parts: Parts, tenant: BatchTenant, batch_id: BatchIdPath) -> ThroughputView:
    """How many documents ended in each interval since the batch began: enough for a small chart."""
    found = await parts.documents.throughput(tenant, batch_id)
    return ThroughputView(since=found.since, interval_seconds=found.interval_seconds, documents=list(found.documents))


@router.get("/report", response_class=StreamingResponse)
async def read_report(
    *,
    parts: Parts,
    tenant: BatchTenant,
    batch_id: BatchIdPath,
    form: Annotated[Literal["ndjson", "csv"], Query(alias="format")] = "ndjson",
) -> Response:
    """How each document ended, or where it stands while the batch runs: a JSON line each, or a row of CSV for spreadsheets."""
    record, lines = await parts.documents.report(tenant, batch_id)
    if form == "csv":
        headers = {**_UNTRUSTED, "Content-Disposition": content_disposition(f"{record.batch_id}.csv")}
        return StreamingResponse(csv_of(lines), headers=headers, media_type="text/csv; charset=utf-8")
    headers = {**_UNTRUSTED, "Content-Disposition": content_disposition(f"{record.batch_id}.jsonl")}
    return StreamingResponse(lines, headers=headers, media_type=NDJSON)


def content_disposition(filename: str) -> str:
    """A download under its name: plain ASCII for old clients, RFC 8187 for the rest, nothing that breaks a header."""
    plain = "".join(char if char.isascii() and char.isprintable() and char not in '"\\%' else "_" for char in filename)
    encoded = quote(filename.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain[:200]}\"; filename*=UTF-8''{encoded}"


def _media_type(record: DocumentRecord) -> str:
    media_type = record.media_type
    is_usable = media_type is not None and "*" not in media_type and media_type.isascii() and media_type.isprintable()
    return media_type if media_type and is_usable else "application/octet-stream"


def _file_id(file_id: str) -> str:
    normal = as_uuid(file_id)
    if normal is None:
        raise DocumentNotFoundError("No document of this batch has this id.")
    return normal
