"""Documents to Markdown, by a model that reads."""

from collections.abc import Sequence
from typing import Protocol


class DocumentReader(Protocol):
    """A language model that reads what parsers found, and pictures where it can."""

    @property
    def name(self) -> str:
        """The models' names: what a batch asks for, and part of its fingerprint."""
        ...

    @property
    def reads_images(self) -> bool:
        """Whether one of the models sees."""
        ...

    async def read_texts(self, texts: Sequence[str]) -> list[str]:
        """The texts of a document as Markdown, each in its own words.

        Raises what ``TextProcessor.process`` does, and ``DocumentTooLargeError`` for more than a model is given of one document.
        """
        ...

    async def read_image(self, content: bytes) -> str | None:
        """What is written in a picture, as Markdown; empty where nothing is.

        None where no model sees, or the picture is of a format or a size that it does not take. Raises what
        ``TextProcessor.process`` does.
        """
        ...

    async def close(self) -> None: ...
