"""What goes over Temporal's wire: it comes back as it was, stays small, and takes fields to come."""

import json
import uuid
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError
from temporalio.contrib.pydantic import pydantic_data_converter

from ingather.domain.ledger import Ledger
from ingather.models.batch import BatchProgress, BatchSpec, BatchState, BatchSummary, Counts, SourceSlice
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import (
    MAX_WAITING,
    BatchInput,
    CarriedPlaces,
    CarriedState,
    ClosedBatch,
    ControlAnswer,
    ControlRequest,
    DocumentHeartbeat,
    IndexDocumentsOutput,
    IngestDocumentInput,
    IngestDocumentOutput,
    JournalEntry,
    JournalKind,
    OutcomesPage,
    PlaceEntry,
    PlaceLimits,
    PlacesInput,
    PriorityRequest,
    ReadManifestOutput,
    RetryRequest,
)
from workflows.journal import PAGE_SIZE, Journal

NOON = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)
BATCH = "0192f0c1-2345-7abc-8def-0123456789ab"
SPEC = BatchSpec(batch_id=BATCH, tenant_id=DEFAULT_TENANT_ID, name="b", submitted_count=1_000)
COUNTS = Counts(total=1_000, done=1_000)
PROGRESS = BatchProgress(state=BatchState.RUNNING, counts=COUNTS, created_at=NOON)
ENTRY = JournalEntry(
    kind=JournalKind.ENDED, at=NOON, ordinal=999, status=DocumentStatus.FAILED, code="parser_out_of_memory"
)
PLACE = PlaceEntry(batch_id=BATCH, chain_id=BATCH, priority=5, submitted_bytes=2**40, asked_at=NOON, passed_over=8)
PLACES = PlaceLimits(max_jobs=100, max_bytes=2**40)
PAYLOAD_WARNING_BYTES = 512 * 1024


def carried(entry_count):
    first, entries = Journal(7, (ENTRY,) * entry_count).tail()
    return CarriedState(
        ledger=Ledger(1_000).letters(),
        sources=tuple(
            SourceSlice(name="n" * 255, source_type="zip", first_ordinal=n, document_count=1) for n in range(20)
        ),
        state=BatchState.PAUSED,
        paused=True,
        priority=1,
        retry_round=2,
        version=3_000,
        journal_first=first,
        journal=entries,
        handled_requests=tuple(uuid.uuid4().hex for _ in range(200)),
        created_at=NOON,
    )


MESSAGES = [
    BatchInput(spec=SPEC, carried=carried(3)),
    ControlAnswer(state=BatchState.PAUSED, progress=PROGRESS, affected=4),
    RetryRequest(request_id="r", codes=("corrupt",), ordinals=(1, 2), include_cancelled=True),
    IngestDocumentInput(
        tenant_id=DEFAULT_TENANT_ID, batch_id=BATCH, ordinal=1, collection="c", options=SPEC.options, retry_round=1
    ),
    IngestDocumentOutput(status=DocumentStatus.FAILED, code="corrupt", stage=Stage.PARSING),
    IndexDocumentsOutput(document_count=1, chunk_count=2, missing="AQ=="),
    ClosedBatch(
        summary=BatchSummary(batch_id=BATCH, state=BatchState.COMPLETED, counts=COUNTS, version=9), ledger="d" * 1_000
    ),
    DocumentHeartbeat(stage=Stage.EMBEDDING, filename="a.pdf", started_at=NOON),
    OutcomesPage(first=0, next=1, entries=(ENTRY,), more=False, progress=PROGRESS),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
async def test_a_message_comes_back_as_it_was(message):
    """Types included: enums, tuples and times."""
    [payload] = await pydantic_data_converter.encode([message])
    [again] = await pydantic_data_converter.decode([payload], [type(message)])

    assert again == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_field_of_a_later_version_is_passed_over(message):
    """During a deploy old workers read what new ones wrote."""
    later = json.loads(message.model_dump_json()) | {"of_a_later_version": 1}
    assert type(message).model_validate(later) == message


@pytest.mark.parametrize(
    "message",
    [
        BatchInput(spec=SPEC, carried=carried(5_000)),
        OutcomesPage(first=0, next=PAGE_SIZE, entries=(ENTRY,) * PAGE_SIZE, more=True, progress=PROGRESS),
        ReadManifestOutput(first_ordinal=0, filenames=("ä" * 127,) * 1_000),
        RetryRequest(request_id="r", ordinals=tuple(range(1_000))),
        PlacesInput(
            tenant_id=DEFAULT_TENANT_ID,
            carried=CarriedPlaces(holders=(PLACE,) * 100, waiting=(PLACE,) * MAX_WAITING, limits=PLACES),
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_the_largest_message_stays_below_the_servers_warning(message):
    """At a thousand documents, or a whole line of batches, with everything filled in."""
    assert len(message.model_dump_json()) < PAYLOAD_WARNING_BYTES


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ControlRequest, {"request_id": ""}),
        (ControlRequest, {"request_id": "r" * 101}),
        (RetryRequest, {"request_id": "r", "ordinals": range(1_001)}),
        (RetryRequest, {"request_id": "r", "codes": ["c"] * 51}),
        (PriorityRequest, {"request_id": "r", "priority": 6}),
    ],
)
def test_a_request_out_of_bounds_is_refused(kind, fields):
    """What anybody may send is bounded before it enters history."""
    with pytest.raises(ValidationError):
        kind(**fields)
