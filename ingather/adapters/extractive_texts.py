"""Answers without a language model: sentences of the text itself, chosen by what they share with the others.

Summaries take the sentences that a random walk over their similarities visits most (TextRank); key points those that
hold most of the key phrases (YAKE); sentiment comes from a lexicon of English words (VADER); a question is answered
with the passage that is nearest to it, by its words and by the offline embedder. Models, word lists and rules come
with their wheels: nothing is downloaded. A text takes some hundredths of a second in one of a few threads.
"""

import asyncio
import importlib.metadata
import math
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ingather.domain.texts import cut_to_words
from ingather.models.text import Sentiment, TextAnswer, TextOperation, TextTask
from ingather.ports.embedder import Embedder

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    from yake import KeywordExtractor

Numbers = npt.NDArray[np.float64]

PROVIDER = "extractive"
_VERSION = 1
"""Rises when the same text gets another answer."""

_THREADS = 2
_MOST_SENTENCES = 400
"""Of ten thousand characters; what comes after them is ranked no more."""
_DAMPING = 0.85
_STEPS = 30
_PHRASE_WORDS = 3
_PHRASES = 30
_REPEATED = 0.6
"""Two sentences that share more of their words say the same."""
_NEUTRAL = 0.05
"""Compound scores nearer to 0 are neutral, as the lexicon's authors have it."""
_BY_WORDS = 0.5
"""Share of common words in how near a passage is to a question; its vector has the rest."""
_FAR = 0.2
"""A passage farther away than this answers nothing."""
_NO_ANSWER = "The text does not say."

_WORD = re.compile(r"\w+", re.UNICODE)


class ExtractiveTexts:
    """A ``TextProcessor`` that runs here, without a network.

    Args:
        embedder: a local model for ``qa``; loaded with the first question.
        language: ISO 639-1 code that sentences and key phrases are found by.
    """

    def __init__(self, embedder: Embedder, language: str = "en") -> None:
        self._embedder = embedder
        self._language = language
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="texts")

    @property
    def provider(self) -> str:
        return PROVIDER

    @cached_property
    def model(self) -> str:
        """The libraries behind it, with their versions."""
        return "+".join(f"{name}-{importlib.metadata.version(name)}" for name in ("yake", "vadersentiment"))

    @property
    def identity(self) -> str:
        return f"{PROVIDER}-{_VERSION}/{self.model}/{self._embedder.name}/{self._language}"

    async def process(self, task: TextTask) -> TextAnswer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._answer, task)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _answer(self, task: TextTask) -> TextAnswer:
        match task.operation:
            case TextOperation.SUMMARIZE:
                return TextAnswer(result=self._summary(task.text, task.options.max_length))
            case TextOperation.SENTIMENT:
                return TextAnswer(sentiment=self._sentiment(task.text))
            case TextOperation.KEY_POINTS:
                return self._key_points(task.text, task.options.max_points)
            case TextOperation.QUESTIONS:
                return TextAnswer(questions=self._questions(task.text, task.options.num_questions))
            case TextOperation.QA:
                assert task.question is not None  # a task without one is not valid
                return self._found(task.text, task.question)

    # --- Summaries ------------------------------------------------------------------------

    def _summary(self, text: str, most_words: int) -> str:
        sentences = self._sentences(text)
        ranks = _text_rank([_words(sentence) for sentence in sentences])
        chosen: list[int] = []
        left = most_words
        for place in sorted(range(len(sentences)), key=lambda place: (-ranks[place], place)):
            count = len(sentences[place].split())
            if count <= left:
                chosen.append(place)
                left -= count
        if not chosen:
            # Not one fits: the first words of the best.
            return cut_to_words(sentences[int(np.argmax(ranks))], most_words)
        return " ".join(sentences[place] for place in sorted(chosen))

    # --- Sentiment ------------------------------------------------------------------------

    @cached_property
    def _lexicon(self) -> "SentimentIntensityAnalyzer":
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer  # noqa: PLC0415  # read when it is needed

        return SentimentIntensityAnalyzer()

    def _sentiment(self, text: str) -> Sentiment:
        """The mean over sentences: the lexicon is made for one, and says next to nothing else of a page than 1 or -1."""
        sentences = self._sentences(text)
        scores = [self._lexicon.polarity_scores(sentence)["compound"] for sentence in sentences]
        felt = [score for score in scores if abs(score) >= _NEUTRAL]
        mean = sum(felt) / len(felt) if felt else 0.0
        positive = sum(score > 0 for score in felt)
        label = "positive" if mean >= _NEUTRAL else "negative" if mean <= -_NEUTRAL else "neutral"
        agreeing = 1.0 - abs(mean) if label == "neutral" else (1.0 + abs(mean)) / 2
        return Sentiment(
            sentiment=label,
            confidence=round(agreeing, 3),
            explanation=(
                f"By a lexicon of English words, {positive} of {len(sentences)} sentences are positive and"
                f" {len(felt) - positive} negative; their mean is {mean:+.2f} on a scale from -1 to +1."
            ),
        )

    # --- Key points and questions -----------------------------------------------------------

    @cached_property
    def _phrase_finder(self) -> "KeywordExtractor":
        from yake import KeywordExtractor  # noqa: PLC0415  # brings a graph library along: a second

        return KeywordExtractor(lan=self._language, n=_PHRASE_WORDS, top=_PHRASES)

    def _phrases(self, text: str) -> list[str]:
        """Key phrases, the most telling first; none twice."""
        found = self._phrase_finder.extract_keywords(text)
        phrases = [str(phrase) for phrase, _ in sorted(found, key=lambda pair: float(pair[1]))]
        return list({phrase.casefold(): phrase for phrase in reversed(phrases)}.values())[::-1]

    def _key_points(self, text: str, most: int) -> TextAnswer:
        sentences = self._sentences(text)
        words = [_words(sentence) for sentence in sentences]
        phrases = self._phrases(text)
        weights = {phrase.casefold(): 1.0 / (1 + place) for place, phrase in enumerate(phrases)}
        scores = [
            sum(weight for phrase, weight in weights.items() if phrase in sentence.casefold()) for sentence in sentences
        ]
        chosen: list[int] = []
        for place in sorted(range(len(sentences)), key=lambda place: (-scores[place], place)):
            if all(_shared(words[place], words[other]) <= _REPEATED for other in chosen):
                chosen.append(place)
            if len(chosen) == most:
                break
        return TextAnswer(
            key_points=tuple(sentences[place] for place in sorted(chosen)), details={"key_phrases": phrases[:most]}
        )

    def _questions(self, text: str, most: int) -> tuple[str, ...]:
        phrases = self._phrases(text) or [" ".join(text.split()[:_PHRASE_WORDS])]
        apart: list[str] = []
        for phrase in phrases:
            # One within another asks the same.
            if not any(phrase.casefold() in kept.casefold() or kept.casefold() in phrase.casefold() for kept in apart):
                apart.append(phrase)
        return tuple(f"What does the text say about {phrase}?" for phrase in apart[:most])

    # --- Answers ----------------------------------------------------------------------------

    def _found(self, text: str, question: str) -> TextAnswer:
        """The passage of up to two sentences that is nearest to the question."""
        sentences = self._sentences(text)
        passages = [*sentences, *(" ".join(pair) for pair in pairwise(sentences))]
        vectors = self._embedder.embed([question, *passages])
        by_vector = np.clip(vectors[1:] @ vectors[0], 0.0, 1.0)
        by_words = _covered(_words(question), [_words(passage) for passage in passages])
        nearness = _BY_WORDS * by_words + (1 - _BY_WORDS) * by_vector
        best = int(np.argmax(nearness))
        score = float(nearness[best])
        return TextAnswer(
            result=passages[best] if score >= _FAR else _NO_ANSWER, details={"confidence": round(score, 3)}
        )

    def _sentences(self, text: str) -> list[str]:
        from sentencex import segment  # noqa: PLC0415  # importing this module stays free

        found = (" ".join(sentence.split()) for sentence in segment(self._language, text))
        return [sentence for sentence in found if sentence][:_MOST_SENTENCES] or [text.strip()]


