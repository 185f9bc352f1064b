"""Pages as pictures, drawn where documents are parsed: in a confined process that may die of what it reads.

A drawing is small and is not kept: who looks again has it in the browser. What draws, and what starts processes, is
loaded when the first page is asked for: most API processes never draw any.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final

from ingather.models.content import PrepareRequest
from ingather.models.errors import DocumentError, PageNotDrawableError

if TYPE_CHECKING:
    from ingather.adapters.parser_processes import SupervisedPreparer

_SECONDS: Final = 20.0
_MEMORY_BYTES: Final = 1024**3
_AT_ONCE: Final = 2
"""Documents whose bytes are held, one of them being drawn."""


class SupervisedPageImages:
    """``PageImages`` on one confined process, started when the first page is asked for."""

    def __init__(self) -> None:
        self._preparer: SupervisedPreparer | None = None
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def draw(self, content: bytes, *, page: int, width: int) -> bytes:
        """See the port."""
        async with self._turn:
            request = _request(content, page, width)
            try:
                return (await self._started().prepare(request, lambda _stage: None)).artifact
            except DocumentError as error:
                raise _said(error) from error

    async def close(self) -> None:
        """See the port."""
        if self._preparer is not None:
            await self._preparer.close()

    def _started(self) -> "SupervisedPreparer":
        from ingather.adapters.parser_processes import SupervisedPreparer  # noqa: PLC0415  # see the module

        if self._preparer is None:
            self._preparer = SupervisedPreparer(
                processes=1,
                memory_bytes=_MEMORY_BYTES,
                recycle_after=200,
                prepare="ingather.adapters.page_drawing:draw_page",
            )
        return self._preparer


class InProcessPageImages:
    """``PageImages`` on one thread of this process: no isolation, for tests."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draw")

    async def draw(self, content: bytes, *, page: int, width: int) -> bytes:
        """See the port."""
        from ingather.adapters.page_drawing import draw_page  # noqa: PLC0415  # see the module
        from ingather.adapters.parsers.limits import ParseLimits  # noqa: PLC0415

        drawing = partial(draw_page, _request(content, page, width), None, ParseLimits(), lambda _stage: None)
        try:
            drawn = await asyncio.get_running_loop().run_in_executor(self._thread, drawing)
        except DocumentError as error:
            raise _said(error) from error
        return drawn.artifact

    async def close(self) -> None:
        """See the port."""
        self._thread.shutdown(wait=False)


def _request(content: bytes, page: int, width: int) -> PrepareRequest:
    return PrepareRequest(
        content=content,
        filename="page",
        chunk_size=0,
        chunk_overlap=0,
        quality_threshold=0.0,
        timeout_seconds=_SECONDS,
        page=page,
        width=width,
    )


def _said(error: DocumentError) -> DocumentError | PageNotDrawableError:
    """A page that is not there is the mistake of whoever asks, and no fault of the document."""
    return PageNotDrawableError(error.message) if error.facts.get("reason") == "no_such_page" else error
