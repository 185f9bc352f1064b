"""The catalog in SQL: SQLite for one machine, PostgreSQL for many."""

from ingather.adapters.sql.catalog import SqlCatalog
from ingather.adapters.sql.migrate import migrate

__all__ = ["SqlCatalog", "migrate"]
