"""One text at a time: answered once, kept under what was asked, and never told on."""

import uuid

import orjson
import pytest
from structlog.testing import capture_logs
from temporalio.exceptions import ApplicationError

from ingather.domain.keys import text_result_key
from ingather.domain.texts import text_digest
from ingather.models.batch import ProcessingOptions
from ingather.models.document import DocumentFailure, DocumentStatus
from ingather.models.errors import ModelAnswerInvalidError, ModelUnavailableError, StorageUnavailableError
from ingather.models.text import TextResult, TextTask
from tests.support.ingesting import TENANT, run_activity

HARBOUR = "The harbour of Vela was rebuilt in 1931."
SUMMARY = TextTask(operation="summarize", text=HARBOUR)


def sent(*tasks):
    return [orjson.dumps(task.model_dump(mode="json")) for task in tasks]


async def process(workshop, batch_id, ordinal=0, *, attempt=1, **changes):
    request = await workshop.request(batch_id, ordinal, **changes)
    return await run_activity(workshop.text_activities.process_text, request, attempt=attempt)


async def kept(workshop, row):
    return TextResult.model_validate_json(await workshop.blobs.get(row.artifact_key))


async def test_an_answer_is_kept_under_what_was_asked(workshop):
    """In the object storage; the row says where, the workflow hears no more than that it is done."""
    batch_id = await workshop.batch(*sent(SUMMARY))

    output = await process(workshop, batch_id)

    assert output.model_dump(exclude_defaults=True) == {"status": DocumentStatus.DONE}
    row = await workshop.row(batch_id)
    assert row.artifact_key == text_result_key(TENANT, text_digest(workshop.text_processor.identity, SUMMARY))
    assert (row.duplicate_of, row.raw_key) == (None, f"uploads/{TENANT}/{batch_id}/file-00000")
    result = await kept(workshop, row)
    assert (result.answer.result, result.provider, result.model) == ("Answer 1", "stand-in", "small")
    assert result.made_for == row.file_id


async def test_the_same_asked_again_comes_out_of_the_cache(workshop):
    """In another batch too; the model is asked once, and the row says whose answer it is."""
    first, second = await workshop.batch(*sent(SUMMARY)), await workshop.batch(*sent(SUMMARY))
    await process(workshop, first)
    await process(workshop, second)
    made, found = await workshop.row(first), await workshop.row(second)
    assert len(workshop.text_processor.asked) == 1
    assert (found.artifact_key, found.duplicate_of) == (made.artifact_key, made.file_id)


async def test_another_attempt_finds_its_own_answer(workshop):
    """It was made for this text, so it does not count as cached."""
    batch_id = await workshop.batch(*sent(SUMMARY))
    await process(workshop, batch_id)
    await process(workshop, batch_id, attempt=2)
    assert len(workshop.text_processor.asked) == 1
    assert (await workshop.row(batch_id)).duplicate_of is None


@pytest.mark.parametrize(
    "other",
    [
        SUMMARY.model_copy(update={"text": HARBOUR + " Twice."}),
        TextTask(operation="sentiment", text=HARBOUR),
        TextTask(operation="summarize", text=HARBOUR, options={"max_length": 9}),
        TextTask(operation="qa", text=HARBOUR, question="When?"),
    ],
    ids=["text", "operation", "option", "question"],
)
async def test_what_is_asked_otherwise_is_asked_anew(workshop, other):
    """Another text, another operation, another option, another question."""
    batch_id = await workshop.batch(*sent(SUMMARY, other))
    await process(workshop, batch_id, 0)
    await process(workshop, batch_id, 1)
    assert len(workshop.text_processor.asked) == 2


async def test_another_model_and_another_tenant_are_asked_anew():
    """The key holds both."""
    keys = {
        text_result_key(tenant, text_digest(model, SUMMARY))
        for tenant in (TENANT, str(uuid.uuid4()))
        for model in ("openai/http://a/v1/m/1", "openai/http://a/v1/n/1")
    }
    assert len(keys) == 4


