"""``POST /v1/batches``: multipart as a stream, JSON inline, or a dry run of either."""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from api.body import RequestBody
from api.dependencies import ApiParts, IdempotencyKey, LinksOf, Parts, Tenant, WaitSeconds, require_not_draining
from api.memory import return_free_pages_to_the_system
from api.multipart import MAX_NAME_CHARACTERS, PartBegins, PartData, boundary_of, read_parts
from api.preview import PreviewIntake, SubmissionPreview, preview_resource
from api.problems import field_problems, invalid, request_invalid
from api.resources import Batch
from api.routes.batches import batch_response
from api.service.submission import Feed, Received, SubmissionSpec
from api.uploads import Intake, Taken, check_count, refusal
from ingather.models.document import DocumentFailure
from ingather.models.errors import (
    ContentInvalidError,
    MetadataInvalidError,
    PayloadTooLargeError,
    RequestError,
    UnsupportedMediaTypeError,
)

router = APIRouter(prefix="/v1/batches", tags=["batches"])

UNLIMITED_BODY = 1 << 50
"""The framework's own limit is off here: ours differ by content type and count as the bytes arrive."""
MAX_FIELD_BYTES = 16 * 1024 * 1024
"""The ``metadata`` field of a multipart request; it is held in memory."""
_SMALL_JSON_BYTES = 1024 * 1024
_WORTH_TIDYING_BYTES = 16 * 1024 * 1024
_THREAD_BYTES = 256 * 1024
"""JSON and base64 larger than this are read in a thread, so that others are answered meanwhile."""

_Model = TypeVar("_Model")
_MetadataByFile = TypeAdapter(dict[str, dict[str, Any]])


