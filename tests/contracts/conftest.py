"""One embedded stack for all contracts, and somebody who visits it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.running_stack import RunningStack, Visitor, running_stack


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that connections may lead into."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, shelf: Path) -> Iterator[RunningStack]:
    """`ingather up`, ready. Whoever breaks something takes a stack of their own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("INGATHER_SOURCES__ROOTS", str(shelf))
        with running_stack(tmp_path_factory.mktemp("contracts") / ".ingather") as stack:
            yield stack


@pytest.fixture
async def visitor(stack: RunningStack) -> AsyncIterator[Visitor]:
    """A client of the shared stack."""
    async with stack.visitor() as visitor:
        yield visitor
