"""Bringing the database's tables to what this version needs."""

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from ingather.adapters.sql.engine import WRITES, open_engine, unavailable

if TYPE_CHECKING:
    from alembic.config import Config  # imported where it is used: workers do without

_LOCK_NUMBER = 0x1_6A_74_68
"""Any number of our own: PostgreSQL's advisory lock for migrations."""
_WAL_SECONDS = 15


def migrate(url: str) -> None:
    """Create or upgrade the tables. Blocking, idempotent, and safe when several processes do it at once.

    Raises ``CatalogUnavailableError`` when the database cannot be reached.
    """
    from alembic import command  # noqa: PLC0415  # workers do without

    engine = open_engine(url, max_connections=1)
    try:
        with engine.connect().execution_options(**{WRITES: True}) as connection:
            if engine.dialect.name == "sqlite":
                _use_write_ahead_log(connection)
            with connection.begin():
                if engine.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK_NUMBER})
                # Whoever comes second waits above and then finds nothing left to do.
                command.upgrade(alembic_config(connection), "head")
    except SQLAlchemyError as error:
        raise unavailable(error, "be migrated") from error
    finally:
        engine.dispose()


def alembic_config(connection: Connection) -> "Config":
    """Alembic's settings without a file; ``env.py`` takes the connection from here."""
    from alembic.config import Config  # noqa: PLC0415  # workers do without

    config = Config()
    config.set_main_option("script_location", "ingather.adapters.sql:migrations")
    config.attributes["connection"] = connection
    return config


def _use_write_ahead_log(connection: Connection) -> None:
    """Switch the file over, for good. SQLite does not wait for a lock here, so this does."""
    raw: Any = connection.connection.driver_connection
    deadline = time.monotonic() + _WAL_SECONDS
    while True:
        try:
            raw.execute("PRAGMA journal_mode = WAL")
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise OperationalError("PRAGMA journal_mode", None, error) from error
            time.sleep(0.05)
        else:
            return
