"""Pictures of the dashboard for the documentation: ``python -m tests.support.screenshots``, or ``make screenshots``.

A stack of its own ingests the samples and some documents that fail, so that there is something to see.
"""

import asyncio
import tempfile
from pathlib import Path

from tests.support.browser import Viewer, running_browser, viewing
from tests.support.running_stack import RunningStack, notes, running_stack

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SAMPLES = Path(__file__).parents[2] / "ingather" / "samples" / "documents"


async def take(stack: RunningStack) -> None:
    samples = [(path.name, path.read_bytes()) for path in sorted(SAMPLES.iterdir()) if path.is_file()]
    broken = [("minutes.pdf", b"%PDF-1.7 and no more"), ("empty.txt", b""), ("unknown.bin", bytes(range(256)))]
    async with stack.visitor() as visitor:
        observatory = await visitor.submit([*samples, *broken], name="Observatory papers", collection="observatory")
        for name, count in (("Night logs", 400), ("Letters of March", 60)):
            await visitor.ended(await visitor.submit(notes(count, name.split()[0].lower()), name=name))
        await visitor.ended(observatory)
        await visitor.submit(notes(20, "held"), name="Budget drafts", hold=True, priority=5)
        await visitor.submit(notes(3_000, "archive", words=900), name="Archive 1998–2012", priority=2)
        shelf = {"connection_id": "shelf", "source_type": "local_directory", "settings": {"path": str(SAMPLES)}}
        await visitor.http.post("/v1/connections", json=shelf)
        documents = await visitor.documents(observatory, status="done")
    drawn = next((each for each in documents if each["media_type"] == "application/pdf"), documents[0])
    pages = {
        "batches": "/",
        "batch": f"/batches/{observatory}",
        "document": f"/batches/{observatory}/documents/{drawn['id']}",
        "search": "/search?q=When+must+the+dome+be+closed+because+of+wind%3F",
        "submit": "/submit",
        "connection": "/connections/shelf",
        "system": "/system",
    }
    IMAGES.mkdir(parents=True, exist_ok=True)
    async with running_browser() as browser:
        async with viewing(browser, stack.base_url, viewport={"width": 1280, "height": 860}) as viewer:
            for name, path in pages.items():
                await picture(viewer, path, IMAGES / f"{name}.png")
        dark = {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"}
        async with viewing(browser, stack.base_url, **dark) as viewer:
            await picture(viewer, pages["batch"], IMAGES / "batch-dark.png")


async def picture(viewer: Viewer, path: str, file: Path) -> None:
    page = await viewer.open(path)
    await page.wait_for_load_state("load", timeout=120_000)
    await page.wait_for_timeout(2_500)  # until what is live has come to life
    await page.screenshot(path=file)
    print(file)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        running_stack(Path(folder) / ".ingather", INGATHER_SOURCES__ROOTS=str(SAMPLES)) as stack,
    ):
        asyncio.run(take(stack))


if __name__ == "__main__":
    main()
