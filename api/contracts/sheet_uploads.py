"""Contract C, scanned sheets: how they come in, in one request or in chunks."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import structlog
import uuid_utils
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from api.access import Caller, access
from api.body import UNLIMITED_BODY, RequestBody
from api.contracts.errors import answering_with
from api.contracts.sheet_errors import ErrorBody, answer, envelope
from api.contracts.sheet_form import CHUNK, FILES, ChunkFields, OpenSink, SheetFields, SheetForm, fields_of
from api.dependencies import ApiParts, CurrentCaller, IdempotencyKey, Parts, TenantHeader, require_not_draining
from api.engine import Presence
from api.idempotency import check_key
from api.multipart import boundary_of
from api.problems import invalid
from api.rates import Rate
from api.service.chunk_sink import MeasuringSink, Sink
from api.service.chunked_uploads import ChunkFacts
from api.service.sheets import CONTRACT
from ingather.domain.keys import upload_key
from ingather.models.errors import DependencyError, PayloadTooLargeError, RequestError, UnsupportedMediaTypeError
from ingather.models.identity import batch_id_for
from ingather.models.sheets import MAX_OBJECTS, SheetObject, SheetUpload
from ingather.models.upload import Upload, UploadState

__all__ = ["envelope", "router"]

_FORM_BYTES = 1024 * 1024
"""Of a form, beside what it brings."""


class ChunkReceived(BaseModel):
    """A chunk that is safe."""

    model_config = ConfigDict(frozen=True)

    upload_id: str
    chunk_index: int
    chunks_received: int
    total_chunks: int
    is_complete: bool
    message: str
    batch_id: str | None = None
    """Once all chunks are there, as the next."""
    status: Literal["uploaded"] | None = None


class UploadReceived(BaseModel):
    """An upload that is a batch by now."""

    model_config = ConfigDict(frozen=True)

    batch_id: str
    status: Literal["uploaded"] = "uploaded"
    message: str = "Batch uploaded successfully"


router = APIRouter(
    prefix="/api/batches",
    tags=["scanned sheets"],
    route_class=answering_with(answer),
    responses={"4XX": {"model": ErrorBody}, 503: {"model": ErrorBody, "description": "Come again after `Retry-After`"}},
)


def _form_schema(model: type[SheetFields], content: dict[str, Any]) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    own = schema.pop("$defs")
    schema["properties"] = content | schema["properties"]
    schema["required"] += [name for name in content if name == CHUNK]
    schema["properties"]["upload_type"] = own["UploadType"]
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


_BYTES = {"type": "string", "format": "binary"}
_CHUNK_FORM = _form_schema(ChunkFields, {CHUNK: _BYTES | {"description": "The bytes, at most `max_chunk_bytes`."}})
_FILES_FORM = _form_schema(
    SheetFields,
    {
        "file": _BYTES | {"description": "The ZIP, at most `max_chunk_bytes`."},
        "files": {"type": "array", "items": _BYTES, "description": "The images. Repeat the field."},
    },
)


@router.post(
    "/upload-chunk",
    response_model=ChunkReceived,
    response_model_exclude_none=True,
    openapi_extra={"requestBody": _CHUNK_FORM},
    max_body_size=UNLIMITED_BODY,
)
@access(rate=Rate.UPLOADS)
async def upload_chunk(
    *, request: Request, parts: Parts, caller: CurrentCaller, _tenant_id: TenantHeader = None
) -> Response:
    """Upload a chunk of a file: the first one alone, the others side by side and in any order, any of them again."""
    uploads = parts.chunked_uploads
    tenant_id = caller.tenant_id if caller.is_narrowed else None

    async def open_chunk(values: Mapping[str, str], _filename: str) -> Sink | None:
        """Where all is said before the bytes, a chunk that cannot be taken, or is there already, is not stored."""
        if values.keys() >= {"chunk_index", "total_chunks", "filename", "upload_type"} and "upload_id" in values:
            facts = _facts(fields_of(ChunkFields, values))
            upload = await uploads.check(facts, tenant_id)
            if upload is not None and await uploads.has(upload, facts.index):
                return None
        return uploads.sink(caller.tenant_id)

    async with _form_of(request, parts, frozenset({CHUNK}), open_chunk) as form:
        if form.content_count != 1:
            raise invalid("#/chunk", "The form holds one chunk.", "missing")
        _check_size("Chunk", [sink for _, sink in form.sinks], uploads.limits.max_chunk_bytes)
        fields: ChunkFields = fields_of(ChunkFields, form.values)
        upload = await _receive(parts, caller, tenant_id, _facts(fields), form)
    upload = await uploads.finish(upload, caller.actor)
    structlog.contextvars.bind_contextvars(batch_id=upload.batch_id)
    received = ChunkReceived(
        upload_id=upload.upload_id,
        chunk_index=fields.chunk_index,
        chunks_received=upload.received_count,
        total_chunks=fields.total_chunks,
        is_complete=upload.has_all,
        message=f"Chunk {fields.chunk_index + 1}/{fields.total_chunks} received",
    )
    if upload.has_all:
        complete = {"batch_id": upload.batch_id, "status": "uploaded", "message": "Batch uploaded successfully"}
        received = received.model_copy(update=complete)
    content = received.model_dump_json(exclude_none=True)
    # Whoever follows from the first chunk on, by stream or in Redis, finds here what will be its batch.
    headers = {"X-Batch-ID": upload.batch_id or ""}
    return Response(content, headers=headers, media_type="application/json")


@router.post(
    "/upload",
    status_code=202,
    response_model=UploadReceived,
    openapi_extra={"requestBody": _FILES_FORM},
    max_body_size=UNLIMITED_BODY,
)
@access(rate=Rate.UPLOADS, makes_job=True)
async def upload_sheets(
    *,
    request: Request,
    parts: Parts,
    caller: CurrentCaller,
    _tenant_id: TenantHeader = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Upload a ZIP, or images, in one request. Answers 202 once all of it is stored and the batch has begun."""
    tenant_id, key = caller.tenant_id, check_key(idempotency_key)
    batch_id = batch_id_for(tenant_id, CONTRACT, key) if key else str(uuid_utils.uuid7())
    structlog.contextvars.bind_contextvars(batch_id=batch_id)
    known = await parts.catalog.get_batch(batch_id, tenant_id) if key else None
    is_replay = known is not None and await parts.submissions.is_begun(known)
    attempt, most = str(uuid_utils.uuid7()), parts.chunked_uploads.limits.max_chunk_bytes
    files: list[Sink] = []
    left = most

    async def open_file(_values: Mapping[str, str], filename: str) -> Sink | None:
        nonlocal left
        if not filename:
            return None  # a browser sends an empty part where nobody chose a file
        if len(files) >= MAX_OBJECTS:
            raise PayloadTooLargeError(f"An upload holds at most {MAX_OBJECTS:,} files.")
        if not files and not is_replay:
            await parts.submissions.engine.check()  # before all of it is uploaded for nothing
        left -= files[-1].size_bytes if files else 0
        key = upload_key(tenant_id, f"{batch_id}/{attempt}", f"file-{len(files):05d}")
        keeps = parts.chunked_uploads.sink_to
        files.append(MeasuringSink(key, most=left) if is_replay else keeps(key, tenant_id, most=left))
        return files[-1]

    async with _form_of(request, parts, FILES, open_file) as form:
        fields: SheetFields = fields_of(SheetFields, form.values)
        if not form.sinks:
            raise invalid("#/file", "No file was uploaded; send one as file, or several as files.", "missing")
        _check_size("Upload", [sink for _, sink in form.sinks], most)
        upload = SheetUpload(
            batch_id=batch_id,
            tenant_id=tenant_id,
            created_by=caller.user,
            upload_type=fields.upload_type,
            task_id=fields.task_id,
            objects=tuple([await _stored(name, sink) for name, sink in form.sinks]),
            metadata=fields.metadata,
        )
        if known is not None:
            await parts.sheets.check_same(upload)
        if not is_replay:
            await _submit(parts, caller, upload, form.keep())
    headers = {"Idempotency-Replayed": "true"} if is_replay else {}
    body = UploadReceived(batch_id=batch_id).model_dump_json()
    return Response(body, status_code=202, headers=headers, media_type="application/json")


