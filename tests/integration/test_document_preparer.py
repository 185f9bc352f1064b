"""The contract of ``DocumentPreparer`` over every adapter, and what only supervised processes promise."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import pytest_asyncio

from ingather import samples
from ingather.adapters.openai_reader import OpenAiReader
from ingather.adapters.openai_texts import OpenAiTexts
from ingather.adapters.parser_processes import SupervisedPreparer
from ingather.adapters.prepare import InProcessPreparer
from ingather.adapters.read_by_model import ReadByModel
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.domain import artifact
from ingather.models.content import Stage
from ingather.models.errors import (
    DependencyError,
    DocumentCorruptError,
    DocumentEmptyError,
    DocumentEncryptedError,
    DocumentError,
    EmbedderUnavailableError,
    LowQualityError,
    ParserCrashedError,
    ParserOutOfMemoryError,
    ParserTimeoutError,
    UnsupportedTypeError,
)
from ingather.ports.document_preparer import DocumentPreparer
from ingather.ports.embedder import Vectors
from tests.support.chat_stand_in import chat_stand_in
from tests.support.preparing import ACCIDENTS, MIB, busy_pid, eventually, ignore, lives, request, stopped
from tests.support.scans import looks, scanned

pytestmark = pytest.mark.asyncio(loop_scope="module")

TIFF_HEAD = b"II*\x00\x08\x00\x00\x00" + bytes(40)
ALL_STAGES = [Stage.DETECTING, Stage.PARSING, Stage.CHUNKING, Stage.EMBEDDING, Stage.WRITING]


class CountingRemoteEmbedder:
    """A remote embedder without a network: each text's vector tells its length."""

    name = "lengths-1"
    dimensions = 4

    async def embed_remote(self, texts: list[str]) -> Vectors:
        return np.array([[len(text), 0, 0, 1] for text in texts], dtype=np.float32)

    async def close(self) -> None:
        """Nothing is open."""


@pytest_asyncio.fixture(params=["in-process", "supervised"], scope="module", loop_scope="module")
async def preparer(request: pytest.FixtureRequest) -> AsyncIterator[DocumentPreparer]:
    built: DocumentPreparer = (
        InProcessPreparer(WordLlamaEmbedder())
        if request.param == "in-process"
        else SupervisedPreparer(processes=1, embedder=WordLlamaEmbedder())
    )
    yield built
    await built.close()


@pytest_asyncio.fixture(params=["in-process", "supervised"], scope="module", loop_scope="module")
async def remote_preparer(request: pytest.FixtureRequest) -> AsyncIterator[DocumentPreparer]:
    built: DocumentPreparer = (
        InProcessPreparer(None, remote_embedder=CountingRemoteEmbedder())
        if request.param == "in-process"
        else SupervisedPreparer(processes=1, remote_embedder=CountingRemoteEmbedder())
    )
    yield built
    await built.close()


