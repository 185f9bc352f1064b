"""Bytes to a prepared document, in the process that calls: the function every parser process runs.

``InProcessPreparer`` puts it behind the port without any child process: for tests, for tools and for
measuring what the isolation costs. A worker uses ``SupervisedPreparer``.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import numpy as np

from ingather.adapters.embedding import fill_vectors, restore_prepared
from ingather.adapters.page_drawing import draw_page
from ingather.adapters.parser_versions import pipeline_description
from ingather.adapters.parsers.docx import parse_docx
from ingather.adapters.parsers.email import parse_email
from ingather.adapters.parsers.html import parse_html
from ingather.adapters.parsers.images import parse_image
from ingather.adapters.parsers.layout import paged_document
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.pdf import parse_pdf
from ingather.adapters.parsers.pptx import parse_pptx
from ingather.adapters.parsers.rtf import parse_rtf
from ingather.adapters.parsers.sheets import read_sheet, sheet_media_type
from ingather.adapters.parsers.text import parse_csv, parse_markdown, parse_text
from ingather.adapters.parsers.xlsx import parse_xlsx
from ingather.domain import artifact
from ingather.domain.chunking import chunk_document
from ingather.domain.media_type import detect_media_type
from ingather.domain.quality import text_quality
from ingather.models.content import (
    Chunk,
    MediaType,
    ParsedDocument,
    PreparedDocument,
    PrepareRequest,
    SheetReading,
    Stage,
)
from ingather.models.errors import DocumentCorruptError, DocumentError, LowQualityError
from ingather.ports.embedder import Embedder, RemoteEmbedder, Vectors

Parse = Callable[[bytes, ParseLimits], ParsedDocument]

_Parsed = TypeVar("_Parsed")

_EMBEDDED_AT_ONCE: Final = 4_096

_PARSERS: Final[dict[MediaType, Parse]] = {
    MediaType.PDF: parse_pdf,
    MediaType.DOCX: parse_docx,
    MediaType.PPTX: parse_pptx,
    MediaType.XLSX: parse_xlsx,
    MediaType.HTML: parse_html,
    MediaType.MARKDOWN: parse_markdown,
    MediaType.TEXT: parse_text,
    MediaType.CSV: parse_csv,
    MediaType.EML: parse_email,
    MediaType.RTF: parse_rtf,
    MediaType.IMAGE: parse_image,
}


def prepare_document(
    request: PrepareRequest, embedder: Embedder | None, limits: ParseLimits, on_stage: Callable[[Stage], None]
) -> PreparedDocument:
    """Detect, parse, chunk and embed one document, or draw the page that is asked for. Blocking.

    Without an embedder the artifact has no vectors and ``embedded`` is False. Raises the
    ``DocumentError`` that fits, with ``facts['stage']``; a parser's own exceptions, Rust panics among them,
    become ``DocumentCorruptError``. ``MemoryError`` passes through. ``request.timeout_seconds`` is for whoever
    watches this process: nothing in here can interrupt a native parser.
    """
    clock = _StageClock(on_stage)
    try:
        return _prepare(request, embedder, limits, clock)
    except DocumentError as error:
        error.facts.setdefault("stage", clock.stage.value)
        raise


def _prepare(
    request: PrepareRequest, embedder: Embedder | None, limits: ParseLimits, clock: "_StageClock"
) -> PreparedDocument:
    clock.begin(Stage.DETECTING)
    if request.is_sheet:
        media_type = sheet_media_type(request.content)
    else:
        media_type = detect_media_type(request.content, request.filename)
    if request.page is not None:
        return _guarded(media_type, partial(draw_page, request, embedder, limits, clock.begin))
    clock.begin(Stage.PARSING)
    sheet: SheetReading | None = None
    if request.is_sheet:
        sheet, text = _guarded(media_type, partial(_read_sheet, request, media_type, limits))
        if not text:
            return _sheet_without_text(media_type, sheet, clock)
        parsed = paged_document(media_type, [text])
    else:
        parsed = _guarded(media_type, partial(_PARSERS[media_type], request.content, limits))
    quality = text_quality(parsed.text)
    if parsed.text and quality < request.quality_threshold:
        raise LowQualityError(
            f"text scores {quality:.2f}, the threshold is {request.quality_threshold:.2f}",
            score=quality,
            threshold=request.quality_threshold,
        )
    clock.begin(Stage.CHUNKING)
    chunks = chunk_document(
        parsed,
        size=request.chunk_size,
        overlap=request.chunk_overlap,
        preserve_structure=request.preserve_structure,
        extract_math=request.extract_math,
    )
    vectors = None
    if embedder is not None:
        clock.begin(Stage.EMBEDDING)
        vectors = _vectors(embedder, chunks)
    clock.begin(Stage.WRITING)
    encoded = artifact.encode(
        parsed,
        chunks,
        vectors,
        quality=quality,
        embedder=embedder.name if embedder is not None else None,
        versions=pipeline_description(embedder.name if embedder is not None else None),
    )
    return PreparedDocument(
        artifact=encoded,
        media_type=parsed.media_type,
        page_count=len(parsed.pages) or None,
        chunk_count=len(chunks),
        character_count=len(parsed.text),
        quality=quality,
        embedded=vectors is not None,
        title=parsed.title,
        warnings=parsed.warnings,
        timings_ms=clock.finish(),
        sheet=sheet,
    )


def _read_sheet(request: PrepareRequest, media_type: MediaType, limits: ParseLimits) -> tuple[SheetReading, str]:
    reading, first_page = read_sheet(request.content, media_type, limits)
    if not request.ocr:
        return reading, ""
    # Its library takes a second to import and is there only where it was asked for.
    from ingather.adapters.parsers.ocr import recognised_text  # noqa: PLC0415

    return reading, recognised_text(first_page)


def _sheet_without_text(media_type: MediaType, sheet: SheetReading, clock: "_StageClock") -> PreparedDocument:
    return PreparedDocument(
        artifact=b"",
        media_type=media_type,
        page_count=sheet.page_count,
        chunk_count=0,
        character_count=0,
        quality=1.0,
        embedded=True,
        timings_ms=clock.finish(),
        sheet=sheet,
    )


def _vectors(embedder: Embedder, chunks: Sequence[Chunk]) -> Vectors:
    """Embed some thousand chunks at a time, so that a huge document needs memory for its vectors only."""
    vectors = np.empty((len(chunks), embedder.dimensions), dtype=np.float32)
    for start in range(0, len(chunks), _EMBEDDED_AT_ONCE):
        part = chunks[start : start + _EMBEDDED_AT_ONCE]
        vectors[start : start + len(part)] = embedder.embed([chunk.text for chunk in part])
    return vectors


def _guarded(media_type: MediaType, parse: Callable[[], _Parsed]) -> _Parsed:
    try:
        return parse()
    except (DocumentError, MemoryError):
        raise
    except Exception as error:
        raise _corrupt(media_type, error) from error
    except BaseException as error:
        # A panic in Rust code is no Exception; anything else that is none (an exit, an interrupt) goes on.
        if type(error).__name__ != "PanicException":
            raise
        raise _corrupt(media_type, error) from error


def _corrupt(media_type: MediaType, error: BaseException) -> DocumentCorruptError:
    # The parser's own message may quote the document, so only its type is told.
    name = type(error).__name__
    return DocumentCorruptError(f"{media_type.value} parser gave up with {name}", error_type=name)


def warm_up(embedder: Embedder | None) -> None:
    """Run each parser that loads something at its first use, so that the copies of this process need not."""
    for filename, content in (("a.txt", b"word"), ("a.md", b"# Word"), ("a.html", b"<html><h1>Word</h1></html>")):
        request = PrepareRequest(
            content=content, filename=filename, chunk_size=1_000, chunk_overlap=0, quality_threshold=0.0
        )
        prepare_document(request, embedder, ParseLimits(), lambda _stage: None)


class _StageClock:
    """Announces each stage and measures how long it took."""

    def __init__(self, on_stage: Callable[[Stage], None]) -> None:
        self._on_stage = on_stage
        self._timings: dict[str, float] = {}
        self._since = 0.0
        self.stage = Stage.DETECTING

    def begin(self, stage: Stage) -> None:
        self._close()
        self.stage = stage
        self._on_stage(stage)

    def finish(self) -> dict[str, float]:
        self._close()
        return self._timings

    def _close(self) -> None:
        now = time.perf_counter()
        if self._since:
            self._timings[self.stage.value] = round((now - self._since) * 1_000, 3)
        self._since = now


class InProcessPreparer:
    """A ``DocumentPreparer`` on one thread of this process: no isolation, no time limit, no memory limit.

    Args:
        embedder: the local model; None leaves the vectors to ``remote_embedder``.
        limits: what a parser may spend.
        remote_embedder: fills in missing vectors, where it is configured.
    """

    def __init__(
        self,
        embedder: Embedder | None,
        *,
        limits: ParseLimits | None = None,
        remote_embedder: RemoteEmbedder | None = None,
    ) -> None:
        self._embedder = embedder
        self._limits = limits or ParseLimits()
        self._remote_embedder = remote_embedder
        # One thread, because pdfium fails where two parse at once.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")

    @property
    def description(self) -> dict[str, str]:
        """See the port."""
        model = self._embedder or self._remote_embedder
        return pipeline_description(model.name if model is not None else None)

    async def prepare(self, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        """See the port. Cancelling leaves the thread to finish what it does."""
        loop = asyncio.get_running_loop()

        def announce(stage: Stage) -> None:
            loop.call_soon_threadsafe(on_stage, stage)

        return await loop.run_in_executor(
            self._thread, prepare_document, request, self._embedder, self._limits, announce
        )

    async def prepare_many(
        self,
        requests: Sequence[PrepareRequest],
        on_stage: Callable[[int, Stage], None],
        on_outcome: Callable[[int, PreparedDocument | DocumentError], None] | None = None,
    ) -> list[PreparedDocument | DocumentError]:
        """See the port."""
        outcomes: list[PreparedDocument | DocumentError] = []
        for position, request in enumerate(requests):
            try:
                outcomes.append(await self.prepare(request, partial(on_stage, position)))
            except DocumentError as error:
                outcomes.append(error)
            if on_outcome is not None:
                on_outcome(position, outcomes[-1])
        return outcomes

    async def embed(self, artifact: bytes) -> bytes:
        """See the port."""
        return await fill_vectors(artifact, self._remote_embedder)

    def restore(self, artifact: bytes) -> PreparedDocument:
        """See the port."""
        return restore_prepared(artifact)

    async def close(self) -> None:
        """See the port."""
        self._thread.shutdown(wait=False, cancel_futures=True)
