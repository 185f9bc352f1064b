"""One contract for every search index: memory, LanceDB on a folder and on a real S3 server."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from ingather.adapters import lancedb_writes
from ingather.adapters.lancedb_index import LanceDbChunkIndex
from ingather.adapters.memory.chunk_index import InMemoryChunkIndex
from ingather.models.errors import ConfigurationError, IndexUnavailableError
from ingather.models.search import SearchQuery
from tests.support.index_entries import (
    BATCH,
    DIMENSIONS,
    OTHER_BATCH,
    OTHER_TENANT,
    TENANT,
    entry,
    vector_of,
)
from tests.support.index_writer import NAMES
from tests.support.waiting import until_async

KINDS = ["memory", "folder", "s3"]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(request, tmp_path):
    """URI and storage options of an empty LanceDB."""
    if request.node.callspec.params["kind"] != "s3":
        return str(tmp_path / "index"), None
    server = request.getfixturevalue("s3_server")
    options = {
        "aws_endpoint": server.endpoint_url,
        "aws_region": server.region,
        "aws_access_key_id": server.access_key_id,
        "aws_secret_access_key": server.secret_access_key,
        "allow_http": "true",
    }
    return f"s3://{server.bucket}/index-{uuid.uuid4()}", options


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def open_index(kind, place):
    """Opens the same index once more, as another process would; memory has only one."""
    memory = InMemoryChunkIndex()
    return lambda: memory if kind == "memory" else LanceDbChunkIndex(place[0], DIMENSIONS, place[1])


@pytest.fixture
async def index(open_index):
    opened = open_index()
    yield opened
    await opened.close()


async def search(index, text, *, like=None, tenant_id=TENANT, **where):
    """Search by words, and by the vector of the text ``like``."""
    vector = None if like is None else vector_of(like)
    return await index.search(SearchQuery(tenant_id=tenant_id, text=text, **where), vector)


def texts(hits):
    return [hit.text for hit in hits]


async def test_a_chunk_is_found_by_a_word_of_it(index):
    """Full text alone answers, without a vector."""
    await index.upsert(TENANT, [entry("the quick brown fox", "a lazy dog")])

    assert texts(await search(index, "dog")) == ["a lazy dog"]


async def test_a_chunk_is_found_by_its_vector(index):
    """A query that shares no word with any chunk finds the closest one first."""
    await index.upsert(TENANT, [entry("alpha", "beta", "gamma")])

    assert texts(await search(index, "unheard", like="beta"))[0] == "beta"


async def test_agreeing_rankings_put_a_chunk_first(index):
    """The chunk that words and vector both mean stands above those only one of them means."""
    await index.upsert(TENANT, [entry("red apple", "green apple", "blue sky", "apple tree")])

    hits = await search(index, "apple", like="green apple")

    assert hits[0].text == "green apple"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


async def test_a_hit_tells_where_its_text_stands(index):
    """Document, file, page, headings, batch, collection, place and metadata come with the text."""
    metadata = {"year": 2024, "tags": ["a"], "deep": {"x": None}}
    document = entry("first", "second", name="report.pdf", collection="law", metadata=metadata)
    await index.upsert(TENANT, [document])

    (hit,) = await search(index, "second")

    assert hit.document_id == document.file_id
    assert (hit.filename, hit.page, hit.headings) == ("report.pdf", 2, ("Top", "Part 1"))
    assert (hit.batch_id, hit.collection, hit.chunk_ordinal) == (BATCH, "law", 1)
    assert hit.metadata == metadata


async def test_upsert_answers_how_many_chunks_it_wrote(index):
    """The count is of chunks, over all documents."""
    assert (await index.upsert(TENANT, [entry("a", "b", name="1"), entry("c", name="2")])).chunk_count == 3
    assert (await index.upsert(TENANT, [])).chunk_count == 0


async def test_the_same_document_again_changes_nothing(index):
    """A second attempt leaves as many chunks as the first."""
    for _ in range(2):
        await index.upsert(TENANT, [entry("a", "b", "c")])

    assert await index.count(TENANT) == 3


async def test_a_document_in_fewer_chunks_leaves_none_behind(index):
    """What an earlier fingerprint, or an earlier attempt, wrote beyond the new chunks is gone; neighbours stay."""
    await index.upsert(TENANT, [entry("one", "two", "three", "four"), entry("neighbour", name="2")])
    await index.upsert(TENANT, [entry("new one", "new two", fingerprint="f2")])

    assert await index.count(TENANT) == 3
    assert texts(await search(index, "three four")) == []
    assert texts(await search(index, "neighbour")) == ["neighbour"]

    await index.upsert(TENANT, [entry("only", fingerprint="f2")])

    assert await index.count(TENANT) == 2


async def test_a_document_without_chunks_is_no_error(index):
    """It removes what the document had before, and is fine as the very first one."""
    assert (await index.upsert(TENANT, [entry()])).chunk_count == 0
    await index.upsert(TENANT, [entry("one", "two"), entry("other", name="2")])
    await index.upsert(TENANT, [entry(fingerprint="f2")])

    assert await index.count(TENANT) == 1


async def test_the_same_content_twice_at_once_is_there_once(index):
    """Of two documents with the same bytes in one collection the later one counts."""
    await index.upsert(TENANT, [entry("a", "b", ordinal=0), entry("a", "b", ordinal=1)])

    assert await index.count(TENANT) == 2
    assert {hit.document_id for hit in await search(index, "a b")} == {entry(ordinal=1).file_id}


async def test_collections_keep_their_own_chunks(index):
    """The same content in two collections is there twice, and replacing one leaves the other."""
    await index.upsert(TENANT, [entry("a", "b", collection="x"), entry("a", "b", collection="y")])
    await index.upsert(TENANT, [entry("a", collection="x")])

    assert await index.count(TENANT, collection="x") == 1
    assert await index.count(TENANT, collection="y") == 2
    assert {hit.collection for hit in await search(index, "a b", like="a", collection="y")} == {"y"}


async def test_tenants_do_not_see_each_other(index):
    """Neither search nor count crosses the line; an unknown tenant has an empty index."""
    await index.upsert(TENANT, [entry("secret plan")])

    assert await search(index, "secret", like="secret plan", tenant_id=OTHER_TENANT) == []
    assert await index.count(OTHER_TENANT) == 0
    await index.optimize(OTHER_TENANT)


async def test_chunks_belong_to_the_batch_that_wrote_them_last(index):
    """Filtering by batch finds re-ingested content in the later batch only."""
    await index.upsert(TENANT, [entry("moved"), entry("stays", name="2")])
    await index.upsert(TENANT, [entry("moved", batch_id=OTHER_BATCH)])

    assert await index.count(TENANT, batch_id=BATCH) == 1
    assert texts(await search(index, "moved stays", batch_id=BATCH)) == ["stays"]
    assert texts(await search(index, "moved stays", batch_id=OTHER_BATCH)) == ["moved"]
    assert await index.count(TENANT, batch_id=BATCH, collection="elsewhere") == 0


async def test_metadata_filters_compare_values_as_text(index):
    """Every pair asked for must be there; numbers and truth values are written as in JSON."""
    await index.upsert(
        TENANT,
        [
            entry("apple one", name="1", metadata={"author": "O'Neill", "year": 2024, "draft": True}),
            entry("apple two", name="2", metadata={"author": "O'Neill", "year": 2023}),
            entry("apple three", name="3"),
        ],
    )

    async def found(**metadata):
        return set(texts(await search(index, "apple", like="x", metadata=metadata)))

    assert await found(author="O'Neill") == {"apple one", "apple two"}
    assert await found(author="O'Neill", year="2024") == {"apple one"}
    assert await found(draft="true") == {"apple one"}
    assert await found(year="20") == set()
    assert await found(nobody="has") == set()


async def test_a_filter_applies_before_the_best_are_chosen(index):
    """One matching chunk is found behind any number of better ones that do not match."""
    crowd = [entry("needle needle needle", name=f"crowd {n}", collection="crowd") for n in range(150)]
    await index.upsert(TENANT, [*crowd, entry("a needle", name="rare", collection="rare")])

    hits = await search(index, "needle", like="needle needle needle", collection="rare", limit=1)

    assert texts(hits) == ["a needle"]


async def test_the_limit_holds(index):
    """No more hits than asked for, whatever both rankings bring."""
    await index.upsert(TENANT, [entry(*(f"apple {n}" for n in range(30)))])

    assert len(await search(index, "apple", like="apple 3", limit=7)) == 7
    assert len(await search(index, "apple", like="apple 3", limit=100)) == 30


@pytest.mark.parametrize("stage", ["fresh", "tidied"])
async def test_strange_queries_are_no_error(index, stage):
    """Quotes, operators, emoji, foreign scripts, markup and bare punctuation are just text."""
    await index.upsert(TENANT, [entry("plain words", '東京の天気 🦜 quo\'ted "text"')])
    if stage == "tidied":
        await index.optimize(TENANT)
    strange = ['"', "'", '"open', "a AND (", "OR", "NOT a", "-a +b", "a:b~2^3", "*", "?", "\\", "\\'", "%", ";--", "🦜"]
    strange += [
        " ",
        "\n\t",
        "!!!",
        "東京",
        "مرحبا",
        "</s>",
        "\x00",
        "x" * 2000,
        "a " * 1000,
        "{}[]",
        "the and of",
        "\u202e",
    ]

    for text in strange:
        await search(index, text, like=text)
        await search(index, "words", collection=text, batch_id=text, metadata={text: text})
        assert await index.count(TENANT, collection=text) == 0


async def test_a_collection_may_be_called_anything(index):
    """Each name finds its own documents and no other's, also where one begins or ends like another."""
    names = ["Client Files/2026", "Client Files", "2026", "it's; DROP TABLE --", "%", "_", "档案 🎉", " ", "x" * 255]
    for _ in range(2):
        await index.upsert(TENANT, [entry("shared words", collection=name) for name in names])
    assert await index.count(TENANT) == len(names)
    for name in names:
        [found] = await search(index, "shared", collection=name)
        assert found.collection == name


