"""HTML as browsers read it, RTF as its escapes say."""

import pytest

from ingather.adapters.parsers.html import parse_html
from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.parsers.rtf import parse_rtf

PAGE = "<html><head><title>Wind  policy</title>{meta}<style>p{{}}</style></head><body><h1>Wind</h1><p>Größe über 20 m/s<h2>Dome</h2><script>x()</script><p>closed</html>"


def test_visible_text_with_headings_and_title() -> None:
    """Scripts and styles are left out; headings are found in the text; broken markup does no harm."""
    parsed = parse_html(PAGE.format(meta="").encode(), ParseLimits())
    assert parsed.title == "Wind policy"
    assert [(heading.level, heading.title) for heading in parsed.headings] == [(1, "Wind"), (2, "Dome")]
    assert all(parsed.text.startswith(heading.title, heading.start) for heading in parsed.headings)
    assert "Größe über 20 m/s" in parsed.text
    assert "x()" not in parsed.text


@pytest.mark.parametrize(
    ("codec", "meta"),
    [
        ("utf-8", ""),
        ("utf-16", ""),
        ("cp1252", '<meta charset="windows-1252">'),
        ("latin-1", '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1">'),
    ],
)
def test_charsets(codec: str, meta: str) -> None:
    """The byte order mark, clean UTF-8 and the meta tag say which encoding it is."""
    assert "Größe über 20 m/s" in parse_html(PAGE.format(meta=meta).encode(codec), ParseLimits()).text


def test_a_page_without_words_has_no_text() -> None:
    """An empty page is readable and says so."""
    assert parse_html(b"<html><body><img src='a.png'></body></html>", ParseLimits()).warnings == ("no_text",)


def test_rtf_text_and_title() -> None:
    """Escapes become characters and the title comes from the info group."""
    source = rb"{\rtf1\ansi\ansicpg1252{\info{\title Safety rules}}{\b Never} open at \'fcber 20\par \u22825?x}"
    parsed = parse_rtf(source, ParseLimits())
    assert parsed.title == "Safety rules"
    assert parsed.text.startswith("Never open at über 20\n")
    assert "天" in parsed.text


def test_rtf_cut_short_is_read_as_far_as_it_goes() -> None:
    """A missing end costs the end."""
    assert parse_rtf(rb"{\rtf1\ansi The dome {\b op", ParseLimits()).text == "The dome op"


@pytest.mark.parametrize(
    ("header", "info", "title"),
    [
        (rb"\ansi\ansicpg1251", rb"{\title \'cf\'f0\'e0\'e2\'e8\'eb\'e0}", "Правила"),
        (rb"\ansi\ansicpg1251", "{\\title Правила}".encode("cp1251"), "Правила"),
        (rb"\ansi\ansicpg932", rb"{\title \'8a\'cf\'91\'aa}", "観測"),
        (rb"\mac\ansicpg10000", rb"{\title Stra\'a7e}", "Straße"),
        (rb"\ansi\ansicpg0", rb"{\title Stra\'dfe}", "Straße"),
        (rb"\ansi\ansicpg1252", rb"{\title\u1055?\u1088?\u1072?vo}", "Праvo"),
        (rb"\ansi\ansicpg1252\uc1", rb"{\title {\uc0\u1055 \u1088 }\u1072?vo}", "Праvo"),
        (rb"\ansi\ansicpg936{\fonttbl{\f0\uc1 Arial;}}\uc2", rb"{\title \u35266\'b9\'db\u27979\'b2\'e2}", "观测"),
        (rb"\ansi\ansicpg1252", rb"{\title Dome \u-10179?\u-8915?}", "Dome 🔭"),
        (rb"\ansi", rb"{\upr{\title ??}{\*\ud{\title \u35266?\u27979?}}}", "观测"),
        (rb"\ansi", rb"{\title Braces \{and\} a \\ {\b bold} word}", "Braces {and} a \\ bold word"),
        (rb"\ansi", rb"{\author T}", None),
        (rb"\ansi", rb"{\title \u99999999?}", None),
    ],
)
def test_an_rtf_title_in_any_writing(header: bytes, info: bytes, title: str | None) -> None:
    """In the file's code page or in Unicode, as the programs of different systems write it; the text is as well read."""
    parsed = parse_rtf(rb"{\rtf1" + header + rb"{\info" + info + rb"{\author R}} The dome\par}", ParseLimits())
    assert (parsed.title, parsed.text) == (title, "The dome")


@pytest.mark.parametrize("text", [rb"\u-10179?\u-8915?", rb"\u-10179?\u-8915?\u-10179?"])
def test_rtf_characters_beyond_the_first_plane(text: bytes) -> None:
    """Two halves are one character; half of one is none."""
    assert parse_rtf(rb"{\rtf1\ansi " + text + b"}", ParseLimits()).text.rstrip("\ufffd") == "🔭"


def test_an_rtf_title_without_its_end_is_none() -> None:
    """The whole text would be taken for it."""
    parsed = parse_rtf(rb"{\rtf1\ansi{\info{\title Dome {\b of} 1923\par It is open", ParseLimits())
    assert parsed.title is None
