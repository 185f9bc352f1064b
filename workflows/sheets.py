"""The stages around the documents of a batch of scanned sheets.

Before them: extract the upload, look for codes page by page, group the sheets and make the manifest. After them:
collect the results, write the table, load the rows, clean up, and when the batch's own last word is in the catalog,
tell the end. Each is an activity, so a crash repeats a stage at most; a retry of failed sheets goes through the later
ones again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.sheet_intake import SheetIntakeActivities
    from activities.sheet_results import SheetResultActivities
    from ingather.models.batch import BatchSpec, BatchSummary
    from ingather.models.messages import (
        BuildManifestOutput,
        ClosedBatch,
        ExtractSheetsInput,
        FinishSheetsInput,
        FinishSheetsOutput,
        OrganizeSheetsInput,
        ReadSheetCodesInput,
    )
    from workflows.options import CONCLUDE, MANIFEST, RECORDS, read_codes_options

PAGES_AT_ONCE = 8
"""Pages of files that are looked at side by side, 250 files each."""

_LOOKS_NO_FURTHER = "no page is begun once a batch of sheets is stopped"
"""The change since which none is: a page that ended well although it was asked to stop went on with the next."""

_Step = Callable[[Any, FinishSheetsInput], Awaitable[FinishSheetsOutput]]
_STEPS: tuple[_Step, ...] = (
    SheetResultActivities.collect_sheets,
    SheetResultActivities.write_sheet_csv,
    SheetResultActivities.load_sheets,
    SheetResultActivities.clean_up_sheets,
)


class SheetStages:
    """What a batch of sheets does beside running them."""

    async def make_manifest(self, spec: BatchSpec) -> BuildManifestOutput:
        """Extract, look, organize. Raises ``ActivityError`` where the upload cannot be a batch."""
        extracted = await workflow.execute_activity_method(
            SheetIntakeActivities.extract_sheets,
            ExtractSheetsInput(
                tenant_id=spec.tenant_id,
                batch_id=spec.batch_id,
                max_documents=spec.max_documents,
                max_file_bytes=spec.max_file_bytes,
            ),
            summary=f"{spec.submitted_count} uploaded",
            **MANIFEST,
        )
        if extracted.reads_codes:
            await self._look_for_codes(spec, extracted.page_count)
        return await workflow.execute_activity_method(
            SheetIntakeActivities.organize_sheets,
            OrganizeSheetsInput(
                tenant_id=spec.tenant_id,
                batch_id=spec.batch_id,
                collection=spec.collection,
                page_count=extracted.page_count,
                reads_codes=extracted.reads_codes,
            ),
            summary=f"{extracted.file_count} files",
            **MANIFEST,
        )

    async def finish(self, spec: BatchSpec, closed: ClosedBatch) -> None:
        """The stages after the sheets, one after the other."""
        request = self._finishing(spec, closed.summary)
        for step in _STEPS:
            is_first = step is _STEPS[0]
            output = await workflow.execute_activity_method(
                step,
                request.model_copy(update={"closed": closed}) if is_first else request,
                summary=f"{closed.summary.counts.total} sheets",
                **RECORDS,
            )
            request = request.model_copy(update={"row_count": output.row_count})

    async def conclude(self, spec: BatchSpec, summary: BatchSummary) -> None:
        """Tell the end, once the catalog knows it."""
        await workflow.execute_activity_method(
            SheetResultActivities.conclude_sheets,
            self._finishing(spec, summary),
            summary=summary.state.value,
            **CONCLUDE,
        )

    async def _look_for_codes(self, spec: BatchSpec, page_count: int) -> None:
        """All pages, some at a time; the next begins as soon as one ends."""
        waiting = iter(range(page_count))

        async def look() -> None:
            for page in waiting:
                await workflow.execute_activity_method(
                    SheetIntakeActivities.read_sheet_codes,
                    ReadSheetCodesInput(
                        tenant_id=spec.tenant_id,
                        batch_id=spec.batch_id,
                        page=page,
                        timeout_seconds=spec.options.timeout_seconds,
                    ),
                    summary=f"page {page + 1} of {page_count}",
                    **read_codes_options(spec.options),
                )
                # A page that ends well although it was asked to stop swallows the cancel.
                if workflow.cancellation_reason() is not None and workflow.patched(_LOOKS_NO_FURTHER):
                    raise asyncio.CancelledError

        if not page_count:
            return
        tasks = [asyncio.create_task(look()) for _ in range(min(PAGES_AT_ONCE, page_count))]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            # None may go on beside the batch that closes, and none begin.
            if workflow.patched(_LOOKS_NO_FURTHER):
                deque(waiting, maxlen=0)
            for task in tasks:
                task.cancel()
            await workflow.wait(tasks)
            raise

    @staticmethod
    def _finishing(spec: BatchSpec, summary: BatchSummary) -> FinishSheetsInput:
        return FinishSheetsInput(tenant_id=spec.tenant_id, batch_id=spec.batch_id, summary=summary)