async def test_an_option_of_another_operation_asks_the_same(workshop):
    """It means nothing to this one."""
    same = TextTask(operation="summarize", text=HARBOUR, options={"max_points": 2})
    assert text_digest("m", same) == text_digest("m", SUMMARY)


async def test_what_may_pass_is_tried_again_when_the_service_asks_for_it(workshop):
    """``Retry-After`` becomes the delay of the next attempt."""
    batch_id = await workshop.batch(*sent(SUMMARY))
    workshop.text_processor.errors = [
        ModelUnavailableError("The language model did not answer (status 429).", retry_after_seconds=7)
    ]
    with pytest.raises(ApplicationError) as caught:
        await process(workshop, batch_id)
    assert not caught.value.non_retryable
    assert caught.value.type == "model_unavailable"
    assert caught.value.next_retry_delay.total_seconds() == 7
    assert (await process(workshop, batch_id, attempt=2)).status is DocumentStatus.DONE


async def test_the_last_attempt_makes_it_the_texts_own_failure(workshop):
    """Its neighbours do not notice."""
    batch_id = await workshop.batch(*sent(SUMMARY, TextTask(operation="sentiment", text=HARBOUR)))
    workshop.text_processor.errors = [ModelUnavailableError("The language model did not answer (no connection).")]
    options = ProcessingOptions(max_retries=2)
    output = await process(workshop, batch_id, attempt=3, options=options)
    assert (output.status, output.code) == (DocumentStatus.FAILED, "model_unavailable")
    assert (await process(workshop, batch_id, 1)).status is DocumentStatus.DONE


async def test_what_no_attempt_cures_fails_at_once(workshop):
    """An answer in another shape; nothing of it is kept."""
    batch_id = await workshop.batch(*sent(SUMMARY))
    workshop.text_processor.errors = [ModelAnswerInvalidError("It has not the shape it was asked for.")]
    assert (await process(workshop, batch_id)).code == "model_answer_invalid"
    assert [blob.key async for blob in workshop.blobs.list("texts/")] == []
    assert (await workshop.row(batch_id)).error.stage == "answering"


@pytest.mark.parametrize("content", [b"%PDF-1.7", b"{}", b'{"operation": "qa", "text": "A text without question."}'])
async def test_bytes_that_are_no_text_fail_alone(workshop, content):
    """No door of ours writes such."""
    batch_id = await workshop.batch(content)
    assert (await process(workshop, batch_id)).code == "content_invalid"


async def test_a_refused_text_stays_refused(workshop):
    """It never comes to the model."""
    batch_id = await workshop.refused_batch(DocumentFailure(code="metadata_invalid", message="Too much."))
    assert (await process(workshop, batch_id)).code == "metadata_invalid"
    assert workshop.text_processor.asked == []


async def test_storage_that_is_away_is_waited_for(workshop):
    """It is nobody's outcome."""
    batch_id = await workshop.batch(*sent(SUMMARY))
    workshop.blobs.faults["put", "texts/"] = StorageUnavailableError("Object storage did not answer.")
    with pytest.raises(ApplicationError) as caught:
        await process(workshop, batch_id)
    assert not caught.value.non_retryable


async def test_neither_text_nor_answer_is_told(workshop):
    """Not to the log, the row or the workflow; also not when it goes wrong."""
    batch_id = await workshop.batch(*sent(SUMMARY, SUMMARY.model_copy(update={"text": HARBOUR * 2})))
    with capture_logs() as lines:
        output = await process(workshop, batch_id)
        workshop.text_processor.errors = [ValueError(HARBOUR)]
        with pytest.raises(ApplicationError) as caught:
            await process(workshop, batch_id, 1)
    said = f"{lines} {output!r} {caught.value!r} {await workshop.row(batch_id)!r}"
    assert "Vela" not in said
    assert "Answer" not in said
