"""One document in several attempts: what is tried again, from where, and what the world hears meanwhile."""

import asyncio

import numpy as np
import pytest
from temporalio.exceptions import ApplicationError

from ingather.adapters.prepare import InProcessPreparer
from ingather.domain.artifact import decode
from ingather.models.batch import ProcessingOptions
from ingather.models.content import Stage
from ingather.models.document import DocumentStatus
from ingather.models.errors import (
    CatalogUnavailableError,
    DependencyError,
    EmbedderUnavailableError,
    SourceUnavailableError,
    StorageUnavailableError,
)
from tests.support.ingesting import WatchedPreparer, Workshop, activity_environment, run_activity
from tests.support.waiting import until

TEXT = b"The dome opens at nine. Visitors wait at the gate until the lamp is green.\n"


class RemoteModel:
    """An embedding service that is away until it is not."""

    name = "remote-4"
    dimensions = 4

    def __init__(self):
        self.is_away = True

    async def embed_remote(self, texts):
        if self.is_away:
            raise EmbedderUnavailableError("The embedding service did not answer.")
        return np.ones((len(texts), self.dimensions), dtype=np.float32) / 2

    async def close(self):
        """Nothing to release."""


@pytest.mark.parametrize(
    ("place", "error"),
    [
        (("get", "batches/"), StorageUnavailableError("away")),
        (("get", "uploads/"), StorageUnavailableError("away")),
        (("put", "raw/"), StorageUnavailableError("away")),
        (("put", "derived/"), StorageUnavailableError("away")),
        ("find_ingested", CatalogUnavailableError("away")),
        ("save_outcome", CatalogUnavailableError("away")),
        ("prepare", EmbedderUnavailableError("away")),
        ("prepare", DependencyError("parser processes do not start")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else getattr(value, "code", value),
)
async def test_missing_infrastructure_is_raised_for_a_retry(workshop, preparer, place, error):
    """What a retry may cure is no outcome: Temporal is told the code, and tries again."""
    batch_id = await workshop.batch(TEXT)
    if place == "prepare":
        preparer.error = error
    else:
        (workshop.blobs if isinstance(place, tuple) else workshop.catalog).faults[place] = error

    with pytest.raises(ApplicationError) as caught:
        await workshop.ingest(batch_id)

    assert (caught.value.type, caught.value.non_retryable) == (error.code, False)
    assert caught.value.details[0]["action"] == error.advice
    assert (await workshop.row(batch_id)).status is DocumentStatus.PENDING


async def test_a_second_attempt_goes_on_from_the_artifact(workshop, preparer):
    """A catalog that was away after the parse does not cost a second parse."""
    batch_id = await workshop.batch(TEXT)
    workshop.catalog.faults["save_outcome"] = CatalogUnavailableError("away")
    with pytest.raises(ApplicationError):
        await workshop.ingest(batch_id)
    workshop.catalog.faults.clear()

    output = await workshop.ingest(batch_id, attempt=2)

    assert (output.status, output.chunk_count, len(preparer.parsed)) == (DocumentStatus.DONE, 1, 1)
    row = await workshop.row(batch_id)
    assert (row.attempts, row.media_type, row.quality) == (2, "text/plain", 1.0)


async def test_a_retry_of_the_batch_goes_on_from_the_artifact_too(workshop, preparer):
    """A document that only could not be indexed is not parsed again."""
    batch_id = await workshop.batch(TEXT)
    await workshop.ingest(batch_id)
    await workshop.catalog.reset_documents(batch_id, [0])

    assert (await workshop.ingest(batch_id, retry_round=1)).status is DocumentStatus.DONE
    assert len(preparer.parsed) == 1


async def test_a_retry_after_the_embedding_service_was_away_parses_nothing_again():
    """The parsed document is kept before it goes to a service that may fail."""
    model = RemoteModel()
    preparer = WatchedPreparer(InProcessPreparer(None, remote_embedder=model))
    workshop = Workshop(preparer)
    batch_id = await workshop.batch(TEXT)
    with pytest.raises(ApplicationError) as caught:
        await workshop.ingest(batch_id)
    model.is_away = False

    output = await workshop.ingest(batch_id, attempt=2)

    assert caught.value.type == "embedder_unavailable"
    assert (output.status, output.chunk_count, len(preparer.parsed)) == (DocumentStatus.DONE, 1, 1)
    assert decode(await workshop.blobs.get(workshop.artifact_key(TEXT))).vectors().shape == (1, 4)
    await preparer.close()


async def test_an_unreadable_artifact_is_made_anew(workshop, preparer):
    """What an older version wrote, or half of it, does not fail a document for ever."""
    batch_id = await workshop.batch(TEXT)
    await workshop.blobs.put(workshop.artifact_key(TEXT), b"not an artifact")

    output = await workshop.ingest(batch_id, attempt=2)

    assert (output.status, len(preparer.parsed)) == (DocumentStatus.DONE, 1)
    assert decode(await workshop.blobs.get(workshop.artifact_key(TEXT))).embedded


async def test_an_unexpected_error_is_retried_and_then_the_documents_own(workshop, preparer):
    """A bug of ours is tried four times; then it costs the one document that meets it."""
    preparer.error = RuntimeError("a bug")
    batch_id = await workshop.batch(TEXT)
    for attempt in (1, 2, 3):
        with pytest.raises(ApplicationError) as caught:
            await workshop.ingest(batch_id, attempt=attempt)
        assert (caught.value.type, caught.value.non_retryable) == ("internal_error", False)

    output = await workshop.ingest(batch_id, attempt=4)

    assert (output.status, output.code, output.stage) == (DocumentStatus.FAILED, "internal_error", Stage.PARSING)
    assert "RuntimeError" in (await workshop.row(batch_id)).error.message


async def test_a_source_that_does_not_answer_is_asked_as_often_as_the_batch_wants(workshop, preparer):
    """What may pass is tried ``max_retries`` times more, then it is that document's outcome."""
    preparer.error = SourceUnavailableError("The source did not answer.")
    options = ProcessingOptions(max_retries=1)
    batch_id = await workshop.batch(TEXT)

    with pytest.raises(ApplicationError) as caught:
        await workshop.ingest(batch_id, options=options)
    output = await workshop.ingest(batch_id, attempt=2, options=options)

    assert (caught.value.type, caught.value.non_retryable) == ("source_unavailable", False)
    assert (output.status, output.code) == (DocumentStatus.FAILED, "source_unavailable")
    assert (await workshop.row(batch_id)).attempts == 2


async def test_without_retry_failed_files_a_document_has_one_attempt(workshop, preparer):
    """Whoever wants no second try gets the first failure, whatever ``max_retries`` says."""
    preparer.error = SourceUnavailableError("The source did not answer.")
    batch_id = await workshop.batch(TEXT)

    output = await workshop.ingest(batch_id, options=ProcessingOptions(retry_failed_files=False, max_retries=5))

    assert (output.status, output.code) == (DocumentStatus.FAILED, "source_unavailable")


async def test_an_outage_of_ours_is_waited_for_whatever_the_options_say(workshop):
    """Storage that is away is no document's failure, also where failed ones are not to be tried again."""
    batch_id = await workshop.batch(TEXT)
    workshop.blobs.faults["get", "uploads/"] = StorageUnavailableError("away")

    with pytest.raises(ApplicationError) as caught:
        await workshop.ingest(batch_id, attempt=9, options=ProcessingOptions(retry_failed_files=False))

    assert (caught.value.type, caught.value.non_retryable) == ("storage_unavailable", False)


async def test_heartbeats_tell_the_live_stage(workshop, preparer):
    """Whoever describes the workflow sees which file is in which stage."""
    preparer.gate = asyncio.Event()
    batch_id = await workshop.batch(TEXT, names=["night-log.txt"])
    beats = []
    running = asyncio.create_task(
        run_activity(
            workshop.ingest_activities.ingest_document, await workshop.request(batch_id), on_heartbeat=beats.append
        )
    )

    await until(lambda: bool(beats))
    preparer.gate.set()
    await running

    assert (beats[0].stage, beats[0].filename) == (Stage.PARSING, "night-log.txt")


async def test_a_document_that_waits_for_storage_beats_from_the_start(workshop, preparer):
    """A slow manifest page is no dead worker."""
    opened = asyncio.Event()

    class SlowBlobStore(type(workshop.blobs)):
        async def get(self, key, *, offset=0, size=None):
            await opened.wait()
            return await super().get(key, offset=offset, size=size)

    slow = Workshop(preparer, blobs=SlowBlobStore())
    batch_id = await slow.batch(TEXT)
    beats = []
    running = asyncio.create_task(
        run_activity(slow.ingest_activities.ingest_document, await slow.request(batch_id), on_heartbeat=beats.append)
    )

    await until(lambda: bool(beats))
    opened.set()
    assert (await running).status is DocumentStatus.DONE


async def test_a_cancelled_document_leaves_no_outcome(workshop, preparer):
    """Cancelled while it is parsed, it stays what it was; the batch counts it as cancelled."""
    preparer.gate = asyncio.Event()
    batch_id = await workshop.batch(TEXT)
    environment = activity_environment()
    request = await workshop.request(batch_id)
    running = asyncio.create_task(environment.run(workshop.ingest_activities.ingest_document, request))
    await until(lambda: bool(preparer.parsed))

    environment.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await workshop.row(batch_id)).status is DocumentStatus.PENDING


async def test_a_document_that_is_given_out_again_goes_on_from_what_it_left(workshop):
    """Whoever had it came to nothing: a first attempt looks for artifacts all the same."""
    batch_id = await workshop.batch(b"The mirror is washed in spring.\n")
    first = await workshop.ingest(batch_id)

    assert await workshop.ingest(batch_id, again=True) == first
    assert len(workshop.preparer.parsed) == 1
