"""The application in this process, as a browser without scripts sees it."""

from collections.abc import AsyncIterator

import pytest

from ingather.settings import AuthSettings, Settings
from tests.support.api import ApiInProcess, api_in_process


@pytest.fixture
async def api() -> AsyncIterator[ApiInProcess]:
    async with api_in_process() as running:
        yield running


@pytest.fixture
async def closed_api() -> AsyncIterator[ApiInProcess]:
    """One that asks who one is."""
    async with api_in_process(Settings(auth=AuthSettings(mode="required"))) as running:
        yield running
