"""Texts to answers."""

from typing import Protocol

from ingather.models.text import TextAnswer, TextTask


class TextProcessor(Protocol):
    """Does what is asked of short texts, with a language model or without one. Many at a time, no thread for each."""

    @property
    def provider(self) -> str:
        """Whose answers they are: ``extractive``, or ``openai`` for any endpoint of that protocol."""
        ...

    @property
    def model(self) -> str:
        """The model's name, and its version where it has one."""
        ...

    @property
    def identity(self) -> str:
        """Everything but the text and its task that an answer depends on: part of the cache's key."""
        ...

    async def process(self, task: TextTask) -> TextAnswer:
        """The answer to one text. Safe to repeat; another call may answer in other words.

        Raises ``ModelUnavailableError``, which another attempt may cure, ``ModelRefusedError``,
        ``ModelAnswerInvalidError`` and ``ModelRequestRefusedError``. None of them quotes the text.
        """
        ...

    async def close(self) -> None: ...
