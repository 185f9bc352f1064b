"""Bodies that carry documents: multipart as a stream, JSON inline, selections of connected sources' files.

NDJSON has a module of its own.
"""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, TypeAdapter, ValidationError

from api.body import RequestBody
from api.json_room import JsonRoom
from api.multipart import MAX_NAME_CHARACTERS, PartBegins, PartData, read_parts
from api.problems import field_problems, invalid, request_invalid
from api.reception import Reception, SubmissionSpec, check_metadata
from api.uploads import check_count, refusal
from ingather.models.errors import ContentInvalidError, PayloadTooLargeError, RequestError
from ingather.models.source import MAX_SELECTIONS, FileSelection, SourceRef, SourceType

MAX_FIELD_BYTES = 16 * 1024 * 1024
"""The ``metadata`` field of a multipart request; it is held in memory."""
THREAD_BYTES = 256 * 1024
"""JSON and base64 larger than this are read in a thread, so that others are answered meanwhile."""

_SELECTED_AT_ONCE = 100
"""Files of a selection between two chances for others to be answered."""

SelectionCheck = Callable[[Sequence[FileSelection]], Awaitable[None]]
"""Whether a tenant may select so: raises ``UnknownConnectionError``, ``SourceTypeMismatchError``."""

Selections = Annotated[tuple[FileSelection, ...], FailFast(), Field(max_length=MAX_SELECTIONS)]

_Model = TypeVar("_Model")
_Json = TypeVar("_Json", bound=BaseModel)
_MetadataByFile = TypeAdapter(dict[str, dict[str, Any]])


class InlineDocument(BaseModel):
    """A document within the request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filename: str
    content: str = Field(repr=False)
    """The bytes, as standard base64."""
    metadata: dict[str, Any] = Field(default_factory=dict)


class JsonDocuments(BaseModel):
    """Documents for an open batch, inline or in connected sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    documents: Annotated[tuple[InlineDocument, ...], FailFast()] = ()
    sources: Selections = ()
    """Files of connected sources; they are fetched when the batch runs."""


class JsonSubmission(SubmissionSpec):
    """A batch with its documents inline or in connected sources; the inline ones come first."""

    documents: Annotated[tuple[InlineDocument, ...], FailFast()] = ()
    sources: Selections = ()
    """Files of connected sources; they are fetched when the batch runs."""


class MultipartFeed:
    """Files go to the reception as they arrive; the two JSON fields are kept."""

    def __init__(
        self, body: AsyncGenerator[bytes, None], boundary: str, room: JsonRoom, tenant_id: str, *, makes_batch: bool
    ) -> None:
        self._body = body
        self._boundary = boundary
        self._room = room
        self._tenant_id = tenant_id
        self._fields = frozenset({"spec", "metadata"} if makes_batch else {"metadata"})
        self._values: dict[str, bytearray] = {}

    async def read(self, reception: Reception) -> SubmissionSpec | None:
        part: PartBegins | None = None
        async with contextlib.aclosing(read_parts(self._body, self._boundary)) as events:
            async for event in events:
                if isinstance(event, PartBegins):
                    part = event
                    await self._begin(part, reception)
                elif part is None:
                    continue
                elif isinstance(event, PartData):
                    await self._take(part, event.content, reception)
                else:
                    await self._end(part, reception)
        if "spec" not in self._fields:
            return None
        spec = await self._said(SubmissionSpec.model_validate_json, "spec")
        check_metadata(spec.metadata, reception.limits)
        return spec

    async def _begin(self, part: PartBegins, reception: Reception) -> None:
        if part.name == "files":
            # A field without a file name is content all the same; its name is made up later.
            await reception.begin(part.filename or "")
        elif part.name not in self._fields:
            known = ", ".join(["files", *sorted(self._fields)])
            raise invalid("#", f"The form fields are {known}.", "unknown_field")
        elif part.name in self._values:
            raise invalid(f"#/{part.name}", "The field may be sent once.", "duplicate_field")
        else:
            self._values[part.name] = bytearray()

    async def _take(self, part: PartBegins, content: bytes, reception: Reception) -> None:
        if part.name == "files":
            await reception.write(content)
            return
        field = self._values[part.name]
        field += content
        if len(field) > MAX_FIELD_BYTES:
            raise PayloadTooLargeError(f"The field {part.name} is larger than {MAX_FIELD_BYTES:,} bytes.")

    async def _end(self, part: PartBegins, reception: Reception) -> None:
        if part.name == "files":
            await reception.end()
        elif part.name == "metadata":
            reception.use_metadata(await self._said(_MetadataByFile.validate_json, "metadata"))
            self._values["metadata"].clear()

    async def _said(self, validate: Callable[[bytes | bytearray], _Model], name: str) -> _Model:
        """A field's JSON. Raises as ``validated``, and ``PayloadTooLargeError`` for more values than a body may hold."""
        raw, root = self._values.get(name) or b"{}", f"#/{name}"
        if len(raw) < THREAD_BYTES:
            return validated(validate, raw, root)
        async with self._room.values(self._tenant_id, raw):
            return await asyncio.to_thread(validated, validate, raw, root)


