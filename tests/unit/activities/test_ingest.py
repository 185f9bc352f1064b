"""One document: stored, parsed, embedded, written, and recorded as what it became."""

import hashlib
from importlib.resources import files

import pytest
from temporalio.exceptions import ApplicationError

from ingather.domain.artifact import decode
from ingather.domain.keys import raw_key
from ingather.models.batch import ProcessingOptions
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentStatus
from ingather.models.errors import (
    CatalogUnavailableError,
    DocumentError,
    ParserCrashedError,
    ParserTimeoutError,
    error_classes,
)
from ingather.models.identity import file_id_for
from ingather.ports.audit import AuditFilter
from tests.support.ingesting import TENANT

TEXT = b"The dome opens at nine. Visitors wait at the gate until the lamp is green.\n"
LAST_ATTEMPT = 1 + ProcessingOptions().max_retries
DOCUMENT_ERRORS = sorted(
    (cls for cls in error_classes().values() if issubclass(cls, DocumentError)), key=lambda cls: cls.code
)


def sample(name: str) -> bytes:
    return files("ingather.samples").joinpath("documents", name).read_bytes()


async def test_a_document_is_stored_parsed_embedded_and_recorded(workshop):
    """Its bytes, its artifact with vectors and its row in the catalog are all there when the activity ends."""
    batch_id = await workshop.batch(TEXT)

    output = await workshop.ingest(batch_id)

    assert (output.status, output.code) == (DocumentStatus.DONE, None)
    row = await workshop.row(batch_id)
    assert (row.status, row.attempts, row.error) == (DocumentStatus.DONE, 1, None)
    assert (row.size_bytes, row.media_type, row.metadata) == (len(TEXT), "text/plain", {"number": 0})
    assert row.chunk_count == output.chunk_count == 1
    assert row.raw_key == raw_key(TENANT, file_id_for(batch_id, 0), hashlib.sha256(TEXT).hexdigest())
    assert await workshop.blobs.get(row.raw_key) == TEXT
    assert row.ended_at >= row.started_at
    artifact = decode(await workshop.blobs.get(workshop.artifact_key(TEXT)))
    assert artifact.vectors().shape == (1, 256)


async def test_the_time_of_each_stage_is_kept(workshop):
    """A slow document can be explained from its row."""
    batch_id = await workshop.batch(TEXT)
    await workshop.ingest(batch_id)

    assert {"fetching", "storing", "parsing", "embedding", "writing"} <= (
        await workshop.row(batch_id)
    ).timings_ms.keys()


@pytest.mark.parametrize(
    ("content", "filename", "code", "stage"),
    [
        (b"", "nothing.txt", "empty", Stage.FETCHING),
        (sample("grant-agreement-sealed.pdf"), "sealed.pdf", "encrypted", Stage.PARSING),
        (sample("cooling-manual-truncated.docx"), "cut.docx", "corrupt", Stage.PARSING),
        (b"%PDF-1.7\n" + b"\x00" * 500, "broken.pdf", "corrupt", Stage.PARSING),
        (b"\x7fELF\x02\x01\x01" + b"\x00" * 500, "program.bin", "unsupported_type", Stage.DETECTING),
    ],
)
async def test_a_bad_document_fails_with_code_stage_and_advice(workshop, content, filename, code, stage):
    """That a document cannot be ingested is an answer, not an exception."""
    batch_id = await workshop.batch(content, names=[filename])

    output = await workshop.ingest(batch_id)

    assert (output.status, output.code, output.stage) == (DocumentStatus.FAILED, code, stage)
    error = (await workshop.row(batch_id)).error
    assert (error.code, error.stage, error.action) == (code, stage, error_classes()[code].advice)


@pytest.mark.parametrize("kind", DOCUMENT_ERRORS, ids=lambda kind: kind.code)
async def test_whatever_a_parser_answers_becomes_the_documents_outcome(workshop, preparer, kind):
    """Every error about a document ends in the catalog with its own code, stage, advice and facts."""
    preparer.error = kind("It cannot be read.", stage="chunking", peak_memory_bytes=7)
    batch_id = await workshop.batch(TEXT)

    output = await workshop.ingest(batch_id, attempt=LAST_ATTEMPT)

    assert (output.status, output.code, output.stage) == (DocumentStatus.FAILED, kind.code, Stage.CHUNKING)
    error = (await workshop.row(batch_id)).error
    assert (error.message, error.action, error.facts) == ("It cannot be read.", kind.advice, {"peak_memory_bytes": 7})


