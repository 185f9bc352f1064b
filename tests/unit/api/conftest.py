"""The API in this process, for every test here."""

from collections.abc import AsyncIterator

import pytest

from ingather.settings import Limits, Settings
from tests.support.api import ApiInProcess, api_in_process


@pytest.fixture
async def api() -> AsyncIterator[ApiInProcess]:
    async with api_in_process() as running:
        yield running


@pytest.fixture
async def small_api() -> AsyncIterator[ApiInProcess]:
    """Limits that a test can reach."""
    limits = Limits(
        max_documents_per_batch=3, max_file_bytes=2_000_000, max_request_bytes=5_000_000, max_json_bytes=100_000
    )
    async with api_in_process(Settings(limits=limits)) as running:
        yield running
