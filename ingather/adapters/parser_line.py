"""Who gets the next parser process: first come, first served, by documents."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Waiting(Generic[T]):
    waiter: "asyncio.Future[T]"
    documents: int
    passed: int = 0
    """Documents that went first although they came later."""


class ParserLine(Generic[T]):
    """Waiters in the order of their turns.

    A few documents go before many: a single one of one tenant would otherwise wait while a process is
    through with 16 of another. Many are passed by no more documents than they have themselves, so
    documents come and go at an equal pace on both sides, and nobody waits for ever.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting[T]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> "Iterator[asyncio.Future[T]]":
        return (entry.waiter for entry in self._waiting)

    def join(self, waiter: "asyncio.Future[T]", documents: int) -> None:
        """Stand in line for a process to have so many documents prepared."""
        place = len(self._waiting)
        while place and self._may_pass(self._waiting[place - 1], documents):
            place -= 1
            self._waiting[place].passed += documents
        self._waiting.insert(place, _Waiting(waiter, documents))

    def popleft(self) -> "asyncio.Future[T]":
        """The next one. Raises ``IndexError`` when nobody waits."""
        return self._waiting.pop(0).waiter

    def clear(self) -> None:
        self._waiting.clear()

    @staticmethod
    def _may_pass(ahead: _Waiting[T], documents: int) -> bool:
        return ahead.documents > documents and ahead.passed + documents <= ahead.documents
