"""What a document runs through, by name. A new pipeline is one activity class and one line here."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.accounting import AccountingActivities
    from activities.handoff import HandoffActivities
    from activities.ingest import IngestActivities
    from activities.pack import PackActivities
    from activities.sheets import SheetActivities
    from activities.texts import TextActivities
    from ingather.models.batch import ProcessingOptions
    from ingather.models.messages import IngestDocumentInput, IngestDocumentOutput, IngestPackInput, IngestPackOutput
    from workflows.options import ActivityOptions, ingest_options, text_options
    from workflows.sheets import SheetStages


@dataclass(frozen=True)
class Pipeline:
    """How one document is processed, and whether search is to find it afterwards."""

    process_document: Callable[[Any, IngestDocumentInput], Awaitable[IngestDocumentOutput]]
    indexed: bool
    process_pack: Callable[[Any, IngestPackInput], Awaitable[IngestPackOutput]] | None = None
    """Several small documents in one activity; None where each has one of its own."""
    is_offered: bool = True
    """Whether clients are told of it, and tenants may be set to it."""
    takes_place: bool = True
    """Whether its batches wait in the tenant's line for a place."""
    options: Callable[[ProcessingOptions], ActivityOptions] = ingest_options
    """Queue, timeouts and retries of one document."""
    contract: str | None = None
    """The one door whose batches run through it; None where clients choose it."""
    indexes_blank: bool = True
    """Whether documents without text are taken to the index too, where earlier text of theirs may be."""
    stages: SheetStages | None = None
    """What is done before and after the documents, where that is not the ordinary."""


HANDOFF = "handoff"
"""Documents go to workers that are not ours."""
TEXT = "text"
"""Documents are short texts, each with what a language model is to do with it."""
SHEETS = "sheets"
"""Scanned sheets: grouped by their QR codes, and collected into one table."""

PIPELINES = {
    "ingest": Pipeline(IngestActivities.ingest_document, indexed=True, process_pack=PackActivities.ingest_pack),
    HANDOFF: Pipeline(HandoffActivities.hand_on_document, indexed=False, process_pack=HandoffActivities.hand_on_pack),
    TEXT: Pipeline(
        TextActivities.process_text,
        indexed=False,
        is_offered=False,  # its documents are written by its own door
        takes_place=False,  # a client waits for its few texts, and hours of documents are no reason to
        options=text_options,
        contract="texts",
    ),
    SHEETS: Pipeline(
        SheetActivities.process_sheet,
        indexed=True,
        process_pack=SheetActivities.process_sheet_pack,  # of sheets that were looked at before: they have no text
        indexes_blank=False,
        is_offered=False,  # its batches are uploads, which only their own door takes in
        stages=SheetStages(),
    ),
    "noop": Pipeline(
        AccountingActivities.account_for_document,
        indexed=False,
        process_pack=AccountingActivities.account_for_pack,
        is_offered=False,  # measures what a document costs without its contents: nothing is stored
    ),
}

OFFERED_PIPELINES = tuple(name for name, pipeline in PIPELINES.items() if pipeline.is_offered)
