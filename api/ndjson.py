"""NDJSON bodies: a document a line, as many lines as a batch may have, one of them in memory at a time.

A line that cannot be read refuses the request as a whole, because nobody could tell which document is
missing; the answer names the first twenty of them by number.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from api.feeds import THREAD_BYTES, take_bytes, take_inline
from api.json_room import JsonRoom
from api.problems import FieldProblem, field_problems, invalid, request_invalid
from api.reception import Reception, SubmissionSpec, check_metadata

NDJSON_MEDIA_TYPES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
MAX_BAD_LINES = 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class LineDocument(BaseModel):
    """A document on a line of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filename: str
    content: str | None = Field(default=None, repr=False)
    """The bytes, as standard base64; or give ``text``."""
    text: str | None = Field(default=None, repr=False)
    """Plain text, taken as UTF-8."""
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_one_content(self) -> Self:
        if (self.content is None) == (self.text is None):
            raise ValueError("give either content or text")
        return self


class SpecLine(BaseModel):
    """The first line, where it speaks of the batch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: SubmissionSpec


@dataclass(slots=True)
class _BadLines:
    """What is wrong, line by line."""

    problems: list[FieldProblem] = field(default_factory=list)
    lines: int = 0

    def add(self, number: int, problems: list[FieldProblem]) -> None:
        self.lines += 1
        first = problems[0]
        detail = "It is not valid JSON." if first.code == "json_invalid" else first.detail
        more = f" ({len(problems) - 1} more on this line)" if len(problems) > 1 else ""
        pointer = f"line:{number}{first.pointer}"
        self.problems.append(FieldProblem(detail=f"Line {number}: {detail}{more}", pointer=pointer, code=first.code))


class NdjsonFeed:
    """Lines go to the reception as they arrive.

    Args:
        room: for long lines, which are held in memory several times over while they are read.
        makes_batch: the first line may speak of the batch.
    """

    def __init__(
        self,
        body: AsyncGenerator[bytes, None],
        room: JsonRoom,
        tenant_id: str,
        *,
        max_line_bytes: int,
        makes_batch: bool,
    ) -> None:
        self._body = body
        self._room = room
        self._tenant_id = tenant_id
        self._max_line_bytes = max_line_bytes
        self._makes_batch = makes_batch
        self._bad = _BadLines()

    async def read(self, reception: Reception) -> SubmissionSpec | None:
        """Raises ``ValidationFailedError`` with the lines that cannot be read."""
        spec: SubmissionSpec | None = None
        is_first = True
        async with contextlib.aclosing(_lines(self._body, self._max_line_bytes)) as lines:
            async for number, line in lines:
                if is_first and line is not None and _speaks_of_batch(line):
                    spec = await self._spec(number, line, reception)
                else:
                    await self._take(number, line, reception)
                is_first = False
                if self._bad.lines >= MAX_BAD_LINES:
                    break
        if self._bad.lines:
            raise self._refusal()
        return (spec or SubmissionSpec()) if self._makes_batch else None

    async def _spec(self, number: int, line: bytes, reception: Reception) -> SubmissionSpec | None:
        if not self._makes_batch:
            raise invalid(
                f"line:{number}#/spec", "The batch has its spec already; send documents alone.", "unknown_field"
            )
        is_long = len(line) > THREAD_BYTES
        async with self._room.values(self._tenant_id, line) if is_long else contextlib.nullcontext():
            try:
                read = SpecLine.model_validate_json
                spec = (await asyncio.to_thread(read, line) if is_long else read(line)).spec
            except ValidationError as error:
                self._bad.add(number, field_problems(error))
                return None
        check_metadata(spec.metadata, reception.limits)
        return spec

    async def _take(self, number: int, line: bytes | None, reception: Reception) -> None:
        if line is None:
            limit = f"The line is longer than max_line_bytes ({self._max_line_bytes:,}); send the file as multipart."
            self._bad.add(number, [FieldProblem(detail=limit, pointer="#", code="line_too_large")])
            return
        is_long = len(line) > THREAD_BYTES
        async with self._room.values(self._tenant_id, line) if is_long else contextlib.nullcontext():
            try:
                read = LineDocument.model_validate_json
                document = await asyncio.to_thread(read, line) if is_long else read(line)
            except ValidationError as error:
                self._bad.add(number, field_problems(error))
                return
            # Nothing is kept of a request that is refused; the rest is only read for what else is wrong.
            if not self._bad.lines:
                await _hand_over(document, reception)

    def _refusal(self) -> Exception:
        count = self._bad.lines
        lines = f"{count} line" + ("s" if count != 1 else "") + (" or more" if count >= MAX_BAD_LINES else "")
        return request_invalid(f"{lines} cannot be read; nothing was kept. See errors.", self._bad.problems)


async def _hand_over(document: LineDocument, reception: Reception) -> None:
    if document.content is not None:
        await take_inline(document.filename, document.content, document.metadata, reception)
    else:
        await take_bytes(document.filename, (document.text or "").encode(), document.metadata, reception)


def _speaks_of_batch(line: bytes) -> bool:
    """Whether its first member is ``spec``."""
    start = line.lstrip()
    return start.startswith(b"{") and start[1:].lstrip().startswith(b'"spec"')


async def _lines(body: AsyncGenerator[bytes, None], limit: int) -> AsyncGenerator[tuple[int, bytes | None], None]:
    """Lines with their numbers, from 1; empty ones are passed over, and None stands for one that is too long."""
    number = 0
    line = bytearray()
    is_too_long = False
    async with contextlib.aclosing(body):
        async for chunk in body:
            *ended, rest = chunk.split(b"\n")
            for piece in ended:
                number += 1
                line += piece
                if is_too_long or len(line) > limit:
                    yield number, None
                elif whole := _text_of(line, number):
                    yield number, whole
                line.clear()
                is_too_long = False
            if not is_too_long:
                line += rest
                if len(line) > limit:
                    is_too_long = True
                    line.clear()
    if is_too_long:
        yield number + 1, None
    elif whole := _text_of(line, number + 1):
        yield number + 1, whole


def _text_of(line: bytearray, number: int) -> bytes:
    content = bytes(line)
    if number == 1:
        content = content.removeprefix(_BYTE_ORDER_MARK)
    return b"" if not content or content.isspace() else content
