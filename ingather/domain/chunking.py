"""Cutting a document into searchable pieces whose offsets are exact.

Sizes are characters. A chunk never exceeds ``size``, never is blank, and always equals
``text[start:end]``. With ``preserve_structure`` a cut is made at every page and heading first, unless the piece before
it is so short that it reads better with what follows; inside such a section, and between
sentences and words, semchunk chooses the cut. Overlap is made by letting a chunk
reach back into the one before it in the same section, from the start of a word.

With ``extract_math`` no cut goes through a formula that fits into a chunk, and no overlap begins inside one. A formula
longer than a chunk is cut like other text.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import cast

from semchunk.semchunk import chunk as semantic_chunk

from ingather.domain.formulas import Span, find_formulas
from ingather.models.content import Chunk, Heading, ParsedDocument

_SHORT_SECTION_SHARE = 5
"""A section under a fifth of the chunk size joins the next one, where both fit."""
_WORD_SEARCH_CHARACTERS = 60
_WINDOW_CHARACTERS = 200_000


def chunk_document(
    parsed: ParsedDocument, *, size: int, overlap: int, preserve_structure: bool = True, extract_math: bool = False
) -> list[Chunk]:
    """Cut a document.

    Args:
        parsed: the document.
        size: most characters a chunk may have, at least 1.
        overlap: most characters a chunk shares with the one before, less than ``size``.
        preserve_structure: break at pages and headings first.
        extract_math: keep formulas whole and list them with their chunks.
    """
    text = parsed.text
    formulas = _Formulas(find_formulas(text) if extract_math else (), size)
    sections = _sections(parsed, size, formulas) if preserve_structure else [(0, len(text))]
    spans = [span for section in sections for span in _cut(text, section, size, overlap, formulas)]
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
                formulas=formulas.within(text, start, end),
            )
        )
    return chunks


def _sections(parsed: ParsedDocument, size: int, formulas: "_Formulas") -> list[Span]:
    length = len(parsed.text)
    borders = {page.start for page in parsed.pages} | {heading.start for heading in parsed.headings}
    cuts = sorted(border for border in borders if 0 < border < length and formulas.around(border) is None)
    raw = list(zip([0, *cuts], [*cuts, length], strict=True))
    merged: list[Span] = []
    for start, end in raw:
        if merged and end - merged[-1][0] <= size and merged[-1][1] - merged[-1][0] < size // _SHORT_SECTION_SHARE:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def _cut(text: str, section: Span, size: int, overlap: int, formulas: "_Formulas") -> Iterator[Span]:
    start, end = _trimmed(text, *section)
    if start == end:
        return
    if end - start <= size:
        yield start, end
        return
    before: int | None = None
    for cut_start, cut_end in _whole_formulas(text, start, end, size - overlap, formulas):
        inner_start, inner_end = _trimmed(text, cut_start, cut_end)
        if inner_start == inner_end:
            continue
        # Beyond the start of the chunk before, reaching back would only repeat it whole.
        earliest = max(inner_start - overlap, inner_end - size)
        reached = inner_start if before is None else max(before + 1, earliest)
        before = _outside(_reach_back(text, inner_start, reached), inner_start, text, formulas)
        yield before, inner_end


def _whole_formulas(text: str, start: int, end: int, size: int, formulas: "_Formulas") -> Iterator[Span]:
    """Semantic cuts, none of them through a formula: instead of one that would be, before it or behind it."""
    if not formulas.any_in(start, end):
        yield from _semantic_spans(text, start, end, size)
        return
    began = at = start
    for cut, is_forced in _borders(text, start, end, size, formulas):
        # What was cut off a piece for a formula's sake goes with it where both fit.
        if at > began and cut - began > size:
            yield began, at
            began = at
        at = cut
        if not is_forced:
            yield began, at
            began = at
    if end > began:
        yield began, end


def _borders(text: str, start: int, end: int, size: int, formulas: "_Formulas") -> Iterator[tuple[int, bool]]:
    """Where pieces end, and whether a formula is the only reason for it."""
    at = start
    for _, cut in _semantic_spans(text, start, end, size):
        around = formulas.around(cut)
        places = ((cut, False),) if around is None else tuple((place, True) for place in around)
        for place, is_forced in places:
            if at < place <= end:
                at = place
                yield place, is_forced


def _outside(position: int, start: int, text: str, formulas: "_Formulas") -> int:
    """Behind the formula that ``position`` lies in, at most at ``start``; ``position`` itself where it lies in none."""
    around = formulas.around(position)
    if around is None:
        return position
    position = min(around[1], start)
    while position < start and text[position].isspace():
        position += 1
    return position


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


class _Formulas:
    """Those that fit into a chunk, by their place in the text."""

    def __init__(self, found: Iterable[Span], size: int) -> None:
        self._spans = [(start, end) for start, end in found if end - start <= size]
        self._starts = [start for start, _ in self._spans]

    def around(self, position: int) -> Span | None:
        """The formula that a cut at ``position`` would go through."""
        index = bisect_left(self._starts, position) - 1
        return self._spans[index] if index >= 0 and position < self._spans[index][1] else None

    def any_in(self, start: int, end: int) -> bool:
        """Whether one begins there."""
        return bisect_left(self._starts, start) < bisect_left(self._starts, end)

    def within(self, text: str, start: int, end: int) -> tuple[str, ...]:
        """Those that lie in a chunk."""
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
        return tuple(text[begin:stop] for begin, stop in self._spans[first:last] if stop <= end)


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
