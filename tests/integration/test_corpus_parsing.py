"""Real documents from public projects, each compared with what several parsers agreed on."""

import csv
import os
from pathlib import Path

import pytest

from ingather.adapters.parsers.limits import ParseLimits
from ingather.adapters.prepare import prepare_document
from ingather.domain import artifact
from ingather.models.content import PrepareRequest
from ingather.models.errors import DocumentError

CORPUS = Path(os.environ.get("INGATHER_CORPUS") or Path(__file__).parents[2].parent / "shared" / "corpus")


def corpus_rows() -> list[dict[str, str]]:
    if not (CORPUS / "manifest.csv").is_file():
        return []
    with (CORPUS / "manifest.csv").open(newline="", encoding="utf-8") as manifest:
        # Archives are expanded before anything is parsed.
        return [row for row in csv.DictReader(manifest) if row["kind"] != "zip"]


ROWS = corpus_rows()
pytestmark = pytest.mark.skipif(
    not ROWS, reason=f"no corpus at {CORPUS}: set INGATHER_CORPUS to a folder with manifest.csv"
)


def expected_outcome(row: dict[str, str]) -> str:
    """The manifest's class in the product's words."""
    if row["kind"] == "image":
        return "no_text"  # OCR is off.
    if row["expected"] == "empty":
        return "empty" if int(row["bytes"]) == 0 else "no_text"
    return {"ok": "done", "unparseable": "corrupt"}.get(row["expected"], row["expected"])


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
    outcome = outcome_of(CORPUS / "files" / row["filename"])
    if row["expected"] != "disputed":
        assert outcome == expected_outcome(row)
