"""Filling in the vectors an artifact lacks because its embedder is a service."""

from ingather.models.errors import EmbedderUnavailableError
from ingather.ports.embedder import RemoteEmbedder


async def fill_vectors(artifact: bytes, remote_embedder: RemoteEmbedder | None) -> bytes:
    """The artifact with vectors; the same bytes where none are missing.

    Raises ``EmbedderUnavailableError`` where the service fails, or where there is none.
    """
    # Arrow takes half a second to import, and a worker with a local model never comes here.
    from ingather.domain import artifact as artifacts  # noqa: PLC0415 - see above

    decoded = artifacts.decode(artifact)
    if decoded.embedded:
        return artifact
    if remote_embedder is None:
        raise EmbedderUnavailableError(
            "vectors are missing and no remote embedder is configured",
            action="Configure the embedder the document was prepared for, then retry.",
        )
    vectors = await remote_embedder.embed_remote(decoded.table.column("text").to_pylist())
    return artifacts.with_vectors(artifact, vectors, embedder=remote_embedder.name)
