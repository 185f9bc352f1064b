"""The pages that set things up, as a browser without scripts sees them: what they show, to whom, and what they do."""

import re
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from api.dashboard.navigation import MENU
from api.dashboard.pages import webhooks
from api.engine_overview import Poller, QueueState
from ingather.models.engine import ROLES
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.webhook import WebhookDelivery
from ingather.settings import Settings, SourceSettings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.callers import ADMIN, READ, WRITE, key_of, new_tenant

OTHER = "11111111-1111-7111-8111-111111111111"
PAGES = ("/connections", "/connections/new", "/limits", "/keys", "/keys/new", "/users", "/users/new", "/tenants",
         "/tenants/new", "/system", "/audit")  # fmt: skip


@pytest.fixture
async def shelf(tmp_path):
    """An API whose workers may read one folder, and that folder."""
    (tmp_path / "2026").mkdir()
    for number in range(3):
        (tmp_path / f"report-{number}.txt").write_text("stars", encoding="utf-8")
    (tmp_path / "2026" / "<i>january.txt").write_text("snow", encoding="utf-8")
    async with api_in_process(Settings(sources=SourceSettings(roots=(tmp_path,)))) as api:
        yield api, tmp_path


async def read(api: ApiInProcess, path: str, headers: dict[str, str] | None = None) -> str:
    response = await api.http.get(path, headers=headers)
    assert response.status_code == 200, (path, response.text)
    return response.text


