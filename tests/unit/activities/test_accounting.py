"""Documents that are only accounted for: a row each, and nothing else."""

from ingather.domain.bitmap import encode_bitmap
from ingather.models.batch import ProcessingOptions
from ingather.models.document import DocumentFailure, DocumentStatus
from ingather.models.messages import IngestDocumentInput, IngestPackInput
from tests.support.ingesting import TENANT, run_activity

TEXTS = (b"one", b"two", b"three")


def single(batch_id, ordinal):
    return IngestDocumentInput(
        tenant_id=TENANT, batch_id=batch_id, ordinal=ordinal, collection="default", options=ProcessingOptions()
    )


async def test_a_document_is_done_without_being_looked_at(workshop, preparer):
    """Its row says so; no object was written, and nothing else can take it for ingested content."""
    batch_id = await workshop.batch(*TEXTS)

    output = await run_activity(workshop.accounting_activities.account_for_document, single(batch_id, 1))

    assert output.status is DocumentStatus.DONE
    row = await workshop.row(batch_id, 1)
    assert (row.status, row.chunk_count, row.raw_key, row.fingerprint) == (DocumentStatus.DONE, 0, None, None)
    assert preparer.parsed == []
    assert [blob.key async for blob in workshop.blobs.list("derived/")] == []


async def test_several_are_accounted_for_together(workshop):
    """One activity, one transaction, a row each."""
    batch_id = await workshop.batch(*TEXTS)
    request = IngestPackInput(
        tenant_id=TENANT, batch_id=batch_id, ordinals=encode_bitmap([0, 2]), collection="default",
        options=ProcessingOptions(),
    )  # fmt: skip

    output = await run_activity(workshop.accounting_activities.account_for_pack, request)

    assert (output.statuses, output.failures) == ("dd", {})
    assert [row.status.value for row in await workshop.rows(batch_id)] == ["done", "pending", "done"]


async def test_a_refused_document_fails_here_too(workshop):
    """With the reason it was refused for."""
    batch_id = await workshop.refused_batch(DocumentFailure(code="archive_encrypted", message="sealed"))

    output = await run_activity(workshop.accounting_activities.account_for_document, single(batch_id, 0))

    assert (output.status, output.code) == (DocumentStatus.FAILED, "archive_encrypted")
