"""A browser, and somebody who looks at the shared stack with it."""

from collections.abc import AsyncIterator

import pytest_asyncio
from playwright.async_api import Browser

from tests.support.browser import Viewer, running_browser, viewing
from tests.support.running_stack import RunningStack


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
