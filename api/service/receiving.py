"""Where requests that bring documents are received: fresh objects for each, and none left of those that come to nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import uuid_utils

from api.reception import Reception
from api.service.tenants import TenantBook
from api.shared_budget import SharedBudget
from api.submission_lines import NoLines, StoredLines
from api.uploads import IntakeLimits, MeasuringIntake, StoringIntake, large_file_turns
from ingather.domain.keys import submission_part_key
from ingather.models.batch import SubmissionPart
from ingather.ports.blob_store import BlobStore


@dataclass(slots=True)
class Receiving:
    """Opens receptions."""

    blobs: BlobStore
    limits: IntakeLimits
    """Of tenants that have none of their own."""
    tenants: TenantBook | None = None
    large_file_turns: SharedBudget = field(default_factory=large_file_turns)

    async def limits_for(self, tenant_id: str) -> IntakeLimits:
        """What a tenant may hand in."""
        tenant = await self.tenants.find(tenant_id) if self.tenants else None
        if tenant is None:
            return self.limits
        return replace(
            self.limits,
            max_documents=tenant.limits.max_documents_per_batch or self.limits.max_documents,
            max_file_bytes=tenant.limits.max_file_bytes or self.limits.max_file_bytes,
        )

    @asynccontextmanager
    async def reception(
        self,
        tenant_id: str,
        batch_id: str,
        *,
        is_replay: bool,
        max_documents: int | None = None,
        documents_before: int = 0,
    ) -> AsyncIterator[Reception]:
        """A reception for one request; a replay's keeps nothing. What it stored is removed where the block fails.

        ``max_documents`` is the batch's own limit, where it has one, of which ``documents_before`` are there.
        """
        limits = replace(await self.limits_for(tenant_id), documents_before=documents_before)
        if max_documents is not None:
            limits = replace(limits, max_documents=max_documents)
        reception = self._replayed(limits) if is_replay else self._storing(tenant_id, batch_id, limits)
        try:
            yield reception
        except BaseException:
            await asyncio.shield(reception.discard())
            raise

    def part(self, batch_id: str, part_id: str, reception: Reception, fingerprint: str | None = None) -> SubmissionPart:
        """What was received, as a part of a batch."""
        return SubmissionPart(
            batch_id=batch_id,
            part_id=part_id,
            key=reception.key,
            document_count=reception.tally.document_count,
            size_bytes=reception.tally.size_bytes,
            fingerprint=fingerprint,
            created_at=datetime.now(UTC),
        )

    def _replayed(self, limits: IntakeLimits) -> Reception:
        return Reception(MeasuringIntake(limits), NoLines(), limits, is_replay=True)

    def _storing(self, tenant_id: str, batch_id: str, limits: IntakeLimits) -> Reception:
        upload_id = str(uuid_utils.uuid7())
        # The bytes lie below the batch's own prefix, so that they go when the batch has no more use for them.
        intake = StoringIntake(self.blobs, tenant_id, f"{batch_id}/{upload_id}", limits, self.large_file_turns)
        lines = StoredLines(self.blobs, lambda name: submission_part_key(tenant_id, batch_id, name), upload_id)
        return Reception(intake, lines, limits)
