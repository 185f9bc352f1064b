"""The dashboard in a browser, against the whole stack."""

from pathlib import Path

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


async def test_files_are_checked_sent_and_followed(viewer: Viewer, tmp_path: Path) -> None:
    """Chosen files are checked before anything happens, sent, and seen to be taken in; the page moves by itself."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    for name, content in [*notes(4, "shelf"), ("broken.pdf", b"%PDF-1.7 and no more")]:
        (shelf / name).write_bytes(content)
    page = await viewer.open("/submit")
    await page.locator("#files").set_input_files([str(path) for path in sorted(shelf.iterdir())])
    await page.get_by_role("heading", name="5 files").wait_for()
    await page.get_by_role("button", name="Check first").click()
    await page.get_by_role("heading", name="What would happen").wait_for()
    assert "text/plain (4)" in await page.locator("#preview").inner_text()
    await viewer.assert_accessible()

    await page.get_by_label("Collection").fill("shelf")
    await page.get_by_role("button", name="Submit", exact=True).click()
    await page.wait_for_url("**/batches/*")
    await page.locator('#overview[data-status="completed_with_failures"]').wait_for()
    assert await page.locator('[data-figure="done"]').inner_text() == "4"
    await page.get_by_role("heading", name="Failures").wait_for()
    await page.get_by_role("link", name="broken.pdf").first.wait_for()
    await viewer.assert_accessible()