async def test_a_parser_that_dies_before_its_first_stage_is_an_outcome_too(workshop, preparer):
    """The word it has for that moment is no stage of ours; the document is told to have failed where we left it."""
    preparer.error = ParserCrashedError("It died twice.", stage="starting")
    batch_id = await workshop.batch(TEXT)

    output = await workshop.ingest(batch_id)

    assert (output.code, output.stage) == ("parser_crashed", Stage.PARSING)


async def test_a_refused_document_ends_with_the_reason_it_was_refused_for(workshop, preparer):
    """A broken archive entry never reaches a parser."""
    refusal = DocumentFailure(code="archive_encrypted", message="Locked.", stage=Stage.EXPANDING, action="Unlock it.")
    batch_id = await workshop.refused_batch(refusal)

    output = await workshop.ingest(batch_id)

    assert (output.status, output.code, output.stage) == (DocumentStatus.FAILED, "archive_encrypted", Stage.EXPANDING)
    assert (await workshop.row(batch_id)).error == refusal
    assert preparer.parsed == []


async def test_missing_bytes_cost_one_document(workshop):
    """An upload that was removed behind the service's back is that document's failure, and no raw bytes are claimed."""
    batch_id = await workshop.batch(TEXT)
    await workshop.blobs.delete(f"uploads/{TENANT}/{batch_id}/file-00000")

    output = await workshop.ingest(batch_id)

    assert (output.code, output.stage) == ("blob_not_found", Stage.FETCHING)
    assert (await workshop.row(batch_id)).raw_key is None


async def test_an_ingested_document_is_on_record_once(workshop):
    """With the outcome, under the name of whom it came from; a copy that was skipped, and a failure, are not."""
    batch_id = await workshop.batch(b"A note.\n", b"A note.\n", b"")
    for ordinal in (0, 0, 1, 2):
        await workshop.ingest(batch_id, ordinal, actor="ada")
    assert [row.status.value for row in await workshop.rows(batch_id)] == ["done", "skipped", "failed"]
    [event] = await workshop.catalog.audit.list_events(AuditFilter(TENANT), 10)
    assert (event.event_type, event.resource_type) == ("DOCUMENT_INGESTED", "document")
    assert (event.resource_id, event.actor) == ((await workshop.row(batch_id)).file_id, "ada")


async def test_a_copy_of_what_ended_its_parser_shares_the_verdict(workshop, preparer):
    """It is stored, costs no parser, and says which document was tried; its own batch alone goes by that, and no retry."""
    preparer.error = ParserCrashedError("It died twice.", stage="parsing", kills=2, quarantined=True)
    batch_id = await workshop.batch(TEXT, TEXT)
    await workshop.ingest(batch_id, 0)
    copy = await workshop.ingest(batch_id, 1)

    assert (copy.status, copy.code, len(preparer.parsed)) == (DocumentStatus.FAILED, "parser_crashed", 1)
    row = await workshop.row(batch_id, 1)
    assert (row.error.facts["same_as"], row.error.facts["kills"]) == (0, 2)
    assert row.error.message.startswith(f"{row.filename} is the same file as document 0")
    assert await workshop.blobs.get(row.raw_key) == TEXT

    await workshop.ingest(batch_id, 1, retry_round=1)
    await workshop.ingest(await workshop.batch(TEXT), 0)
    assert len(preparer.parsed) == 3


async def test_a_document_whose_end_could_not_be_written_is_no_copy_of_itself(workshop, preparer):
    """Its next attempt tries it again, here or elsewhere; only what is on record is a verdict."""
    preparer.error = ParserCrashedError("It died twice.", stage="parsing", kills=2, quarantined=True)
    batch_id = await workshop.batch(TEXT)
    workshop.catalog.faults["save_outcome"] = CatalogUnavailableError("away")
    with pytest.raises(ApplicationError):
        await workshop.ingest(batch_id)
    workshop.catalog.faults.clear()
    preparer.error = None

    assert (await workshop.ingest(batch_id, attempt=2)).status is DocumentStatus.DONE


async def test_files_that_are_read_by_their_names_are_no_copies_of_each_other(workshop, preparer):
    """What hangs a parser as HTML may pass as plain text."""
    preparer.error = ParserTimeoutError("It hung.", stage="parsing", kills=1, quarantined=True)
    batch_id = await workshop.batch(TEXT, TEXT, names=("note.html", "note.txt"))
    await workshop.ingest(batch_id, 0)
    preparer.error = None

    assert (await workshop.ingest(batch_id, 1)).status is DocumentStatus.DONE
