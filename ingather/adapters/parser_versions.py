"""Which code turns bytes into chunks: names and versions for the fingerprint, without importing any of it."""

import functools
import importlib.metadata

CHUNKER = "1"
"""Revision of our own rules in ``ingather.domain.chunking``: raise it when they cut differently."""

PARSERS = "2"
"""Revision of our own rules in ``ingather.adapters.parsers``: raise it when they read differently."""

_LIBRARIES = (
    "pypdfium2",
    "office-oxide",
    "python-docx",
    "python-pptx",
    "python-calamine",
    "resiliparse",
    "charset-normalizer",
    "striprtf",
    "semchunk",
)


def pipeline_description(embedder: str | None) -> dict[str, str]:
    """Names and versions of parsers, chunker and embedder."""
    return {**_versions(), "embedder": embedder or "none"}


@functools.cache
def _versions() -> dict[str, str]:
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"ingather-parsers": PARSERS, "ingather-chunker": CHUNKER, **libraries}
