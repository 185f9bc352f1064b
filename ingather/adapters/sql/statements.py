"""What SQLAlchemy spells per database, and what a part of the catalog is given to run statements with."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

_Answer = TypeVar("_Answer")


class Run(Protocol):
    """A transaction of the catalog: what it does, in words for an error, and the operation."""

    def __call__(self, doing: str, operation: Callable[[Connection], _Answer], /) -> Awaitable[_Answer]: ...


def insert_into(dialect_name: str, table: Any) -> Any:
    """An INSERT that knows ON CONFLICT in this dialect."""
    return postgresql.insert(table) if dialect_name == "postgresql" else sqlite.insert(table)
