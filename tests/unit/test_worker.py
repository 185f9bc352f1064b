"""The worker process: which roles it takes, what its settings become, how it stops."""

import argparse
import asyncio

import pytest
from temporalio.common import VersioningBehavior

import worker
from activities.fetching import HELD_BYTES
from ingather.adapters.openai_embedder import OpenAiEmbedder
from ingather.adapters.wordllama_embedder import WordLlamaEmbedder
from ingather.machine import usable_cores, usable_memory_bytes
from ingather.models.engine import CPU_QUEUE, IO_QUEUE, MANIFEST_QUEUE, SOURCE_QUEUE
from ingather.models.errors import StorageUnavailableError
from ingather.settings import Settings


def settings(**fields):
    return Settings(**fields)


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("workflows,io,cpu", ("workflows", "io", "cpu")),
        ("cpu", ("cpu",)),
        (" io , cpu ", ("io", "cpu")),
        ("cpu,cpu", ("cpu",)),
    ],
)
def test_any_set_of_roles_runs_in_one_process(text, roles):
    """Each once, in the order given."""
    assert worker.parse_roles(text) == roles


@pytest.mark.parametrize("text", ["", "gpu", "cpu,", "io;cpu"])
def test_an_unknown_role_is_refused_with_those_there_are(text):
    """A worker that serves nothing would look healthy."""
    with pytest.raises(argparse.ArgumentTypeError, match="choose from workflows, io, cpu"):
        worker.parse_roles(text)


def test_there_is_a_parser_process_a_core_unless_the_settings_say_otherwise():
    """Zero means: as many as the machine has cores, and memory for."""
    fitting = usable_memory_bytes() // worker.USUAL_PARSER_BYTES
    assert worker.parser_process_count(settings()) == min(usable_cores(), fitting)
    assert worker.parser_process_count(settings(worker={"parser_processes": 3})) == 3


def test_what_is_done_at_a_time_follows_from_cores_and_memory():
    """By the queue; manifests, which may take hours, have slots of their own, and a few on the smallest machine."""
    quarter = usable_memory_bytes() // 4
    for queue, per_core, each in (
        (IO_QUEUE, worker.IO_PER_CORE, worker.USUAL_IO_BYTES),
        (MANIFEST_QUEUE, worker.MANIFESTS_PER_CORE, worker.USUAL_MANIFEST_BYTES),
        (SOURCE_QUEUE, worker.FETCHES_PER_CORE, worker.USUAL_FETCH_BYTES),
    ):
        expected = min(per_core * usable_cores(), quarter // each)
        assert worker.slots_of(queue, settings()) == max(worker.FEWEST_AT_ONCE, expected)
    assert worker.slots_of(CPU_QUEUE, settings(worker={"parser_processes": 3})) == 3 * worker.DOCUMENTS_PER_PARSER


def test_archive_limits_are_those_of_the_settings():
    """An entry may be as large as a file."""
    limits = worker.archive_limits(settings(limits={"zip_entries": 5, "max_file_bytes": 7}))
    assert (limits.entries, limits.entry_bytes) == (5, 7)


async def test_a_slow_source_empties_no_purse_but_its_own():
    """Every slot has what a file on its way may hold, whatever other documents take."""
    budget = worker.fetch_budget(settings())
    async with budget.hold(2**60):
        assert budget.held_bytes == worker.slots_of(SOURCE_QUEUE, settings()) * HELD_BYTES


async def test_documents_in_flight_fit_into_memory():
    """An eighth of it by default, never less than the largest document needs, or what the settings say."""
    assert settings().limits.max_file_bytes <= worker.SMALLEST_BUDGET_BYTES
    async with worker.document_budget(settings(worker={"memory_bytes": 1_000})).hold(999_999):
        pass
    budget = worker.document_budget(settings())
    async with budget.hold(2**60):
        assert budget.held_bytes == max(worker.SMALLEST_BUDGET_BYTES, usable_memory_bytes() // 8)


def test_workers_have_a_version_when_they_are_given_one():
    """Unset or empty there is none; with one, running batches go over to the version that is current."""
    assert worker.deployment_config(settings()) is None
    assert worker.deployment_config(settings(worker={"build_id": ""})) is None
    versioned = worker.deployment_config(settings(worker={"build_id": "0.2.0"}))
    assert versioned.version.to_canonical_string() == "ingather.0.2.0"
    assert versioned.use_worker_versioning
    assert versioned.default_versioning_behavior is VersioningBehavior.AUTO_UPGRADE


async def test_a_local_model_works_inside_the_parsers_and_a_remote_one_after_them():
    """Both are part of what a result is known by."""
    remote = OpenAiEmbedder(base_url="http://127.0.0.1:9/v1", model="m", dimensions=8)
    local_preparer = worker.build_preparer(WordLlamaEmbedder(), settings())
    remote_preparer = worker.build_preparer(remote, settings())

    assert local_preparer.description["embedder"] == WordLlamaEmbedder().name
    assert remote_preparer.description["embedder"] == remote.name
    for part in (local_preparer, remote_preparer, remote):
        await part.close()


class Role:
    """A worker whose shutdown takes as long as the slowest thing under way."""

    def __init__(self, queue, running, journal):
        self.task_queue = queue
        self._running = running
        self._journal = journal

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.shutdown()

    async def shutdown(self):
        self._journal.append(self.task_queue)
        await self._running.wait()


async def test_all_roles_shut_down_together():
    """What is under way gets its grace once: the second role does not wait for the first to finish."""
    running, stop, journal = asyncio.Event(), asyncio.Event(), []
    serving = asyncio.create_task(worker.serve([Role("cpu", running, journal), Role("io", running, journal)], stop))
    await asyncio.sleep(0)
    assert journal == []

    stop.set()
    await asyncio.sleep(0.01)

    assert set(journal) == {"cpu", "io"}
    running.set()
    await serving


async def test_what_only_a_worker_makes_is_tried_until_it_is_there():
    """Storage that is away when a worker starts has its bucket as soon as it is back."""
    failures = [StorageUnavailableError("away")] * 2

    async def make_bucket():
        if failures:
            raise failures.pop()

    await worker.until_it_succeeds(make_bucket, pause_seconds=0)
    assert failures == []
