"""`docs/reference/errors.md`, written from the error tree.

Write it again after a change: ``python -m tests.support.error_reference``.
"""

import inspect
from pathlib import Path

from ingather.models.errors import (
    Actor,
    ArchiveError,
    DependencyError,
    DocumentError,
    IngatherError,
    RequestError,
)

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"

_INTRODUCTION = """\
# Errors

Every error has a stable `code`. The same codes appear in a document's `error.code`, in the `code` of a problem
(RFC 9457), as the `type` of a failed activity in the Temporal UI, and in `ingather failures`. A code is never renamed
and never changes its meaning; new ones may be added.

*Cured by a retry* says whether Ingather tries again by itself. A failed document can always be retried by code:
`ingather retry BATCH --code CODE`.

*Who acts* is the sender of the document or request, or the operator of this deployment.

This page is written from `ingather/models/errors.py` by `python -m tests.support.error_reference`; a test keeps it current.
"""

_SECTIONS: tuple[tuple[type[IngatherError], str, str], ...] = (
    (
        DocumentError,
        "Documents",
        "One document cannot be ingested. The rest of its batch goes on and does not notice.",
    ),
    (
        ArchiveError,
        "Archives",
        "A ZIP was refused, or one entry of it: a failed document of its own, while the others go on.",
    ),
    (
        RequestError,
        "Requests",
        (
            "A request cannot be answered as asked, or a batch cannot be run as it was submitted. Three codes more belong"
            " to HTTP itself: `forbidden` (403), `not_found` (404, no such path) and `method_not_allowed` (405)."
        ),
    ),
    (DependencyError, "Parts of the service", "Infrastructure. Activities wait and try again; the API answers 503."),
    (IngatherError, "Everything else", "Wrong settings, and accidents."),
)

_ACTORS = {Actor.SENDER: "the sender", Actor.OPERATOR: "the operator"}


def error_tree() -> list[type[IngatherError]]:
    """Every error class of the product, each after its parent."""
    found = [IngatherError]
    for parent in found:
        found += [child for child in parent.__subclasses__() if child.__module__ == IngatherError.__module__]
    return found


def render_reference() -> str:
    """The whole page."""
    sections = {root: [cls for cls in error_tree() if _section_of(cls) is root] for root, _, _ in _SECTIONS}
    parts = [_INTRODUCTION]
    for root, title, text in _SECTIONS:
        parts.append(f"## {title}\n\n{text}\n")
        parts += [_entry(cls) for cls in sorted(sections[root], key=lambda cls: (cls is not root, cls.code))]
    return "\n".join(parts)


def _section_of(cls: type[IngatherError]) -> type[IngatherError]:
    roots = {root for root, _, _ in _SECTIONS}
    return next(parent for parent in cls.__mro__ if parent in roots)


def _entry(cls: type[IngatherError]) -> str:
    retry = "yes" if cls.retryable else "no"
    lines = [f"### `{cls.code}`", "", f"**{cls.title}.**{_meaning(cls)}", "", f"What to do: {cls.advice}", ""]
    lines += [f"HTTP {cls.http_status} · cured by a retry: {retry} · who acts: {_ACTORS[cls.actor]}", ""]
    return "\n".join(lines)


def _meaning(cls: type[IngatherError]) -> str:
    """The class's own words, up to where they turn to its arguments."""
    own = inspect.cleandoc(cls.__doc__) if cls.__doc__ and "__doc__" in cls.__dict__ else ""
    text = " ".join(own.split("\n\nArgs:")[0].replace("``", "`").split())
    return f" {text}" if text and cls is not IngatherError else ""


if __name__ == "__main__":
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    REFERENCE.write_text(render_reference(), encoding="utf-8")
