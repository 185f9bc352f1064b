"""Cutting a document into searchable pieces whose offsets are exact.

Sizes are characters. A chunk never exceeds ``size``, never is blank, and always equals
``text[start:end]``. With ``preserve_structure`` a cut is made at every page and heading first, unless the piece before
it is so short that it reads better with what follows; inside such a section, and between
sentences and words, semchunk chooses the cut. Overlap is made by letting a chunk
reach back into the one before it in the same section, from the start of a word.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import cast

from semchunk.semchunk import chunk as semantic_chunk

from ingather.models.content import Chunk, Heading, ParsedDocument

_SHORT_SECTION_SHARE = 5
"""A section under a fifth of the chunk size joins the next one, where both fit."""
_WORD_SEARCH_CHARACTERS = 60
_WINDOW_CHARACTERS = 200_000

Span = tuple[int, int]


def chunk_document(parsed: ParsedDocument, *, size: int, overlap: int, preserve_structure: bool = True) -> list[Chunk]:
    """Cut a document.

    Args:
        parsed: the document.
        size: most characters a chunk may have, at least 1.
        overlap: most characters a chunk shares with the one before, less than ``size``.
        preserve_structure: break at pages and headings first.
    """
    text = parsed.text
    sections = _sections(parsed, size) if preserve_structure else [(0, len(text))]
    spans = [span for section in sections for span in _cut(text, section, size, overlap)]
    page_starts = [page.start for page in parsed.pages]
    paths = _HeadingPaths(parsed.headings)
    chunks = []
    for ordinal, (start, end) in enumerate(spans):
        position = bisect_right(page_starts, start) - 1
        chunks.append(
            Chunk(
                ordinal=ordinal,
                text=text[start:end],
                start=start,
                end=end,
                page=parsed.pages[position].number if position >= 0 else None,
                headings=paths.at(start),
            )
        )
    return chunks


def _sections(parsed: ParsedDocument, size: int) -> list[Span]:
    length = len(parsed.text)
    borders = {page.start for page in parsed.pages} | {heading.start for heading in parsed.headings}
    cuts = sorted(border for border in borders if 0 < border < length)
    raw = list(zip([0, *cuts], [*cuts, length], strict=True))
    merged: list[Span] = []
    for start, end in raw:
        if merged and end - merged[-1][0] <= size and merged[-1][1] - merged[-1][0] < size // _SHORT_SECTION_SHARE:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _cut(text: str, section: Span, size: int, overlap: int) -> Iterator[Span]:
    start, end = _trimmed(text, *section)
    if start == end:
        return
    if end - start <= size:
        yield start, end
        return
    before: int | None = None
    for cut_start, cut_end in _semantic_spans(text, start, end, size - overlap):
        inner_start, inner_end = _trimmed(text, cut_start, cut_end)
        if inner_start == inner_end:
            continue
        # Beyond the start of the chunk before, reaching back would only repeat it whole.
        reached = inner_start if before is None else max(before + 1, inner_start - overlap)
        before = _reach_back(text, inner_start, reached)
        yield before, inner_end


def _semantic_spans(text: str, start: int, end: int, size: int) -> Iterator[Span]:
    for window_start, window_end in _windows(text, start, end, size):
        window = text[window_start:window_end]
        try:
            _, offsets = semantic_chunk(window, chunk_size=size, token_counter=len, memoize=False, offsets=True)
        except RecursionError:
            # Whitespace runs of ever new lengths nest one level each; such a text is cut by the ruler.
            offsets = [(i, min(i + size, len(window))) for i in range(0, len(window), size)]
        for cut_start, cut_end in cast("list[Span]", offsets):
            yield window_start + cut_start, window_start + cut_end


def _windows(text: str, start: int, end: int, size: int) -> Iterator[Span]:
    """Parts of a huge section, ending at a blank line, a line or a word: semchunk needs memory by the character."""
    reach = max(_WINDOW_CHARACTERS, 10 * size)
    while end - start > reach:
        limit = start + reach
        cut = next(
            (at for mark in ("\n\n", "\n", " ") if (at := text.rfind(mark, limit - reach // 5, limit)) > 0), limit
        )
        yield start, cut
        start = cut
    yield start, end


def _reach_back(text: str, start: int, earliest: int) -> int:
    """The start of a word at or after ``earliest``, or ``earliest`` itself in scripts that write none."""
    if earliest >= start:
        return start
    if earliest == 0 or text[earliest - 1].isspace():
        position = earliest
    else:
        position = next(
            (i for i in range(earliest, min(start, earliest + _WORD_SEARCH_CHARACTERS)) if text[i].isspace()), earliest
        )
    while position < start and text[position].isspace():
        position += 1
    return position


def _trimmed(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


class _HeadingPaths:
    """The chain of titles above each position, worked out once and then looked up."""

    def __init__(self, headings: tuple[Heading, ...]) -> None:
        self._starts: list[int] = []
        self._paths: list[tuple[str, ...]] = []
        open_headings: list[Heading] = []
        for heading in sorted(headings, key=lambda found: found.start):
            open_headings = [*(h for h in open_headings if h.level < heading.level), heading]
            self._starts.append(heading.start)
            self._paths.append(tuple(h.title for h in open_headings))

    def at(self, position: int) -> tuple[str, ...]:
        index = bisect_right(self._starts, position) - 1
        return self._paths[index] if index >= 0 else ()