async def test_a_filter_value_cannot_end_its_own_quotes(index):
    """A value written like SQL selects nothing instead of everything."""
    await index.upsert(TENANT, [entry("guarded", collection="it's")])

    assert await search(index, "guarded", collection="x' OR '1'='1") == []
    assert await search(index, "guarded", metadata={"a') OR array_has(metadata_pairs, 'b": "c"}) == []
    assert texts(await search(index, "guarded", collection="it's")) == ["guarded"]


async def test_metadata_may_hold_anything_json_can(index):
    """Lone surrogates, NUL and huge numbers are stored and searched without an error."""
    odd = {"k\ud800": "v\ud800", "nul": "\x00", "big": 2**70, "": ""}
    await index.upsert(TENANT, [entry("odd one", metadata=odd)])

    (hit,) = await search(index, "odd", metadata={"big": str(2**70)})

    assert hit.metadata == odd


async def test_fresh_chunks_are_found_beside_tidied_ones(index):
    """Rows newer than the last upkeep are found at once, by words and by vector; replaced ones are not."""
    await index.upsert(TENANT, [entry("apple old", name="1"), entry("apple replaced", name="2")])
    await index.optimize(TENANT)
    await index.upsert(TENANT, [entry("apple new", name="3"), entry("apple other", name="2")])

    assert set(texts(await search(index, "apple"))) == {"apple old", "apple new", "apple other"}
    assert texts(await search(index, "unheard", like="apple new"))[0] == "apple new"

    await index.optimize(TENANT)

    assert set(texts(await search(index, "apple"))) == {"apple old", "apple new", "apple other"}


