"""Text in any encoding, CSV and Markdown."""

import pytest

from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.text import decode_text, parse_csv, parse_markdown, parse_text
from ingather.models.content import Heading

RUSSIAN = "Зеркало телескопа моют дважды в год, в новолуние, когда купол закрыт и никто не наблюдает небо."


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_unicode_encodings_are_read_exactly(codec: str) -> None:
    """Every Unicode encoding is told apart, with a byte order mark or without."""
    text = "The dome opens at dusk. Ünïcödé."
    assert decode_text(text.encode(codec)) == text


@pytest.mark.parametrize("codec", ["cp1251", "cp866", "koi8-r"])
def test_code_pages_are_guessed(codec: str) -> None:
    """Old code pages are recognised from the letters they make."""
    assert decode_text(RUSSIAN.encode(codec)) == RUSSIAN


def test_a_long_text_is_cut_between_lines_for_the_guess() -> None:
    """The sample the encoding is guessed from never ends within a character."""
    text = "天文台的圆顶在日落时打开。\n" * 8_000
    assert decode_text(text.encode("gb18030")) == text


def test_bytes_of_no_encoding_still_give_text() -> None:
    """What cannot be decoded becomes a replacement character; nothing fails."""
    assert "abc" in parse_text(b"abc \xff\xfe\x81 def", ParseLimits()).text


def test_csv_stays_as_it_is() -> None:
    """Rows of any separator and length are kept line by line."""
    assert parse_csv(b"a;b\r\n1;2;3\r\n", ParseLimits()).text == "a;b\n1;2;3"


def test_a_row_of_a_csv_ends_where_csv_ends_it() -> None:
    """What other texts take for a line end is in a CSV part of its cell, quoted or not."""
    rows = "1;fog\u2028and\vrain\x85and\x1csnow;closed\r\n2;clear;open\n"
    assert parse_csv(rows.encode(), ParseLimits()).text == "1;fog and rain and snow;closed\n2;clear;open"


def test_markdown_headings_have_levels_and_places() -> None:
    """Both heading styles are found, none inside a code fence, and the first of level 1 is the title."""
    source = (
        "intro\n\n# Night *log* #\n\ntext\n\n## Dome\n\n```\n# no heading\n```\n\nShutter\n-------\n\n- item\n---\n"
    )
    parsed = parse_markdown(source.encode(), ParseLimits())
    assert parsed.title == "Night *log*"
    assert parsed.headings == (
        Heading(1, "Night *log*", parsed.text.index("# Night")),
        Heading(2, "Dome", parsed.text.index("## Dome")),
        Heading(2, "Shutter", parsed.text.index("Shutter")),
    )
