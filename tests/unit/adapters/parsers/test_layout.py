"""Clean text whose offsets hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingather.adapters.parsers.layout import locate_headings, one_line, paged_document, tidy
from ingather.models.content import Heading, MediaType, PageSpan


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\r\nb\rc\x0cd\u2028e", "a\nb\nc\nd\ne"),
        ("im\ufffeportant", "important"),
        ("nul\x00 and bell\x07", "nul and bell"),
        ("half a pair \ud83d", "half a pair"),
        ("\ufeffmark", "mark"),
        ("blanks \t \n end  ", "blanks\n end"),
        ("a\n\n\n\n\nb", "a\n\nb"),
        ("🔭 望遠鏡 é", "🔭 望遠鏡 é"),
    ],
)
def test_tidy_drops_what_nobody_means(raw: str, clean: str) -> None:
    """Controls, non-characters, lone surrogates and needless blanks go; everything else stays."""
    assert tidy(raw) == clean


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_tidy_is_done_once(raw: str) -> None:
    """Tidying twice changes nothing, and the result can always be written as UTF-8."""
    clean = tidy(raw)
    assert tidy(clean) == clean
    clean.encode("utf-8")


def test_pages_keep_their_numbers() -> None:
    """A blank page takes no room and is still counted; headings stand where their titles do."""
    parsed = paged_document(
        MediaType.PDF, ["First page", " ", "Third\nCare"], headings=[(0, 1, "First"), (2, 2, "Care"), (2, 2, "Gone")]
    )
    assert parsed.text == "First page\n\nThird\nCare"
    assert parsed.pages == (PageSpan(1, 0, 10), PageSpan(2, 10, 10), PageSpan(3, 12, 22))
    assert parsed.headings == (Heading(1, "First", 0), Heading(2, "Care", 18), Heading(2, "Gone", 18))


def test_headings_are_found_in_order() -> None:
    """The same title twice is found twice; one that is not in the text is left out."""
    text = "Care\nabout Care\nCare\nend"
    assert locate_headings(text, [(1, "Care"), (2, "Nowhere"), (1, " Care ")]) == [
        Heading(1, "Care", 0),
        Heading(1, "Care", 16),
    ]


def test_titles_fit_one_line() -> None:
    """A title is one line without controls, or none at all."""
    assert one_line(" Night\n\tlog\x00 ") == "Night log"
    assert one_line(" \n") is None
    assert len(one_line("x" * 10_000) or "") == 500
