"""A short text, what a language model is to do with it, and what came of it."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ingather.models.identity import FileId

MIN_TEXT_CHARACTERS = 10
MAX_TEXT_CHARACTERS = 10_000
MAX_QUESTION_CHARACTERS = 2_000
MOST_TEXTS = 200
"""Of one batch, whatever a deployment is set to."""

DEFAULT_SUMMARY_WORDS = 150
DEFAULT_POINTS = 5
DEFAULT_QUESTIONS = 3

ShortText = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=MIN_TEXT_CHARACTERS, max_length=MAX_TEXT_CHARACTERS),
]
Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARACTERS)]


class TextOperation(StrEnum):
    """What can be asked of a text."""

    SUMMARIZE = "summarize"
    SENTIMENT = "sentiment"
    KEY_POINTS = "key_points"
    QUESTIONS = "questions"
    """Questions that the text answers."""
    QA = "qa"
    """One question, answered out of the text."""


class TextOptions(BaseModel):
    """How much is wanted. Each option belongs to one operation and means nothing to the others."""

    model_config = ConfigDict(frozen=True)

    max_length: int = Field(default=DEFAULT_SUMMARY_WORDS, ge=1, le=2_000)
    """Words of a summary."""
    max_points: int = Field(default=DEFAULT_POINTS, ge=1, le=50)
    """Key points, at most."""
    num_questions: int = Field(default=DEFAULT_QUESTIONS, ge=1, le=50)
    """Questions, at most."""


class TextTask(BaseModel):
    """One text with what is to be done with it: an object of the batch's uploads, never part of a history or a log."""

    model_config = ConfigDict(frozen=True)

    operation: TextOperation
    text: ShortText = Field(repr=False)
    question: Question | None = Field(default=None, repr=False)
    """Of ``qa`` alone."""
    options: TextOptions = TextOptions()

    @model_validator(mode="after")
    def _question_where_one_is_answered(self) -> Self:
        if self.operation is TextOperation.QA and self.question is None:
            raise ValueError("qa needs a question")
        return self

    @property
    def wanted(self) -> dict[str, Any]:
        """What decides the answer beside the text: the operation with its own option, or its question."""
        match self.operation:
            case TextOperation.SUMMARIZE:
                return {"max_length": self.options.max_length}
            case TextOperation.KEY_POINTS:
                return {"max_points": self.options.max_points}
            case TextOperation.QUESTIONS:
                return {"num_questions": self.options.num_questions}
            case TextOperation.QA:
                return {"question": self.question}
            case TextOperation.SENTIMENT:
                return {}


class Sentiment(BaseModel):
    model_config = ConfigDict(frozen=True)

    sentiment: Literal["positive", "negative", "neutral"]
    confidence: float = Field(ge=0.0, le=1.0)
    explanation: str = Field(repr=False)


class TextAnswer(BaseModel):
    """What came of a text: the field that fits its operation."""

    model_config = ConfigDict(frozen=True)

    result: str | None = Field(default=None, repr=False)
    """Of ``summarize`` and ``qa``."""
    sentiment: Sentiment | None = None
    key_points: tuple[str, ...] | None = Field(default=None, repr=False)
    questions: tuple[str, ...] | None = Field(default=None, repr=False)
    details: dict[str, Any] = Field(default_factory=dict, repr=False)
    """What else the processor tells: tokens used, how sure it is."""


class TextResult(BaseModel):
    """An answer as it is kept, for its own text and for every later one that asks the same of the same."""

    model_config = ConfigDict(frozen=True)

    answer: TextAnswer
    provider: str
    model: str
    made_for: FileId
    """Whose text it was made for; for any other it comes out of the cache."""
    made_at: datetime