class JsonFeed:
    """Documents are decoded one by one; one that cannot be decoded is refused alone.

    A JSON body is held in memory whole, so it is read once there is room for it.
    """

    def __init__(
        self, body: RequestBody, room: JsonRoom, tenant_id: str, check: SelectionCheck, *, makes_batch: bool
    ) -> None:
        self._check = check
        self._body = body
        self._room = room
        self._tenant_id = tenant_id
        self._model: type[JsonSubmission | JsonDocuments] = JsonSubmission if makes_batch else JsonDocuments

    async def read(self, reception: Reception) -> SubmissionSpec | None:
        async with json_of(self._body, self._room, self._tenant_id, self._model) as parsed:
            return await self._take_in(parsed, reception)

    async def _take_in(self, parsed: JsonSubmission | JsonDocuments, reception: Reception) -> SubmissionSpec | None:
        check_count(len(parsed.documents), reception.limits)
        for document in parsed.documents:
            await take_inline(document.filename, document.content, document.metadata, reception)
        await take_selections(parsed.sources, reception, self._check)
        if isinstance(parsed, JsonDocuments):
            return None
        given = parsed.model_fields_set & SubmissionSpec.model_fields.keys()
        spec = SubmissionSpec(**{name: getattr(parsed, name) for name in given})
        check_metadata(spec.metadata, reception.limits)
        return spec


@asynccontextmanager
async def json_of(body: RequestBody, room: JsonRoom, tenant_id: str, model: type[_Json]) -> AsyncIterator[_Json]:
    """The whole body as JSON, held in memory as long as the block lasts.

    Raises ``RequestError`` where it is none, ``ValidationFailedError`` where it does not fit.
    """
    async with room.body(tenant_id, body.announced_bytes):
        raw = await body.whole()
        async with room.values(tenant_id, raw):
            if len(raw) < THREAD_BYTES:
                parsed = validated(model.model_validate_json, raw, "#")
            else:
                parsed = await asyncio.to_thread(validated, model.model_validate_json, raw, "#")
            del raw
            yield parsed


async def take_inline(filename: str, content: str, metadata: dict[str, Any], reception: Reception) -> None:
    """A document whose bytes came as base64; broken base64 costs the document."""
    filename = filename[-MAX_NAME_CHARACTERS:]
    try:
        is_small = len(content) < THREAD_BYTES
        decoded = _decoded(content) if is_small else await asyncio.to_thread(_decoded, content)
    except (binascii.Error, ValueError):
        failure = refusal(ContentInvalidError("The content is not valid base64."))
        await reception.refuse(filename, failure, metadata)
        return
    await take_bytes(filename, decoded, metadata, reception)


async def take_bytes(filename: str, content: bytes, metadata: dict[str, Any], reception: Reception) -> None:
    """A document whose bytes are at hand."""
    await reception.begin(filename[-MAX_NAME_CHARACTERS:])
    await reception.write(content)
    await reception.end(metadata)


async def take_selections(
    selections: Sequence[FileSelection],
    reception: Reception,
    check: SelectionCheck,
    metadata: Mapping[SourceType, dict[str, Any]] | None = None,
) -> None:
    """Files of connected sources, a document each: selection by selection, in the order of their ids.

    ``metadata`` is that of each document from a type of source. Nothing is asked of a source: a file that is not there
    fails alone when it runs. Raises what ``check`` does, and ``BatchTooLargeError``.
    """
    if not selections:
        return
    if not reception.is_replay:  # a connection may have been deleted since, and the batch is what it was
        await check(selections)
    selected = sum(len(selection.file_ids) for selection in selections)
    check_count(reception.tally.document_count + selected, reception.limits)
    for number, selection in enumerate(selections):
        for place, file_id in enumerate(selection.file_ids):
            if place % _SELECTED_AT_ONCE == 0:
                await asyncio.sleep(0)
            await reception.refer(
                SourceRef(
                    connection_id=selection.connection_id,
                    source_type=selection.source_type,
                    file_id=file_id,
                    selection=number,
                ),
                (metadata or {}).get(selection.source_type),
            )


def _decoded(content: str) -> bytes:
    return base64.b64decode("".join(content.split()), validate=True)


def validated(validate: Callable[[bytes | bytearray], _Model], raw: bytes | bytearray, root: str) -> _Model:
    """What the JSON says. Raises ``RequestError`` where it is none, ``ValidationFailedError`` where it does not fit."""
    try:
        return validate(raw)
    except ValidationError as error:
        problems = field_problems(error, root)
        if any(problem.code == "json_invalid" for problem in problems):
            where = "body" if root == "#" else f"field {root.removeprefix('#/')}"
            raise RequestError(f"The {where} is not valid JSON.") from None
        raise request_invalid("The request does not fit the schema; see errors.", problems) from None
