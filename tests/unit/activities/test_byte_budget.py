"""Bytes are lent in order, all come back, and no document waits for ever."""

import asyncio

import pytest

from activities.byte_budget import ByteBudget


class Holders:
    """Coroutines that hold a share until they are told to let go."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.inside: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task] = {}

    async def ask(self, name: str, size: int) -> None:
        self._gates[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._hold(name, size))
        await settle()

    async def _hold(self, name: str, size: int) -> None:
        async with self._budget.hold(size):
            self.inside.append(name)
            await self._gates[name].wait()
        self.inside.remove(name)

    async def let_go(self, name: str) -> None:
        self._gates[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await settle()


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_as_much_is_held_as_the_budget_has():
    """Who does not fit waits until enough came back."""
    budget = ByteBudget(100)
    holders = Holders(budget)
    for name, size in [("a", 60), ("b", 40), ("c", 50)]:
        await holders.ask(name, size)
    assert holders.inside == ["a", "b"]
    await holders.let_go("b")
    assert holders.inside == ["a"]
    await holders.let_go("a")
    assert holders.inside == ["c"]
    await holders.let_go("c")
    assert budget.held_bytes == 0


async def test_a_large_document_is_not_passed_by_small_ones():
    """Those who come later wait behind it, though they would fit."""
    holders = Holders(ByteBudget(100))
    for name, size in [("small", 10), ("large", 100), ("later", 10)]:
        await holders.ask(name, size)
    assert holders.inside == ["small"]
    await holders.let_go("small")
    assert holders.inside == ["large"]
    await holders.let_go("large")
    assert holders.inside == ["later"]


async def test_a_document_above_the_budget_runs_alone():
    """It takes everything, rather than waiting for what will never be there."""
    budget = ByteBudget(100)
    holders = Holders(budget)
    await holders.ask("huge", 5_000)
    assert (holders.inside, budget.held_bytes) == (["huge"], 100)
    await holders.ask("empty", 0)
    assert holders.inside == ["huge", "empty"]


async def test_a_cancelled_waiter_leaves_the_line():
    """Those behind it move up, and nothing stays lent."""
    budget = ByteBudget(100)
    holders = Holders(budget)
    for name, size in [("a", 60), ("large", 100), ("b", 40)]:
        await holders.ask(name, size)
    await holders.cancel("large")
    assert holders.inside == ["a", "b"]
    await holders.cancel("a")
    await holders.let_go("b")
    assert budget.held_bytes == 0


async def test_a_share_granted_to_a_cancelled_waiter_comes_back():
    """Grant and cancellation in the same moment lose no bytes."""
    budget = ByteBudget(100)
    holders = Holders(budget)
    await holders.ask("a", 100)
    await holders.ask("b", 100)
    holders._gates["a"].set()
    await asyncio.sleep(0)  # a lets go, and b is granted without having run
    holders._tasks["b"].cancel()
    await settle()
    assert budget.held_bytes == 0


async def test_an_exception_gives_the_bytes_back():
    """A failed document keeps none."""
    budget = ByteBudget(100)
    with pytest.raises(ValueError, match="unreadable"):
        async with budget.hold(80):
            raise ValueError("unreadable")
    assert budget.held_bytes == 0
