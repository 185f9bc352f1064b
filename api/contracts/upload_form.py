"""The form of contract B: files on their way to storage, and what describes them, in any order.

Of a file nothing stays but its name; the mapping is held, as it is small. An upload with too many files is read to
its end all the same, without keeping more of it, because the answer says how many there were.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from api.feeds import THREAD_BYTES
from api.multipart import PartBegins, PartData, read_parts
from api.reception import Reception, SubmissionSpec
from ingather.domain.filenames import shown
from ingather.domain.metadata_mapping import MAX_MAPPING_BYTES, MetadataMapping, parse_mapping
from ingather.models.errors import BatchTooLargeError, DocumentTooLargeError, EmptyBatchError, MappingInvalidError
from ingather.models.metadata import MetadataRules

FILES = "files"
MAPPING = "metadata_mapping"
WARNINGS = "warnings"
"""Key in the batch's own metadata."""


@dataclass(frozen=True, slots=True)
class FormLimits:
    max_files: int
    max_file_bytes: int


class UploadForm:
    """Reads one upload. Fields of other names are let pass."""

    def __init__(
        self,
        body: AsyncGenerator[bytes, None],
        boundary: str,
        *,
        limits: FormLimits,
        rules: MetadataRules,
        collection: str,
    ) -> None:
        self._body = body
        self._boundary = boundary
        self._limits = limits
        self._rules = rules
        self._collection = collection
        self._names: list[str] = []
        self._file_count = 0
        self._size = 0
        self._is_open = False
        """The file at hand is being stored."""
        self._raw_mapping: bytearray | None = None
        self._mapping: MetadataMapping | None = None

    async def read(self, reception: Reception) -> SubmissionSpec:
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
        return self._said()

    def _said(self) -> SubmissionSpec:
        if self._file_count > self._limits.max_files:
            raise BatchTooLargeError(
                f"Batch exceeds maximum size of {self._limits.max_files} files. Uploaded: {self._file_count} files",
                limit="max_files_per_batch",
                limit_value=self._limits.max_files,
            )
        if not self._file_count:
            raise EmptyBatchError("No file was uploaded. Send at least one in the field 'files'.")
        warnings = self._mapping.all_warnings(self._names) if self._mapping else []
        return SubmissionSpec(collection=self._collection, metadata={WARNINGS: warnings} if warnings else {})

    async def _begin(self, part: PartBegins, reception: Reception) -> None:
        self._size, self._is_open = 0, False
        if part.name == FILES and part.filename:
            await self._begin_file(part.filename, reception)
        elif part.name == MAPPING:
            if self._raw_mapping is not None:
                raise MappingInvalidError("The metadata mapping was sent twice.")
            self._raw_mapping = bytearray()

    async def _begin_file(self, filename: str, reception: Reception) -> None:
        self._file_count += 1
        if self._file_count <= self._limits.max_files:
            await reception.begin(filename)
            self._names.append(filename)
            self._is_open = True

    async def _take(self, part: PartBegins, content: bytes, reception: Reception) -> None:
        self._size += len(content)
        if part.name == FILES:
            await self._take_file(part, content, reception)
        elif part.name == MAPPING and self._raw_mapping is not None:
            if self._size > MAX_MAPPING_BYTES:
                raise MappingInvalidError(f"The metadata mapping is larger than {MAX_MAPPING_BYTES:,} bytes.")
            self._raw_mapping += content

    async def _take_file(self, part: PartBegins, content: bytes, reception: Reception) -> None:
        if not part.filename and self._size == len(content):
            # A browser sends an empty part where nobody chose a file; one with content is a file without a name.
            await self._begin_file("", reception)
        if not self._is_open:
            return
        if self._size > self._limits.max_file_bytes:
            raise DocumentTooLargeError(
                f"File '{shown(part.filename or '')}' exceeds the maximum size of {self._limits.max_file_bytes:,} bytes.",
                limit="max_file_bytes",
                limit_value=self._limits.max_file_bytes,
            )
        await reception.write(content)

    async def _end(self, part: PartBegins, reception: Reception) -> None:
        if part.name == FILES and self._is_open:
            await reception.end()
        elif part.name == MAPPING and self._raw_mapping is not None and (self._raw_mapping or part.filename):
            raw, self._raw_mapping = bytes(self._raw_mapping), bytearray()
            schemas = self._rules.schemas
            is_small = len(raw) < THREAD_BYTES
            self._mapping = (
                parse_mapping(raw, schemas) if is_small else await asyncio.to_thread(parse_mapping, raw, schemas)
            )
            reception.use_metadata(self._mapping.rows, self._mapping.find)
