"""Artifacts read again: to fill in the vectors they lack, or to go on from them without parsing."""

from ingather.models.content import PreparedDocument
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


def restore_prepared(artifact: bytes) -> PreparedDocument:
    """What preparing answered when it made this artifact; its timings are not kept."""
    from ingather.domain import artifact as artifacts  # noqa: PLC0415 - as above

    decoded = artifacts.decode(artifact)
    header = decoded.header
    return PreparedDocument(
        artifact=artifact,
        media_type=header.media_type,
        page_count=header.page_count or len(header.pages) or None,
        chunk_count=decoded.table.num_rows,
        character_count=len(header.text),
        quality=header.quality,
        embedded=decoded.embedded,
        title=header.title,
        warnings=header.warnings,
    )
