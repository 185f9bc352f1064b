"""Submitting in a browser, against the whole stack: what is dropped, what is said of it, what is gone on with."""

import itertools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Page, Route

from tests.support.browser import Viewer, drop
from tests.support.large_upload import (
    assert_arrived_whole,
    has_sent,
    large_file,
    offsets_of,
    slow_down,
    speed_up,
)
from tests.support.running_stack import RunningStack, notes

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a folder in it, a hidden file beside them."""
    folder = tmp_path / "shelf"
    (folder / "letters").mkdir(parents=True)
    for name, content in notes(3, "shelf-dropped"):
        (folder / "letters" / name).write_bytes(content)
    (folder / "night.txt").write_text("The dome was closed all night.", encoding="utf-8")
    (folder / ".hidden").write_text("nobody asked for this", encoding="utf-8")
    return folder


async def submitted(page: Page) -> str:
    """Id of the batch that the page leads to."""
    await page.get_by_role("button", name="Submit", exact=True).click()
    await page.wait_for_url("**/batches/*")
    return page.url.rsplit("/", 1)[-1]


def blocks(folder: Path, name: str, count: int) -> list[Path]:
    """Files that fill a block each, and that no parser reads."""
    files = [folder / f"{name}-{number}.bin" for number in range(count)]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) + bytes(range(256)) * 20_000)
    return files


def first_requests(count: int) -> Callable[[Route], Awaitable[None]]:
    """Lets so many requests through; further ones are held."""
    seen = itertools.count(1)

    async def pass_on(route: Route) -> None:
        if next(seen) <= count:
            await route.continue_()

    return pass_on


async def are_taken(page: Page, count: int) -> None:
    """Wait until so many blocks are in the batch."""
    await page.wait_for_function(
        "count => Object.values(localStorage).some((kept) => JSON.parse(kept).taken?.length === count)", arg=count
    )


async def test_files_and_a_folder_are_dropped(
    viewer: Viewer, stack: RunningStack, folder: Path, tmp_path: Path
) -> None:
    """A file and a folder dropped together, then one beside the place: all but hidden ones are in, under their paths."""
    single, missed = tmp_path / "single.txt", tmp_path / "missed.txt"
    single.write_text("Dropped by itself.", encoding="utf-8")
    missed.write_text("Dropped beside it.", encoding="utf-8")
    page = await viewer.open("/submit")
    await drop(page, "#drop", single, folder)
    await page.get_by_role("heading", name="5 files").wait_for()
    assert await page.locator("#drop[data-over]").count() == 0
    await drop(page, "h1", missed)
    # A browser that is left alone would have gone to the file.
    assert page.url.endswith("/submit")
    await drop(page, "#drop", single)
    await page.get_by_role("heading", name="5 files").wait_for()
    batch_id = await submitted(page)
    async with stack.visitor() as visitor:
        await visitor.ended(batch_id)
        documents = await visitor.documents(batch_id, status="done")
    assert {each["original_filename"] or each["filename"] for each in documents} == {
        "single.txt",
        "shelf/night.txt",
        *(f"shelf/letters/shelf-dropped-{number:04}.txt" for number in range(3)),
    }


async def test_metadata_is_entered_and_seen_before_it_is_sent(
    viewer: Viewer, stack: RunningStack, tmp_path: Path
) -> None:
    """Of all files, over it that of a mapping, over it that of one file; the dry run says what each would have."""
    first, second, third = (tmp_path / name for name, _ in notes(3, "described"))
    for name, content in notes(3, "described"):
        (tmp_path / name).write_bytes(content)
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({second.name: {"author": "Ada"}, "gone.txt": {"author": "Nobody"}}), encoding="utf-8")
    page = await viewer.open("/submit")
    await page.locator("#files").set_input_files([first, second, third])
    shared = page.locator("#for-all")
    await shared.get_by_role("button", name="Add a field").click()
    for text in ("author", "Vera", "year", "2026"):
        await page.keyboard.type(text)
        await page.keyboard.press("Enter")
    await page.locator("#metadata").set_input_files(mapping)
    await page.get_by_role("button", name=f"Metadata of {third.name}").click()
    dialog = page.get_by_role("dialog")
    await viewer.assert_accessible()
    await dialog.get_by_role("button", name="Add a field").click()
    for text in ("year", "", "code", '"007"'):
        await page.keyboard.type(text)
        await page.keyboard.press("Enter")
    await dialog.get_by_role("button", name="Keep").click()
    await page.get_by_role("button", name="Check first").click()
    await page.get_by_role("heading", name="Metadata of each").wait_for()
    told = page.locator("#preview-metadata-list li")
    assert [(await each.inner_text()).split("\n") for each in await told.all()] == [
        [first.name, "author: Vera", "year: 2026"],
        [second.name, "author: Ada", "year: 2026"],
        [third.name, "author: Vera", "code: 007"],
    ]
    await page.get_by_text("gone.txt of the mapping").wait_for()
    await viewer.assert_accessible()
    batch_id = await submitted(page)
    async with stack.visitor() as visitor:
        await visitor.ended(batch_id)
        found = {each["filename"]: each["metadata"] for each in await visitor.documents(batch_id)}
    assert found == {
        first.name: {"author": "Vera", "year": 2026},
        second.name: {"author": "Ada", "year": 2026},
        third.name: {"author": "Vera", "code": "007"},
    }


async def test_a_page_that_was_left_goes_on_with_the_same_files(
    viewer: Viewer, stack: RunningStack, tmp_path: Path
) -> None:
    """Reloaded in the middle of a large file: the page says how much is there, and the rest alone is sent."""
    small, large = tmp_path / "small.txt", large_file(tmp_path / "left.bin")
    small.write_text("Beside the large one.", encoding="utf-8")
    page = await viewer.open("/submit")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_label("Collection").fill("left")
    await page.locator("#files").set_input_files([small, large])
    session = await slow_down(page)
    await page.get_by_role("button", name="Submit", exact=True).click()
    await has_sent(page, 0.5)
    await page.reload(wait_until="domcontentloaded")
    await speed_up(session)

    await page.get_by_text("was interrupted").wait_for()
    await viewer.assert_accessible()
    assert await page.get_by_label("Collection").input_value() == "left"
    offsets = offsets_of(page)
    await page.locator("#files").set_input_files([large, small])
    batch_id = await submitted(page)
    assert offsets[0] > 0
    async with stack.visitor() as visitor:
        await assert_arrived_whole(visitor, batch_id, large)
        assert (await visitor.batch(batch_id))["counts"]["total"] == 2
    await viewer.open("/submit")
    await page.locator("#left").wait_for(state="hidden")


async def test_what_is_left_of_small_files_goes_into_the_batch_that_was_begun(
    viewer: Viewer, stack: RunningStack, tmp_path: Path
) -> None:
    """Left between its blocks, a batch waits and is named by the page; it gets the rest, and nothing twice."""
    files = blocks(tmp_path, "block", 3)
    page = await viewer.open("/submit")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.locator("#files").set_input_files(files)
    await page.route("**/v1/batches/*/documents", first_requests(2))
    await page.get_by_role("button", name="Submit", exact=True).click()
    await are_taken(page, 2)
    await page.reload(wait_until="domcontentloaded")
    # Not before: a request that is held goes on when nobody holds it any more.
    await page.unroute_all()

    await page.get_by_text("2 of 3 files are there").wait_for()
    begun = await page.get_by_role("link", name="Open the batch").get_attribute("href")
    await page.locator("#files").set_input_files(files)
    batch_id = await submitted(page)
    assert begun == f"/batches/{batch_id}"
    async with stack.visitor() as visitor:
        assert (await visitor.ended(batch_id))["counts"]["total"] == 3
        assert {each["filename"] for each in await visitor.documents(batch_id)} == {path.name for path in files}


async def test_what_was_begun_is_named_until_it_can_be_cancelled(
    viewer: Viewer, stack: RunningStack, tmp_path: Path
) -> None:
    """Stopped while the service cannot be told, the page says so; cancelled later, the batch is, and nothing is left."""
    files = blocks(tmp_path, "stopped", 2)
    page = await viewer.open("/submit")
    await page.locator("#files").set_input_files(files)
    await page.route("**/v1/batches/*/documents", first_requests(1))
    await page.get_by_role("button", name="Submit", exact=True).click()
    await are_taken(page, 1)
    await page.route("**/v1/batches/*/cancel", lambda route: route.abort())
    await page.get_by_role("button", name="Stop").click()
    await page.get_by_text("the service could not be told").wait_for()
    begun = await page.get_by_role("link", name="Open the batch").get_attribute("href")
    assert begun is not None
    assert all("ERR_FAILED" in complaint for complaint in viewer.complaints)
    viewer.complaints.clear()

    await page.unroute_all()
    await page.get_by_role("button", name="Cancel it").click()
    await page.locator("#left").wait_for(state="hidden")
    async with stack.visitor() as visitor:
        assert (await visitor.ended(begun.rsplit("/", 1)[-1]))["status"] == "cancelled"
