"""The short form of the fault matrix (``make faults`` runs all of it): one stack, one accident after another."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.faults import SHORT, Fault
from tests.faults.stack import BreakableStack
from tests.faults.strike import outlive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def breakable(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BreakableStack]:
    """A stack that is not repaired between two faults."""
    async with BreakableStack(tmp_path_factory.mktemp("breakable") / "stack") as stack:
        yield stack


@pytest.mark.parametrize("fault", SHORT, ids=lambda fault: f"{fault.name}, {fault.moment}")
async def test_a_fault_costs_time_and_nothing_else(
    breakable: BreakableStack, fault: Fault, request: pytest.FixtureRequest
):
    """Every document ends once, in every book; none fails for what was not its fault; nobody steps in."""
    verdict = await outlive(breakable, fault, f"short-{SHORT.index(fault)}")

    assert verdict.books.wrong == []
    assert (verdict.books.lost, verdict.books.doubled) == (set(), set())
    assert not verdict.failed
