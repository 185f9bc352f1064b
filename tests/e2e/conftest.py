"""One embedded stack for the tests that leave it as it was, and somebody who visits it."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.support.browser import Viewer, running_browser, viewing
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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, for the tests that run on the session's loop."""
    async with running_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def viewer(browser: Browser, stack: RunningStack) -> AsyncIterator[Viewer]:
    """Somebody who looks at the shared stack."""
    async with viewing(browser, stack.base_url) as viewer:
        yield viewer