class TestEveryPreparer:
    async def test_gives_chunks_with_vectors(self, preparer: DocumentPreparer) -> None:
        """A document becomes an artifact whose chunks quote it exactly and have a vector each."""
        text = "The mirror is washed at new moon. " * 30
        prepared = await preparer.prepare(request(text.encode()), ignore)
        decoded = artifact.decode(prepared.artifact)
        assert prepared.embedded
        assert prepared.media_type == "text/plain"
        assert prepared.character_count == len(text.strip())
        assert prepared.chunk_count == len(decoded.chunks()) > 1
        assert all(decoded.header.text[c.start : c.end] == c.text for c in decoded.chunks())
        assert decoded.vectors().shape == (prepared.chunk_count, 256)
        assert decoded.header.embedder == preparer.description["embedder"]

    async def test_announces_each_stage_in_order(self, preparer: DocumentPreparer) -> None:
        """``on_stage`` hears of every stage once, in order, and each has a time."""
        heard: list[Stage] = []
        prepared = await preparer.prepare(request(b"# Night log\n\nClear."), heard.append)
        assert heard == ALL_STAGES
        assert list(prepared.timings_ms) == [stage.value for stage in ALL_STAGES]

    async def test_draws_a_page_in_place_of_preparing(self, preparer: DocumentPreparer) -> None:
        """Where a page is asked for, the artifact is its picture, in the width that is wanted."""
        pdf = (samples.SAMPLES / "operations-handbook.pdf").read_bytes()
        drawn = await preparer.prepare(request(pdf, "handbook.pdf", page=2, width=300), ignore)
        assert (drawn.media_type, drawn.artifact[:8]) == ("image/png", b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(drawn.artifact[16:20]) == 300

    async def test_draws_scanned_pages_for_a_model_that_sees(self, preparer: DocumentPreparer) -> None:
        """What a model reads off the pages of a PDF without text is the document's text."""
        async with chat_stand_in() as service:
            service.says = looks
            reader = OpenAiReader(OpenAiTexts(service.url, "reads"), OpenAiTexts(service.url, "sees"))
            wanted = request(scanned(["P1", "P2"]), "scan.pdf", parsing_model="reads+sees")
            prepared = await ReadByModel(preparer, reader).prepare(wanted, ignore)
            await reader.close()
        assert artifact.read_text(prepared.artifact) == "# Sheet P1\n\n# Sheet P2"
        assert (prepared.media_type, prepared.page_count) == ("application/pdf", 2)

    @pytest.mark.parametrize(("content", "filename"), [(b"%PDF-1.7 and then nothing", "a.pdf"), (TIFF_HEAD, "a.tif")])
    async def test_refuses_to_draw_what_is_damaged(
        self, preparer: DocumentPreparer, content: bytes, filename: str
    ) -> None:
        """As it would refuse the document."""
        with pytest.raises(DocumentCorruptError) as raised:
            await preparer.prepare(request(content, filename, page=1, width=300), ignore)
        assert raised.value.facts["stage"] == "parsing"

    async def test_same_bytes_same_artifact(self, preparer: DocumentPreparer) -> None:
        """Preparing is deterministic, so that a second attempt overwrites the same object with the same bytes."""
        first = await preparer.prepare(request(b"Dust on the dome."), ignore)
        second = await preparer.prepare(request(b"Dust on the dome."), ignore)
        assert first.artifact == second.artifact

    @pytest.mark.parametrize(
        ("content", "filename", "error", "stage"),
        [
            (b"", "a.pdf", DocumentEmptyError, "detecting"),
            (b"%PDF-1.7 and then nothing", "a.pdf", DocumentCorruptError, "parsing"),
            (b"\x00\x01\x02\x03" * 50, "a.bin", UnsupportedTypeError, "detecting"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "a.docx", DocumentEncryptedError, "detecting"),
        ],
    )
    async def test_refuses_with_the_error_that_fits(
        self, preparer: DocumentPreparer, content: bytes, filename: str, error: type[Exception], stage: str
    ) -> None:
        """What cannot be prepared raises its own error, which tells the stage."""
        with pytest.raises(error) as raised:
            await preparer.prepare(request(content, filename), ignore)
        assert type(raised.value) is error
        assert raised.value.facts["stage"] == stage

    async def test_refuses_text_below_the_threshold(self, preparer: DocumentPreparer) -> None:
        """Text that scores less than the threshold is refused with its score."""
        with pytest.raises(LowQualityError) as raised:
            await preparer.prepare(request("\ufffd#~ ".encode() * 50, quality_threshold=0.5), ignore)
        assert raised.value.facts["score"] < 0.5
        assert raised.value.facts["stage"] == "parsing"

    async def test_readable_without_text_is_done(self, preparer: DocumentPreparer) -> None:
        """A document that holds no text has no chunks, says ``no_text``, and passes any threshold."""
        prepared = await preparer.prepare(request(b" \n\t ", quality_threshold=0.9), ignore)
        assert (prepared.chunk_count, prepared.warnings) == (0, ("no_text",))

    async def test_embedding_an_embedded_artifact_changes_nothing(self, preparer: DocumentPreparer) -> None:
        """Where no vector is missing, ``embed`` gives the same bytes back."""
        prepared = await preparer.prepare(request(b"Clear sky."), ignore)
        assert await preparer.embed(prepared.artifact) == prepared.artifact

    async def test_leaves_vectors_to_a_remote_embedder(self, remote_preparer: DocumentPreparer) -> None:
        """With a remote embedder, ``prepare`` leaves the vectors out and ``embed`` fills them in."""
        prepared = await remote_preparer.prepare(request(b"Clear sky. " * 50), ignore)
        assert not prepared.embedded
        assert artifact.decode(prepared.artifact).vectors() is None
        embedded = artifact.decode(await remote_preparer.embed(prepared.artifact))
        assert embedded.vectors()[:, 0].tolist() == [len(chunk.text) for chunk in embedded.chunks()]
        assert embedded.header.embedder == remote_preparer.description["embedder"] == "lengths-1"

    async def test_says_when_nobody_can_embed(self, preparer: DocumentPreparer) -> None:
        """Missing vectors without a remote embedder are an error a person can act on."""
        without = InProcessPreparer(None)
        prepared = await without.prepare(request(b"Clear sky."), ignore)
        await without.close()
        with pytest.raises(EmbedderUnavailableError):
            await preparer.embed(prepared.artifact)

    async def test_many_are_answered_one_by_one(self, preparer: DocumentPreparer) -> None:
        """Each of several documents has the outcome it has alone, in order, a refusal among them included."""
        contents = [b"Clear sky. " * 40, b"", b"# Night log\n\nDust.", b"\x00\x01\x02" * 50, b"Wind from the west."]
        heard: list[tuple[int, Stage]] = []
        outcomes = await preparer.prepare_many(
            [request(content) for content in contents], lambda position, stage: heard.append((position, stage))
        )
        for content, outcome in zip(contents, outcomes, strict=True):
            (alone,) = await asyncio.gather(preparer.prepare(request(content), ignore), return_exceptions=True)
            assert type(outcome) is type(alone)
            if isinstance(outcome, DocumentError):
                assert outcome.facts == alone.facts
            else:
                assert outcome.artifact == alone.artifact
        assert heard == sorted(heard, key=lambda said: said[0])
        assert [stage for position, stage in heard if position == 4] == ALL_STAGES

    async def test_every_sample_has_its_outcome(self, preparer: DocumentPreparer) -> None:
        """The documents shipped with the product end as the product says they do."""
        for path in samples.sample_paths():
            if path.suffix == ".zip":
                continue
            try:
                prepared = await preparer.prepare(request(path.read_bytes(), path.name), ignore)
            except DocumentError as error:
                outcome = error.code
            else:
                assert prepared.chunk_count > 0, path.name
                outcome = "done"
            assert outcome == samples.EXPECTED[path.name], path.name


# --- What only supervised processes promise -----------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def accidents() -> AsyncIterator[SupervisedPreparer]:
    """One process whose parser has the accident a document asks for; tests leave it as usable as they found it."""
    preparer = SupervisedPreparer(processes=1, prepare=ACCIDENTS)
    await preparer.start()
    yield preparer
    await preparer.close()


@pytest_asyncio.fixture(loop_scope="module")
async def accident_prone() -> AsyncIterator[Callable[..., SupervisedPreparer]]:
    """Builds such preparers for tests that need their own."""
    built: list[SupervisedPreparer] = []

    def build(**settings: object) -> SupervisedPreparer:
        built.append(SupervisedPreparer(**{"processes": 1, "prepare": ACCIDENTS, **settings}))
        return built[-1]

    yield build
    for preparer in built:
        await preparer.close()


class TestAccidents:
    async def test_second_crash_quarantines(self, accidents: SupervisedPreparer) -> None:
        """A document that kills its parser twice fails with stage, signal and memory peak; the next one is fine."""
        with pytest.raises(ParserCrashedError) as raised:
            await accidents.prepare(request(b"crash"), ignore)
        assert raised.value.facts["stage"] == "parsing"
        assert raised.value.facts["exit_signal"] == signal.SIGSEGV
        assert raised.value.facts["peak_memory_bytes"] > MIB
        assert (raised.value.facts["kills"], raised.value.facts["quarantined"]) == (2, True)
        assert (await accidents.prepare(request(b"fine"), ignore)).chunk_count == 1

    async def test_a_kill_of_before_counts(self, accidents: SupervisedPreparer) -> None:
        """A document that has killed a parser elsewhere has one chance left, in a fresh process."""
        await accidents.prepare(request(b"fine"), ignore)
        assert (await accidents.prepare(request(b"crash-at-first", kills=1), ignore)).chunk_count == 1
        with pytest.raises(ParserCrashedError) as raised:
            await accidents.prepare(request(b"crash", kills=1), ignore)
        assert (raised.value.facts["kills"], raised.value.facts["quarantined"]) == (2, True)

    async def test_only_the_guilty_one_of_many_suffers(self, accidents: SupervisedPreparer) -> None:
        """Where one of several documents kills their process, the others are prepared all the same, before and after."""
        contents = [b"one", b"two", b"crash", b"four", b"exit", b"hang", b"seven", b"crash"]
        outcomes = await accidents.prepare_many(
            [request(content, timeout_seconds=0.5) for content in contents], lambda _position, _stage: None
        )
        killed = {2: ParserCrashedError, 4: ParserCrashedError, 5: ParserTimeoutError, 7: ParserCrashedError}
        for position, outcome in enumerate(outcomes):
            if error := killed.get(position):
                assert type(outcome) is error
                assert outcome.facts["kills"] == 1
                # One that burns its time may be known for that; one that crashed may have been unlucky.
                assert error is ParserTimeoutError or outcome.facts["quarantined"] is False
            else:
                assert outcome.chunk_count == 1

    async def test_those_behind_one_that_takes_long_need_not_wait(
        self, accident_prone: Callable[..., SupervisedPreparer]
    ) -> None:
        """It is stopped without blame, however much time it has, and they go on in another process."""
        contents = [b"one", b"hang", b"three"]
        wanted = [request(content, patience_seconds=2.0, timeout_seconds=3_600) for content in contents]
        one, long, three = await accident_prone().prepare_many(wanted, lambda _position, _stage: None)
        assert (one.chunk_count, three.chunk_count) == (1, 1)
        assert type(long) is ParserTimeoutError
        assert long.facts == {"stage": "parsing", "kills": 0, "quarantined": False}

    async def test_where_all_take_long_none_is_stopped_for_it(
        self, accident_prone: Callable[..., SupervisedPreparer]
    ) -> None:
        """Patience is for what takes longer than others do: after some quick ones, a few are stopped until that is seen."""
        preparer = accident_prone()
        await preparer.prepare_many([request(b"fine") for _ in range(80)], lambda _position, _stage: None)
        slow = [request(b"slow", patience_seconds=0.5) for _ in range(24)]
        outcomes = await preparer.prepare_many(slow, lambda _position, _stage: None)
        assert all(outcome.chunk_count == 1 for outcome in outcomes[-4:])

    async def test_first_crash_is_tried_again(self, accidents: SupervisedPreparer) -> None:
        """A crash that does not come again costs nothing: the second process finishes the document."""
        before = set(accidents.pool.pids)
        assert (await accidents.prepare(request(b"crash-at-first"), ignore)).chunk_count == 1
        assert before - set(accidents.pool.pids)

    async def test_second_try_runs_in_a_fresh_process(self, accident_prone: Callable[..., SupervisedPreparer]) -> None:
        """Even where a used process is free, the second attempt gets one that never saw a document."""
        preparer = accident_prone(processes=2)
        await asyncio.gather(*[preparer.prepare(request(b"slow"), ignore) for _ in range(2)])
        assert (await preparer.prepare(request(b"crash-at-first"), ignore)).chunk_count == 1

    @pytest.mark.parametrize("accident", [b"panic", b"raise", b"exit"])
    async def test_no_accident_escapes(self, accidents: SupervisedPreparer, accident: bytes) -> None:
        """A Rust panic, a bug or an exit in the parser process ends as one document's typed failure."""
        with pytest.raises(ParserCrashedError):
            await accidents.prepare(request(accident), ignore)

    async def test_memory_limit_is_one_documents_failure(
        self, accident_prone: Callable[..., SupervisedPreparer]
    ) -> None:
        """A parser that eats memory is stopped at its limit and the failure tells the peak."""
        preparer = accident_prone(memory_bytes=300 * MIB)
        with pytest.raises(ParserOutOfMemoryError) as raised:
            await preparer.prepare(request(b"eat-memory"), ignore)
        assert 200 * MIB < raised.value.facts["peak_memory_bytes"] < 600 * MIB
        assert raised.value.facts["stage"] == "parsing"
        assert (await preparer.prepare(request(b"fine"), ignore)).chunk_count == 1

    async def test_native_allocation_failure_is_out_of_memory(self, accidents: SupervisedPreparer) -> None:
        """A native parser that aborts because an allocation failed ran out of memory; it did not just crash."""
        with pytest.raises(ParserOutOfMemoryError):
            await accidents.prepare(request(b"allocate"), ignore)

    async def test_kill_of_a_busy_parser_costs_nothing(self, accidents: SupervisedPreparer) -> None:
        """A SIGKILL from outside is no failure of the document; two on the same one are the kernel's, for memory."""
        task = asyncio.create_task(accidents.prepare(request(b"hang-at-first"), ignore))
        os.kill(await busy_pid(accidents), signal.SIGKILL)
        assert (await task).chunk_count == 1
        with pytest.raises(ParserOutOfMemoryError):
            await accidents.prepare(request(b"be-killed"), ignore)

    async def test_wall_clock_limit(self, accidents: SupervisedPreparer) -> None:
        """A parser that never ends is killed at the limit; the failure tells where it was."""
        started = time.monotonic()
        with pytest.raises(ParserTimeoutError) as raised:
            await accidents.prepare(request(b"hang", timeout_seconds=0.3), ignore)
        assert time.monotonic() - started < 10
        assert raised.value.facts["stage"] == "parsing"
        assert raised.value.facts["timeout_seconds"] == 0.3
        assert raised.value.facts["peak_memory_bytes"] > MIB

    async def test_cancelling_kills_at_once(self, accidents: SupervisedPreparer) -> None:
        """Cancelling a document kills the process that works on it at once, and the next document has another."""
        task = asyncio.create_task(accidents.prepare(request(b"hang"), ignore))
        pid = await busy_pid(accidents)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(lambda: not lives(pid), within=10)
        assert (await accidents.prepare(request(b"fine"), ignore)).chunk_count == 1

    async def test_waiting_documents_can_be_cancelled(self, accidents: SupervisedPreparer) -> None:
        """Cancelling a document that still waits for a process takes no process from anybody."""
        running = asyncio.create_task(accidents.prepare(request(b"slow"), ignore))
        waiting = asyncio.create_task(accidents.prepare(request(b"fine"), ignore))
        await asyncio.sleep(0.05)
        waiting.cancel()
        assert (await running).chunk_count == 1
        assert (await accidents.prepare(request(b"fine"), ignore)).chunk_count == 1

    async def test_neighbours_do_not_notice(self, accident_prone: Callable[..., SupervisedPreparer]) -> None:
        """Accidents among many documents cost those documents and no other."""
        preparer = accident_prone(processes=2, memory_bytes=300 * MIB)
        contents = [b"crash", b"fine", b"eat-memory", b"fine", b"exit", b"hang"] + [b"fine"] * 60
        ended = await asyncio.gather(
            *[
                preparer.prepare(request(content, timeout_seconds=1 if content == b"hang" else 60), ignore)
                for content in contents
            ],
            return_exceptions=True,
        )
        expected = {
            b"crash": ParserCrashedError,
            b"eat-memory": ParserOutOfMemoryError,
            b"exit": ParserCrashedError,
            b"hang": ParserTimeoutError,
        }
        for content, end in zip(contents, ended, strict=True):
            if content in expected:
                assert type(end) is expected[content]
            else:
                assert not isinstance(end, BaseException)


class TestProcesses:
    async def test_stages_are_told_while_they_last(self, accidents: SupervisedPreparer) -> None:
        """A long stage is announced while it runs, not when it is over."""
        heard: list[Stage] = []
        task = asyncio.create_task(accidents.prepare(request(b"slow"), heard.append))
        await eventually(lambda: heard == [Stage.PARSING])
        await eventually(lambda: heard == [Stage.PARSING, Stage.CHUNKING])
        assert not task.done()
        await task
        assert heard[-1] == Stage.WRITING

    async def test_a_document_on_its_way_has_no_stage_yet(
        self, accident_prone: Callable[..., SupervisedPreparer]
    ) -> None:
        """The stage in which the last document ended is not told of the next one."""
        preparer = accident_prone()
        await preparer.prepare(request(b"first"), ignore)
        await eventually(lambda: len(preparer.pool.pids) == 2)
        stages: list[Stage] = []
        with stopped(preparer.pool.pids):
            second = asyncio.create_task(preparer.prepare(request(b"second"), stages.append))
            await asyncio.sleep(0.3)
            assert stages == []
        await second
        assert stages[-1] == Stage.WRITING

    async def test_fork_server_has_no_thread(self) -> None:
        """The process that forks has one thread, native ones counted: a fork among threads can lock up for ever."""
        preparer = SupervisedPreparer(processes=1, embedder=WordLlamaEmbedder())
        await preparer.start()
        try:
            assert psutil.Process(preparer.pool.server_pid).num_threads() == 1
        finally:
            await preparer.close()

    async def test_recycled_after_some_documents(self, accident_prone: Callable[..., SupervisedPreparer]) -> None:
        """A process makes way for a fresh one after its share of documents; the server that forks them all stays."""
        preparer = accident_prone(recycle_after=5)
        await preparer.start()
        server, seen = preparer.pool.server_pid, set[int]()
        for _ in range(30):
            await preparer.prepare(request(b"fine"), ignore)
            seen |= set(preparer.pool.pids)
        assert len(seen) >= 6
        assert preparer.pool.server_pid == server
        await eventually(lambda: len(preparer.pool.pids) == 2)

    async def test_nothing_is_started_before_it_is_needed(self) -> None:
        """Building a preparer starts no process; closing an unused one is harmless."""
        preparer = SupervisedPreparer(processes=2)
        assert preparer.pool.server_pid is None
        await preparer.close()

    async def test_close_leaves_no_process(self, accident_prone: Callable[..., SupervisedPreparer]) -> None:
        """After ``close`` every process is gone, busy ones too, and their documents fail as a shutdown."""
        preparer = accident_prone(processes=2)
        await preparer.start()
        busy = asyncio.create_task(preparer.prepare(request(b"hang"), ignore))
        await asyncio.sleep(0.1)
        pids = [preparer.pool.server_pid, *preparer.pool.pids]
        await preparer.close()
        assert len(pids) == 4
        await eventually(lambda: not any(lives(pid) for pid in pids))
        with pytest.raises(DependencyError):
            await busy
        with pytest.raises(DependencyError):
            await preparer.prepare(request(b"fine"), ignore)

    async def test_survives_the_death_of_its_fork_server(
        self, accident_prone: Callable[..., SupervisedPreparer]
    ) -> None:
        """Killing the fork server takes its children along; another is started and the document goes on unblamed."""
        preparer = accident_prone()
        await preparer.start()
        children = preparer.pool.pids
        running = asyncio.create_task(preparer.prepare(request(b"slow"), ignore))
        await asyncio.sleep(0.1)
        os.kill(preparer.pool.server_pid, signal.SIGKILL)
        assert (await running).chunk_count == 1
        assert not any(lives(pid) for pid in children)

    async def test_processes_die_with_their_worker(self, tmp_path: Path) -> None:
        """When the worker is killed with SIGKILL, its fork server and every parser go with it, busy or not."""
        script = tmp_path / "worker.py"
        script.write_text(
            "import asyncio, sys\n"
            "from ingather.adapters.parser_processes import SupervisedPreparer\n"
            "from ingather.models.content import PrepareRequest\n"
            "async def main():\n"
            f"    preparer = SupervisedPreparer(processes=2, prepare={ACCIDENTS!r})\n"
            "    await preparer.start()\n"
            "    hang = PrepareRequest(b'hang', 'a.txt', 100, 0, 0.0)\n"
            "    task = asyncio.create_task(preparer.prepare(hang, lambda stage: None))\n"
            "    await asyncio.sleep(0.1)\n"
            "    print(preparer.pool.server_pid, *preparer.pool.pids, flush=True)\n"
            "    await task\n"
            "asyncio.run(main())\n"
        )
        worker = await asyncio.create_subprocess_exec(
            *[os.sys.executable, str(script)],
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        pids: list[int] = []
        while not pids:
            line = await worker.stdout.readline()
            words = line.split()  # among the worker's own log
            pids = [int(word) for word in words] if all(word.isdigit() for word in words) else []
        assert len(pids) == 4
        worker.kill()
        await worker.wait()
        await eventually(lambda: not any(lives(pid) for pid in pids))

    async def test_a_server_that_cannot_start_is_said(self, accident_prone: Callable[..., SupervisedPreparer]) -> None:
        """Where parsers cannot be started at all, a document fails as a dependency, which a retry may cure."""
        preparer = accident_prone(prepare="tests.support.parser_accidents:no_such_function")
        with pytest.raises(DependencyError, match="do not start"):
            await preparer.prepare(request(b"fine"), ignore)

    async def test_large_documents_pass_both_ways(self, accidents: SupervisedPreparer) -> None:
        """Megabytes of text go to the process and come back as an artifact, unharmed."""
        text = "Every night the dome opens at dusk.\n" * 150_000
        long = [request(text.encode(), chunk_size=2_000) for _ in range(3)]
        for one in await accidents.prepare_many(long, lambda _position, _stage: None):
            assert artifact.read_text(one.artifact) == text.strip()
        prepared = await accidents.prepare(request(text.encode(), chunk_size=2_000), ignore)
        assert artifact.read_text(prepared.artifact) == text.strip()
