"""Migrations: the tables they make are the tables the code expects, whoever comes first."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from ingather.adapters.sql import SqlCatalog, migrate
from ingather.adapters.sql.engine import WRITES, open_engine
from ingather.adapters.sql.migrate import alembic_config
from ingather.adapters.sql.tables import metadata
from ingather.models.batch import BatchState, Counts, SourceProgress
from ingather.models.errors import ConfigurationError
from ingather.ports.catalog import BatchFilter
from tests.support.catalog_records import batch_record, done_record
from tests.support.postgres import new_database


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/a folder/catalog.db"
    return new_database(request.getfixturevalue("postgres_sockets"))


def upgrade(url, revision):
    """The tables as an older version had them."""
    engine = open_engine(url, max_connections=1)
    with engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        command.upgrade(alembic_config(connection), revision)
    engine.dispose()


def test_migrations_make_the_tables_the_code_expects(empty_url):
    """After all migrations the database and ``tables.py`` do not differ; a new column needs a new revision."""
    migrate(empty_url)
    engine = create_engine(empty_url)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
        rows = connection.execute(text("SELECT * FROM tenants")).all()
    engine.dispose()
    assert differences == []
    assert len(rows) == 1


def test_migrating_again_changes_nothing(empty_url):
    """A second run finds nothing to do."""
    migrate(empty_url)
    migrate(empty_url)


def test_keys_that_follow_the_same_one_stay_keys(empty_url):
    """Of two that were made by rotating one key twice, the elder follows it and the other follows none."""
    upgrade(empty_url, "0006")
    row = "INSERT INTO api_keys (key_id, tenant_id, name, key_hash, scopes, created_at, rotated_from) VALUES "
    keys = [
        ("k1", "2026-01-01 00:00:00", None),
        ("k2", "2026-01-02 00:00:00", "k1"),
        ("k3", "2026-01-03 00:00:00", "k1"),
    ]
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        tenant = connection.scalar(text("SELECT tenant_id FROM tenants"))
        for key_id, at, old in keys:
            values = {"id": key_id, "tenant": tenant, "at": at, "old": old}
            connection.execute(text(f"{row}(:id, :tenant, 'a', 'h', '[]', :at, :old)"), values)
    migrate(empty_url)
    with engine.connect() as connection:
        kept = connection.execute(text("SELECT key_id, rotated_from FROM api_keys ORDER BY key_id")).all()
    engine.dispose()
    assert [tuple(each) for each in kept] == [("k1", None), ("k2", "k1"), ("k3", None)]


async def test_batches_of_before_are_added_up_too(empty_url):
    """Who made them, how their documents ended, how long they ran and what they came from is read out of what is there."""
    upgrade(empty_url, "0009")
    counts = Counts(total=4, done=2, failed=1, skipped=1)
    source = SourceProgress(name="a.zip", source_type="zip", counts=counts)
    record = batch_record(
        contract="sources",
        created_by="vera",
        state=BatchState.COMPLETED_WITH_FAILURES,
        counts=counts,
        sources=(source,),
    )
    values = {
        "id": record.batch_id, "tenant": record.tenant_id, "spec": record.spec.model_dump_json(),
        "counts": counts.model_dump_json(), "sources": f"[{source.model_dump_json()}]",
    }  # fmt: skip
    row = """
        INSERT INTO batches (batch_id, tenant_id, collection, contract, spec, state, counts, version, name, priority,
            failures_by_code, sources, retry_round, created_at, started_at, ended_at)
        VALUES (:id, :tenant, 'default', 'sources', :spec, 'completed_with_failures', :counts, 1, 'n', 3,
            '{}', :sources, 0, '2026-01-01 00:00:00', '2026-01-01 00:00:01', '2026-01-01 00:00:03.5')
    """
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text(row), values)
    engine.dispose()
    migrate(empty_url)
    async with SqlCatalog(empty_url) as catalog:
        tally = await catalog.tally_batches(BatchFilter(record.tenant_id, contract="sources", created_by="vera"))
    assert (tally.done, tally.failed, tally.skipped, tally.ran_count, tally.ran_ms) == (2, 1, 1, 1, 2_500)
    assert (tally.by_state, tally.by_source_type) == ({BatchState.COMPLETED_WITH_FAILURES: 1}, {"zip": 4})


def test_processes_that_migrate_at_once_all_succeed(empty_url):
    """Five processes that start on an empty database at the same moment end with one set of tables."""
    code = "import sys; from ingather.adapters.sql import migrate; sys.stdin.readline(); migrate(sys.argv[1])"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, empty_url], stdin=subprocess.PIPE, cwd=Path(__file__).parents[2])
        for _ in range(5)
    ]
    time.sleep(1)
    for process in processes:
        process.stdin.close()
    for process in processes:
        process.wait()
    assert [process.returncode for process in processes] == [0] * 5


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://root:very-secret@host/db", "not a url: very-secret"]
)
def test_a_url_that_cannot_work_is_refused(url):
    """A catalog that processes cannot share, or that is no database we know, is a configuration error."""
    with pytest.raises(ConfigurationError) as raised:
        migrate(url)
    assert "very-secret" not in str(raised.value)


async def test_a_writer_waits_for_the_lock(tmp_path):
    """While another process holds SQLite's write lock, writes wait for it and readers do not."""
    url = f"sqlite:///{tmp_path}/catalog.db"
    migrate(url)
    async with SqlCatalog(url) as catalog:
        record, _ = await catalog.add_batch(batch_record())
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            held.set()
            release.wait()
            other.execute("COMMIT")
            other.close()

        holder = asyncio.create_task(asyncio.to_thread(hold))
        await asyncio.to_thread(held.wait)
        saving = asyncio.create_task(catalog.save_outcome(done_record(record.batch_id)))
        await asyncio.sleep(0.5)
        assert await catalog.get_batch(record.batch_id) == record
        assert not saving.done()
        release.set()
        await saving
        await holder


def test_sqlite_keeps_a_write_ahead_log_and_uses_its_indices(tmp_path):
    """The file is in WAL mode, and the questions asked for every document are answered from an index."""
    migrate(f"sqlite:///{tmp_path}/catalog.db")
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        plans = {
            "ix_documents_ingested": "SELECT * FROM documents WHERE status = 'done' AND tenant_id = ? AND sha256 = ?"
            " AND fingerprint = ? ORDER BY ended_at",
            "uq_documents_batch_id_ordinal": "SELECT * FROM documents WHERE batch_id = ? AND ordinal > ?"
            " ORDER BY ordinal LIMIT 10",
            "ix_documents_batch_id_status_error_code": "SELECT * FROM documents WHERE batch_id = ? AND status = ?"
            " AND error_code = ? AND ordinal > ? ORDER BY ordinal",
            "ix_batches_tenant_id_created_at_batch_id": "SELECT * FROM batches WHERE tenant_id = ? AND created_at <= ?"
            " AND (created_at, batch_id) < (?, ?) ORDER BY created_at DESC, batch_id DESC LIMIT 50",
        }
        for index, query in plans.items():
            steps = connection.execute("EXPLAIN QUERY PLAN " + query, ("",) * query.count("?")).fetchall()
            assert index in steps[0][3], steps
    connection.close()
