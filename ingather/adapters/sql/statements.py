"""What SQLAlchemy spells per database."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite


def insert_into(dialect_name: str, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT in this dialect."""
    return postgresql.insert(table) if dialect_name == "postgresql" else sqlite.insert(table)
