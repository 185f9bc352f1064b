"""One embedded stack for the tests that leave it as it was, and somebody who visits it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.running_stack import RunningStack, Visitor, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """`ingather up`, ready. Whoever breaks something takes a stack of their own.

    Connections may lead into the folder beside its data directory, and they and webhooks to servers of this machine.
    """
    home = tmp_path_factory.mktemp("stack")
    private = dict.fromkeys(("INGATHER_SOURCES__ALLOW_PRIVATE", "INGATHER_WEBHOOKS__ALLOW_PRIVATE"), "true")
    allowed = {"INGATHER_SOURCES__ROOTS": str(home / "shelf"), **private}
    with running_stack(home / ".ingather", **allowed) as stack:
        yield stack


@pytest.fixture
async def visitor(stack: RunningStack) -> AsyncIterator[Visitor]:
    """A client of the shared stack."""
    async with stack.visitor() as visitor:
        yield visitor