def _words(text: str) -> frozenset[str]:
    return frozenset(word for word in _WORD.findall(text.casefold()) if len(word) > 2 or not word.isascii())


def _text_rank(words: list[frozenset[str]]) -> Numbers:
    """How often a walk that goes from sentence to sentence by common words comes by each (Mihalcea and Tarau, 2004)."""
    count = len(words)
    similar = np.zeros((count, count))
    for one in range(count):
        for other in range(one + 1, count):
            common = len(words[one] & words[other])
            if common:
                length = math.log(1 + len(words[one])) + math.log(1 + len(words[other]))
                similar[one, other] = similar[other, one] = common / length
    totals = similar.sum(axis=1, keepdims=True)
    steps = np.divide(similar, totals, out=np.full_like(similar, 1.0 / count), where=totals > 0)
    ranks = np.full(count, 1.0 / count)
    for _ in range(_STEPS):
        ranks = (1 - _DAMPING) / count + _DAMPING * (ranks @ steps)
    return ranks


def _shared(one: frozenset[str], other: frozenset[str]) -> float:
    """Of the shorter one's words, how many the other has too; 1 where one has none."""
    shorter = min(len(one), len(other))
    return len(one & other) / shorter if shorter else 1.0


def _covered(question: frozenset[str], passages: list[frozenset[str]]) -> Numbers:
    """How much of the question each passage holds, words that few passages have counting for more."""
    spread = Counter(word for passage in passages for word in passage)
    weights = {word: math.log(1 + len(passages) / (1 + spread[word])) for word in question}
    whole = sum(weights.values())
    if not whole:
        return np.zeros(len(passages))
    return np.array([sum(weights[word] for word in question & passage) / whole for passage in passages])
