"""Errors of contract C, scanned sheets: ``{"detail", "message"}``, both the same text."""

from collections.abc import Mapping

import orjson
from fastapi import Response
from pydantic import BaseModel, Field

from ingather.models.errors import IngatherError


class ErrorBody(BaseModel):
    detail: str = Field(description="What is wrong.")
    message: str = Field(description="The same.")


def answer(error: IngatherError, status: int, headers: Mapping[str, str]) -> Response:
    """One of our errors. Where a request does not fit, it says where."""
    places = error.facts.get("errors", ())
    text = error.message
    if status == 422 and places:
        text = "; ".join(f"{each.pointer.removeprefix('#/')}: {each.detail}" for each in places[:5])
    return _refused(text, status, headers)


def envelope(_code: str, message: str, status: int, headers: Mapping[str, str]) -> Response:
    """An error of no route, in the contract's shape."""
    return _refused(message, status, headers)


def _refused(text: str, status: int, headers: Mapping[str, str]) -> Response:
    body = orjson.dumps({"detail": text, "message": text})
    return Response(body, status_code=status, headers=dict(headers), media_type="application/json")
