"""Static word vectors from the ``wordllama`` wheel: offline, deterministic, thousands of chunks a second."""

import importlib.metadata
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ingather.ports.embedder import Vectors

if TYPE_CHECKING:
    from ingather.adapters.wordllama_model import WordLlamaModel

_DIMENSIONS = 256


class WordLlamaEmbedder:
    """The ``l2_supercat`` model with 256 dimensions: an ``Embedder``.

    Cheap to construct and to pickle. The model (33 MB, 0.15 s) is loaded by ``load`` or by the
    first ``embed``; load it before forking, and all children share its pages. No call starts a
    thread. May be called from several threads.

    Args:
        known_words: words remembered before the table starts afresh; 50,000 take about 10 MB.
    """

    def __init__(self, known_words: int = 50_000) -> None:
        self._known_words = known_words
        self._model: WordLlamaModel | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._known_words,)

    @cached_property
    def name(self) -> str:
        """Model, version and dimensions, such as ``wordllama-0.4.0.post1-256``."""
        return f"wordllama-{importlib.metadata.version('wordllama')}-{_DIMENSIONS}"

    @property
    def dimensions(self) -> int:
        return _DIMENSIONS

    def load(self) -> None:
        """Read the model now. Does nothing the second time."""
        if self._model is None:
            from ingather.adapters.wordllama_model import read_model  # noqa: PLC0415 - importing this module stays free

            self._model = read_model(self._known_words)

    def embed(self, texts: list[str]) -> Vectors:
        """Vectors of the texts, in order, rows of length 1 (the empty text has one too)."""
        self.load()
        assert self._model is not None
        return self._model.embed(texts)
