"""One attempt at the documents of a pack, from bytes to rows."""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import structlog

from activities.attempts import is_batch_cancelled
from activities.failures import described, to_document_failure
from activities.ingestion import Ingestion, fetch_content, log_end
from activities.lately import Lately
from activities.pack_progress import PackProgress
from activities.reuse import take_over
from ingather.domain.audit import documents_ingested
from ingather.domain.keys import artifact_key, artifact_pack_key
from ingather.domain.stored import StoredBytes
from ingather.models.content import PreparedDocument, Stage
from ingather.models.document import DocumentFailure
from ingather.models.errors import (
    ArtifactUnreadableError,
    BlobNotFoundError,
    DocumentError,
    IngatherError,
    ParserKilledError,
)
from ingather.ports.blob_store import BlobStore
from ingather.ports.catalog import Catalog
from ingather.ports.document_preparer import DocumentPreparer

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 1.0
"""How long what is done may wait to be written together with more: what a crash can cost."""

Fetched = tuple[Ingestion, bytes]


class PackRun:
    """Takes documents through their stages together, and writes what is done."""

    def __init__(
        self,
        blobs: BlobStore,
        catalog: Catalog,
        preparer: DocumentPreparer,
        progress: PackProgress,
        sent_back: Lately[bool],
        *,
        patience_seconds: float,
        own_objects: bool = False,
    ) -> None:
        self._patience_seconds = patience_seconds
        """How long those behind a document wait for it, where it takes longer than others do."""
        self._own_objects = own_objects
        """Whether bytes are brought to each document's own key, also where they could stay as they came in."""
        self._blobs = blobs
        self._catalog = catalog
        self._preparer = preparer
        self._progress = progress
        self._sent_back = sent_back
        """Contents that need not be tried: one would keep its neighbours waiting once more, or cost a parser."""
        self._prepared: list[tuple[Ingestion, PreparedDocument]] = []
        """Prepared, with an artifact that is not stored yet."""
        self._settled: list[Ingestion] = []
        """With an outcome that is not in the catalog yet."""
        self._unwritten_since: float | None = None
        """When the first document came to its end that is not written yet."""

    async def ingest(self, group: Sequence[Ingestion]) -> bool:
        """Ingest documents of different contents. False when their batch was cancelled meanwhile; what was done is kept."""
        working = asyncio.ensure_future(self._work(group))
        try:
            while not working.done():
                await asyncio.wait({working}, timeout=self._patience)
                if self._patience <= 0:
                    await self._flush()
            # Also what came to its end during the last write.
            await self._flush()
        except asyncio.CancelledError:
            # The parser is stopped at once; what it has finished is not thrown away.
            await _stopped(working)
            with suppress(IngatherError):
                await self._flush()
            if not is_batch_cancelled():
                raise
            return False
        finally:
            # Also after a write that failed: the next attempt must not find this one's parser at work.
            await _stopped(working)
        await working
        return True

    @property
    def _patience(self) -> float:
        """Seconds until something has to be written. A pack may wait for a parser longer than it keeps one busy."""
        if self._unwritten_since is None:
            return FLUSH_SECONDS
        return self._unwritten_since + FLUSH_SECONDS - time.monotonic()

    def _unwritten(self) -> None:
        self._unwritten_since = self._unwritten_since or time.monotonic()

    async def _work(self, group: Sequence[Ingestion]) -> None:
        # One after the other: small documents came in together, and the first read fetches them all.
        found = [(ingestion, await self._content(ingestion)) for ingestion in group]
        fetched = [(ingestion, content) for ingestion, content in found if content is not None]
        fresh = await self._not_taken_over(fetched)
        # What is not tried has no outcome, and so runs again alone.
        if to_try := [(each, content) for each, content in fresh if each.content not in self._sent_back]:
            await self._prepare(to_try)

    # --- Before the parser ----------------------------------------------------------------

    async def _content(self, ingestion: Ingestion) -> bytes | None:
        """The document's bytes; None where it has its verdict already."""
        if ingestion.document.refused is not None:
            self._failed(ingestion, ingestion.document.refused)
            return None
        try:
            content = await fetch_content(ingestion, self._blobs)
        except (DocumentError, BlobNotFoundError) as error:
            self._failed(ingestion, to_document_failure(error, ingestion.stage))
            return None
        ingestion.enter(Stage.STORING)
        ingestion.raw = None if self._own_objects else ingestion.upload
        if ingestion.raw is None:
            await self._blobs.put(ingestion.raw_key, content)
            ingestion.raw = StoredBytes(ingestion.raw_key)
        ingestion.enter(Stage.WAITING)
        return content

    async def _not_taken_over(self, fetched: Sequence[Fetched]) -> Sequence[Fetched]:
        """Documents whose content is new, or is to be done again all the same."""
        if not fetched or not fetched[0][0].request.options.skip_existing:
            return fetched
        tenant_id, _, fingerprint = fetched[0][0].address
        contents = [ingestion.address[1] for ingestion, _ in fetched]
        found = await self._catalog.find_ingested_among(tenant_id, contents, fingerprint)
        fresh = []
        for ingestion, content in fetched:
            if await take_over(ingestion, found.get(ingestion.address[1], ()), self._blobs, self._preparer):
                self._settled.append(ingestion)
                self._unwritten()
            else:
                fresh.append((ingestion, content))
        return fresh

    # --- The parser -----------------------------------------------------------------------

    async def _prepare(self, fresh: Sequence[Fetched]) -> None:
        def announce(position: int, stage: Stage) -> None:
            fresh[position][0].announced(stage)

        def conclude(position: int, outcome: PreparedDocument | DocumentError) -> None:
            self._conclude(fresh[position][0], outcome)

        requests = [
            replace(ingestion.prepare_request(content), patience_seconds=self._patience_seconds)
            for ingestion, content in fresh
        ]
        try:
            await self._preparer.prepare_many(requests, announce, conclude)
        except IngatherError:
            raise
        except Exception as error:  # noqa: BLE001  # whose fault it was shows when each runs alone
            log.error("pack.unexpected_error", **described(error))  # noqa: TRY400  # a traceback ends in the message

    def _conclude(self, ingestion: Ingestion, outcome: PreparedDocument | DocumentError) -> None:
        if isinstance(outcome, PreparedDocument):
            ingestion.parsed_in(outcome.timings_ms)
            self._prepared.append((ingestion, outcome))
            self._unwritten()
        elif isinstance(outcome, ParserKilledError):
            # It gets another chance, in a process of its own.
            batch = {"batch_id": ingestion.request.batch_id, "tenant_id": ingestion.request.tenant_id}
            log.info("document.sent_back", **batch, ordinal=ingestion.document.ordinal, **outcome.facts)
            self._sent_back.note(ingestion.content, True)
            self._progress.alone(ingestion.document.ordinal, killed=outcome.facts["kills"] > 0)
        else:
            self._failed(ingestion, to_document_failure(outcome, ingestion.stage))

    def _failed(self, ingestion: Ingestion, failure: DocumentFailure) -> None:
        ingestion.fail(failure)
        self._settled.append(ingestion)
        self._unwritten()

    # --- What is done -----------------------------------------------------------------------

    async def _flush(self) -> None:
        """Write artifacts, then rows, then tell: broken off anywhere, it can be done again."""
        prepared, settled = self._prepared[:], self._settled[:]
        self._unwritten_since = None
        done = await self._stored(prepared)
        records = [ingestion.record() for ingestion in [*settled, *done]]
        if records:
            actor = [*settled, *done][0].request.actor
            await self._catalog.save_outcomes(records, documents_ingested(records, actor))
        for record in records:
            self._progress.ended(record)
            log_end(record)
        del self._prepared[: len(prepared)], self._settled[: len(settled)]

    async def _stored(self, prepared: Sequence[tuple[Ingestion, PreparedDocument]]) -> list[Ingestion]:
        """Store artifacts in one object; answers the documents that are done now."""
        embedded = await asyncio.gather(*(self._embedded(*each) for each in prepared if not each[1].embedded))
        complete = [each for each in [*prepared, *embedded] if each is not None and each[1].embedded]
        if not complete:
            return []
        for ingestion, _ in complete:
            ingestion.enter(Stage.WRITING)
        if len(complete) == 1:
            [(ingestion, result)] = complete
            await self._blobs.put(artifact_key(*ingestion.address), result.artifact)
            ingestion.done(result)
            return [ingestion]
        tenant_id, _, fingerprint = complete[0][0].address
        artifacts = b"".join(result.artifact for _, result in complete)
        key = artifact_pack_key(tenant_id, fingerprint, hashlib.sha256(artifacts).hexdigest())
        await self._blobs.put(key, artifacts)
        offset = 0
        for ingestion, result in complete:
            ingestion.done(result, StoredBytes(key, offset, len(result.artifact)))
            offset += len(result.artifact)
        return [ingestion for ingestion, _ in complete]

    async def _embedded(
        self, ingestion: Ingestion, prepared: PreparedDocument
    ) -> tuple[Ingestion, PreparedDocument] | None:
        """With the vectors of a remote embedder; None where the document is to run alone."""
        ingestion.enter(Stage.EMBEDDING)
        try:
            return ingestion, self._preparer.restore(await self._preparer.embed(prepared.artifact))
        except Exception as error:  # this document's alone
            # What its parser made of it may be no artifact.
            if isinstance(error, IngatherError) and not isinstance(error, ArtifactUnreadableError):
                raise
            log.error("pack.unexpected_error", **described(error))  # noqa: TRY400  # a traceback ends in the message
            self._progress.alone(ingestion.document.ordinal)
            return None


async def _stopped(working: asyncio.Future[None]) -> None:
    """Cancel what still runs, and see it end."""
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
