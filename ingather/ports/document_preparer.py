"""Turning bytes into chunks with vectors, away from everything that must not crash."""

from collections.abc import Callable
from typing import Protocol

from ingather.models.content import PreparedDocument, PrepareRequest, Stage


class DocumentPreparer(Protocol):
    """Detects, parses, chunks and (with a local embedder) embeds one document at a time per process."""

    @property
    def description(self) -> dict[str, str]:
        """Names and versions of parsers, chunker and embedder: the part of the fingerprint that is code."""
        ...

    async def prepare(self, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        """Prepare a document.

        Calls ``on_stage`` on the event loop when a stage begins. Raises the ``DocumentError``
        that fits, with ``facts['stage']``: among them ``ParserCrashedError`` after the second
        crash, ``ParserTimeoutError`` and ``ParserOutOfMemoryError``. Cancelling the call kills
        the process that works on it. Idempotent: it leaves nothing behind.
        """
        ...

    def restore(self, artifact: bytes) -> PreparedDocument:
        """What ``prepare`` answered when it made this artifact, so that a retry need not parse again."""
        ...

    async def embed(self, artifact: bytes) -> bytes:
        """The artifact with its missing vectors filled in; the same bytes where none are missing.

        For documents that ``prepare`` gave back with ``embedded=False``. Idempotent. Raises
        ``EmbedderUnavailableError``, which a retry may cure, and ``ValueError`` for bytes that are no artifact.
        """
        ...

    async def close(self) -> None:
        """Stop every process."""
        ...
