"""Pictures of the dashboard for the documentation: ``python -m tests.support.screenshots``, or ``make screenshots``.

A stack of its own ingests the samples and some documents that fail, so that there is something to see.
"""

import asyncio
import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.async_api import Page

from tests.support.browser import Viewer, running_browser, viewing
from tests.support.running_stack import RunningStack, Visitor, notes, running_stack
from tests.support.webhooks import Receiver, receiver

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SAMPLES = Path(__file__).parents[2] / "ingather" / "samples" / "documents"
SAMPLE_FILES = sorted(path for path in SAMPLES.iterdir() if path.is_file())


async def fill(visitor: Visitor, hook: Receiver, papers: Path) -> dict[str, tuple[str, str]]:
    """Batches of every kind, and what an administrator sets up. Answers the pages to look at by their picture's name: where
    each is, and what comes to it after it was painted.
    """
    made = (await visitor.http.post("/v1/webhook-endpoints", json={"url": hook.url, "description": "Wiki"})).json()
    hook.secrets.append(made["secret"])
    shelf = {"connection_id": "shelf", "source_type": "local_directory", "settings": {"path": str(papers)}}
    limits = {"max_concurrent_jobs": 2, "requests_per_minute": 300}
    for path, body in (
        ("/v1/connections", shelf),
        ("/v1/tenants", {"name": "Observatory", "default_metadata": {"site": "Ridge"}, "limits": limits}),
        ("/v1/tenants", {"name": "Planetarium", "fairness_weight": 2}),
        ("/v1/users", {"username": "vera", "password": "a password of hers", "scopes": ["read", "write"]}),
        ("/v1/users", {"username": "jocelyn", "password": "another password", "scopes": ["read", "write", "admin"]}),
        ("/v1/api-keys", {"name": "nightly import", "scopes": ["read", "write"]}),
        ("/v1/api-keys", {"name": "wall display", "scopes": ["read"]}),
    ):
        (await visitor.http.post(path, json=body)).raise_for_status()
    samples = [(path.name, path.read_bytes()) for path in SAMPLE_FILES]
    broken = [("minutes.pdf", b"%PDF-1.7 and no more"), ("empty.txt", b""), ("unknown.bin", bytes(range(256)))]
    observatory = await visitor.submit([*samples, *broken], name="Observatory papers", collection="observatory")
    for name, count in (("Night logs", 400), ("Letters of March", 60)):
        await visitor.ended(await visitor.submit(notes(count, name.split()[0].lower()), name=name))
    await visitor.ended(observatory)
    await visitor.submit(notes(20, "held"), name="Budget drafts", hold=True, priority=5)
    archive = await visitor.submit(notes(5_000, "archive", words=900), name="Archive 1998–2012", priority=2)
    documents = await visitor.documents(observatory, status="done")
    drawn = next((each for each in documents if each["media_type"] == "application/pdf"), documents[0])
    await visitor.until(archive, lambda batch: batch["progress"] > 0.2)
    where = f"/batches/{observatory}"
    return {
        "batch-running": (f"/batches/{archive}", ".chart"),
        "batches": ("/", f"body:has(.summary b) tr:has(#to-{archive}) .fill-good"),
        "batch": (where, ".chart"),
        "document": (f"{where}/documents/{drawn['id']}", ".page-image"),
        "search": ("/search?q=When+must+the+dome+be+closed+because+of+wind%3F", "mark"),
        "connection": ("/connections/shelf", "main table"),
        "webhook": (f"/webhooks/{made['webhook_id']}", "main time"),
        "limits": ("/limits", "main"),
        "keys": ("/keys", "main"),
        "users": ("/users", "main"),
        "tenants": ("/tenants", "main"),
        "system": ("/system", "main table"),
        "audit": ("/audit", "main"),
    }


async def take(stack: RunningStack, papers: Path) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    window = {"viewport": {"width": 1280, "height": 860}}
    async with receiver() as hook, stack.visitor() as visitor, running_browser() as browser:
        pages = await fill(visitor, hook, papers)
        async with viewing(browser, stack.base_url, **window) as viewer:
            for name, (path, comes) in pages.items():
                page = await viewer.open(path)
                await page.locator(comes).first.wait_for()
                await picture(viewer, name)
            await fill_in_form(await viewer.open("/submit"))
            await picture(viewer, "submit")
        async with viewing(browser, stack.base_url, color_scheme="dark", **window) as viewer:
            await viewer.open(pages["batch"][0])
            await picture(viewer, "batch-dark")


async def fill_in_form(page: Page) -> None:
    """Files chosen, with metadata, and checked."""
    await page.locator("#files").set_input_files(SAMPLE_FILES)
    await page.get_by_label("Collection").fill("observatory")
    for _ in range(2):
        await page.get_by_role("button", name="Add a field").first.click()
    for field, (name, value) in enumerate((("site", "Ridge"), ("year", "2026"))):
        await page.get_by_label("Field", exact=True).nth(field).fill(name)
        await page.get_by_label("Value", exact=True).nth(field).fill(value)
    await page.get_by_role("button", name="Check first").click()
    await page.get_by_role("heading", name="What would happen").wait_for()


async def picture(viewer: Viewer, name: str) -> None:
    """What the window shows, in a palette: pages have few colours, and the file is a third of what it was."""
    await viewer.page.wait_for_load_state("load", timeout=120_000)
    await viewer.page.wait_for_timeout(1_000)  # until what is live has come to life
    shown = Image.open(io.BytesIO(await viewer.page.screenshot()))
    shown.convert("RGB").quantize(kmeans=2).save(IMAGES / f"{name}.png", optimize=True)
    print(IMAGES / f"{name}.png")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="observatory-") as folder:
        papers = Path(folder) / "papers"
        shutil.copytree(SAMPLES, papers)
        allowed = {"INGATHER_SOURCES__ROOTS": str(papers), "INGATHER_WEBHOOKS__ALLOW_PRIVATE": "true"}
        with running_stack(Path(folder) / ".ingather", **allowed) as stack:
            asyncio.run(take(stack, papers))


if __name__ == "__main__":
    main()
