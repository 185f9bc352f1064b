"""The dashboard in a browser, against the whole stack."""

from pathlib import Path

import pytest

from tests.support.browser import Viewer
from tests.support.running_stack import RunningStack, notes

SAMPLES = Path(__file__).parents[2] / "ingather" / "samples" / "documents"

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_the_list_follows_the_batches(viewer: Viewer, stack: RunningStack) -> None:
    """A batch that somebody submits appears by itself, and is seen to complete; nothing is out of reach."""
    page = await viewer.open("/")
    await viewer.assert_accessible()
    async with stack.visitor() as visitor:
        batch_id = await visitor.submit(notes(5, "dashboard"), name="seen from afar")
        await visitor.ended(batch_id)
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
    assert "text (4)" in await page.locator("#preview").inner_text()
    await viewer.assert_accessible()

    await page.get_by_label("Collection").fill("shelf")
    await page.get_by_role("button", name="Submit", exact=True).click()
    await page.wait_for_url("**/batches/*")
    await page.locator('#overview[data-status="completed_with_failures"]').wait_for()
    assert await page.locator('[data-figure="done"]').inner_text() == "4"
    await page.get_by_role("heading", name="Failures").wait_for()
    await page.get_by_role("link", name="broken.pdf").first.wait_for()
    await viewer.assert_accessible()


async def test_a_batch_is_steered_in_the_browser(viewer: Viewer, stack: RunningStack) -> None:
    """Put first, started, and followed to its end by its events; another one cancelled, after a question, and run after all."""
    async with stack.visitor() as visitor:
        started = await visitor.submit(notes(6, "steered"), name="to be started", hold=True)
        unwanted = await visitor.submit(notes(6, "unwanted"), name="to be cancelled", hold=True)
    page = await viewer.open(f"/batches/{started}")
    await page.get_by_role("button", name="Change", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Priority").select_option("1")
    await dialog.get_by_role("button", name="Change").click()
    await page.get_by_text("priority urgent").wait_for()
    await page.locator('#live[data-is="live"]').wait_for()
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.locator('#overview[data-status="completed"]').wait_for()
    assert await page.locator('[data-figure="done"]').inner_text() == "6"
    await page.get_by_text("Event log").click()
    await page.locator("#log").get_by_text("batch.completed").wait_for()

    await viewer.open(f"/batches/{unwanted}")
    # Whoever goes by keyboard stays on the button when its part of the page is put in anew.
    await page.get_by_role("button", name="Cancel", exact=True).focus()
    await page.evaluate("document.getElementById('overview').dataset.was = ''")
    await page.evaluate(
        "htmx.ajax('GET', `${location.pathname}?fragment=overview`, { target: '#overview', swap: 'outerHTML' })"
    )
    await page.locator("#overview:not([data-was])").wait_for()
    assert await page.evaluate("document.activeElement.textContent") == "Cancel"
    await page.keyboard.press("Enter")
    await page.get_by_role("button", name="Cancel the batch").click()
    await page.locator('#overview[data-status="cancelled"]').wait_for()
    await page.get_by_role("button", name="Run what was left").click()
    await page.locator('#overview[data-status="completed"]').wait_for()
    assert await page.locator('[data-figure="done"]').inner_text() == "6"


async def test_a_batch_is_paused_and_goes_on_in_the_browser(viewer: Viewer, stack: RunningStack) -> None:
    """Paused with documents left to do, which stay as they are until it is resumed; the page says so without a reload."""
    async with stack.visitor() as visitor:
        batch_id = await visitor.submit(notes(400, "rested"), hold=True)
    page = await viewer.open(f"/batches/{batch_id}")
    await page.get_by_role("button", name="Start", exact=True).click()
    await page.get_by_role("button", name="Pause", exact=True).click()
    await page.locator('#overview[data-status="paused"]').wait_for()
    await viewer.assert_accessible()
    done = await page.locator('[data-figure="done"]').inner_text()
    assert int(done.replace(",", "")) < 400
    await page.get_by_role("button", name="Resume", exact=True).click()
    await page.locator('#overview[data-status="completed"]').wait_for()
    assert await page.locator('[data-figure="done"]').inner_text() == "400"
    story = await page.locator("#timeline").inner_text()
    assert "paus" in story
    assert "resum" in story


async def test_a_passage_leads_to_its_page(viewer: Viewer, stack: RunningStack) -> None:
    """Search marks the words and leads to the document, which shows the page beside what was read on it; also in the
    dark, and in a narrow window that does not scroll sideways.
    """
    handbook = SAMPLES / "operations-handbook.pdf"
    async with stack.visitor() as visitor:
        await visitor.ended(await visitor.submit([(handbook.name, handbook.read_bytes())], collection="handbooks"))
        assert await visitor.search("dome wind", collection="handbooks")
    page = await viewer.open("/search?q=dome+wind&collection=handbooks")
    assert (await page.locator("mark").first.inner_text()).lower() in {"dome", "wind"}
    await viewer.assert_accessible()
    await page.get_by_role("link", name=handbook.name).first.click()
    await page.locator(".sought").wait_for()
    drawn = page.get_by_alt_text(f"of {handbook.name}")
    await page.wait_for_function(
        "image => image.complete && image.naturalWidth > 500", arg=await drawn.element_handle()
    )
    await viewer.assert_accessible()
    await page.emulate_media(color_scheme="dark")
    await viewer.assert_accessible()
    await page.set_viewport_size({"width": 390, "height": 800})
    for path in (None, "/", "/submit", "/search"):
        if path is not None:
            await viewer.open(path)
        assert not await viewer.scrolls_sideways(), page.url