async def test_another_opening_sees_writes_at_once(open_index, index):
    """What one process wrote the other finds in its very next call, before and after its first search."""
    other = open_index()
    assert await search(other, "apple") == []

    for count in range(1, 4):
        await index.upsert(TENANT, [entry(f"apple {count}", name=str(count))])
        assert len(await search(other, "apple", like="x")) == count
        assert await other.count(TENANT) == count
    await other.close()


async def test_writers_at_once_leave_every_chunk_once(index, open_index):
    """Attempts that overlap write the same documents as if one had come after the other."""
    others = [index, open_index(), open_index()]
    documents = [entry(f"{n} a", f"{n} b", name=str(n)) for n in range(10)]

    await asyncio.gather(*(other.upsert(TENANT, documents) for other in others for _ in range(3)))

    assert await index.count(TENANT) == 20
    assert len(await search(index, "a b", limit=100)) == 20
    for other in others:
        await other.close()


async def test_what_cannot_be_read_is_left_out_and_named(index):
    """A damaged artifact, or one whose embedding is still to come, costs its own document; the others are written."""
    damaged = replace(entry("damaged", name="1", ordinal=1), artifact=b"no artifact")
    early = entry("early", name="2", ordinal=2, embedded=False)

    written = await index.upsert(TENANT, [damaged, early, entry("sound", name="3", ordinal=3)])

    assert {file_id: error.code for file_id, error in written.refused.items()} == {
        damaged.file_id: "artifact_unreadable",
        early.file_id: "artifact_unreadable",
    }
    assert (written.chunk_count, await index.count(TENANT)) == (1, 1)
    assert len((await index.upsert(TENANT, [damaged])).refused) == 1


async def test_it_says_when_it_can_be_used(index):
    """The readiness check answers before and after the first use."""
    await index.check()
    await index.upsert(TENANT, [entry("text")])
    await index.check()


# --- LanceDB alone: what several processes do to one index --------------------------------

