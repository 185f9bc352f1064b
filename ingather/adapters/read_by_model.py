"""A preparer whose documents are read by a language model where their batch asks for it.

The parsers find the text, the model writes it as Markdown, and that is chunked and embedded like any other. Pages of
PDFs and images on which the parsers find none are drawn by the parser processes, for the model that sees. What the
parsers refuse is refused before it costs a call.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import PurePath
from typing import Final

from ingather.adapters.parsers.layout import PAGE_UNREADABLE
from ingather.adapters.preparer_around import PreparerAround
from ingather.adapters.together import together
from ingather.domain.artifact import ArtifactHeader, decode, standing_for
from ingather.models.content import MediaType, PreparedDocument, PrepareRequest, Stage
from ingather.models.engine import READING_SECONDS
from ingather.models.errors import (
    ConfigurationError,
    DocumentError,
    DocumentTimeoutError,
    DocumentTooLargeError,
    ParserKilledError,
)
from ingather.ports.document_preparer import DocumentPreparer
from ingather.ports.document_reader import DocumentReader
from ingather.ports.page_images import BLANK_PAGE, DRAWN_TYPES

_PAGE_WIDTH: Final = 1_600
"""Pixels: about 190 a printed inch, and more than models that see look at."""
_PAGE_SECONDS: Final = 10.0
"""For drawing one; it takes a fraction of a second."""
_MOST_PAGES: Final = 500
"""Of one document that the model is shown."""
_PAGES_AT_ONCE: Final = 4
"""Pictures of one document that are held: being drawn, or with the model."""


class ReadByModel(PreparerAround):
    """A ``DocumentPreparer`` around another.

    Args:
        inner: parses, chunks and embeds.
        reader: the model; None where this worker has none.
        longest: what it may take to read a document; more fails the attempt.
    """

    def __init__(
        self,
        inner: DocumentPreparer,
        reader: DocumentReader | None,
        longest: timedelta = timedelta(seconds=READING_SECONDS),
    ) -> None:
        super().__init__(inner)
        self._reader = reader
        self._longest_seconds = longest.total_seconds()

    async def prepare(self, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        if request.parsing_model is None:
            return await self._inner.prepare(request, on_stage)
        reader = self._reader_named(request.parsing_model)
        plain = replace(request, parsing_model=None)
        # How good its text is, is judged by what the model makes of it.
        parsed = await self._inner.prepare(replace(plain, quality_threshold=0.0), on_stage)
        on_stage(Stage.READING)
        markdown, is_whole = await self._read_in_time(reader, plain, parsed)
        unreadable = () if is_whole and PAGE_UNREADABLE not in parsed.warnings else (PAGE_UNREADABLE,)
        if not markdown:
            return self._told(parsed, parsed, unreadable)
        name = f"{PurePath(request.filename).stem}.md"
        read = await self._inner.prepare(replace(plain, content=markdown.encode(), filename=name), on_stage)
        return replace(
            self._told(read, parsed, unreadable),
            timings_ms={
                stage: round(parsed.timings_ms.get(stage, 0.0) + read.timings_ms.get(stage, 0.0), 3)
                for stage in {**parsed.timings_ms, **read.timings_ms}
            },
        )

    def _told(self, read: PreparedDocument, parsed: PreparedDocument, warnings: Iterable[str]) -> PreparedDocument:
        """What was read, and in its artifact that it is the document: a retry, and a remote embedder, go on from there."""
        artifact = standing_for(
            read.artifact,
            media_type=parsed.media_type,
            page_count=parsed.page_count,
            title=read.title or parsed.title,
            warnings=tuple(dict.fromkeys((*read.warnings, *warnings))),
        )
        return replace(self._inner.restore(artifact), timings_ms=read.timings_ms)

    def _reader_named(self, name: str) -> DocumentReader:
        if self._reader is None or self._reader.name != name:
            raise ConfigurationError(
                f"The batch wants its documents read by {name}, which this worker has not.",
                action="Set INGATHER_LLM__… for workers as for the API, then retry this code.",
            )
        return self._reader

    async def close(self) -> None:
        await super().close()
        if self._reader is not None:
            await self._reader.close()

    async def _read_in_time(
        self, reader: DocumentReader, plain: PrepareRequest, parsed: PreparedDocument
    ) -> tuple[str, bool]:
        """The same as ``_read``. An attempt that the engine has to end is no failure of the document, and would be made, and
        paid for, again and again.
        """
        timer = asyncio.timeout(self._longest_seconds)
        try:
            async with timer:
                return await self._read(reader, plain, parsed)
        except TimeoutError as error:
            if not timer.expired():
                raise
            raise DocumentTimeoutError(
                f"The language model did not read the document in {self._longest_seconds:g} seconds.",
                timeout_seconds=self._longest_seconds,
            ) from error

    async def _read(self, reader: DocumentReader, plain: PrepareRequest, parsed: PreparedDocument) -> tuple[str, bool]:
        """The document as Markdown, empty where there is nothing to read; and whether every page could be."""
        if parsed.media_type == MediaType.IMAGE:
            # As it is, where the model takes it so.
            markdown = await reader.read_image(plain.content)
            if markdown is not None:
                return markdown, True
        are_drawn = reader.reads_images and parsed.media_type in DRAWN_TYPES
        parts = _parts(decode(parsed.artifact).header, are_drawn=are_drawn)
        numbers = [part for part in parts if isinstance(part, int)]
        if len(numbers) > _MOST_PAGES:
            raise DocumentTooLargeError(
                f"The document has {len(numbers):,} pages without text; a language model is shown {_MOST_PAGES} at most."
            )
        texts = iter(await reader.read_texts([part for part in parts if isinstance(part, str)]))
        pages = await self._read_pages(reader, plain, numbers)
        read = [next(texts) if isinstance(part, str) else pages[part] for part in parts]
        return "\n\n".join(markdown for markdown in read if markdown), None not in read

    async def _read_pages(
        self, reader: DocumentReader, plain: PrepareRequest, numbers: Sequence[int]
    ) -> dict[int, str | None]:
        """What is on pages, by number; None for one that cannot be drawn, or not so that the model takes it."""
        read: dict[int, str | None] = {}
        to_come = iter(numbers)
        # One parser process at a time, as for any other document.
        drawing = asyncio.Lock()

        async def read_on() -> None:
            for number in to_come:
                async with drawing:
                    picture = await self._drawn(plain, number)
                if picture:
                    read[number] = await reader.read_image(picture)
                else:
                    read[number] = None if picture is None else ""

        await together(read_on() for _ in range(_PAGES_AT_ONCE))
        return read

    async def _drawn(self, plain: PrepareRequest, number: int) -> bytes | None:
        """A page as a PNG, empty where nothing is on it; None where it cannot be drawn.

        Raises ``ParserKilledError`` as for a document: where one page costs two processes, the others would, too.
        """
        seconds = min(_PAGE_SECONDS, plain.timeout_seconds)
        wanted = replace(plain, page=number, width=_PAGE_WIDTH, timeout_seconds=seconds)
        try:
            drawn = await self._inner.prepare(wanted, lambda _stage: None)
        except ParserKilledError:
            raise
        except DocumentError:
            return None
        return b"" if BLANK_PAGE in drawn.warnings else drawn.artifact


def _parts(header: ArtifactHeader, *, are_drawn: bool) -> list[str | int]:
    """The document in order: its texts, and the numbers of pages between them that have none."""
    parts: list[str | int] = []
    begun = 0
    for page in header.pages if are_drawn else ():
        if not header.text[page.start : page.end].strip():
            parts += [header.text[begun : page.start], page.number]
            begun = page.end
    parts.append(header.text[begun:])
    return [part for part in parts if isinstance(part, int) or part.strip()]
