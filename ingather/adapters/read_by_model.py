"""A preparer whose documents are read by a language model where their batch asks for it.

The parsers find the text, the model writes it as Markdown, and that is chunked and embedded like any other. What the
parsers refuse is refused before it costs a call.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath

from ingather.adapters.preparer_around import PreparerAround
from ingather.domain.artifact import read_text
from ingather.models.content import MediaType, PreparedDocument, PrepareRequest, Stage
from ingather.models.errors import ConfigurationError
from ingather.ports.document_preparer import DocumentPreparer
from ingather.ports.document_reader import DocumentReader


class ReadByModel(PreparerAround):
    """A ``DocumentPreparer`` around another.

    Args:
        inner: parses, chunks and embeds.
        reader: the model; None where this worker has none.
    """

    def __init__(self, inner: DocumentPreparer, reader: DocumentReader | None) -> None:
        super().__init__(inner)
        self._reader = reader

    async def prepare(self, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        if request.parsing_model is None:
            return await self._inner.prepare(request, on_stage)
        reader = self._reader_named(request.parsing_model)
        plain = replace(request, parsing_model=None)
        # How good its text is, is judged by what the model makes of it.
        parsed = await self._inner.prepare(replace(plain, quality_threshold=0.0), on_stage)
        on_stage(Stage.READING)
        markdown = await _read(reader, parsed, request.content)
        if not markdown:
            return parsed
        name = f"{PurePath(request.filename).stem}.md"
        read = await self._inner.prepare(replace(plain, content=markdown.encode(), filename=name), on_stage)
        return replace(
            read,
            media_type=parsed.media_type,
            page_count=parsed.page_count,
            title=read.title or parsed.title,
            timings_ms={
                stage: round(parsed.timings_ms.get(stage, 0.0) + read.timings_ms.get(stage, 0.0), 3)
                for stage in {**parsed.timings_ms, **read.timings_ms}
            },
        )

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


async def _read(reader: DocumentReader, parsed: PreparedDocument, content: bytes) -> str:
    """Empty where there is nothing to read."""
    if parsed.media_type == MediaType.IMAGE:
        return await reader.read_image(content) or ""
    text = read_text(parsed.artifact)
    return await reader.read_text(text) if text.strip() else ""