class InlineDocument(BaseModel):
    """A document within the request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filename: str
    content: str = Field(repr=False)
    """The bytes, as standard base64."""
    metadata: dict[str, Any] = Field(default_factory=dict)


class JsonSubmission(SubmissionSpec):
    """A batch with its documents inline."""

    documents: tuple[InlineDocument, ...]


def _json_schema() -> dict[str, Any]:
    """Of ``JsonSubmission``. FastAPI collects no model of a body that the route reads itself, so what only this
    body uses stands within it, and what other answers use is referred to.
    """
    schema = JsonSubmission.model_json_schema(ref_template="#/components/schemas/{model}")
    schema["properties"]["documents"]["items"] = schema.pop("$defs")[InlineDocument.__name__]
    return schema


_BODY_SCHEMA = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {
                    "files": {
                        "type": "array",
                        "items": {"type": "string", "format": "binary"},
                        "description": "The documents; ZIP archives are expanded. Repeat the field.",
                    },
                    "spec": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "description": "JSON object: name, collection, priority, hold, options, metadata.",
                    },
                    "metadata": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "description": "JSON object: file name to metadata object.",
                    },
                },
            }
        },
        "application/json": {"schema": _json_schema()},
    },
}


@router.post(
    "",
    status_code=202,
    response_model=Batch,
    responses={200: {"model": Batch | SubmissionPreview, "description": "Ended in time (`Prefer: wait`), or dry run"}},
    openapi_extra={"requestBody": _BODY_SCHEMA},
    max_body_size=UNLIMITED_BODY,
)
async def submit_batch(
    *,
    request: Request,
    parts: Parts,
    tenant: Tenant,
    links: LinksOf,
    wait: WaitSeconds,
    idempotency_key: IdempotencyKey = None,
    dry_run: Annotated[bool, Query(description="Say what would happen and keep nothing.")] = False,
) -> Response:
    """Submit documents as a batch. Answers 202 once it is durable and started."""
    require_not_draining(parts)
    body, feed = _feed_of(request, parts)
    try:
        with parts.metrics.uploads_open.track_inprogress():
            if dry_run:
                intake = PreviewIntake(parts.submissions.limits)
                preview = preview_resource(await parts.submissions.preview(tenant, intake, feed), intake)
                return Response(orjson.dumps(preview.model_dump(mode="json")), media_type="application/json")
            accepted = await parts.submissions.submit(tenant, idempotency_key, feed)
    except Exception:
        await body.drain()
        raise
    finally:
        if body.received_bytes > _WORTH_TIDYING_BYTES:
            await asyncio.to_thread(return_free_pages_to_the_system)
    headers = {"Idempotency-Replayed": "true"} if accepted.was_replayed else {}
    if not accepted.was_replayed:
        parts.metrics.submitted(accepted.file_count, accepted.upload_bytes)
    snapshot = accepted.snapshot
    if wait and not snapshot.is_final:
        headers["Preference-Applied"] = f"wait={wait:.0f}"
        snapshot = await parts.batches.wait_for(tenant, snapshot.record.batch_id, wait, lambda now: now.is_final)
    return batch_response(snapshot, links, 200 if wait and snapshot.is_final else 202, headers)


def _feed_of(request: Request, parts: ApiParts) -> tuple[RequestBody, Feed]:
    content_type = request.headers.get("content-type", "")
    kind = content_type.split(";", 1)[0].strip().lower()
    if kind == "multipart/form-data":
        boundary = boundary_of(content_type)
        if boundary is None:
            raise RequestError("The multipart Content-Type names no boundary.")
        body = RequestBody(request, parts.limits.max_request_bytes, "max_request_bytes")
        return body, _MultipartFeed(body.chunks(), boundary, parts.limits.max_metadata_bytes).read
    if kind == "application/json":
        body = RequestBody(request, parts.limits.max_json_bytes, "max_json_bytes")
        return body, _JsonFeed(body, parts).read
    raise UnsupportedMediaTypeError("A batch is submitted as multipart/form-data or application/json.")


class _MultipartFeed:
    """Files go to the intake as they arrive; the two JSON fields are small and kept."""

    def __init__(self, body: AsyncGenerator[bytes, None], boundary: str, max_metadata_bytes: int) -> None:
        self._body = body
        self._boundary = boundary
        self._max_metadata_bytes = max_metadata_bytes
        self._fields: dict[str, bytearray] = {}

    async def read(self, intake: Intake) -> Received:
        part: PartBegins | None = None
        async with contextlib.aclosing(read_parts(self._body, self._boundary)) as events:
            async for event in events:
                if isinstance(event, PartBegins):
                    part = event
                    await self._begin(part, intake)
                elif part is None:
                    continue
                elif isinstance(event, PartData):
                    await self._take(part, event.content, intake)
                elif part.name == "files":
                    await intake.end()
        return self._received(intake)

    async def _begin(self, part: PartBegins, intake: Intake) -> None:
        if part.name == "files":
            # A field without a file name is content all the same; its name is made up later.
            await intake.begin(part.filename or "")
        elif part.name not in {"spec", "metadata"}:
            raise invalid("#", "The form fields are files, spec and metadata.", "unknown_field")
        elif part.name in self._fields:
            raise invalid(f"#/{part.name}", "The field may be sent once.", "duplicate_field")
        else:
            self._fields[part.name] = bytearray()

    async def _take(self, part: PartBegins, content: bytes, intake: Intake) -> None:
        if part.name == "files":
            await intake.write(content)
            return
        field = self._fields[part.name]
        field += content
        if len(field) > MAX_FIELD_BYTES:
            raise PayloadTooLargeError(f"The field {part.name} is larger than {MAX_FIELD_BYTES:,} bytes.")

    def _received(self, intake: Intake) -> Received:
        spec = _validated(SubmissionSpec.model_validate_json, self._fields.get("spec") or b"{}", "#/spec")
        _check_metadata(spec.metadata, self._max_metadata_bytes)
        raw = self._fields.get("metadata") or b"{}"
        by_file: dict[str, dict[str, Any]] = _validated(_MetadataByFile.validate_json, raw, "#/metadata")
        if by_file.keys() - {file.filename for file in intake.files}:
            raise invalid("#/metadata", "The metadata names a file that was not sent.", "unknown_file")
        metadata = [by_file.get(file.filename, {}) for file in intake.files]
        return _received(spec, metadata, self._max_metadata_bytes)


class _JsonFeed:
    """Documents are decoded one by one; one that cannot be decoded is refused alone.

    A JSON body is held in memory whole, so few large ones are read at a time; the others wait unread.
    """

    def __init__(self, body: RequestBody, parts: ApiParts) -> None:
        self._body = body
        self._limits = parts.limits
        self._intake_limits = parts.submissions.limits
        self._turns = parts.json_turns

    async def read(self, intake: Intake) -> Received:
        size = self._body.announced_bytes
        is_small = size is not None and size <= _SMALL_JSON_BYTES
        async with contextlib.nullcontext() if is_small else self._turns:
            return await self._take_in(await self._parsed(), intake)

    async def _take_in(self, submission: JsonSubmission, intake: Intake) -> Received:
        check_count(len(submission.documents), self._intake_limits)
        for document in submission.documents:
            await _take_inline(document, intake)
        spec = SubmissionSpec(**{name: getattr(submission, name) for name in SubmissionSpec.model_fields})
        _check_metadata(spec.metadata, self._limits.max_metadata_bytes)
        return _received(
            spec, [document.metadata for document in submission.documents], self._limits.max_metadata_bytes
        )

    async def _parsed(self) -> JsonSubmission:
        body = bytearray()
        async with contextlib.aclosing(self._body.chunks()) as chunks:
            async for chunk in chunks:
                body += chunk
        if len(body) < _THREAD_BYTES:
            return _validated(JsonSubmission.model_validate_json, body, "#")
        return await asyncio.to_thread(_validated, JsonSubmission.model_validate_json, body, "#")


async def _take_inline(document: InlineDocument, intake: Intake) -> None:
    filename = document.filename[-MAX_NAME_CHARACTERS:]
    is_small = len(document.content) < _THREAD_BYTES
    try:
        content = _decoded(document) if is_small else await asyncio.to_thread(_decoded, document)
    except (binascii.Error, ValueError):
        failure = refusal(ContentInvalidError("The content is not valid base64."))
        intake.files.append(Taken(filename, 0, "", refused=failure))
        return
    await intake.begin(filename)
    await intake.write(content)
    await intake.end()


def _decoded(document: InlineDocument) -> bytes:
    return base64.b64decode("".join(document.content.split()), validate=True)


def _received(spec: SubmissionSpec, metadata: list[dict[str, Any]], max_bytes: int) -> Received:
    """Metadata that cannot be kept costs its document, not the batch."""
    refused: list[DocumentFailure | None] = []
    kept: list[dict[str, Any]] = []
    for item in metadata:
        problem = _metadata_problem(item, max_bytes)
        kept.append({} if problem else item)
        refused.append(refusal(MetadataInvalidError(problem, limit="max_metadata_bytes")) if problem else None)
    return Received(spec, kept, refused)


def _check_metadata(metadata: dict[str, Any], max_bytes: int) -> None:
    problem = _metadata_problem(metadata, max_bytes)
    if problem:
        raise invalid("#/metadata", problem)


def _metadata_problem(metadata: dict[str, Any], max_bytes: int) -> str | None:
    try:
        size = len(orjson.dumps(metadata))
    except TypeError:
        return "The metadata holds a number of more than 64 bits, or is nested too deeply."
    return f"The metadata is larger than max_metadata_bytes ({max_bytes:,})." if size > max_bytes else None


def _validated(validate: Callable[[bytes | bytearray], _Model], raw: bytes | bytearray, root: str) -> _Model:
    try:
        return validate(raw)
    except ValidationError as error:
        problems = field_problems(error, root)
        if any(problem.code == "json_invalid" for problem in problems):
            where = "body" if root == "#" else f"field {root.removeprefix('#/')}"
            raise RequestError(f"The {where} is not valid JSON.") from None
        raise request_invalid("The request does not fit the schema; see errors.", problems) from None
