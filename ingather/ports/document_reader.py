"""Documents to Markdown, by a model that reads."""

from typing import Protocol


class DocumentReader(Protocol):
    """A language model that reads what parsers found, and pictures where it can."""

    @property
    def name(self) -> str:
        """The models' names: what a batch asks for, and part of its fingerprint."""
        ...

    async def read_text(self, text: str) -> str:
        """The text as Markdown, in its own words. Raises what ``TextProcessor.process`` does, ``DocumentTooLargeError`` too."""
        ...

    async def read_image(self, content: bytes) -> str | None:
        """What is written in a picture, as Markdown; None where the deployment has no model that sees, or the format is none it takes.

        Raises what ``TextProcessor.process`` does.
        """
        ...

    async def close(self) -> None: ...
