"""A real browser: Chromium without a window, and what every page must be there, whoever looks at it."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


def chromium() -> str:
    """Path of the browser. Skips where there is none."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("There is no Chromium here: install Debian's package `chromium`, or Chrome.")
    return found


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Started once; whoever visits takes a context of its own."""
    async with async_playwright() as playwright:
        # Containers run tests as root, where Chromium's own sandbox does not start.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = await playwright.chromium.launch(executable_path=chromium(), args=arguments)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Viewer:
    """Somebody in front of a window, and what the browser complained about meanwhile."""

    page: Page
    base_url: str
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console, violations of the Content-Security-Policy and exceptions among them."""

    async def open(self, path: str) -> Page:
        """Go there, and wait for all but pictures."""
        await self.page.goto(self.base_url + path, wait_until="domcontentloaded")
        return self.page

    async def assert_accessible(self, *left_out: str) -> None:
        """No rule of axe-core is broken on the page as it is now."""
        await self.page.evaluate(_axe())
        options = {"runOnly": {"type": "tag", "values": _RULES}, "resultTypes": ["violations"]}
        result: dict[str, Any] = await self.page.evaluate("options => axe.run(document, options)", options)
        broken = [
            f"{rule['id']}: {rule['help']}\n    "
            + "\n    ".join(
                f"{node['html'][:160]} ({node.get('failureSummary', '')[:300]})" for node in rule["nodes"][:3]
            )
            for rule in result["violations"]
            if rule["id"] not in left_out
        ]
        assert not broken, f"{self.page.url}\n  " + "\n  ".join(broken)

    async def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(await self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"))


@asynccontextmanager
async def viewing(browser: Browser, base_url: str, **options: Any) -> AsyncIterator[Viewer]:
    """A window of its own, with no cookies. Fails in the end where the browser had anything to complain about."""
    context = await browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    page = await context.new_page()
    page.set_default_timeout(60_000)
    viewer = Viewer(page, base_url)

    def note(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            viewer.complaints.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    page.on("console", note)
    page.on("pageerror", lambda error: viewer.complaints.append(f"exception: {error}"))
    try:
        yield viewer
        assert not viewer.complaints, "\n".join(viewer.complaints)
    finally:
        await context.close()


@cache
def _axe() -> str:
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


async def drop(page: Page, selector: str, *paths: Path) -> None:
    """Files and folders of this machine dragged onto a place and let go there, by the browser's own events."""
    box = await page.locator(selector).bounding_box()
    assert box is not None, f"{selector} is not to be seen"
    session = await page.context.new_cdp_session(page)
    files = [str(path) for path in paths]
    for kind in ("dragEnter", "dragOver", "drop"):
        await session.send(
            "Input.dispatchDragEvent",
            {
                "type": kind,
                "x": box["x"] + box["width"] / 2,
                "y": box["y"] + box["height"] / 2,
                "data": {"items": [], "files": files, "dragOperationsMask": 1},
            },
        )
    await session.detach()