on_disk = pytest.mark.parametrize("kind", ["folder", "s3"])


def writer(place, seed, rounds):
    arguments = {"uri": place[0], "storage_options": place[1], "seed": seed, "rounds": rounds}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.index_writer", json.dumps(arguments)], cwd=ROOT, stdout=subprocess.PIPE
    )


async def rows_of_all_documents(index):
    hits = []
    for name in NAMES:
        hits += [hit for hit in await search(index, name, limit=100) if hit.filename == name]
    return hits


def assert_each_document_is_whole(hits):
    """Every document has the chunks of one writer, each once, and no others."""
    seen = Counter((hit.filename, hit.chunk_ordinal) for hit in hits)
    assert set(seen.values()) <= {1}
    by_name = {name: [hit.text for hit in hits if hit.filename == name] for name in {hit.filename for hit in hits}}
    for name, found in by_name.items():
        of = {text.rsplit(" ", 1)[1] for text in found}
        assert len(of) == 1, f"{name} has chunks of several writers: {sorted(found)}"
        assert len(found) == int(of.pop())


@pytest.mark.slow
@on_disk
async def test_processes_writing_at_once_leave_whole_documents(index, place):
    """Three processes replace the same ten documents in three shapes; each ends in exactly one of them."""
    writers = [writer(place, seed, rounds=8) for seed in range(3)]
    for process in writers:
        assert await asyncio.to_thread(process.wait, 120) == 0
        process.stdout.close()

    hits = await rows_of_all_documents(index)

    assert len({hit.filename for hit in hits}) == len(NAMES)
    assert len(hits) == await index.count(TENANT)
    assert_each_document_is_whole(hits)


@pytest.mark.slow
@on_disk
async def test_a_killed_writer_leaves_no_chunk_twice(index, place):
    """After SIGKILL in the middle of writing, the next attempt at the same documents puts everything right."""
    for seed in range(2):
        victims = [writer(place, seed * 2 + n, rounds=1_000) for n in range(2)]
        for process in victims:
            await asyncio.to_thread(process.stdout.readline)
        await asyncio.sleep(0.3 + seed * 0.13)
        for process in victims:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()

    documents = [entry(f"{name} chunk 0 of 1", name=name, fingerprint="f1") for name in NAMES]
    await index.upsert(TENANT, documents)

    hits = await rows_of_all_documents(index)
    assert len(hits) == await index.count(TENANT) == len(NAMES)
    assert_each_document_is_whole(hits)


@pytest.mark.parametrize("kind", ["folder"])
async def test_processes_that_are_first_at_once_leave_every_chunk_once(index, place):
    """Where nothing was there before, several may have appended: whoever counts last puts it right."""
    for round_number in range(3):
        documents = [entry(f"{n} a", f"{n} b", name=f"{round_number}-{n}") for n in range(10)]
        others = [LanceDbChunkIndex(place[0], DIMENSIONS, place[1]) for _ in range(4)]
        await asyncio.gather(*(other.upsert(TENANT, documents) for other in others))
        for other in others:
            await other.close()

        assert await index.count(TENANT) == (round_number + 1) * 20


@on_disk
async def test_rows_left_twice_are_put_right(index):
    """Two writers appended at one moment and died before either could count: the next attempt leaves each row once."""
    document = entry("apple a", "apple b")
    await index.upsert(TENANT, [document])
    table = await index._open(TENANT, create=False)
    await table.add(await table.query().to_arrow())
    assert await index.count(TENANT) == 4

    await index.upsert(TENANT, [document])

    assert await index.count(TENANT) == 2
    assert sorted(texts(await search(index, "apple"))) == ["apple a", "apple b"]


@on_disk
async def test_who_dies_while_he_puts_rows_right_costs_nobody_any(index, monkeypatch):
    """What is there twice may be another batch's too, which has been told that search finds it."""
    document = entry("apple a", "apple b")
    await index.upsert(TENANT, [document])
    table = await index._open(TENANT, create=False)
    await table.add(await table.query().to_arrow())
    merges = []

    async def die_at_the_second(*arguments):
        merges.append(arguments)
        if len(merges) == 2:
            raise MemoryError("the writer is gone")
        await merge_all(*arguments)

    merge_all = lancedb_writes._merge_all
    monkeypatch.setattr(lancedb_writes, "_merge_all", die_at_the_second)
    with pytest.raises(MemoryError):
        await index.upsert(TENANT, [document])

    assert sorted(texts(await search(index, "apple"))) == ["apple a", "apple b"]


