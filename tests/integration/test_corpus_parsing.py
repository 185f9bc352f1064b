"""Real documents from public projects, each compared with what several parsers agreed on."""

import csv
from pathlib import Path

import pytest

from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.prepare import prepare_document
from ingather.domain import artifact
from ingather.models.content import PrepareRequest
from ingather.models.errors import DocumentError
from tests.support.corpus import FILES, MANIFEST, expected_outcome, needs_corpus


def corpus_rows() -> list[dict[str, str]]:
    if not MANIFEST.is_file():
        return []
    with MANIFEST.open(newline="", encoding="utf-8") as manifest:
        # Archives are expanded before anything is parsed.
        return [row for row in csv.DictReader(manifest) if row["kind"] != "zip"]


ROWS = corpus_rows()
pytestmark = needs_corpus


def outcome_of(path: Path) -> str:
    request = PrepareRequest(
        content=path.read_bytes(), filename=path.name, chunk_size=1_000, chunk_overlap=200, quality_threshold=0.0
    )
    try:
        prepared = prepare_document(request, None, ParseLimits(), lambda _stage: None)
    except DocumentError as error:
        return error.code
    decoded = artifact.decode(prepared.artifact)
    assert all(decoded.header.text[c.start : c.end] == c.text for c in decoded.chunks())
    if prepared.chunk_count == 0:
        assert prepared.warnings == ("no_text",)
        return "no_text"
    return "done"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["filename"])
def test_ends_as_several_parsers_agreed(row: dict[str, str]) -> None:
    """A real document ends as the manifest says; a disputed one ends in some typed way."""
    outcome = outcome_of(FILES / row["filename"])
    if row["expected"] != "disputed":
        assert outcome == expected_outcome(row)
