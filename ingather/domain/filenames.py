"""File names people may send, made into names that can be stored, shown and told apart.

A name is normalised, never refused: NFC, base name only, no control characters, at most
255 UTF-8 bytes, unique in its batch whatever the case. Only a name with nothing left in it
gets a generated one.
"""

import unicodedata

MAX_FILENAME_BYTES = 255
MAX_ORIGINAL_CHARACTERS = 10_000
_MAX_EXTENSION_BYTES = 32
"""A longer tail after the last dot is part of the name, not an extension."""
_JOINERS = frozenset("\u200c\u200d")
"""Invisible, and part of how Persian, Indic scripts and emoji are spelled."""
_REMOVED = frozenset({"Cc", "Cf", "Cs"})
"""Control characters, invisible format characters (bidi overrides among them) and lone surrogates."""
_SPACES = frozenset({"Zs", "Zl", "Zp"})


def generated_filename(ordinal: int) -> str:
    """The name of a document that came without a usable one."""
    return f"document-{ordinal:07d}"


def normalise_filename(name: str) -> str:
    """The base name of what a client sent, safe to store and to show; empty when nothing is left of it."""
    base = name[-MAX_ORIGINAL_CHARACTERS:].replace("\\", "/").rsplit("/", 1)[-1]
    # Most names are plain, and a manifest has a hundred thousand of them.
    visible = base if base.isascii() and base.isprintable() else "".join(map(_visible, base))
    normal = unicodedata.normalize("NFC", visible).strip()
    if not normal.strip(". \u200c\u200d"):
        return ""
    return _shorten(normal)


def stored_original(name: str, filename: str) -> str | None:
    """The client's own name where it differs from ``filename``; without what a database cannot hold."""
    if name == filename:
        return None
    cut = name[:MAX_ORIGINAL_CHARACTERS].replace("\x00", "\ufffd")
    return cut.encode("utf-8", "replace").decode("utf-8")


def shown(name: str, limit: int = 80) -> str:
    """A name for an error message: short and on one line."""
    base = normalise_filename(name) or "(no name)"
    return base if len(base) <= limit else f"{base[: limit - 1]}…"


class FilenameRegistry:
    """Gives every document of a batch a name of its own; the same names in the same order get the same answers."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last_number: dict[str, int] = {}

    def assign(self, name: str, ordinal: int) -> str:
        """The document's name: ``report.pdf``, then ``report (2).pdf`` for another of that name."""
        wanted = normalise_filename(name) or generated_filename(ordinal)
        key = wanted.casefold()
        chosen = wanted
        number = self._last_number.get(key, 1)
        while chosen.casefold() in self._taken:
            number += 1
            chosen = _numbered(wanted, number)
        if chosen != wanted:
            self._last_number[key] = number
        self._taken.add(chosen.casefold())
        return chosen


def _visible(character: str) -> str:
    if character in _JOINERS:
        return character
    category = unicodedata.category(character)
    if category in _SPACES or character in "\t\n\r\v\f":
        return " "
    return "" if category in _REMOVED else character


def _shorten(name: str, suffix: str = "") -> str:
    """``name`` with ``suffix`` before its extension, cut in front of both to fit."""
    stem, extension = _split(name)
    room = MAX_FILENAME_BYTES - len(suffix.encode()) - len(extension.encode())
    cut = stem.encode()[:room].decode("utf-8", "ignore")
    if cut != stem:
        cut = cut.rstrip()
    return f"{cut}{suffix}{extension}"


def _numbered(name: str, number: int) -> str:
    return _shorten(name, f" ({number})")


def _split(name: str) -> tuple[str, str]:
    stem, dot, tail = name.rpartition(".")
    if not dot or not stem.strip(".") or not tail or len(tail.encode()) >= _MAX_EXTENSION_BYTES:
        return name, ""
    return stem, f".{tail}"
