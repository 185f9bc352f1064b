"""Turning bytes into chunks with vectors, away from everything that must not crash."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ingather.models.content import PreparedDocument, PrepareRequest, Stage
from ingather.models.errors import DocumentError


class DocumentPreparer(Protocol):
    """Detects, parses, chunks and (with a local embedder) embeds one document at a time per process."""

    @property
    def description(self) -> dict[str, str]:
        """Names and versions of parsers, chunker and embedder: the part of the fingerprint that is code."""
        ...

    async def prepare(self, request: PrepareRequest, on_stage: Callable[[Stage], None]) -> PreparedDocument:
        """Prepare a document.

        Calls ``on_stage`` on the event loop when a stage begins. Raises the ``DocumentError``
        that fits, with ``facts['stage']``. One that kills its process gets a second chance in a fresh one,
        unless ``request.kills`` says it had that; then it is a ``ParserKilledError`` with
        ``facts['quarantined']`` set. Cancelling the call kills the process that works on it.
        Idempotent: it leaves nothing behind.
        """
        ...

    async def prepare_many(
        self,
        requests: Sequence[PrepareRequest],
        on_stage: Callable[[int, Stage], None],
        on_outcome: Callable[[int, PreparedDocument | DocumentError], None] | None = None,
    ) -> list[PreparedDocument | DocumentError]:
        """Prepare small documents one after another in the same process, handed over in one go.

        Answers one outcome a request, in order; ``on_stage`` hears the position of the one under way, and
        ``on_outcome`` each outcome as soon as it is there.
        Each request has a single chance: where a process dies, the document it had at that moment
        is answered with its ``ParserKilledError``, those before it keep what they became, and those after it
        run in another process. One that has ``patience_seconds`` and outlasts them, or that has to make room, is stopped
        where processes are supervised, and answered with a ``ParserTimeoutError`` that blames it for nothing: its
        ``kills`` are what they were. Give a killed or stopped document whose error is not ``quarantined`` to ``prepare``
        with the ``kills`` it has by now.
        Cancelling and everything else as in ``prepare``.
        """
        ...

    def restore(self, artifact: bytes) -> PreparedDocument:
        """What ``prepare`` answered when it made this artifact, so that a retry need not parse again.

        Raises ``ArtifactUnreadableError``.
        """
        ...

    async def embed(self, artifact: bytes) -> bytes:
        """The artifact with its missing vectors filled in; the same bytes where none are missing.

        For documents that ``prepare`` gave back with ``embedded=False``. Idempotent. Raises
        ``EmbedderUnavailableError``, which a retry may cure, and ``ArtifactUnreadableError``.
        """
        ...

    async def close(self) -> None:
        """Stop every process."""
        ...
