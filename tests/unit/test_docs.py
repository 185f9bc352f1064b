"""The documentation holds together."""

import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import standardwebhooks

from ingather.domain.webhooks import new_secret, payload_of, payload_of_test
from ingather.models.batch import BatchState, Counts
from ingather.models.identity import DEFAULT_TENANT_ID as TENANT
from ingather.models.messages import BatchNews
from ingather.models.webhook import Webhook, WebhookEventType

ROOT = Path(__file__).parent.parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")]
RECEIVER_PAGE = ROOT / "docs" / "how-to" / "receive-webhooks.md"
BATCH = "01890000-0000-7000-8000-000000000001"
NOW = datetime(2026, 3, 14, 18, 42, tzinfo=UTC)
_ANCHORED = re.compile(r"\]\((?![a-z]+://)([^)\s#]*)#([^)\s]+)\)")
_LINK = re.compile(r"\]\(([^)\s#]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    """Pages are renamed and decisions renumbered; whoever follows a link arrives all the same."""
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link and not link.startswith("mailto:")]

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_heading_arrives_at_one(page: Path) -> None:
    """Headings are reworded; whoever follows a link to one does not end at the top of the page."""
    links = [(page.parent / path if path else page, anchor) for path, anchor in _ANCHORED.findall(page.read_text())]

    assert [(str(path), anchor) for path, anchor in links if anchor not in _headings(path)] == []


def _headings(page: Path) -> set[str]:
    """As GitHub names them: in lower case, without punctuation, blanks as hyphens."""
    lines = re.sub(r"^ *```.*?^ *```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE).splitlines()
    titles = [re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", line.lstrip("# ")) for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


_NEWS = BatchNews(
    kind=WebhookEventType.BATCH_COMPLETED,
    which="v9",
    at=NOW,
    state=BatchState.COMPLETED,
    version=9,
    counts=Counts(total=1, done=1),
)
_WEBHOOK = Webhook(webhook_id="w", tenant_id=TENANT, url="https://hooks.example.org/", sealed="", created_at=NOW)


@pytest.mark.parametrize(
    "payload",
    [payload_of_test(_WEBHOOK, "evt_1", NOW), payload_of(TENANT, BATCH, "evt_2", _NEWS, "")],
    ids=lambda payload: payload["type"],
)
async def test_the_receiver_that_is_shown_takes_what_is_sent(
    payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever copies the receiver and runs `ingather webhooks test` is told that it took the event."""
    [code] = re.findall(r"^ *```python\n(.*?)```", RECEIVER_PAGE.read_text(), re.DOTALL | re.MULTILINE)
    secret, signed_at, body = new_secret(), datetime.now(UTC), orjson.dumps(payload).decode()
    monkeypatch.setenv("INGATHER_WEBHOOK_SECRET", secret)
    receiver: dict[str, Any] = {}
    exec(compile(textwrap.dedent(code), RECEIVER_PAGE.name, "exec"), receiver)
    headers = {
        "webhook-id": payload["id"],
        "webhook-timestamp": str(int(signed_at.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(secret).sign(payload["id"], signed_at, body),
    }

    transport = httpx.ASGITransport(receiver["app"])
    async with httpx.AsyncClient(transport=transport, base_url="http://receiver") as sender:
        taken = await sender.post("/ingather", content=body, headers=headers)
        forged = await sender.post("/ingather", content=body + " ", headers=headers)

    assert (taken.status_code, forged.status_code) == (204, 400)
