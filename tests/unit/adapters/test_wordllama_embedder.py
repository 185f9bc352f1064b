"""The offline embedder: the wheel's own vectors, faster and without its side effects."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ingather.adapters.wordllama_embedder import WordLlamaEmbedder

TEXTS = [
    "The delivery arrived on Monday.",
    "Rechnung über 1.250,00 €  – zahlbar bis\n\n 30. Juni\tnetto",
    "  leading, trailing and    inner spaces   ",
    "東京の天気は晴れです。 emoji 🦜🏴‍☠️ and a literal ▁ mark",
    "x" * 3_000,
    " ",
]


@pytest.fixture(scope="module")
def embedder():
    return WordLlamaEmbedder()


def test_vectors_are_those_of_the_original_package(embedder):
    """Reading weights and tokenizer directly changes no vector."""
    program = (
        "import sys, json, numpy as np; from pathlib import Path; import wordllama;"
        "m = wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True);"
        "texts = json.loads(sys.stdin.read());"
        "sys.stdout.buffer.write(np.concatenate([m.embed([t], norm=True) for t in texts]).tobytes())"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(TEXTS).encode(), capture_output=True, check=True
    )
    expected = np.frombuffer(answer.stdout, dtype=np.float32).reshape(len(TEXTS), 256)

    np.testing.assert_allclose(embedder.embed(TEXTS), expected, atol=1e-6)


def test_the_same_text_gives_the_same_vector_in_any_company(embedder):
    """Neither the batch nor what was embedded before changes a single bit."""
    together = embedder.embed(TEXTS)
    alone = np.concatenate([WordLlamaEmbedder().embed([text]) for text in TEXTS])

    assert np.array_equal(together, alone)


def test_vectors_have_length_one(embedder):
    """Every row is a finite float32 vector of length 1, for the empty text too."""
    vectors = embedder.embed([*TEXTS, "", "\n", "\ud800 a lone surrogate", "</s> <unk>"])

    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS) + 4, embedder.dimensions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_no_texts_give_no_vectors(embedder):
    """An empty list is answered with an empty array of the right width."""
    assert embedder.embed([]).shape == (0, 256)


def test_related_texts_are_closer_than_unrelated_ones(embedder):
    """The vectors mean something."""
    query, near, far = embedder.embed(
        ["invoice payment deadline", "please pay the bill before the due date", "the parrot sat on a mossy branch"]
    )

    assert query @ near > query @ far + 0.1


def test_the_table_of_words_stays_bounded(embedder):
    """A stream of ever new words does not grow the process, and vectors stay the same."""
    before = embedder.embed(["alpha beta"])
    small = WordLlamaEmbedder(known_words=100)
    for number in range(50):
        small.embed([" ".join(f"word{number}x{n}" for n in range(20))])

    assert len(small._model.known) <= 140
    assert np.array_equal(small.embed(["alpha beta"]), before)


def test_it_can_be_sent_to_another_process(embedder):
    """A pickle carries no model, and the copy answers alike."""
    embedder.load()
    pickled = pickle.dumps(embedder)

    assert len(pickled) < 200
    assert np.array_equal(pickle.loads(pickled).embed(TEXTS), embedder.embed(TEXTS))


def test_name_tells_model_version_and_dimensions(embedder):
    """The name changes when the vectors may."""
    assert embedder.name == "wordllama-0.4.0.post1-256"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_loading_leaves_logging_alone_and_starts_no_thread():
    """A fork server may load it: no threads, no root log handlers, no model package imported."""
    program = (
        "import logging, os, sys, numpy; from ingather.adapters.wordllama_embedder import WordLlamaEmbedder;"
        "before = len(os.listdir('/proc/self/task'));"
        "e = WordLlamaEmbedder(); assert 'tokenizers' not in sys.modules; e.load(); e.embed(['a text'] * 40);"
        "assert len(os.listdir('/proc/self/task')) == before, 'threads'; assert not logging.getLogger().handlers;"
        "assert 'wordllama' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
