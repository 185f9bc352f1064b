"""Texts without a language model: what comes back are sentences of the text itself."""

import asyncio

import pytest

from ingather.adapters.extractive_texts import ExtractiveTexts
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.models.text import TextTask

SENTENCES = (
    "The harbour of Vela was rebuilt in 1931 after the great storm.",
    "It cost three million crowns, which the city of Vela could not afford.",
    "The engineer Ada Brandt drew the plans of the harbour in a single winter.",
    "Trade in the new harbour of Vela grew for a decade.",
    "Somebody's cat slept through all of it.",
)
TEXT = " ".join(SENTENCES)


@pytest.fixture(scope="module")
def embedder():
    return WordLlamaEmbedder()


@pytest.fixture
async def texts(embedder):
    texts = ExtractiveTexts(embedder)
    yield texts
    await texts.close()


def task(operation, text=TEXT, **more):
    return TextTask(operation=operation, text=text, **more)


async def test_a_summary_takes_whole_sentences_that_fit(texts):
    """In the order of the text, those first that share most with the others."""
    answer = await texts.process(task("summarize", options={"max_length": 25}))
    kept = [sentence for sentence in SENTENCES if sentence in answer.result]
    assert answer.result == " ".join(kept)
    assert 1 <= len(answer.result.split()) <= 25
    assert SENTENCES[4] not in kept


async def test_a_summary_of_fewer_words_than_any_sentence_has_is_cut(texts):
    """It says so with an ellipsis."""
    answer = await texts.process(task("summarize", options={"max_length": 4}))
    assert answer.result.endswith("…")
    assert len(answer.result.split()) == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The new quay is wonderful. Everybody loves it, and the food is great!", "positive"),
        ("A terrible loss. The storm was horrible and killed many people.", "negative"),
        ("The harbour has four quays. Ships come on Monday.", "neutral"),
    ],
)
async def test_sentiment_comes_with_how_sure_it_is_and_why(texts, text, expected):
    """By sentences; the explanation counts them and quotes none."""
    found = (await texts.process(task("sentiment", text))).sentiment
    assert found.sentiment == expected
    assert 0.5 <= found.confidence <= 1
    assert "sentences" in found.explanation


async def test_key_points_are_sentences_that_differ(texts):
    """At most as many as were asked for, none twice."""
    answer = await texts.process(task("key_points", f"{TEXT} {SENTENCES[0]}", options={"max_points": 3}))
    assert len(answer.key_points) == len(set(answer.key_points)) == 3
    assert set(answer.key_points) <= set(SENTENCES)
    assert answer.details["key_phrases"]


async def test_questions_are_about_key_phrases(texts):
    """As many as were asked for, where the text has as many."""
    answer = await texts.process(task("questions", options={"num_questions": 3}))
    assert len(answer.questions) == 3
    assert all(question.endswith("?") for question in answer.questions)


@pytest.mark.parametrize(
    ("question", "place"), [("Who drew the plans?", 2), ("What did it cost?", 1), ("When was the harbour rebuilt?", 0)]
)
async def test_a_question_is_answered_with_the_nearest_passage(texts, question, place):
    """And how near it is."""
    answer = await texts.process(task("qa", question=question))
    assert SENTENCES[place] in answer.result
    assert 0 < answer.details["confidence"] <= 1


async def test_a_question_that_the_text_does_not_answer_gets_no_passage(texts):
    """It says so."""
    answer = await texts.process(task("qa", question="Quels fromages préférez-vous?"))
    assert answer.result == "The text does not say."


@pytest.mark.parametrize("operation", ["summarize", "sentiment", "key_points", "questions", "qa"])
@pytest.mark.parametrize(
    "text",
    [
        "!!!!!!!!!!!!",
        "12345678901234",
        "港は1931年に再建されました。市には払えない額でした。",
        "a b c d e f g h",
        "word " * 1_999,
    ],
    ids=["signs", "digits", "japanese", "letters", "one word"],
)
async def test_any_text_has_an_answer(texts, operation, text):
    """Also one without a word that any of the libraries knows."""
    question = {"question": "What?"} if operation == "qa" else {}
    answer = await texts.process(task(operation, text, **question))
    assert any((answer.result, answer.sentiment, answer.key_points, answer.questions))


async def test_the_same_text_has_the_same_answer_many_at_a_time(texts):
    """A few threads for all of them."""
    answers = await asyncio.gather(*(texts.process(task("key_points")) for _ in range(40)))
    assert len({answer.key_points for answer in answers}) == 1
