"""Real documents from public projects through the whole of it, compared with what several parsers agreed on."""

import asyncio
import csv
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.support.corpus import FILES, MANIFEST, expected_outcome, needs_corpus
from tests.support.running_stack import RunningStack, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), needs_corpus]


def undisputed() -> list[dict[str, str]]:
    """Lines of the manifest whose outcome several parsers agreed on."""
    with MANIFEST.open(newline="", encoding="utf-8") as lines:
        return [line for line in csv.DictReader(lines) if line["expected"] != "disputed"]


def outcome_of(document: dict[str, Any]) -> str:
    if document["error"]:
        return str(document["error"]["code"])
    return "no_text" if document["warnings"] == ["no_text"] else str(document["status"])


def packed_names(path: Path) -> set[str]:
    """Base names of the documents in a ZIP, as somebody else's reader sees them; a ZIP within it is none."""
    with zipfile.ZipFile(path) as archive:
        names = {PurePosixPath(entry.filename).name for entry in archive.infolist() if not entry.is_dir()}
    return {name for name in names if not name.endswith(".zip")}


async def test_every_document_ends_as_its_manifest_says(stack: RunningStack, visitor: Visitor):
    """All undisputed files in one batch, archives included: each outcome is the agreed one, and counts reconcile."""
    lines = undisputed()
    files = [(line["filename"], (FILES / line["filename"]).read_bytes()) for line in lines]
    # The corpus holds some contents twice; here each is to show an outcome of its own.
    batch_id = await visitor.submit(files, collection="corpus", options={"skip_existing": False})
    batch = await visitor.ended(batch_id, seconds=280)
    documents = await visitor.documents(batch_id)
    assert batch["counts"]["total"] == len(documents) == len(await visitor.report(batch_id))
    assert Counter(document["status"] for document in documents) == Counter(
        {status: count for status, count in batch["counts"].items() if status != "total" and count}
    )

    by_name = {document["filename"]: document for document in documents}
    plain = {line["filename"]: expected_outcome(line) for line in lines if line["kind"] != "zip"}
    assert {name: outcome_of(by_name[name]) for name in plain} == plain
    for line in lines:
        if line["kind"] == "zip":
            check_archive(line, batch, by_name)
    for document in documents:
        assert document["status"] in ("done", "failed")
        assert not document["error"] or document["error"]["action"]

    rows = await asyncio.to_thread(stack.rows_of, batch_id)
    assert len({row["id"] for row in rows}) == len(rows)
    chunks_by_content = {d["sha256"]: d["chunks"] for d in documents if d["status"] == "done"}
    assert len(rows) == sum(chunks_by_content.values())


def check_archive(line: dict[str, str], batch: dict[str, Any], by_name: dict[str, dict[str, Any]]) -> None:
    """A good archive has become its entries; a bad one, or a bad entry, a failed document with a code of its own."""
    path = FILES / line["filename"]
    [source] = [source for source in batch["sources"] if source["name"] == path.name]
    assert source["source_type"] == "zip"
    if line["expected"] == "unparseable":
        assert outcome_of(by_name[path.name]) == "archive_corrupt"
        return
    names = packed_names(path)
    assert names <= by_name.keys(), path.name
    assert source["counts"]["total"] >= len(names), path.name
    refused = {name for name in names if outcome_of(by_name[name]).startswith("archive_")}
    assert bool(refused) == (line["expected"] == "encrypted"), path.name
    assert all(outcome_of(by_name[name]) == "archive_encrypted" for name in refused)
