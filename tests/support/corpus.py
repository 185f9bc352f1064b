"""Real documents from public projects, in a folder that ``INGATHER_CORPUS`` names: too many to keep here."""

import os
from pathlib import Path

import pytest

CORPUS = Path(os.environ.get("INGATHER_CORPUS") or "corpus")
"""``manifest.csv`` says how each of ``files/`` ends."""
FILES = CORPUS / "files"
MANIFEST = CORPUS / "manifest.csv"

needs_corpus = pytest.mark.skipif(
    not MANIFEST.is_file(),
    reason=f"no corpus: {MANIFEST} is not there; with a folder of manifest.csv and files/: INGATHER_CORPUS=FOLDER make test",
)


def expected_outcome(line: dict[str, str]) -> str:
    """What the manifest agreed on for a document, in the product's words."""
    if line["kind"] == "image":
        return "no_text"  # OCR is off
    if line["expected"] == "empty":
        return "empty" if int(line["bytes"]) == 0 else "no_text"
    return {"ok": "done", "unparseable": "corrupt"}.get(line["expected"], line["expected"])
