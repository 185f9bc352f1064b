"""Accepting a batch: bytes first, then the record, then the workflow; only then is it accepted.

Every request keeps its bytes under an upload id of its own, so two requests with one
``Idempotency-Key`` cannot overwrite each other; the record, inserted once, decides which of them
made the batch. A submission that broke off between record and workflow is completed by its replay.
"""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
import uuid_utils
from pydantic import BaseModel, ConfigDict, Field

from api.engine import BatchEngine, Presence
from api.idempotency import check_key
from api.resources import BatchSnapshot
from api.service.batches import NOT_STARTED, BatchService
from api.uploads import LARGE_FILES_AT_ONCE, Intake, IntakeLimits, MeasuringIntake, StoringIntake, Taken
from ingather.domain.filenames import normalise_filename
from ingather.domain.keys import submission_key
from ingather.models.batch import DEFAULT_COLLECTION, BatchRecord, BatchSpec, BatchState, Counts, ProcessingOptions
from ingather.models.document import DocumentFailure
from ingather.models.errors import (
    DependencyError,
    EmptyBatchError,
    IdempotencyKeyReusedError,
    ValidationFailedError,
)
from ingather.models.identity import batch_id_for
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog

log = structlog.get_logger(__name__)

CONTRACT = "v1"


class SubmissionSpec(BaseModel):
    """What a client says about a batch, apart from its documents."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, min_length=1, max_length=255)
    collection: str = Field(default=DEFAULT_COLLECTION, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    """Where search finds the documents: letters, digits, dot, dash and underscore."""
    priority: int = Field(default=3, ge=1, le=5)
    """1 is the most urgent."""
    hold: bool = False
    """Wait in ``pending`` until ``start``."""
    options: ProcessingOptions = ProcessingOptions()
    metadata: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Received:
    """What a request's body held besides the bytes. The lists follow the order of the intake's files."""

    spec: SubmissionSpec
    metadata: list[dict[str, Any]]
    refused: list[DocumentFailure | None]


Feed = Callable[[Intake], Awaitable[Received]]
"""Reads the request's body into an intake."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A batch that is durable and on its way."""

    snapshot: BatchSnapshot
    was_replayed: bool
    upload_bytes: int
    file_count: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a submission would do."""

    received: Received
    files: Sequence[Taken]
    duplicates: int
    seconds_per_document: float | None


@dataclass(frozen=True, slots=True)
class _Claim:
    """Which batch a request stands for."""

    tenant_id: str
    batch_id: str
    existing: BatchRecord | None = None
    is_begun: bool = False
    """The existing batch has its workflow: the request is a mere replay."""


@dataclass(slots=True)
class SubmissionService:
    """Takes batches in."""

    catalog: Catalog
    blobs: BlobStore
    engine: BatchEngine
    batches: BatchService
    limits: IntakeLimits
    created_by: str = "anonymous"
    parser_seconds: float = 60.0
    """Wall clock of a parse where a batch does not say, and the most it may ask for."""
    large_file_turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LARGE_FILES_AT_ONCE))

    async def submit(self, tenant_id: str, key: str | None, feed: Feed) -> Accepted:
        """Take a batch in; it is durable and started when this returns."""
        claim = await self._claim(tenant_id, check_key(key))
        if not claim.is_begun:
            await self.engine.check()  # before gigabytes are uploaded for nothing
        intake = self._intake(claim)
        try:
            received, there, is_new = await self._take(claim, feed, intake)
        except BaseException:
            await asyncio.shield(intake.discard())
            raise
        is_replay = not is_new and (claim.is_begun or await self._is_begun(there))
        if is_replay:
            await intake.discard()
        else:
            await self._begin(there, received, intake)
        snapshot = await self._snapshot(there, is_replay=is_replay)
        return Accepted(snapshot, is_replay, sum(file.size_bytes for file in intake.files), len(intake.files))

    async def _take(self, claim: _Claim, feed: Feed, intake: Intake) -> tuple[Received, BatchRecord, bool]:
        """Store the files, then let the catalog decide whose batch it is."""
        received = await feed(intake)
        if not intake.files:
            raise EmptyBatchError("The request holds no document.")
        await intake.finish()
        record = self._record(claim, received, intake.files)
        there, is_new = await self.catalog.add_batch(record)
        if there.request_fingerprint != record.request_fingerprint:
            raise IdempotencyKeyReusedError("This Idempotency-Key stands for a batch made of another payload.")
        return received, there, is_new

    async def preview(self, tenant_id: str, intake: MeasuringIntake, feed: Feed) -> Preview:
        """Read a submission and keep nothing."""
        received = await feed(intake)
        if not intake.files:
            raise EmptyBatchError("The request holds no document.")
        by_content = Counter(file.sha256 for file in intake.files if file.sha256)
        return Preview(
            received=received,
            files=intake.files,
            duplicates=sum(count - 1 for count in by_content.values()),
            seconds_per_document=await self.batches.seconds_per_document(tenant_id),
        )

    async def _claim(self, tenant_id: str, key: str | None) -> _Claim:
        if key is None:
            return _Claim(tenant_id, str(uuid_utils.uuid7()))
        batch_id = batch_id_for(tenant_id, CONTRACT, key)
        existing = await self.catalog.get_batch(batch_id, tenant_id)
        is_begun = existing is not None and await self._is_begun(existing)
        return _Claim(tenant_id, batch_id, existing, is_begun)

    def _intake(self, claim: _Claim) -> Intake:
        if claim.is_begun:
            return MeasuringIntake(self.limits)
        # Below the batch's own prefix, so that the bytes go when the batch has no more use for them.
        upload_id = f"{claim.batch_id}/{uuid_utils.uuid7()}"
        return StoringIntake(self.blobs, claim.tenant_id, upload_id, self.limits, self.large_file_turns)

    async def _is_begun(self, record: BatchRecord) -> bool:
        if record.state.is_final:
            return record.problem is None or record.problem.code != NOT_STARTED
        return (await self.engine.status(record.batch_id)).presence is not Presence.MISSING

    def _record(self, claim: _Claim, received: Received, files: Sequence[Taken]) -> BatchRecord:
        spec = received.spec
        state = BatchState.PENDING if spec.hold else BatchState.QUEUED
        name = spec.name or _default_name(files)
        batch = BatchSpec(
            batch_id=claim.batch_id,
            tenant_id=claim.tenant_id,
            name=name,
            created_by=self.created_by,
            contract=CONTRACT,
            collection=spec.collection,
            priority=spec.priority,
            options=self._options(spec.options),
            metadata=spec.metadata,
            submitted_count=len(files),
            hold=spec.hold,
        )
        return BatchRecord(
            batch_id=claim.batch_id,
            tenant_id=claim.tenant_id,
            spec=batch,
            state=state,
            counts=Counts(total=len(files), pending=len(files)),
            name=name,
            priority=spec.priority,
            request_fingerprint=fingerprint(received, files),
            created_at=datetime.now(UTC),
        )

    def _options(self, wanted: ProcessingOptions) -> ProcessingOptions:
        """The options as the batch keeps them. Raises ``ValidationFailedError`` for one over its limit."""
        if "timeout_seconds" not in wanted.model_fields_set:
            return wanted.model_copy(update={"timeout_seconds": self.parser_seconds})
        if wanted.timeout_seconds > self.parser_seconds:
            raise ValidationFailedError(
                f"The option timeout_seconds is over parser_seconds ({self.parser_seconds:g}).", limit="parser_seconds"
            )
        return wanted

    async def _begin(self, record: BatchRecord, received: Received, intake: Intake) -> None:
        lines = [
            file.submitted(metadata, refused).model_dump_json()
            for file, metadata, refused in zip(intake.files, received.metadata, received.refused, strict=True)
        ]
        try:
            await self.blobs.put(submission_key(record.tenant_id, record.batch_id), "\n".join([*lines, ""]).encode())
            if record.state.is_final:
                await self.catalog.set_batch_state(record.batch_id, BatchState.QUEUED)
            await self.engine.start(record.spec, record.created_at)
        except DependencyError:
            await self._clean_up(record, intake)
            raise
        log.info("batch.accepted", batch_id=record.batch_id, file_count=len(lines), hold=record.spec.hold)

    async def _clean_up(self, record: BatchRecord, intake: Intake) -> None:
        """Undo, but only where it is certain that no workflow began: a start that timed out may have been applied."""
        with contextlib.suppress(DependencyError):
            status = await self.engine.status(record.batch_id)
            if status.presence is Presence.MISSING:
                await self.batches.give_up(record)
                await intake.discard()

    async def _snapshot(self, record: BatchRecord, *, is_replay: bool) -> BatchSnapshot:
        if is_replay:
            return await self.batches.snapshot(record.tenant_id, record.batch_id)
        return BatchSnapshot.from_record(record)


def fingerprint(received: Received, files: Sequence[Taken]) -> str:
    """SHA-256 of what was asked for: independent of boundaries, field order and encodings."""
    content = {
        "spec": received.spec.model_dump(mode="json"),
        "files": [
            [file.filename, file.sha256, file.size_bytes, metadata, refused.code if refused else None]
            for file, metadata, refused in zip(files, received.metadata, received.refused, strict=True)
        ],
    }
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    return hashlib.sha256(orjson.dumps(content, option=options)).hexdigest()


def _default_name(files: Sequence[Taken]) -> str:
    first = normalise_filename(files[0].filename)[:120] or "document"
    return first if len(files) == 1 else f"{first} and {len(files) - 1} more"
