"""The dashboard in a browser, against the whole stack."""

import pytest

from tests.support.browser import Viewer
from tests.support.running_stack import RunningStack, notes

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_list_follows_the_batches(viewer: Viewer, stack: RunningStack) -> None:
    """A batch that somebody submits appears by itself, and is seen to complete; nothing is out of reach."""
    page = await viewer.open("/")
    await viewer.assert_accessible()
    async with stack.visitor() as visitor:
        batch_id = await visitor.submit(notes(5, "dashboard"), name="seen from afar")
        row = page.locator("tr", has=page.locator(f"#to-{batch_id}"))
        await row.get_by_text("Completed", exact=True).wait_for()
    assert "5 of 5" in await row.inner_text()
    await viewer.assert_accessible()
