"""One preparer with the real embedder for all tests of activities: loading the model is what takes time."""

from collections.abc import AsyncIterator

import pytest

from ingather.adapters.prepare import InProcessPreparer
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from tests.support.ingesting import WatchedPreparer, Workshop


@pytest.fixture(scope="session")
def embedder() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


@pytest.fixture
async def preparer(embedder: WordLlamaEmbedder) -> AsyncIterator[WatchedPreparer]:
    preparer = WatchedPreparer(InProcessPreparer(embedder))
    yield preparer
    await preparer.close()


@pytest.fixture
def workshop(preparer: WatchedPreparer) -> Workshop:
    return Workshop(preparer)
