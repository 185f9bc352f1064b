"""Prose scores high in any script, noise scores low."""

import pytest

from ingather.domain.quality import text_quality


@pytest.mark.parametrize(
    "text",
    [
        "The mirror is washed at new moon, twice a year.",
        "天文台的圆顶在日落时打开。每年两次清洗镜子。",
        "Зеркало моют дважды в год, в новолуние.",
        "מראה הטלסקופ נשטפת פעמיים בשנה",
        "name,count\nlens,4\nmirror,12\ndome,1\n",
        "def area(radius): return 3.14159 * radius ** 2",
        "4711 2026-03-14 17.5",
    ],
)
def test_readable_text_scores_high(text: str) -> None:
    """Prose, tables and code are readable in every script."""
    assert text_quality(text) > 0.9


@pytest.mark.parametrize(
    ("text", "below"),
    [
        ("", 0.01),
        ("   \n\t", 0.01),
        ("\ufffd\ufffd\ufffd a \ufffd\ufffd", 0.3),
        ("(cid:12)(cid:99)(cid:4) (cid:7)(cid:1)", 0.1),
        ("#@!~ %^&* <>?| {}[] =+-_ ;:'\" \\/", 0.1),
        ("\ue000\ue001\ue002 \ue010\ue011", 0.1),
        ("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo" * 20, 0.1),
        ("t h i s f e l l a p a r t i n t o l e t t e r s", 0.7),
    ],
)
def test_noise_scores_low(text: str, below: float) -> None:
    """Replacement characters, glyph numbers, symbols, private glyphs and endless runs are no words."""
    assert text_quality(text) < below


def test_long_texts_are_judged_everywhere() -> None:
    """A long document that is half noise scores in between, though only samples are read."""
    half = text_quality("clear sky tonight " * 50_000 + "\ufffd~\ufffd# " * 180_000)
    assert 0.3 < half < 0.8
