"""The weights and the tokenizer of the ``wordllama`` wheel, and how a text becomes a vector with them.

The wheel's own code is left out on purpose. Importing it takes most of a second, sets up
logging for the whole process, and its ``embed`` pads every batch to the longest text. Its
weights and its tokenizer give the same vectors when read directly, about six times faster:
words repeat, so most of them come out of a table and never reach the tokenizer.
"""

import importlib.util
import re
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer, normalizers

from ingather.models.errors import ConfigurationError
from ingather.ports.embedder import Vectors

DIMENSIONS = 256
_WEIGHTS = f"weights/l2_supercat_{DIMENSIONS}.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"

# No token of the vocabulary holds a word mark behind another character, and none holds a line
# break: cutting a text here can never cut a token, so words may be tokenized one by one.
_WORD_MARK = "▁"
_WORD = re.compile(f"{_WORD_MARK}+[^{_WORD_MARK}\n]*|\n|[^{_WORD_MARK}\n]+")

_ROWS_AT_ONCE = 4_096
"""Token vectors gathered at one time (4 MB), so that one huge text does not need huge memory."""


@dataclass(slots=True)
class WordLlamaModel:
    """What was read, and the words met so far."""

    vectors: Vectors
    tokenizer: Tokenizer
    known_words: int
    known: dict[str, list[int]] = field(default_factory=dict)
    """Token ids by word. Replaced, never emptied in place: another thread may be reading it."""

    def embed(self, texts: list[str]) -> Vectors:
        """Vectors of the texts, in order, rows of length 1 (the empty text has one too)."""
        pooled = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        for row, text in enumerate(texts):
            pooled[row] = _sum_vectors(self.vectors, _token_ids(self, text))
        # The mean differs from the sum in length only, and the length is made 1 anyway.
        lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
        pooled /= np.maximum(lengths, np.finfo(np.float32).tiny)
        return pooled


def read_model(known_words: int) -> WordLlamaModel:
    """Read it from the wheel. Raises ``ConfigurationError`` where that is not installed."""
    folder = _package_folder()
    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    tokenizer.normalizer = normalizers.Sequence([])  # marking words is done here, see ``_token_ids``
    tokenizer.encode_special_tokens = True  # "</s>" in a document is text
    weights = load_file(folder / _WEIGHTS)["embedding.weight"]
    return WordLlamaModel(
        vectors=np.ascontiguousarray(weights, dtype=np.float32), tokenizer=tokenizer, known_words=known_words
    )


def _package_folder() -> Path:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "The offline embedding model is not installed.", action="Install the package wordllama==0.4.0.post1."
        )
    return Path(spec.origin).parent


def _token_ids(model: WordLlamaModel, text: str) -> list[int]:
    words = _WORD.findall(_WORD_MARK + text.replace(" ", _WORD_MARK))
    known = model.known
    try:
        return list(chain.from_iterable(map(known.__getitem__, words)))
    except KeyError:
        known = _learn(model, words)
        return list(chain.from_iterable(map(known.__getitem__, words)))


def _learn(model: WordLlamaModel, words: list[str]) -> dict[str, list[int]]:
    """Tokenize the words not seen before; answers a table that has all of ``words``."""
    known = model.known
    if len(known) > model.known_words:
        known = model.known = {}
    missing = [word for word in dict.fromkeys(words) if word not in known]
    # One call for a list of words runs in this thread; the tokenizer's batch calls start a
    # thread pool, which does not survive a fork.
    encoding = model.tokenizer.encode(
        [word.encode("utf-8", "replace").decode() for word in missing], is_pretokenized=True, add_special_tokens=False
    )
    ids: list[list[int]] = [[] for _ in missing]
    word_indices = cast("list[int]", encoding.word_ids)  # None marks special tokens, and there are none
    for token_id, word_index in zip(encoding.ids, word_indices, strict=True):
        ids[word_index].append(token_id)
    known.update(zip(missing, ids, strict=True))
    return known


def _sum_vectors(vectors: Vectors, token_ids: list[int]) -> Vectors:
    total = np.zeros(DIMENSIONS, dtype=np.float32)
    for start in range(0, len(token_ids), _ROWS_AT_ONCE):
        total += vectors.take(token_ids[start : start + _ROWS_AT_ONCE], axis=0).sum(axis=0)
    return total
