"""One engine for both databases: transactions that wait their turn, errors in our words."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ingather.adapters.sql.types import dump_json, load_json
from ingather.models.errors import CatalogUnavailableError, ConfigurationError

WRITES = "ingather_writes"
"""Execution option of a connection whose transaction will write."""

_BUSY_SECONDS = 15
_STATEMENT_SECONDS = 30


def open_engine(url: str, *, max_connections: int) -> Engine:
    """An engine for ``sqlite:///path`` or ``postgresql+psycopg://…``. Nothing is connected yet."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigurationError("INGATHER_CATALOG__URL is not a database URL.") from None
    arguments: dict[str, Any] = {
        "json_serializer": dump_json,
        "json_deserializer": load_json,
        # Statements quote documents' metadata; their parameters have no place in an error.
        "hide_parameters": True,
        "pool_size": max_connections,
        "max_overflow": 0,
        "pool_timeout": _BUSY_SECONDS,
    }
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise ConfigurationError("INGATHER_CATALOG__URL names no file: several processes share the catalog.")
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS}, **arguments)
        _prepare_sqlite(engine)
        return engine
    if backend == "postgresql":
        options = {"connect_timeout": 5, "options": f"-c statement_timeout={_STATEMENT_SECONDS * 1000}"}
        # The ping finds out that the server was restarted before a caller does.
        return create_engine(parsed, connect_args=options, pool_pre_ping=True, **arguments)
    raise ConfigurationError(f"INGATHER_CATALOG__URL names {backend}; the catalog knows sqlite and postgresql.")


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        # The driver's own transactions start too late and too weak; ours start in ``begin`` below.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # With the write-ahead log a power cut may cost the last moments but never the file.
        connection.execute("PRAGMA synchronous = NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes its place at once and waits for it. Turning a reader into a writer later
        # fails with "database is locked" without any waiting.
        immediate = connection.get_execution_options().get(WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def unavailable(error: SQLAlchemyError, doing: str) -> CatalogUnavailableError:
    """Our error for a database's, without its parameters."""
    cause = getattr(error, "orig", None)
    if isinstance(error, PoolTimeoutError):
        reason = "every connection was in use"
    else:
        reason = type(cause or error).__name__
        if "locked" in str(cause):
            reason = "the database was locked"
    return CatalogUnavailableError(f"The catalog could not {doing}: {reason}.")
