"""Moments that clients name."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime
from pydantic_core import PydanticCustomError


def in_utc(moment: datetime) -> datetime:
    """The same moment in UTC, which one without a zone is taken to be in.

    Not every moment that can be written has a date there: the first hours of the year 1 in the east of Greenwich, and the last
    ones of 9999 in the west, lie outside the calendar. Raises ``PydanticCustomError`` for those.
    """
    try:
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("outside_calendar", "In UTC it lies outside the years 1 to 9999.") from None


Moment = Annotated[AwareDatetime, AfterValidator(in_utc)]
"""With a zone."""
ZonelessMoment = Annotated[datetime, AfterValidator(in_utc)]
"""The zone may be left out, and is UTC then."""
