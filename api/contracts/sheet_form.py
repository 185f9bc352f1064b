"""The forms of contract C: a chunk, or whole files, and the fields that say what they are, in any order."""

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api.multipart import PartBegins, PartData, PartEnds, read_parts
from api.problems import field_problems, invalid, request_invalid
from api.service.chunk_sink import Sink
from ingather.models.errors import PayloadTooLargeError
from ingather.models.sheets import TaskId, UploadType

CHUNK = "chunk"
FILES = frozenset({"file", "files"})
MAX_FIELD_BYTES = 64 * 1024
"""Room for 10,000 characters of four bytes each."""
MAX_FIELDS = 50

_DESCRIBING = ("notes", "profile_id", "alignment_mode")

OpenSink = Callable[[Mapping[str, str], str], Awaitable[Sink | None]]
"""Where the bytes of a part go, by the fields that came before it and the name it has; None to let them go."""


def _none(value: object) -> object:
    """What a form can say instead of leaving a field out."""
    return None if value == "" else value


class SheetFields(BaseModel):
    """What an upload is, whichever way it comes."""

    model_config = ConfigDict(frozen=True)

    upload_type: UploadType
    task_id: Annotated[TaskId | None, BeforeValidator(_none)] = Field(
        default=None, description="Eight digits; required for `zip_no_qr` and `images`."
    )
    notes: Annotated[str | None, BeforeValidator(_none)] = Field(
        default=None, max_length=10_000, description="Kept with the batch, as the next two."
    )
    profile_id: Annotated[str | None, BeforeValidator(_none)] = Field(default=None, max_length=255)
    alignment_mode: Annotated[str | None, BeforeValidator(_none)] = Field(default=None, max_length=255)

    @property
    def metadata(self) -> dict[str, str]:
        """What is kept with the batch."""
        given = {name: getattr(self, name) for name in _DESCRIBING}
        return {name: value for name, value in given.items() if value is not None}


class ChunkFields(SheetFields):
    """The same with a chunk's place in its upload."""

    chunk_index: int = Field(description="From 0 on.", examples=[0])
    total_chunks: int = Field(description="How many chunks the file has.", examples=[2])
    filename: str = Field(min_length=1, max_length=10_000, description="The whole file's name.")
    upload_id: Annotated[str | None, BeforeValidator(_none)] = Field(
        default=None, max_length=255, description="Left out with chunk 0, whose answer gives it."
    )
    is_final_chunk: Annotated[bool, BeforeValidator(lambda value: value or False)] = Field(
        default=False,
        description="`true` with the last index. All chunks being there is what counts, whichever came last.",
    )


def fields_of(model: type[SheetFields], values: Mapping[str, str]) -> Any:
    """The fields, checked. Raises ``ValidationFailedError``."""
    known = {name: value for name, value in values.items() if name in model.model_fields}
    try:
        fields = model.model_validate(known)
    except ValidationError as error:
        problems = field_problems(error)
        where = ", ".join(problem.pointer.removeprefix("#/") for problem in problems[:3])
        raise request_invalid(f"The form does not fit; see {where}.", problems) from None
    if fields.task_id is None and not fields.upload_type.is_grouped_by_code:
        raise invalid("#/task_id", f"Eight digits are required for {fields.upload_type.value}.", "missing")
    return fields


class SheetForm:
    """Reads one form. Fields of other names are let pass.

    Args:
        names: of the parts that hold bytes.
        open_sink: asked once for each of them.
    """

    def __init__(
        self, body: AsyncGenerator[bytes, None], boundary: str, names: frozenset[str], open_sink: OpenSink
    ) -> None:
        self._body = body
        self._boundary = boundary
        self._names = names
        self._open_sink = open_sink
        self._values: dict[str, bytearray] = {}
        self.sinks: list[tuple[str, Sink]] = []
        """Where bytes went, with their file names, in their order."""
        self.content_count = 0
        """Parts that held bytes, those that were let go too."""

    @property
    def values(self) -> dict[str, str]:
        """Fields that have come so far."""
        return {name: value.decode("utf-8", "replace") for name, value in self._values.items()}

    async def read(self) -> None:
        part: PartBegins | None = None
        sink: Sink | None = None
        async with contextlib.aclosing(read_parts(self._body, self._boundary)) as events:
            async for event in events:
                if isinstance(event, PartBegins):
                    part, sink = event, await self._begin(event)
                elif isinstance(event, PartEnds) and sink is not None and not sink.is_over:
                    # Not at the form's end: the parts after it need the memory, and perhaps the turn, that it holds.
                    await sink.end()
                elif part is None or not isinstance(event, PartData):
                    continue
                elif part.name not in self._names:
                    self._take_field(part.name, event.content)
                elif sink is not None:
                    await sink.write(event.content)

    def keep(self) -> list[Sink]:
        """What was stored is somebody else's concern from now on."""
        stored, self.sinks = [sink for _, sink in self.sinks], []
        return stored

    async def discard(self) -> None:
        """Remove what was stored. Never raises."""
        for _, sink in self.sinks:
            await sink.discard()

    async def _begin(self, part: PartBegins) -> Sink | None:
        if part.name not in self._names:
            self._values[part.name] = bytearray()
            if len(self._values) > MAX_FIELDS:
                raise PayloadTooLargeError(f"The form has more than {MAX_FIELDS} fields.")
            return None
        self.content_count += 1
        sink = await self._open_sink(self.values, part.filename or "")
        if sink is not None:
            self.sinks.append((part.filename or "", sink))
        return sink

    def _take_field(self, name: str, content: bytes) -> None:
        value = self._values[name]
        value += content
        if len(value) > MAX_FIELD_BYTES:
            raise PayloadTooLargeError(f"A field of the form is larger than {MAX_FIELD_BYTES:,} bytes.")