@pytest.mark.parametrize("kind", ["folder"])
async def test_a_caller_who_gives_up_does_not_stop_a_write_half_way(index):
    """What was appended is looked over all the same, and closing waits for that."""
    writing = asyncio.create_task(index.upsert(TENANT, [entry(f"apple {n}", name=str(n)) for n in range(50)]))
    while not index._writers:  # noqa: ASYNC110  # to the very step: a moment later it is written
        await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    await index.close()

    assert await index.count(TENANT) == 50


@on_disk
async def test_upkeep_follows_writing_by_itself(index):
    """Once writing pauses, files are merged and new rows are indexed without anybody asking."""
    for n in range(12):
        await index.upsert(TENANT, [entry(f"apple {n}", name=str(n))])
    table = await index._open(TENANT, create=False)
    assert (await table.stats())["fragment_stats"]["num_fragments"] == 12

    async def all_indexed():
        return True if not (await table.list_indices())[0].num_unindexed_rows else None

    await until_async(all_indexed)

    assert (await table.stats())["fragment_stats"]["num_fragments"] == 1
    assert len(await search(index, "apple", limit=100)) == 12


@pytest.mark.parametrize("kind", ["folder"])
async def test_a_missing_word_index_is_made_up_for(index):
    """Where the maker of a table died before its index was there, upkeep makes the index."""
    await index.upsert(TENANT, [entry("apple")])
    table = await index._open(TENANT, create=False)
    await table.drop_index("text_idx")
    assert texts(await search(index, "apple")) == ["apple"]

    await index.optimize(TENANT)

    assert [found.num_indexed_rows for found in await table.list_indices()] == [1]
    assert texts(await search(index, "apple")) == ["apple"]


@pytest.mark.parametrize("kind", ["folder"])
async def test_words_are_found_where_no_spaces_are_written(index):
    """Full text knows where words end in Chinese, Japanese and Thai."""
    await index.upsert(TENANT, [entry("今天天气很好，我们去公园散步"), entry("東京の天気は晴れです。", name="2")])

    assert texts(await search(index, "公园")) == ["今天天气很好，我们去公园散步"]
    assert texts(await search(index, "天気")) == ["東京の天気は晴れです。"]


@pytest.mark.parametrize("kind", ["folder"])
async def test_vectors_of_another_length_are_refused(index):
    """A changed model is told, not mixed in."""
    [refusal] = (await index.upsert(TENANT, [entry("text", dimensions=8)])).refused.values()
    assert isinstance(refusal, ConfigurationError)
    assert "8 dimensions" in refusal.message
    with pytest.raises(ConfigurationError):
        await index.search(SearchQuery(tenant_id=TENANT, text="x"), vector_of("x", 8))


async def test_a_missing_server_is_an_unavailable_index():
    """The error says which part failed, may be retried, and holds no credentials."""
    options = {
        "aws_endpoint": "http://127.0.0.1:9",
        "aws_region": "us-east-1",
        "aws_access_key_id": "an-access-key",
        "aws_secret_access_key": "a-secret-key",
        "allow_http": "true",
        "client_max_retries": "0",
        "timeout": "2s",
    }
    index = LanceDbChunkIndex("s3://bucket/index", DIMENSIONS, options)
    with pytest.raises(IndexUnavailableError) as caught:
        await index.upsert(TENANT, [entry("text")])

    assert caught.value.retryable
    assert "key" not in caught.value.message
    await index.close()


async def test_a_folder_that_cannot_be_made_is_an_unavailable_index(tmp_path):
    """Readiness fails where a file stands in the index's place."""
    (tmp_path / "taken").write_text("a file")

    with pytest.raises(IndexUnavailableError):
        await LanceDbChunkIndex(str(tmp_path / "taken"), DIMENSIONS).check()


async def test_an_index_removed_behind_our_back_comes_back_empty(tmp_path):
    """The next attempt after the failure makes the table anew."""
    index = LanceDbChunkIndex(str(tmp_path / "index"), DIMENSIONS)
    await index.upsert(TENANT, [entry("before")])
    shutil.rmtree(tmp_path / "index")
    with pytest.raises(IndexUnavailableError):
        await index.count(TENANT)

    await index.upsert(TENANT, [entry("after")])

    assert await index.count(TENANT) == 1
    await index.close()


def test_construction_loads_nothing():
    """Importing the adapter and constructing an index costs no LanceDB."""
    program = (
        "import sys; from ingather.adapters.lancedb_index import LanceDbChunkIndex; import asyncio;"
        "i = LanceDbChunkIndex('s3://b/p', 8); asyncio.run(i.check()); assert 'lancedb' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