async def _submit(parts: ApiParts, caller: Caller, upload: SheetUpload, stored: list[Sink]) -> None:
    """Begin the batch. What was stored is removed where it is certain that none has begun: a start may come late."""
    try:
        await parts.sheets.submit(upload, caller.actor)
    except DependencyError:
        with suppress(DependencyError):
            if (await parts.submissions.engine.status(upload.batch_id)).presence is Presence.MISSING:
                for sink in stored:
                    await sink.discard()
        raise
    parts.metrics.submitted(len(upload.objects), sum(each.size_bytes for each in upload.objects))


async def _stored(filename: str, sink: Sink) -> SheetObject:
    blob = await sink.end()
    return SheetObject(key=blob.key, filename=filename, size_bytes=blob.size_bytes, sha256=blob.sha256)


async def _receive(
    parts: ApiParts, caller: Caller, tenant_id: str | None, facts: ChunkFacts, form: SheetForm
) -> Upload:
    """Count the chunk that the form brought, and answer with its upload."""
    uploads = parts.chunked_uploads
    upload = await uploads.check(facts, tenant_id)
    if upload is not None and (not form.sinks or upload.state is not UploadState.RECEIVING):
        await form.discard()
        return upload
    if upload is None:
        await parts.gate.count_job(caller)
    blob = await form.sinks[0][1].end()
    form.keep()
    if upload is not None:
        return await uploads.add(upload, facts.index, blob)
    upload, is_new = await uploads.begin(facts, blob, caller.tenant_id, caller.user)
    if is_new:
        parts.metrics.submitted(1, 0)
    return upload


