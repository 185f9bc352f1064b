"""Texts to vectors."""

from typing import TYPE_CHECKING, Any, Protocol

from typing_extensions import TypeIs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]
else:
    Vectors = Any  # numpy takes 13 MB, and the API has no use for it
"""Shape ``(n, dimensions)``, rows of length 1."""


class Embedder(Protocol):
    """A local model: pure computation, in whatever process calls it."""

    @property
    def name(self) -> str:
        """Model and version, such as ``wordllama-0.4.0-256``; part of the fingerprint."""
        ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: list[str]) -> Vectors:
        """Vectors of the texts, in order. Blocking. The same text always gives the same vector."""
        ...


class RemoteEmbedder(Protocol):
    """A model behind HTTP."""

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    async def embed_remote(self, texts: list[str]) -> Vectors:
        """Vectors of the texts, in order. Raises ``EmbedderUnavailableError``, which a retry may cure."""
        ...

    async def close(self) -> None: ...


def is_remote(embedder: Embedder | RemoteEmbedder) -> TypeIs[RemoteEmbedder]:
    """Whether the model is one behind HTTP."""
    return hasattr(embedder, "embed_remote")
