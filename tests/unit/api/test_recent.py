"""Answers shared for a moment."""

import asyncio

import pytest

from api.recent import Recent
from ingather.models.errors import EngineUnavailableError


class Asked:
    """Counts questions; answers when it may."""

    def __init__(self) -> None:
        self.count = 0
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, key: str) -> str:
        self.count += 1
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return f"{key} {self.count}"


async def test_many_who_ask_at_once_cost_one_question():
    """A hundred callers share one question, and later ones its answer."""
    asked = Asked()
    recent = Recent(asked, 60.0)
    callers = [asyncio.create_task(recent.get("a")) for _ in range(100)]
    await asyncio.sleep(0)
    asked.may_answer.set()

    assert set(await asyncio.gather(*callers)) == {"a 1"}
    assert await recent.get("a") == "a 1"
    assert await recent.get("b") == "b 2"


async def test_the_last_answer_is_at_hand_while_a_newer_one_is_asked_for():
    """However old it is; none before the first."""
    asked = Asked()
    recent = Recent(asked, 0.0)
    assert recent.last("a") is None
    asked.may_answer.set()
    await recent.get("a")
    asked.may_answer.clear()
    newer = asyncio.create_task(recent.get("a"))
    await asyncio.sleep(0)

    assert recent.last("a") == "a 1"
    asked.may_answer.set()
    assert await newer == "a 2"


async def test_an_old_answer_is_asked_for_again():
    """Past its seconds an answer is no longer given out."""
    asked = Asked()
    asked.may_answer.set()
    recent = Recent(asked, 0.0)

    assert [await recent.get("a"), await recent.get("a")] == ["a 1", "a 2"]


async def test_an_error_is_told_and_not_remembered():
    """The next caller asks anew."""
    asked = Asked()
    asked.may_answer.set()
    asked.error = RuntimeError("no")
    recent = Recent(asked, 60.0)

    with pytest.raises(RuntimeError):
        await recent.get("a")
    asked.error = None
    assert await recent.get("a") == "a 2"


async def test_a_silent_engine_is_remembered_as_one():
    """Who asks in the next moment does not wait for it again."""
    asked = Asked()
    asked.may_answer.set()
    asked.error = EngineUnavailableError("silent")
    recent = Recent(asked, 60.0, 60.0)

    for _ in range(3):
        with pytest.raises(EngineUnavailableError):
            await recent.get("a")
    asked.error = None
    assert await recent.get("b") == "b 2"


async def test_a_caller_that_goes_away_takes_nothing_from_the_others():
    """The question goes on when the one who asked first gives up."""
    asked = Asked()
    recent = Recent(asked, 60.0)
    first = asyncio.create_task(recent.get("a"))
    second = asyncio.create_task(recent.get("a"))
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.sleep(0)
    asked.may_answer.set()

    assert await second == "a 1"
