r"""Where a text has formulas in LaTeX: what is kept whole when it is cut into chunks.

Known are ``$$…$$``, ``$…$`` on one line by the rule that Pandoc follows (nothing blank inside the marks, no digit behind
the second, so that prices are none), ``\\(…\\)``, ``\\[…\\]`` and the mathematical environments between ``\\begin`` and
``\\end``. Formulas that a file keeps in another form (Word's own, MathML) arrive as the plain symbols the parser reads
out of them, and are not told from other text. Linear in the length of the text, whatever is in it.
"""

import re
from collections.abc import Iterator

Span = tuple[int, int]

MAX_FORMULA_CHARACTERS = 4_000
"""Marks that are further apart belong to two formulas, or to none."""
MAX_INLINE_CHARACTERS = 500
"""The same for ``$…$``."""

_ENVIRONMENTS = ("equation", "align", "alignat", "flalign", "gather", "multline", "eqnarray", "displaymath", "math")
_OPENER = re.compile(r"\\\\|\\\$|\$\$|\$|\\\[|\\\(|\\begin\{(" + "|".join(_ENVIRONMENTS) + r")(\*?)\}")
_CLOSERS = {"$$": "$$", "\\[": "\\]", "\\(": "\\)"}
_ESCAPED = frozenset({"\\\\", "\\$"})


def find_formulas(text: str) -> list[Span]:
    """Half-open ranges of the formulas, marks included, in order and apart from each other."""
    return list(_formulas(text))


def _formulas(text: str) -> Iterator[Span]:
    closers = _Closers(text)
    at = 0
    while (found := _OPENER.search(text, at)) is not None:
        mark, at = found.group(), found.end()
        if mark in _ESCAPED:
            continue
        end = _inline_end(text, at) if mark == "$" else closers.end(_closer_of(found), at)
        if end is not None:
            yield found.start(), end
            at = end


def _closer_of(opener: re.Match[str]) -> str:
    if opener.group(1) is not None:
        return f"\\end{{{opener.group(1)}{opener.group(2)}}}"
    return _CLOSERS[opener.group()]


def _inline_end(text: str, start: int) -> int | None:
    """One past the second mark; None where the first is an ordinary dollar sign."""
    end = text.find("$", start, start + MAX_INLINE_CHARACTERS)
    if end <= start or text[start].isspace() or text[end - 1].isspace() or text[end - 1] == "\\":
        return None
    if "\n" in text[start:end] or text[end + 1 : end + 2].isdigit():
        return None
    return end + 1


class _Closers:
    """Next closing marks, each looked for once however many opening ones there are."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._known: dict[str, int] = {}

    def end(self, mark: str, start: int) -> int | None:
        """One past the mark that closes what begins at ``start``; None where none does."""
        at = self._known.get(mark, -2)
        if at != -1 and at < start:
            at = self._known[mark] = self._text.find(mark, start)
        return at + len(mark) if start < at <= start + MAX_FORMULA_CHARACTERS else None
