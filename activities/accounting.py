"""Documents accounted for, and nothing else: what a run through this pipeline costs is what orchestration costs.

Each gets its row in the catalog as any other does, and ends as done; its bytes are never looked at.
"""

from temporalio import activity

from activities.failures import translate_errors_and_give_up
from activities.ingestion import Ingestion, output_of
from activities.manifest import ManifestReader
from activities.pack_progress import PackHeartbeats, PackProgress
from ingather.domain.bitmap import decode_bitmap
from ingather.models.content import Stage
from ingather.models.document import DocumentRecord
from ingather.models.messages import IngestDocumentInput, IngestDocumentOutput, IngestPackInput, IngestPackOutput
from ingather.ports.catalog import Catalog


class AccountingActivities:
    def __init__(self, catalog: Catalog, manifest: ManifestReader) -> None:
        self._catalog = catalog
        self._manifest = manifest

    @activity.defn(name="account_for_document")
    @translate_errors_and_give_up
    async def account_for_document(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        """Record one document as done, or as what it was refused for."""
        record = await self._record(request)
        await self._catalog.save_outcome(record)
        return output_of(record)

    @activity.defn(name="account_for_pack")
    @translate_errors_and_give_up
    async def account_for_pack(self, request: IngestPackInput) -> IngestPackOutput:
        """The same for several documents, in one transaction."""
        ordinals = list(decode_bitmap(request.ordinals))
        progress = PackProgress(ordinals)
        async with PackHeartbeats(progress).beating():
            shared = request.model_dump(exclude={"ordinals"})
            records = [await self._record(IngestDocumentInput(ordinal=each, **shared)) for each in ordinals]
            await self._catalog.save_outcomes(records)
            for record in records:
                progress.ended(record)
        return progress.output()

    async def _record(self, request: IngestDocumentInput) -> DocumentRecord:
        document = await self._manifest.document(request.tenant_id, request.batch_id, request.ordinal)
        ingestion = Ingestion(request, document, activity.info().attempt, None, _tell_nobody)
        if document.refused is not None:
            ingestion.fail(document.refused)
        else:
            ingestion.accounted_for()
        return ingestion.record()


def _tell_nobody(_stage: Stage) -> None:
    """No stage lasts long enough to be told."""
