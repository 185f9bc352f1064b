"""Chunks quote their document exactly, stay within their size and follow its structure."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingather.domain.chunking import chunk_document
from ingather.domain.formulas import find_formulas
from ingather.models.content import Chunk, Heading, PageSpan, ParsedDocument


def document(text: str, **parts: object) -> ParsedDocument:
    return ParsedDocument(media_type="text/plain", text=text, **parts)


def texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


ANY_TEXT = st.one_of(
    st.text(max_size=600),
    st.text(alphabet="望遠鏡星空在日落時打開。，", max_size=600),
    st.text(alphabet="ab .,\n\t🔭👩\u200d🚀é", max_size=600),
    st.lists(st.sampled_from(["dome ", "mirror. ", "\n\n", "\n", "  ", "長い文", "x" * 90]), max_size=80).map("".join),
)


@st.composite
def structured_documents(draw: st.DrawFn) -> ParsedDocument:
    text = draw(ANY_TEXT)
    borders = sorted(draw(st.sets(st.integers(0, max(0, len(text))), max_size=6)))
    pages = tuple(
        PageSpan(number, start, end) for number, (start, end) in enumerate(pairwise([0, *borders, len(text)]), 1)
    )
    headings = tuple(
        Heading(draw(st.integers(1, 4)), f"h{start}", start)
        for start in sorted(draw(st.sets(st.integers(0, max(0, len(text) - 1)), max_size=6)))
    )
    return document(text, pages=pages, headings=headings)


@settings(max_examples=400, deadline=None)
@given(structured_documents(), st.integers(20, 200), st.integers(0, 19), st.booleans())
def test_offsets_are_exact(parsed: ParsedDocument, size: int, overlap: int, preserve: bool) -> None:
    """Whatever the script and structure: chunks equal ``text[start:end]``, are in order, never blank, never too long."""
    chunks = chunk_document(parsed, size=size, overlap=overlap, preserve_structure=preserve)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    for chunk in chunks:
        assert chunk.text == parsed.text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert len(chunk.text) <= size
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(set(starts))


@settings(max_examples=400, deadline=None)
@given(structured_documents(), st.integers(20, 200), st.integers(0, 19), st.booleans())
def test_nothing_is_lost(parsed: ParsedDocument, size: int, overlap: int, preserve: bool) -> None:
    """Every character that is no blank is in some chunk, and neighbours share at most the overlap."""
    chunks = chunk_document(parsed, size=size, overlap=overlap, preserve_structure=preserve)
    covered = set()
    for chunk in chunks:
        covered.update(range(chunk.start, chunk.end))
    assert all(i in covered for i, character in enumerate(parsed.text) if not character.isspace())
    for before, after in pairwise(chunks):
        assert before.end - after.start <= overlap


def test_overlap_starts_at_a_word() -> None:
    """A chunk that reaches back begins with a whole word."""
    words = " ".join(f"word{n:03d}" for n in range(100))
    chunks = chunk_document(document(words), size=100, overlap=30)
    assert all(chunk.text.startswith("word") for chunk in chunks)
    assert all(before.end > after.start for before, after in pairwise(chunks))


def test_breaks_at_headings_and_pages_first() -> None:
    """Sections that fit are whole chunks, told with their page and their path of headings."""
    one, two, three = "Guide\n" + "a" * 60, "\nCare\n" + "b" * 60, "\n" + "c" * 60
    text = one + two + three
    parsed = document(
        text,
        pages=(PageSpan(1, 0, len(one + two)), PageSpan(2, len(one + two), len(text))),
        headings=(Heading(1, "Guide", 0), Heading(2, "Care", text.index("Care"))),
    )
    chunks = chunk_document(parsed, size=150, overlap=10)
    assert texts(chunks) == [one.strip(), two.strip(), three.strip()]
    assert [chunk.page for chunk in chunks] == [1, 1, 2]
    assert [chunk.headings for chunk in chunks] == [("Guide",), ("Guide", "Care"), ("Guide", "Care")]


def test_short_sections_join_what_follows() -> None:
    """A heading alone is no chunk: it stays with the text below it."""
    text = "Guide\n\nCare\n\n" + "b" * 60
    parsed = document(text, headings=(Heading(1, "Guide", 0), Heading(2, "Care", 7)))
    assert texts(chunk_document(parsed, size=150, overlap=10)) == [text]


def test_structure_can_be_ignored() -> None:
    """Without ``preserve_structure`` only size decides; pages and headings are still told."""
    text = "a" * 40 + "\n" + "b" * 40
    parsed = document(text, pages=(PageSpan(1, 0, 41), PageSpan(2, 41, 81)))
    assert len(chunk_document(parsed, size=100, overlap=0)) == 2
    [chunk] = chunk_document(parsed, size=100, overlap=0, preserve_structure=False)
    assert (chunk.text, chunk.page) == (text, 1)


@pytest.mark.parametrize("text", ["", " \n\t "])
def test_blank_text_has_no_chunks(text: str) -> None:
    """Nothing to say, nothing to search."""
    assert chunk_document(document(text), size=100, overlap=10) == []


def test_text_that_nests_without_end_is_cut_by_the_ruler() -> None:
    """Whitespace runs of a thousand different lengths exhaust no stack."""
    text = "".join(f"x{' ' * n}" for n in range(1, 1_500)) + "x"
    chunks = chunk_document(document(text), size=100, overlap=0)
    assert all(len(chunk.text) <= 100 for chunk in chunks)
    assert sum(chunk.text.count("x") for chunk in chunks) == 1_500


@pytest.mark.parametrize("unit", ["The dome opens at dusk. ", "天文台的圆顶在日落时打开", "line\n", "x"])
def test_huge_sections_are_cut_without_loss(unit: str) -> None:
    """A section of a million characters is worked through in parts, and no character goes missing between them."""
    text = (unit * (1_000_000 // len(unit))).strip()
    chunks = chunk_document(document(text), size=1_000, overlap=0)
    assert "".join("".join(texts(chunks)).split()) == "".join(text.split())
    assert max(len(chunk.text) for chunk in chunks) <= 1_000
    assert sum(len(chunk.text) for chunk in chunks) / len(chunks) > 400


FORMULA_TEXT = st.lists(
    st.sampled_from(
        [
            "The mirror ",
            "bends light. ",
            "\n\n",
            "$E = mc^2$ ",
            "$$\\int_0^1 x\\,dx$$ ",
            "costs $5 and $6 ",
            "$",
            "\\[a_n\\] ",
            "\\begin{align}\nx &= y \\\\\ny &= z\n\\end{align}\n",
            "x" * 30,
            "\\$ ",
        ]
    ),
    max_size=60,
).map("".join)


@settings(max_examples=150, deadline=None)
@given(FORMULA_TEXT, st.integers(20, 120), st.integers(0, 19))
def test_no_formula_is_cut(text: str, size: int, overlap: int) -> None:
    """With ``extract_math`` a formula that fits into a chunk stands whole in one, and the other promises hold."""
    parsed = document(text)
    chunks = chunk_document(parsed, size=size, overlap=overlap, extract_math=True)
    for start, end in find_formulas(text):
        touched = [chunk for chunk in chunks if chunk.start < end and start < chunk.end]
        if end - start <= size:
            assert all(chunk.start <= start and end <= chunk.end for chunk in touched)
            assert touched
            assert all(text[start:end] in chunk.formulas for chunk in touched)
    covered = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    assert {at for at, character in enumerate(text) if not character.isspace()} <= covered
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip()
        assert len(chunk.text) <= size
    starts = [chunk.start for chunk in chunks]
    assert starts == sorted(set(starts))


def test_formulas_are_ordinary_text_unless_asked_for() -> None:
    """Without ``extract_math`` a formula is cut like any text, and no chunk lists one."""
    text = "word " * 10 + "$" + "x + y + " * 6 + "z$" + " word" * 10
    plain = chunk_document(document(text), size=60, overlap=0)
    kept = chunk_document(document(text), size=60, overlap=0, extract_math=True)
    [(start, end)] = find_formulas(text)
    assert not any(text[start:end] in chunk.text for chunk in plain)
    assert [chunk.formulas for chunk in plain] == [()] * len(plain)
    assert [chunk.formulas for chunk in kept if chunk.formulas] == [(text[start:end],)]