async def send(api: ApiInProcess, to: str, /, **fields: object) -> str:
    """Where a form leads."""
    response = await api.http.post(to, data=fields)
    assert response.status_code == 303, (to, response.status_code, response.text)
    return response.headers["location"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_obeys_the_strict_policy(api, path):
    """No style or script stands in the page itself, and nothing that a library would evaluate."""
    page = await read(api, path)
    assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\son[a-z]+=|\sstyle=|hx-on|javascript:", page)


async def test_whoever_may_only_look_sees_nothing_to_do(closed_api):
    """No button to make, change or take away; what administers all tenants is not in the menu, and is refused."""
    reader = await key_of(closed_api.catalog.accounts, READ)
    for path in ("/connections", "/keys", "/limits", "/audit"):
        page = await read(closed_api, path, reader)
        assert 'class="button primary"' not in page
        assert 'href="/system"' not in page
        assert 'href="/users"' not in page
    assert (await closed_api.http.get("/system", headers=reader)).status_code == 403
    admin = await key_of(closed_api.catalog.accounts, ADMIN)
    assert 'href="/system"' in await read(closed_api, "/limits", admin)


async def test_every_place_in_the_menu_is_a_page_that_knows_its_place(api):
    """Whoever looks around meets no dead end, and sees where they are."""
    for entry in MENU:
        assert f'<a href="{entry.path}" aria-current="page">' in await read(api, entry.path)


# Connections


async def test_a_connection_is_made_browsed_and_chosen_from(shelf):
    """A folder's files are listed with ways into its folders and back; those chosen become a batch of documents in order."""
    api, folder = shelf
    assert await send(api, "/connections/new?kind=local_directory", connection_id="shelf", path=str(folder)) == (
        "/connections/shelf?tested=now"
    )
    page = await read(api, "/connections/shelf")
    assert page.count('name="file"') == 3
    [way] = re.findall(r'href="(/connections/shelf\?trail=[^"]+)"', page)
    inside = await read(api, way.replace("&amp;", "&"))
    assert "&lt;i&gt;january.txt" in inside
    assert '<a href="/connections/shelf">' in inside

    where = await send(
        api,
        "/connections/shelf/batch",
        chosen='["report-2.txt", "2026/<i>january.txt", "report-2.txt"]',
        name="two",
    )
    batch = (await api.http.get(f"/v1{where}")).json()
    assert (batch["name"], batch["counts"]["total"]) == ("two", 2)
    where = await send(api, "/connections/shelf/batch", file=["report-0.txt", "report-1.txt"])
    assert (await api.http.get(f"/v1{where}")).json()["counts"]["total"] == 2


async def test_a_connection_says_what_is_wrong_with_it(shelf):
    """In the words of the source, with advice."""
    api, folder = shelf
    await send(api, "/connections/new?kind=local_directory", connection_id="shelf", path=str(folder))
    assert "The connection works." in (await api.http.post("/connections/shelf/test")).text
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    tested = (await api.http.post("/connections/shelf/test", headers={"HX-Request": "true"})).text
    assert "tone-bad" in tested
    assert "<html" not in tested


async def test_a_refused_connection_keeps_what_was_entered_but_for_secrets(api):
    """The mistake stands at its field, and no secret comes back."""
    fields = {"bucket": "?", "prefix": "reports/", "access_key_id": "AKIA", "secret_access_key": "very-secret"}
    response = await api.http.post("/connections/new?kind=s3", data=fields)
    assert response.status_code == 422
    assert 'id="bucket-wrong"' in response.text
    assert 'value="reports/"' in response.text
    assert "very-secret" not in response.text


async def test_nothing_chosen_makes_nothing(shelf):
    """The page says so."""
    api, folder = shelf
    await send(api, "/connections/new?kind=local_directory", connection_id="shelf", path=str(folder))
    response = await api.http.post("/connections/shelf/batch", data={"chosen": "[]"})
    assert response.status_code == 422
    assert "Choose at least one file." in response.text


# Webhooks


def api_that_keeps_secrets() -> AbstractAsyncContextManager[ApiInProcess]:
    return api_in_process(Settings(sources=SourceSettings(keys=(SecretStr(Fernet.generate_key().decode()),))))


async def test_a_webhook_is_made_changed_and_forgotten():
    """Its secret is on the page that made it alone; all events ticked mean those of later versions too."""
    async with api_that_keeps_secrets() as api:
        fields = {
            "url": "https://hooks.example.org/in",
            "event_types": list(webhooks.EVENTS),
            "once": "page-0123456789",
        }
        made = (await api.http.post("/webhooks/new", data=fields)).text
        assert '<code id="secret">whsec_' in made
        assert "whsec_" not in (await api.http.post("/webhooks/new", data=fields)).text
        [webhook] = (await api.http.get("/v1/webhook-endpoints")).json()["data"]
        assert webhook["event_types"] == []
        there = f"/webhooks/{webhook['webhook_id']}"
        await send(api, f"{there}/edit", url=fields["url"], description="mailer", event_types=["batch.failed"])
        await send(api, f"{there}/disable")
        page = await read(api, there)
        for text in ("mailer", "Switched off", "Switch on", "Nothing was sent yet."):
            assert text in page
        for is_shown in (True, False):
            rotated = (await api.http.post(f"{there}/rotate", data={"once": "page-9876543210"})).text
            assert ('<code id="secret">whsec_' in rotated, "shown before" in rotated) == (is_shown, not is_shown)
        assert '<code id="secret">whsec_' in (await api.http.post(f"{there}/rotate")).text
        assert await send(api, f"{there}/delete") == "/webhooks"
        assert "No webhooks yet" in await read(api, "/webhooks")


async def test_deliveries_are_shown_and_sent_again():
    """Each form is sent once, under a key that is another each time: no reason to show anew what looks the same."""
    async with api_that_keeps_secrets() as api:
        webhook = (await api.http.post("/v1/webhook-endpoints", json={"url": "https://hooks.example.org/in"})).json()
        delivery = WebhookDelivery(
            delivery_id="delivery",
            tenant_id=DEFAULT_TENANT_ID,
            webhook_id=webhook["webhook_id"],
            event_id="evt_1",
            event_type="batch.completed",
            payload={"type": "batch.completed"},
            created_at=datetime.now(UTC),
        )
        await api.catalog.webhooks.add_deliveries([delivery])
        there = f"/webhooks/{webhook['webhook_id']}"
        first = await read(api, f"{there}?fragment=deliveries")
        [seen] = re.findall(r"seen=([0-9a-f]{16})", first)
        assert (await api.http.get(f"{there}?fragment=deliveries&seen={seen}")).status_code == 204

        [form] = re.findall(r'action="([^"]+/redeliver)"', first)
        [once] = re.findall(r'name="once" value="([^"]+)"', first)
        for _ in range(2):
            assert await send(api, form, once=once) == f"{there}#deliveries"
        shown = await read(api, there)
    assert (shown.count("<b>batch.completed</b>"), shown.count(">sent again<")) == (2, 1)


# Keys


async def test_a_key_is_on_the_page_that_made_it_and_on_no_other(api):
    """The form sent twice makes one key; the second answer cannot show it."""
    fields = {"name": "nightly", "scopes": ["read"], "lifetime": "30", "once": "page-0123456789"}
    made = (await api.http.post("/keys/new", data=fields)).text
    [key] = re.findall(r"ing_live_\w+", re.findall(r'<code id="secret">([^<]+)', made)[0])
    again = (await api.http.post("/keys/new", data=fields)).text
    assert "cannot be shown a second time" in again
    listed = await read(api, "/keys")
    assert listed.count('scope="row">nightly') == 1
    for page in (again, listed):
        assert key not in page


async def test_a_key_is_rotated_and_revoked(api):
    """The old one is marked as followed; a revoked one is gone."""
    made = (await api.http.post("/v1/api-keys", json={"name": "nightly"})).json()
    rotated = (await api.http.post(f"/keys/{made['id']}/rotate", data={"grace": "3600"})).text
    assert '<code id="secret">ing_live_' in rotated
    page = await read(api, "/keys")
    assert "was rotated" in page
    assert f'data-opens="rotate-{made["id"]}"' not in page
    assert await send(api, f"/keys/{made['id']}/revoke") == "/keys"
    assert made["prefix"] not in await read(api, "/keys")


# Users


async def test_a_user_is_registered_changed_disabled_and_deleted(api):
    """Each step shows in the next page."""
    there = await send(api, "/users/new", username="ada", password="a", password_again="a", scopes=["read"])
    assert "Active" in await read(api, there)
    assert await send(api, f"{there}/scopes", scopes=["read", "admin"]) == there
    await send(api, f"{there}/password", password="b", password_again="b")
    await send(api, f"{there}/disable")
    page = await read(api, there)
    assert "Disabled" in page
    assert "Let in again" in page
    assert (await api.http.get(f"/v1{there}")).json()["scopes"] == ["admin", "read"]
    assert await send(api, f"{there}/delete") == "/users"
    assert "No users yet" in await read(api, "/users")


async def test_two_passwords_that_differ_change_nothing(api):
    """The mistake stands at the second one."""
    wrong = {"username": "ada", "password": "a", "password_again": "b", "scopes": ["read"]}
    response = await api.http.post("/users/new", data=wrong)
    assert (response.status_code, 'id="password_again-wrong"' in response.text) == (422, True)
    assert (await api.http.get("/v1/users")).json()["data"] == []


# Tenants


async def test_a_tenants_settings_are_what_the_form_says(api):
    """Numbers as people write them; what is emptied goes back to what it was at first."""
    there = await send(
        api,
        "/tenants/new",
        name="Acme",
        pipeline="handoff",
        fairness_weight="2.5",
        metadata_schema='{"type": "object"}',
        max_file_bytes="10,000",
    )
    tenant = (await api.http.get(f"/v1{there}")).json()
    assert (tenant["pipeline"], tenant["fairness_weight"], tenant["limits"]) == (
        "handoff",
        2.5,
        {"max_file_bytes": 10_000},
    )
    assert 'value="10000"' in await read(api, there)
    await send(api, there, name="Acme", pipeline="ingest", fairness_weight="", metadata_schema="")
    tenant = (await api.http.get(f"/v1{there}")).json()
    assert (tenant["fairness_weight"], tenant["limits"], tenant["metadata_schema"]) == (1.0, {}, None)


@pytest.mark.parametrize(
    ("field", "value"), [("metadata_schema", "{no"), ("default_metadata", "[]"), ("max_file_bytes", "much")]
)
async def test_a_tenant_that_cannot_be_keeps_what_was_entered(api, field, value):
    """With the mistake at its field."""
    response = await api.http.post("/tenants/new", data={"name": "Acme", "fairness_weight": "1", field: value})
    assert response.status_code == 422
    assert f'id="{field}-wrong"' in response.text
    assert 'value="Acme"' in response.text


async def test_a_tenant_is_deleted_by_whoever_types_its_name(api):
    """Another name deletes nothing."""
    there = await send(api, "/tenants/new", name="Acme", fairness_weight="1")
    response = await api.http.post(f"{there}/delete", data={"confirmed_name": "acme"})
    assert (response.status_code, "Nothing was deleted" in response.text) == (422, True)
    assert await send(api, f"{there}/delete", confirmed_name="Acme") == "/tenants"
    assert (await api.http.get(there)).status_code == 404


# Limits, system, audit


async def test_limits_are_shown_with_their_use(api):
    """A batch that runs is one of those that may; its bytes count."""
    await api.submit()
    page = await read(api, "/limits")
    assert "1 <small>of 4</small>" in page
    assert "5 bytes <small>of" in page
    assert "Requests a minute" in page


def queues(**pollers: str) -> list[QueueState]:
    """Every queue, asked by the worker of its role where one is named."""
    now = datetime.now(UTC)
    return [
        QueueState(queue, tuple(Poller(who, now) for who in [pollers.get(role)] if who), 3, 12.0, 1.0, 2.0)
        for role, names in ROLES.items()
        for queue in names
    ]


async def test_the_system_page_names_who_works_and_what_is_missing(api):
    """Workers by role, what waits for them, and how to start those that are not there."""
    api.engine.overviews.queues = queues(workflows="1@red", io="2@blue")
    page = await read(api, "/system")
    for text in (
        "1@red",
        "2@blue",
        "No worker takes this role.",
        "python worker.py --roles cpu",
        f"{len(ROLES['cpu'])} checks are not well",
    ):
        assert text in page


async def test_the_system_page_is_there_without_temporal(api):
    """It says so; the rest was looked at."""
    api.engine.is_down = True
    page = await read(api, "/system")
    assert "Temporal does not answer" in page
    assert "Storage" in page


async def test_the_shares_of_tenants_follow_their_weights(api):
    """Twice the weight is twice the share; one whose batch waits for its start has none."""
    await new_tenant(api.catalog.accounts, OTHER, name="heavy", fairness_weight=2.0)
    await api.submit()
    headers = {"X-Tenant-ID": OTHER}
    documents = [{"filename": "a.txt", "content": "aGVsbG8="}]
    await api.http.post("/v1/batches", headers=headers, json={"documents": documents})
    system = (await api.http.get("/v1/system")).json()
    shares = {each["tenant_id"]: each["share"] for each in system["tenants"]}
    assert shares == {OTHER: pytest.approx(2 / 3, abs=1e-3), DEFAULT_TENANT_ID: pytest.approx(1 / 3, abs=1e-3)}
    assert system["tenants"][0]["name"] == "heavy"


async def test_the_system_is_an_administrators_to_see(closed_api):
    """Others lack the scope."""
    writer = await key_of(closed_api.catalog.accounts, READ, WRITE)
    response = await closed_api.http.get("/v1/system", headers=writer)
    assert (response.status_code, response.json()["code"]) == (403, "scope_missing")


async def test_the_audit_is_filtered_by_what_who_and_when(api):
    """And leads to what it is about, where that is still there."""
    there = await send(api, "/users/new", username="ada", password="a", password_again="a", scopes=["read"])
    batch = await api.submit(name="Minutes")
    page = await read(api, "/audit")
    assert "User created" in page
    assert f'href="/batches/{batch["id"]}"' in page
    only = await read(api, "/audit?kind=user")
    assert ("User created" in only, "Batch submitted" in only) == (True, False)
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert "Nothing on record" in await read(api, f"/audit?since={tomorrow}")
    await send(api, f"{there}/delete")
    [line] = re.findall(r'scope="row">User deleted.*?</tr>', await read(api, "/audit?kind=user"), re.DOTALL)
    assert "href=" not in line
