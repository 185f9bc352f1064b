"""``Retry-After``, as services write it."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def seconds_asked(value: str | None) -> float | None:
    """Seconds a service asks to wait, given as a number or as a date; None where it does not ask."""
    value = (value or "").strip()
    if value.isdecimal():
        return float(value[:9])
    at = moment(value)
    return None if at is None else max(0.0, (at - datetime.now(UTC)).total_seconds())


def moment(value: str) -> datetime | None:
    """A header's date in UTC; None for what is none, or lies beyond all calendars."""
    try:
        at = parsedate_to_datetime(value)
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
