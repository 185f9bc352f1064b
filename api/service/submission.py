"""Accepting a batch: bytes first, then the record with its part, then the workflow; only then is it accepted.

Every request keeps its bytes and lines under an upload id of its own, so two requests with one
``Idempotency-Key`` cannot overwrite each other; the record, inserted once, decides which of them
made the batch. A submission that broke off between record and workflow is completed by its replay,
with the replay's own objects.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog
import uuid_utils

from api.engine import BatchEngine, Presence
from api.idempotency import check_key
from api.preview import ARCHIVE, PreviewIntake, PreviewLines, SubmissionPreview
from api.reception import Feed, Reception, SubmissionSpec, Tally
from api.resources import BatchSnapshot
from api.service.batches import BatchService, never_began, note_begun
from api.service.metadata_rules import RulesOf, no_rules
from api.service.receiving import Receiving
from api.service.tenants import TenantBook
from api.service.tus_uploads import TusUploads
from api.service.webhooks import MadeWebhook, WebhookService
from api.uploads import Taken
from ingather.domain.audit import batch_submitted
from ingather.domain.filenames import normalise_filename
from ingather.domain.keys import metadata_rules_key
from ingather.domain.sources import selected
from ingather.models.accounts import Tenant
from ingather.models.audit import Actor
from ingather.models.batch import (
    BatchRecord,
    BatchSpec,
    BatchState,
    Counts,
    ProcessingOptions,
    SourceProgress,
    SubmissionPart,
)
from ingather.models.content import SMALL_UPLOAD_BYTES
from ingather.models.errors import (
    DependencyError,
    EmptyBatchError,
    IdempotencyKeyReusedError,
    ValidationFailedError,
)
from ingather.models.identity import batch_id_for
from ingather.models.metadata import MetadataRules
from ingather.ports.catalog import Catalog
from workflows.pipelines import OFFERED_PIPELINES, PIPELINES

log = structlog.get_logger(__name__)

CONTRACT = "v1"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A batch that is durable and on its way."""

    snapshot: BatchSnapshot
    was_replayed: bool
    upload_bytes: int
    file_count: int
    webhook_secret: str | None = None
    """What signs events to the batch's own webhook, where it was made just now: shown once."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """Which batch a request stands for."""

    tenant_id: str
    contract: str
    batch_id: str
    created_by: str
    existing: BatchRecord | None = None
    is_begun: bool = False
    """The existing batch has its workflow: the request is a mere replay."""
    options: ProcessingOptions | None = None
    """What its door settles, whatever the client says."""


@dataclass(frozen=True, slots=True)
class _Received:
    """A request whose body is read and stored."""

    record: BatchRecord
    part: SubmissionPart | None
    """None for an open batch that begins empty."""
    reception: Reception
    webhook: MadeWebhook | None = None
    """The endpoint that the batch names; registered when it begins."""


@dataclass(slots=True)
class SubmissionService:
    """Takes batches in."""

    catalog: Catalog
    engine: BatchEngine
    batches: BatchService
    receiving: Receiving
    tenants: TenantBook
    webhooks: WebhookService
    uploads: TusUploads
    parser_seconds: float = 60.0
    """Wall clock of a parse where a batch does not say."""
    max_parser_seconds: float = 300.0
    """The most it may ask for."""
    embedding_models: Mapping[str, str | None] = field(default_factory=dict)
    """What clients may call each model, and its full name; None for the deployment's own."""
    parsing_model: str | None = None
    """The language model that documents may be read by; None without one."""
    children_at_once: int = 8
    pipelines: tuple[str, ...] = OFFERED_PIPELINES
    """Those that batches may have."""
    rules: RulesOf = no_rules

    async def submit(
        self,
        tenant_id: str,
        key: str | None,
        feed: Feed,
        *,
        contract: str = CONTRACT,
        created_by: str = "anonymous",
        by: Actor | None = None,
        options: ProcessingOptions | None = None,
    ) -> Accepted:
        """Take a batch in; it is durable and started when this returns. ``by`` says with which credential, for the audit.

        ``options`` are the door's own, where its clients have no say in them: the same request is the same batch also
        after they were set otherwise.
        """
        claim = await self._claim(tenant_id, contract, check_key(key), created_by)
        claim = replace(claim, options=options)
        structlog.contextvars.bind_contextvars(batch_id=claim.batch_id)
        if not claim.is_begun:
            await self.engine.check()  # before gigabytes are uploaded for nothing
        async with self.receiving.reception(tenant_id, claim.batch_id, is_replay=claim.is_begun) as reception:
            received = await self._take(claim, feed, reception)
            submitted = batch_submitted(received.record, by or Actor(name=created_by))
            there, is_new = await self.catalog.add_batch(received.record, received.part, [submitted])
            if there.request_fingerprint != received.record.request_fingerprint:
                raise IdempotencyKeyReusedError("This Idempotency-Key stands for a batch made of another payload.")
        is_replay = not is_new and (claim.is_begun or await self.is_begun(there))
        if is_replay:
            await reception.discard()
        else:
            there = await self._begin(there, received, is_new=is_new)
        snapshot = await self._snapshot(there, is_replay=is_replay)
        secret = None if is_replay or received.webhook is None else received.webhook.secret
        tally = reception.tally
        return Accepted(snapshot, is_replay, tally.size_bytes, tally.document_count, webhook_secret=secret)

    async def preview(self, tenant_id: str, feed: Feed) -> SubmissionPreview:
        """Read a submission and keep nothing. Raises what ``submit`` would for its spec."""
        limits = await self.receiving.limits_for(tenant_id)
        intake, lines = PreviewIntake(limits), PreviewLines()
        reception = Reception(intake, lines, limits)
        spec = await feed(reception) or SubmissionSpec()
        # Of a batch that is never made: nothing is registered.
        self._webhook(_Claim(tenant_id, CONTRACT, str(uuid_utils.uuid7()), "anonymous"), spec)
        self._pipeline(spec.pipeline or (await self.tenants.get(tenant_id)).pipeline, CONTRACT)
        self._options(spec.options)
        for upload_id in spec.uploads:
            upload = await self.uploads.finished(upload_id, tenant_id)
            await intake.begin(upload.filename)
            await intake.write(await self.uploads.head_of(upload, min(SMALL_UPLOAD_BYTES, limits.max_file_bytes)))
            looked_at = await intake.end()
            if looked_at.refused is None:
                looked_at = replace(looked_at, refused=await self.uploads.refusal_of(upload, limits))
            await reception.attach(replace(looked_at, size_bytes=upload.received_bytes, sha256=upload.sha256 or ""))
        await reception.finish()
        tally = reception.tally
        if not tally.document_count and not spec.open:
            raise EmptyBatchError("The request holds no document.")
        is_ruled = not _is_of_a_door(spec.pipeline)
        rules = await self.rules(tenant_id, spec.collection) if is_ruled else MetadataRules()
        pace = await self.batches.seconds_per_document(tenant_id)
        return SubmissionPreview(
            documents=tally.document_count,
            bytes=tally.size_bytes,
            by_type=dict(intake.by_type),
            archives=intake.by_type[ARCHIVE],
            from_sources=lines.from_sources,
            duplicates=lines.duplicates,
            unsupported=lines.refused_count,
            refused=lines.refused,
            # A schema takes its time, and is loaded when the first is met.
            metadata=await asyncio.to_thread(lines.metadata_under, rules),
            seconds_per_document=pace,
            estimated_seconds=None if pace is None else round(pace * (tally.document_count - lines.refused_count), 1),
        )

    async def _take(self, claim: _Claim, feed: Feed, reception: Reception) -> _Received:
        """Read and store the body."""
        spec = await feed(reception) or SubmissionSpec()
        await self._take_uploads(claim, spec.uploads, reception)
        if not reception.tally.document_count and not spec.open:
            raise EmptyBatchError("The request holds no document.")
        is_ruled = not claim.is_begun and not _is_of_a_door(spec.pipeline)
        rules_key = await self._keep_rules(claim.tenant_id, spec.collection) if is_ruled else None
        tenant = await self.tenants.get(claim.tenant_id)
        webhook = self._webhook(claim, spec)
        is_heard = webhook is not None or await self.webhooks.is_heard(claim.tenant_id)
        batch = self._batch_spec(claim, spec, reception.tally, tenant, rules_key)
        batch = batch.model_copy(update={"is_heard": is_heard})
        await reception.finish()
        if not reception.is_replay:  # now that nothing of the request is refused any more
            for upload_id in spec.uploads:
                await self.uploads.use(upload_id, claim.tenant_id, claim.batch_id)
        part = None
        if reception.tally.document_count:
            # Named after the batch: whoever submits the batch again means this part.
            part = self.receiving.part(claim.batch_id, claim.batch_id, reception)
        return _Received(
            _record(batch, reception.tally.fingerprint(spec), selected(reception.tally.sources.slices())),
            part,
            reception,
            webhook,
        )

    def _webhook(self, claim: _Claim, spec: SubmissionSpec) -> MadeWebhook | None:
        if spec.webhook_url is None:
            return None
        return self.webhooks.for_batch(
            claim.tenant_id, claim.batch_id, spec.webhook_url, spec.webhook_secret, created_by=claim.created_by
        )

    async def _take_uploads(self, claim: _Claim, upload_ids: Sequence[str], reception: Reception) -> None:
        """What was uploaded before. A replay does not look at it: it may be gone, and the batch is what it was."""
        for upload_id in upload_ids:
            if reception.is_replay:
                await reception.attach(Taken("", 0, ""))
                continue
            upload = await self.uploads.finished(upload_id, claim.tenant_id)
            await reception.attach(await self.uploads.taken(upload, reception.limits))

    async def _keep_rules(self, tenant_id: str, collection: str) -> str | None:
        """The rules as they are now, in an object that all batches under the same ones share."""
        rules = await self.rules(tenant_id, collection)
        if rules.say_nothing:
            return None
        content = rules.model_dump_json().encode()
        key = metadata_rules_key(tenant_id, content)
        await self.receiving.blobs.put(key, content)
        return key

    async def _claim(self, tenant_id: str, contract: str, key: str | None, created_by: str) -> _Claim:
        if key is None:
            return _Claim(tenant_id, contract, str(uuid_utils.uuid7()), created_by)
        batch_id = batch_id_for(tenant_id, contract, key)
        existing = await self.catalog.get_batch(batch_id, tenant_id)
        is_begun = existing is not None and await self.is_begun(existing)
        return _Claim(tenant_id, contract, batch_id, created_by, existing, is_begun)

    async def is_begun(self, record: BatchRecord) -> bool:
        """Whether an earlier request came through. One that broke off is completed by the next under its key."""
        if record.state.is_final:
            return not never_began(record)
        return (await self.engine.status(record.batch_id)).presence is not Presence.MISSING

    def _batch_spec(
        self, claim: _Claim, spec: SubmissionSpec, tally: Tally, tenant: Tenant, rules_key: str | None
    ) -> BatchSpec:
        """Everything resolved, so that a new default never changes a running batch."""
        return BatchSpec(
            batch_id=claim.batch_id,
            tenant_id=claim.tenant_id,
            name=spec.name or _default_name(tally),
            created_by=claim.created_by,
            contract=claim.contract,
            pipeline=self._pipeline(spec.pipeline or tenant.pipeline, claim.contract),
            collection=spec.collection,
            priority=spec.priority,
            options=self._options(claim.options or spec.options),
            metadata=spec.metadata,
            submitted_count=tally.document_count,
            submitted_bytes=tally.size_bytes,
            hold=spec.hold,
            open=spec.open,
            max_documents=tenant.limits.max_documents_per_batch or self.receiving.limits.max_documents,
            max_file_bytes=tenant.limits.max_file_bytes,
            fairness_weight=tenant.fairness_weight,
            children_at_once=self.children_at_once,
            metadata_rules_key=rules_key,
        )

    def _pipeline(self, wanted: str, contract: str) -> str:
        is_own = wanted in PIPELINES and PIPELINES[wanted].contract == contract
        if wanted not in self.pipelines and not is_own:
            raise ValidationFailedError(f"There is no pipeline {wanted!r}: choose from {', '.join(OFFERED_PIPELINES)}.")
        return wanted

    def _options(self, wanted: ProcessingOptions) -> ProcessingOptions:
        """The options as the batch keeps them. Raises ``ValidationFailedError`` for one over its limit."""
        if wanted.parsing_model not in {None, self.parsing_model}:
            known = f"The model here is {self.parsing_model}." if self.parsing_model else "There is none here."
            raise ValidationFailedError(f"The option parsing_model names no language model of this deployment. {known}")
        if wanted.embedding_model is not None:
            if wanted.embedding_model not in self.embedding_models:
                known = ", ".join(sorted(self.embedding_models)) or "none can be named"
                raise ValidationFailedError(f"The option embedding_model names no model of this deployment: {known}.")
            wanted = wanted.model_copy(update={"embedding_model": self.embedding_models[wanted.embedding_model]})
        if "timeout_seconds" not in wanted.model_fields_set:
            return wanted.model_copy(update={"timeout_seconds": self.parser_seconds})
        if wanted.timeout_seconds > self.max_parser_seconds:
            raise ValidationFailedError(
                f"The option timeout_seconds is over max_parser_seconds ({self.max_parser_seconds:g}).",
                limit="max_parser_seconds",
            )
        return wanted

    async def _begin(self, record: BatchRecord, received: _Received, *, is_new: bool) -> BatchRecord:
        try:
            if not is_new:
                record = await self._take_over(record, received)
            if received.webhook is not None:
                await self.webhooks.register(received.webhook)
            await self.engine.start(record.spec, record.created_at)
        except DependencyError:
            await self._clean_up(record, received)
            raise
        await note_begun(self.catalog, record)
        if not record.spec.is_heard:
            await self.webhooks.listeners.has_begun_meanwhile(record.tenant_id, record.batch_id)
        log.info(
            "batch.accepted",
            batch_id=record.batch_id,
            file_count=received.reception.tally.document_count,
            hold=record.spec.hold,
            open=record.spec.open,
        )
        return record

    async def _take_over(self, record: BatchRecord, received: _Received) -> BatchRecord:
        """Another attempt wrote the record and got no further: this one's objects take the place of its own."""
        if received.part is not None:
            await self.catalog.replace_part(received.part)
        if not record.state.is_final:
            return record
        state, count = received.record.state, received.record.counts
        await self.catalog.set_batch_state(record.batch_id, state, count.total)
        return record.model_copy(update={"state": state, "counts": count, "problem": None, "ended_at": None})

    async def _clean_up(self, record: BatchRecord, received: _Received) -> None:
        """Undo, but only where it is certain that no workflow began: a start that timed out may have been applied."""
        with contextlib.suppress(DependencyError):
            status = await self.engine.status(record.batch_id)
            if status.presence is Presence.MISSING:
                if received.part is not None:
                    await self.catalog.remove_part(received.part)
                await self.batches.give_up(record)
                await received.reception.discard()

    async def _snapshot(self, record: BatchRecord, *, is_replay: bool) -> BatchSnapshot:
        if is_replay:
            return await self.batches.snapshot(record.tenant_id, record.batch_id)
        return BatchSnapshot.from_record(record)


def _record(spec: BatchSpec, fingerprint: str, sources: tuple[SourceProgress, ...]) -> BatchRecord:
    now = datetime.now(UTC)
    return BatchRecord(
        batch_id=spec.batch_id,
        tenant_id=spec.tenant_id,
        spec=spec,
        state=_first_state(spec),
        counts=Counts(total=spec.submitted_count, pending=spec.submitted_count),
        sources=sources,
        name=spec.name,
        priority=spec.priority,
        request_fingerprint=fingerprint,
        sealed_at=None if spec.open else now,
        created_at=now,
    )


def _first_state(spec: BatchSpec) -> BatchState:
    return BatchState.PENDING if spec.hold or spec.open else BatchState.QUEUED


def _is_of_a_door(pipeline: str | None) -> bool:
    """Its door writes the documents itself, and their metadata: the tenant's rules are for those of others."""
    return pipeline in PIPELINES and PIPELINES[pipeline].contract is not None


def _default_name(tally: Tally) -> str:
    if not tally.document_count:
        return "open batch"
    first = normalise_filename(tally.first_name)[:120] or "document"
    return first if tally.document_count == 1 else f"{first} and {tally.document_count - 1:,} more"
