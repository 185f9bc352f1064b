"""What is a formula in a text, and what only looks like one."""

import pytest

from ingather.domain.formulas import find_formulas


def formulas(text: str) -> list[str]:
    return [text[start:end] for start, end in find_formulas(text)]


@pytest.mark.parametrize(
    "formula",
    [
        "$E = mc^2$",
        "$$\\sum_{n=0}^\\infty\n a_n$$",
        "\\(a + b\\)",
        "\\[\na\n\\]",
        "\\begin{align*}\na &= b\n\\end{align*}",
        "\\begin{equation}$x$\\end{equation}",
    ],
)
def test_latex_between_its_marks_is_a_formula(formula: str) -> None:
    """Each of LaTeX's ways to write one is found whole, marks included, inline or over several lines."""
    assert formulas(f"Light bends: {formula}, as seen.") == [formula]


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and the other $6.",
        "From $5-$6 a ticket",
        "a lone $ sign",
        "\\$x\\$ is escaped",
        "$two\nlines$",
        "\\[ never closed",
        "\\begin{table}a\\end{table}",
        "$$",
        "",
    ],
)
def test_prices_and_lone_marks_are_text(text: str) -> None:
    """Money, escaped marks and marks without a partner are no formulas."""
    assert formulas(text) == []


def test_formulas_come_in_order_and_apart() -> None:
    """One ends before the next begins, whatever marks stand inside."""
    assert formulas("$a$ then \\[b $c$ d\\] then $$e$$") == ["$a$", "\\[b $c$ d\\]", "$$e$$"]


def test_a_text_of_nothing_but_marks_takes_no_longer_than_its_length() -> None:
    """Opening marks without end, of every kind, are each looked at once."""
    assert formulas("\\[" * 200_000 + "\\begin{align}" * 20_000 + "$a " * 100_000) == []
