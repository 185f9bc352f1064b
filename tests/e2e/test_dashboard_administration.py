"""The pages that set things up, in a browser, against the whole stack: each is scanned, and one thing is done on it."""

from pathlib import Path

import pytest

from tests.support.browser import Viewer
from tests.support.running_stack import RunningStack, notes
from tests.support.waiting import until
from tests.support.webhooks import receiver

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_files_of_a_source_are_chosen_across_folders(viewer: Viewer, shelf: Path) -> None:
    """A connection is made and works; what was ticked in one folder still is after a walk through another."""
    folder = shelf / "chosen"
    (folder / "letters").mkdir(parents=True)
    for path in (folder / "first.txt", folder / "second.txt", folder / "letters" / "third.txt"):
        path.write_text(f"{path.name} of the shelf", encoding="utf-8")
    page = await viewer.open("/connections/new")
    await viewer.assert_accessible()
    await page.get_by_label("Name", exact=True).fill("chosen")
    await page.get_by_label("Path").fill(str(folder))
    await page.get_by_role("button", name="Add and test").click()
    await page.get_by_text("The connection works.").wait_for()
    await page.get_by_label("first.txt").check()
    await page.get_by_role("link", name="letters").click()
    await page.get_by_label("third.txt").check()
    await page.get_by_text("2 files chosen, 1 of them elsewhere").wait_for()
    await viewer.assert_accessible()
    await page.get_by_role("button", name="Make the batch").click()
    await page.wait_for_url("**/batches/*")
    await page.locator('#overview[data-status="completed"]').wait_for()
    assert await page.locator('[data-figure="done"]').inner_text() == "2"


async def test_a_key_is_made_shown_once_and_revoked_after_a_question(viewer: Viewer) -> None:
    """By keyboard alone; the dialog takes the focus, and Escape leaves everything as it was."""
    page = await viewer.open("/keys/new")
    await viewer.assert_accessible()
    await page.get_by_label("Name", exact=True).fill("of the browser")
    await page.keyboard.press("Enter")
    await page.locator("#secret").wait_for()
    assert (await page.locator("#secret").inner_text()).startswith("ing_live_")
    await page.get_by_role("link", name="To the keys").press("Enter")
    opener = page.get_by_role("button", name="Revoke of the browser")
    await opener.press("Enter")
    await page.get_by_role("dialog").wait_for()
    await viewer.assert_accessible()
    await page.keyboard.press("Escape")
    await opener.press("Enter")
    await page.get_by_role("button", name="Revoke it").click()
    await page.get_by_text("The key was revoked.").wait_for()
    assert await page.get_by_text("of the browser", exact=True).count() == 0


async def test_a_user_is_registered_and_disabled(viewer: Viewer) -> None:
    """Two passwords that differ are told at their field."""
    page = await viewer.open("/users/new")
    await page.get_by_label("User name").fill("ada of the browser")
    await page.get_by_label("Password").fill("first")
    await page.get_by_label("The same again").fill("other")
    await page.get_by_role("button", name="Register").click()
    await page.get_by_text("This is another password.").wait_for()
    # Chromium notes every page that answers 422 as an error, also one that says what to correct.
    assert all("422" in complaint for complaint in viewer.complaints)
    viewer.complaints.clear()
    await viewer.assert_accessible()
    await page.get_by_label("Password").fill("first")
    await page.get_by_label("The same again").fill("first")
    await page.get_by_role("button", name="Register").click()
    await page.get_by_role("heading", name="ada of the browser").wait_for()
    await viewer.assert_accessible()
    await page.get_by_role("button", name="Disable").click()
    await page.get_by_role("button", name="Disable it").click()
    await page.get_by_text("The user is disabled").wait_for()


async def test_a_webhook_is_made_tried_and_sent_to_again(viewer: Viewer, stack: RunningStack) -> None:
    """Its secret, shown once, verifies what comes; deliveries appear by themselves; one is sent again; deleted after a question."""
    async with receiver() as hook:
        page = await viewer.open("/webhooks/new")
        await viewer.assert_accessible()
        await page.get_by_label("Address").fill(hook.url)
        await page.get_by_label("What it is for").fill("of the browser")
        await page.get_by_label("batch.completed").check()
        await page.get_by_role("button", name="Add the webhook").click()
        hook.secrets = [await page.locator("#secret").inner_text()]
        await page.get_by_role("link", name="To the webhook").click()
        await page.get_by_role("button", name="Send a test").click()
        await page.get_by_text("Answered 204").wait_for()
        async with stack.visitor() as visitor:
            await visitor.ended(await visitor.submit(notes(1, "hooked")))
        await page.get_by_role("button", name="Send again").click()
        await page.get_by_text("sent again", exact=True).wait_for()
        await viewer.assert_accessible()
        await until(lambda: [event["type"] for event in hook.received].count("batch.completed") == 2)
        assert len({event["id"] for event in hook.received if event["type"] == "batch.completed"}) == 1
        await page.get_by_role("button", name="Delete", exact=True).click()
        await page.get_by_role("button", name="Delete it").click()
        await page.wait_for_url("**/webhooks")
    assert await page.get_by_text("of the browser", exact=True).count() == 0


async def test_the_other_pages_break_no_rule(viewer: Viewer) -> None:
    """Each as it is, also on a narrow window; the system is well while the stack is."""
    page = viewer.page
    for path in (
        "/connections",
        "/limits",
        "/keys",
        "/users",
        "/tenants",
        "/tenants/new",
        "/webhooks",
        "/audit",
        "/system",
    ):
        await viewer.open(path)
        await viewer.assert_accessible()
    await page.get_by_text("Everything is well.").wait_for()
    await page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/limits", "/keys", "/tenants/new", "/audit", "/system"):
        await viewer.open(path)
        assert not await viewer.scrolls_sideways(), path
