"""Activities of sheets with scripted outcomes, under their real names."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from temporalio import activity

from ingather.models.messages import (
    BuildManifestOutput,
    ExtractSheetsInput,
    ExtractSheetsOutput,
    FinishSheetsInput,
    FinishSheetsOutput,
    IngestDocumentInput,
    IngestDocumentOutput,
    OrganizeSheetsInput,
    ReadSheetCodesInput,
    SourceSlice,
)
from tests.support.fake_activities import World, opened


@dataclass
class SheetWorld(World):
    """An upload of so many pages of files, and what was asked for."""

    page_count: int = 2
    reads_codes: bool = True
    code_gate: asyncio.Event | None = None
    """While set and not open, codes are being looked for."""
    looking: int = 0
    """Pages that are being looked at now."""
    pages: list[int] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    """Stages after the sheets, in the order in which they ended."""
    concluded: list[str] = field(default_factory=list)
    """States that were told as the end."""

    @activity.defn(name="extract_sheets")
    async def extract_sheets(self, request: ExtractSheetsInput) -> ExtractSheetsOutput:
        self.calls["extract_sheets"] += 1
        await opened(self.manifest_gate)
        if self.manifest_error is not None:
            raise self.manifest_error
        return ExtractSheetsOutput(
            file_count=self.document_count, page_count=self.page_count, reads_codes=self.reads_codes
        )

    @activity.defn(name="read_sheet_codes")
    async def read_sheet_codes(self, request: ReadSheetCodesInput) -> None:
        self.looking += 1
        try:
            await opened(self.code_gate)
        except asyncio.CancelledError:
            if not self.ignores_cancel:
                raise
        finally:
            self.looking -= 1
        self.pages.append(request.page)

    @activity.defn(name="organize_sheets")
    async def organize_sheets(self, request: OrganizeSheetsInput) -> BuildManifestOutput:
        self.calls["organize_sheets"] += 1
        upload = SourceSlice(name="upload", source_type="upload", first_ordinal=0, document_count=self.document_count)
        return BuildManifestOutput(document_count=self.document_count, page_count=1, sources=(upload,))

    @activity.defn(name="process_sheet")
    async def process_sheet(self, request: IngestDocumentInput) -> IngestDocumentOutput:
        return await self.ingest_document(request)

    @activity.defn(name="collect_sheets")
    async def collect_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        assert request.closed is not None
        self.steps.append("collect_sheets")
        return FinishSheetsOutput(row_count=request.summary.counts.total)

    @activity.defn(name="write_sheet_csv")
    async def write_sheet_csv(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        return self._after("write_sheet_csv", request)

    @activity.defn(name="load_sheets")
    async def load_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        return self._after("load_sheets", request)

    @activity.defn(name="clean_up_sheets")
    async def clean_up_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        return self._after("clean_up_sheets", request)

    @activity.defn(name="conclude_sheets")
    async def conclude_sheets(self, request: FinishSheetsInput) -> FinishSheetsOutput:
        self.concluded.append(request.summary.state.value)
        return FinishSheetsOutput()

    def _after(self, step: str, request: FinishSheetsInput) -> FinishSheetsOutput:
        self.steps.append(step)
        return FinishSheetsOutput(row_count=request.row_count)

    def manifest_activities(self) -> list[Callable[..., Any]]:
        return [*super().manifest_activities(), self.extract_sheets, self.organize_sheets]

    def io_activities(self) -> list[Callable[..., Any]]:
        after = [
            self.collect_sheets,
            self.write_sheet_csv,
            self.load_sheets,
            self.clean_up_sheets,
            self.conclude_sheets,
        ]
        return [*super().io_activities(), *after]

    def cpu_activities(self) -> list[Callable[..., Any]]:
        return [*super().cpu_activities(), self.process_sheet, self.read_sheet_codes]
