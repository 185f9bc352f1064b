"""What a catalog in a database must do beyond the contract: many processes, kills, restarts, odd text."""

import asyncio
import sys
import uuid
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from ingather.adapters.sql import SqlCatalog, migrate
from ingather.models.document import DocumentStatus
from ingather.models.errors import CatalogUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.audit import AuditFilter
from ingather.ports.catalog import BatchFilter, DocumentFilter
from tests.support.catalog_records import NOON, batch_record, done_record

databases = pytest.mark.parametrize("catalog_kind", ["sqlite", "postgres"])


@databases
async def test_text_no_database_takes_is_mended(catalog):
    """NUL, lone surrogates and huge numbers in names and metadata cost a character, never the row."""
    record, _ = await catalog.add_batch(batch_record(name="na\0me\ud800"))
    outcome = done_record(
        record.batch_id,
        original_filename="a\0b\udfffc",
        metadata={"k\0": ["\ud83d", "\0"], "n": 2**70, "ok": "\\u0000"},
    )
    await catalog.save_outcome(outcome)
    found = await catalog.get_document(outcome.file_id)
    assert found.original_filename == "a\ufffdb\ufffdc"
    assert found.metadata["k\ufffd"] == ["\ufffd", "\ufffd"]
    assert found.metadata["ok"] == "\\u0000"
    assert (await catalog.get_batch(record.batch_id)).name == "na\ufffdme\ufffd"


@databases
@pytest.mark.parametrize("odd", ["\0", "\ud800"])
async def test_what_nothing_can_be_called_is_not_there(catalog, odd):
    """Ids and filters come as requests have them: what no database takes is found nowhere, and the catalog is not away."""
    tenant = DEFAULT_TENANT_ID
    assert await catalog.accounts.get_user(odd) is None
    assert await catalog.accounts.get_key(odd) is None
    assert await catalog.connections.get_connection(tenant, odd) is None
    assert await catalog.webhooks.get_webhook(tenant, odd) is None
    assert await catalog.webhooks.get_delivery(tenant, odd) is None
    assert await catalog.get_document(odd) is None
    assert await catalog.list_documents(DocumentFilter("b", error_code=odd), 1) == []
    for name in ("collection", "text"):
        assert await catalog.list_batches(BatchFilter(tenant, **{name: odd}), 1) == []
    assert await catalog.webhooks.list_webhooks(tenant, 1, batch_id=odd) == []
    for name in ("event_type", "resource_type", "resource_id", "actor"):
        assert await catalog.audit.list_events(AuditFilter(tenant, **{name: odd}), 1) == []


SAVER = """
import asyncio, sys
sys.path.insert(0, {root!r})
from ingather.adapters.sql import SqlCatalog
from tests.support.catalog_records import done_record

async def main(url, batch_id, first):
    async with SqlCatalog(url) as catalog:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(catalog.save_outcome(done_record(batch_id, first + n)) for n in range(200)))
        print("saved", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def start_saver(url: str, batch_id: str, first: int) -> asyncio.subprocess.Process:
    saver = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SAVER.format(root=str(Path(__file__).parents[2])),
        url,
        batch_id,
        str(first),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert await saver.stdout.readline() == b"ready\n"
    return saver


@databases
async def test_two_processes_write_at_once(catalog, database_url):
    """Two hundred outcomes each from two processes at the same time all land."""
    record, _ = await catalog.add_batch(batch_record())
    savers = [await start_saver(database_url, record.batch_id, first) for first in (0, 200)]
    for saver in savers:
        saver.stdin.write(b"go\n")
    for saver in savers:
        assert await saver.stdout.readline() == b"saved\n"
        saver.stdin.write(b"end\n")
        assert await saver.wait() == 0
    found = await catalog.list_documents(DocumentFilter(record.batch_id, status=DocumentStatus.DONE), 1_000)
    assert [document.ordinal for document in found] == list(range(400))


@databases
async def test_what_was_answered_survives_a_kill(catalog, database_url):
    """After SIGKILL of the writer, everything it was told is saved is there."""
    record, _ = await catalog.add_batch(batch_record())
    saver = await start_saver(database_url, record.batch_id, 0)
    saver.stdin.write(b"go\n")
    assert await saver.stdout.readline() == b"saved\n"
    saver.kill()
    await saver.wait()
    assert len(await catalog.list_documents(DocumentFilter(record.batch_id), 1_000)) == 200


@databases
async def test_nothing_is_lost_when_the_catalog_closes(database_url):
    """Closing waits for outcomes that were handed in."""
    async with SqlCatalog(database_url) as catalog:
        record, _ = await catalog.add_batch(batch_record())
        saving = [asyncio.create_task(catalog.save_outcome(done_record(record.batch_id, n))) for n in range(30)]
        await asyncio.sleep(0)
    await asyncio.gather(*saving)
    async with SqlCatalog(database_url) as catalog:
        assert len(await catalog.list_documents(DocumentFilter(record.batch_id), 100)) == 30


@pytest.mark.parametrize("catalog_kind", ["postgres"])
async def test_a_server_that_was_restarted_is_found_again(catalog, database_url):
    """Connections that broke while they were idle are replaced before a caller notices."""
    record, _ = await catalog.add_batch(batch_record())
    await asyncio.gather(*(catalog.get_batch(record.batch_id) for _ in range(10)))
    engine = create_engine(database_url)
    with engine.begin() as connection:
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
    engine.dispose()
    for _ in range(5):
        assert await catalog.get_batch(record.batch_id) == record
    await catalog.save_outcome(done_record(record.batch_id))


async def test_an_unreachable_server_is_unavailable():
    """Nobody answers: every method says so, and the password stays unsaid."""
    catalog = SqlCatalog("postgresql+psycopg://ingather:very-secret@127.0.0.1:1/catalog")
    for attempt in (
        catalog.check(),
        catalog.add_batch(batch_record()),
        catalog.save_outcome(done_record(str(uuid.uuid4()))),
        catalog.mark_indexed(["x"], NOON),
    ):
        with pytest.raises(CatalogUnavailableError) as raised:
            await attempt
        assert raised.value.retryable
        assert "very-secret" not in str(raised.value)
    await catalog.close()


async def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    """A damaged catalog file is said to be unusable."""
    (tmp_path / "catalog.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(CatalogUnavailableError):
        await asyncio.to_thread(migrate, f"sqlite:///{tmp_path}/catalog.db")
    async with SqlCatalog(f"sqlite:///{tmp_path}/catalog.db") as catalog:
        with pytest.raises(CatalogUnavailableError):
            await catalog.check()
