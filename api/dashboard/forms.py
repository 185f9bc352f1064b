"""Forms of pages: fields into the JSON that ``/v1`` takes, and its problems back to the fields they are about."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Any

from api.dashboard.public_api import Json


@dataclass(slots=True)
class Mistakes:
    """What is wrong with what somebody entered."""

    by_field: dict[str, str] = field(default_factory=dict)
    """By the name of the form's field."""
    others: list[str] = field(default_factory=list)
    """About no field, or about one that the form does not have."""
    title: str = ""
    advice: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.by_field or self.others or self.title)

    def about(self, name: str) -> str:
        return self.by_field.get(name, "")


def mistakes_of(problem: Json, fields: Collection[str]) -> Mistakes:
    """A problem of the API as remarks on a form that has these fields.

    A place such as ``#/settings/urls/0`` belongs to the first field on its way that the form has.
    """
    found = Mistakes(title=str(problem.get("detail") or problem.get("title") or "That did not work."))
    if not problem.get("errors"):
        found.advice = str(problem.get("action") or "")
    for each in problem.get("errors") or ():
        place = str(each.get("pointer", "")).removeprefix("#/")
        name = next((part for part in place.split("/") if part in fields), None)
        said = str(each.get("detail", "")).removeprefix("Value error, ")
        if name is None and said == found.title:
            continue
        if name is None:
            found.others.append(f"{place}: {said}" if place not in {"", "#"} else said)
        else:
            found.by_field.setdefault(name, said)
    if name := problem.get("field"):
        found.by_field.setdefault(str(name), found.title)
    return found


def json_object(fields: dict[str, str], name: str, mistakes: Mistakes) -> Json | None:
    """The JSON object in a field; None where it is empty. What is no JSON is a mistake."""
    text = fields.get(name, "").strip()
    if not text:
        return None
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        mistakes.by_field[name] = f"This is no JSON{where}."
        return None
    if not isinstance(found, dict):
        mistakes.by_field[name] = "This is JSON, but no object: begin with { and end with }."
        return None
    return found


def pretty(value: Any) -> str:
    """JSON for a field; nothing for nothing."""
    return json.dumps(value, indent=2, ensure_ascii=False) if value else ""


def whole_number(fields: dict[str, str], name: str, mistakes: Mistakes) -> int | None:
    """The number in a field, with blanks and commas between its digits as people write them; None where it is empty."""
    text = fields.get(name, "").strip().replace(",", "").replace(" ", "").replace("_", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()):
        mistakes.by_field[name] = "This is no whole number."
        return None
    return int(text)


def lines_of(text: str) -> list[str]:
    """What stands on lines of its own, without blank ones."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def day(text: str, *, is_end: bool = False) -> datetime | None:
    """A field's day or moment, in UTC: its beginning, or the moment it is over. None for what is neither."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if is_end and len(text.strip()) == len("2026-01-01"):
        return datetime.fromtimestamp(found.timestamp() + 86_400, UTC)
    return found


def once() -> str:
    """For a hidden field: sent as ``Idempotency-Key``, so that a form that is sent twice does it once."""
    return f"page-{token_urlsafe(18)}"


def repeated_key(fields: dict[str, str]) -> dict[str, str]:
    """The header of what ``once`` put into the form."""
    key = fields.get("once", "")
    return {"Idempotency-Key": key} if key.startswith("page-") and len(key) <= 64 else {}
