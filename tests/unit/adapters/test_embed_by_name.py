"""Embeddings by name: a document has the vectors of the model its batch names, and lies in that model's index."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from api.service.search import LocalSearch, SearchService
from ingather.adapters.embed_by_name import EmbedByName
from ingather.adapters.index_by_model import IndexByModel
from ingather.adapters.memory.chunk_index import InMemoryChunkIndex
from ingather.adapters.prepare import InProcessPreparer
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.domain.artifact import decode
from ingather.models.content import PrepareRequest
from ingather.models.errors import ConfigurationError, EmbedderUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.search import SearchQuery
from ingather.ports.chunk_index import IndexEntry

NAME = "large-9@models.test-3"
AWAY = EmbedderUnavailableError("The embedding service at models.test did not answer.")


class LargeModel:
    """A model behind HTTP, of another length."""

    name = NAME
    dimensions = 3
    error = None
    hangs = False
    is_closed = False

    async def embed_remote(self, texts):
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        return np.array([[1.0, 0.0, 0.0]] * len(texts), dtype=np.float32)

    async def close(self):
        self.is_closed = True


@pytest.fixture(scope="module")
def small():
    return WordLlamaEmbedder()


@pytest.fixture
def large():
    return LargeModel()


@pytest.fixture
async def preparer(small, large):
    preparer = EmbedByName(InProcessPreparer(small), {NAME: large})
    yield preparer
    await preparer.close()


@pytest.fixture
def index():
    return IndexByModel(InMemoryChunkIndex(), {NAME: InMemoryChunkIndex()})


async def prepared(preparer, text, model):
    request = PrepareRequest(
        content=text.encode(), filename="a.txt", chunk_size=200, chunk_overlap=0, quality_threshold=0.0,
        embedding_model=model,
    )  # fmt: skip
    return await preparer.prepare(request, lambda _: None)


async def take_in(preparer, index, text, model, filename="a.txt"):
    artifact = (await prepared(preparer, text, model)).artifact
    entry = IndexEntry(
        file_id=str(uuid.uuid4()), batch_id="b", collection="default", filename=filename, sha256=f"{text}", fingerprint="f",
        metadata={}, artifact=artifact,
    )  # fmt: skip
    await index.upsert(DEFAULT_TENANT_ID, [entry])


async def test_an_unreadable_result_belongs_to_no_model_and_costs_no_other(preparer, index):
    """It is left out and named, whichever index it would have gone to; both others are written to theirs."""
    one, two = [
        IndexEntry(
            file_id=name, batch_id="b", collection="default", filename=name, sha256=name, fingerprint="f", metadata={},
            artifact=(await prepared(preparer, "There are four quays.", model)).artifact,
        )
        for name, model in (("one", None), ("two", NAME))
    ]  # fmt: skip
    broken = replace(one, file_id="three", sha256="three", artifact=b"")

    written = await index.upsert(DEFAULT_TENANT_ID, [one, broken, two])

    assert [(name, error.code) for name, error in written.refused.items()] == [("three", "artifact_unreadable")]
    assert (written.chunk_count, await index.count(DEFAULT_TENANT_ID)) == (2, 2)


async def test_vectors_are_the_named_models(preparer, small):
    """Without a name, the deployment's own."""
    for model, name, length in ((NAME, NAME, 3), (None, small.name, 256)):
        document = await prepared(preparer, "There are four quays.", model)
        artifact = decode(document.artifact)
        assert (artifact.header.embedder, artifact.vectors().shape, document.embedded) == (name, (1, length), True)


async def test_a_document_without_text_is_embedded_all_the_same(preparer):
    """There is nothing to embed."""
    document = await prepared(preparer, " ", NAME)
    assert (document.chunk_count, document.embedded) == (0, True)


async def test_a_worker_without_the_model_says_so(small):
    """It was set otherwise than the API."""
    preparer = EmbedByName(InProcessPreparer(small), {})
    with pytest.raises(ConfigurationError, match="large-9"):
        await prepared(preparer, "There are four quays.", NAME)
    await preparer.close()


async def test_a_model_that_is_away_is_waited_for(preparer, large):
    """As the deployment's own is."""
    large.error = AWAY
    with pytest.raises(EmbedderUnavailableError):
        await prepared(preparer, "There are four quays.", NAME)


async def test_each_model_has_an_index_of_its_own_and_search_asks_all(preparer, index, small, large):
    """The question is asked in each model's own terms; the same piece in two of them is one answer."""
    await take_in(preparer, index, "There are four quays.", None, "small.txt")
    await take_in(preparer, index, "Four quays, and a lighthouse.", NAME, "large.txt")
    for model in (None, NAME):
        await take_in(preparer, index, "Quays of Vela.", model, "both.txt")
    assert await index.count(DEFAULT_TENANT_ID) == 4
    search = SearchService(LocalSearch(index, small), others={NAME: large})
    found = await search.search(SearchQuery(tenant_id=DEFAULT_TENANT_ID, text="quays"))
    assert sorted(hit.filename for hit in found) == ["both.txt", "large.txt", "small.txt"]
    assert [hit.score for hit in found] == sorted((hit.score for hit in found), reverse=True)
    assert len(await search.search(SearchQuery(tenant_id=DEFAULT_TENANT_ID, text="quays", limit=2))) == 2


@pytest.mark.parametrize(
    "trouble",
    [{"error": AWAY}, {"error": ConfigurationError("It refuses the key.")}, {"hangs": True}],
    ids=["away", "refuses its key", "hangs"],
)
async def test_documents_of_a_model_that_is_away_are_found_by_their_words(preparer, index, small, large, trouble):
    """A further model holds up no search."""
    await take_in(preparer, index, "Four quays, and a lighthouse.", NAME)
    vars(large).update(trouble)
    search = SearchService(LocalSearch(index, small), others={NAME: large}, patience=timedelta(seconds=0.1))
    [hit] = await search.search(SearchQuery(tenant_id=DEFAULT_TENANT_ID, text="lighthouse"))
    assert hit.text == "Four quays, and a lighthouse."
    await search.close()
    assert large.is_closed


async def test_an_index_of_no_model_is_not_there(index):
    """Somebody asks with an old name."""
    with pytest.raises(ConfigurationError):
        await index.search(SearchQuery(tenant_id=DEFAULT_TENANT_ID, text="quays", model="gone"), None)