@asynccontextmanager
async def _form_of(
    request: Request, parts: ApiParts, names: frozenset[str], open_sink: OpenSink
) -> AsyncIterator[SheetForm]:
    """The form, read. What it brought is removed where the block fails; after a refusal the rest is read and let go."""
    require_not_draining(parts)
    content_type = request.headers.get("content-type", "")
    if content_type.split(";", 1)[0].strip().lower() != "multipart/form-data":
        raise UnsupportedMediaTypeError("Sheets are uploaded as multipart/form-data.")
    boundary = boundary_of(content_type)
    if boundary is None:
        raise RequestError("The multipart Content-Type names no boundary.")
    # Somewhat more than fits is read, so that the refusal can say how much it was.
    body = RequestBody(request, 4 * parts.chunked_uploads.limits.max_chunk_bytes + _FORM_BYTES, "max_chunk_bytes")
    form = SheetForm(body.chunks(), boundary, names, open_sink)
    with parts.metrics.uploads_open.track_inprogress():
        async with body.taken_in():
            try:
                await form.read()
                yield form
            except BaseException:
                await form.discard()
                raise


def _check_size(what: str, sinks: list[Sink], most: int) -> None:
    size = sum(sink.size_bytes for sink in sinks)
    if size > most:
        raise PayloadTooLargeError(
            f"{what} size {size} exceeds maximum {most}", limit="max_chunk_bytes", limit_value=most, size_bytes=size
        )


def _facts(fields: ChunkFields) -> ChunkFacts:
    return ChunkFacts(
        index=fields.chunk_index,
        total=fields.total_chunks,
        filename=fields.filename,
        upload_type=fields.upload_type,
        upload_id=fields.upload_id,
        task_id=fields.task_id,
        metadata=fields.metadata,
    )
