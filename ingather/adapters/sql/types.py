"""Column types that mean the same in SQLite and PostgreSQL, and take whatever text people send."""

import json
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import JSON, DateTime, Dialect, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

Json = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
"""Text in SQLite, JSONB in PostgreSQL; None is NULL."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment. SQLite has no such type: there it is text in UTC, which sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


class ForeignText(TypeDecorator[str]):
    """Text from outside: NUL and lone surrogates, which no database takes, become U+FFFD.

    Also of ids and words that requests ask for: what nothing can be called is not there.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy calls it so
        return None if value is None else clean_text(value)


def clean_text(value: str) -> str:
    """The text with U+FFFD for every character a database refuses."""
    if value.isascii():
        return value.replace("\0", "\ufffd") if "\0" in value else value
    return value.replace("\0", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def dump_json(value: Any) -> str:
    """JSON text that both databases take."""
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, integers above 64 bits
        return json.dumps(_clean(value), default=str)
    return orjson.dumps(_clean(value)).decode() if "\\u0000" in text else text


def load_json(text: str | bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:  # integers above 64 bits
        return json.loads(text)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value
