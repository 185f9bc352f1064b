"""`/v1/connections`: what is kept, what is shown, and what comes of trying."""

import json

import pytest
from cryptography.fernet import Fernet

from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.audit import AuditFilter
from ingather.settings import Settings, SourceSettings
from tests.support.api import api_in_process
from tests.support.drive import DriveFile, drive_stand_in
from tests.support.http_stand_in import Told

KEY = Fernet.generate_key().decode()


def settings(**sources) -> Settings:
    return Settings(sources=SourceSettings(**{"keys": KEY, "allow_private": True, **sources}))


@pytest.fixture
def root(tmp_path):
    """An allowed folder with three files."""
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
async def api(root):
    async with api_in_process(settings(roots=[root])) as made:
        yield made


async def create(api, source_type, settings, connection_id=None, **headers):
    body = {"source_type": source_type, "settings": settings}
    if connection_id:
        body["connection_id"] = connection_id
    return await api.http.post("/v1/connections", json=body, headers=headers)


HTTP = {"urls": ["https://example.org/a.txt"], "headers": {"Authorization": "Bearer shh"}}


async def test_a_connection_is_made_shown_and_deleted(api, root):
    """Credentials go in and do not come out; the catalog holds them encrypted."""
    made = await create(api, "http", HTTP, "site")
    assert (made.status_code, made.headers["location"]) == (201, "/v1/connections/site")
    shown = made.json()
    assert shown["settings"] == {"urls": HTTP["urls"], "headers": "********"}
    assert (await api.http.get("/v1/connections/site")).json() == shown
    kept = await api.catalog.connections.get_connection(DEFAULT_TENANT_ID, "site")
    assert "shh" not in repr(kept) + str(kept.model_dump())
    assert (await api.http.delete("/v1/connections/site")).status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("GET", "/files")):
        gone = await api.http.request(method, f"/v1/connections/site{path}")
        assert (gone.status_code, gone.json()["code"]) == (404, "connection_not_found")


async def test_the_same_again_is_the_same_connection(api):
    """By its id or by the Idempotency-Key; other credentials under the same id are a conflict."""
    for headers, name in (({}, "site"), ({"Idempotency-Key": "k"}, None)):
        first, again = [await create(api, "http", HTTP, name, **headers) for _ in range(2)]
        assert (again.status_code, again.json()) == (201, first.json())
        assert again.headers["idempotency-replayed"] == "true"
        other = await create(api, "http", HTTP | {"headers": {"Authorization": "Bearer new"}}, name, **headers)
        code = "already_exists" if name else "idempotency_key_reused"
        assert other.json()["code"] == code


async def test_what_happens_is_on_record(api):
    """Who made it and who deleted it, without what it is told."""
    await create(api, "http", HTTP, "site")
    await api.http.delete("/v1/connections/site")
    events = await api.catalog.audit.list_events(AuditFilter(DEFAULT_TENANT_ID), 10)
    told = [(event.event_type, event.resource_type, event.resource_id, event.details) for event in events]
    assert told == [
        ("CONNECTION_DELETED", "connection", "site", {"name": "site"}),
        ("CONNECTION_CREATED", "connection", "site", {"name": "site", "source_type": "http"}),
    ]


async def test_they_are_listed_in_pages(api):
    """Newest first."""
    for number in range(3):
        await create(api, "http", HTTP, f"c{number}")
    first = (await api.http.get("/v1/connections", params={"limit": 2})).json()
    assert [each["connection_id"] for each in first["data"]] == ["c2", "c1"]
    rest = (await api.http.get("/v1/connections", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert ([each["connection_id"] for each in rest["data"]], rest["has_more"]) == (["c0"], False)


@pytest.mark.parametrize(
    ("source_type", "given", "pointer"),
    [
        ("http", {}, "#/settings"),
        ("http", {"urls": ["ftp://x"]}, "#/settings/urls/0"),
        ("http", {"urls": ["https://x.org/"], "more": 1}, "#/settings/more"),
        ("http", {"urls": ["https://x.org/"], "headers": {"A": "hunter2\r\nB: c"}}, "#/settings/headers"),
        ("http", {"urls": ["https://x.org/"], "headers": {"Host": "hunter2"}}, "#/settings/headers"),
        ("s3", {"bucket": "bucket", "access_key_id": "id"}, "#/settings"),
        ("google_drive", {"client_id": "c"}, "#/settings"),
        ("local_directory", {"path": "relative"}, "#/settings/path"),
        ("local_directory", {"path": "/etc"}, "#/settings"),
        ("local_zip", {"path": "/etc/x.zip"}, "#/settings"),
    ],
)
async def test_settings_that_do_not_fit_are_422(api, source_type, given, pointer):
    """With the place, and never with what was sent."""
    response = await create(api, source_type, given, "c")
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == pointer
    assert "hunter2" not in response.text
    assert (await api.http.get("/v1/connections")).json()["data"] == []


async def test_a_secret_is_text(api):
    """Half of a character, which JSON can carry, could be sent to nobody."""
    settings = {"bucket": "bucket", "access_key_id": "id", "secret_access_key": "hunter2 \ud800"}
    content = json.dumps({"source_type": "s3", "settings": settings})
    response = await api.http.post("/v1/connections", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "#/settings/secret_access_key"
    assert "hunter2" not in response.text


async def test_a_secret_that_does_not_fit_is_not_echoed(api):
    """Neither in the problem nor anywhere else."""
    response = await create(api, "http", {"urls": ["https://x.org/"], "headers": {"bad name": "hunter2"}})
    assert response.status_code == 422
    assert "hunter2" not in response.text


async def test_private_addresses_are_refused():
    """Where the deployment does not allow them."""
    async with api_in_process(settings(allow_private=False)) as api:
        for source_type, given in (
            ("http", {"base_url": "http://127.0.0.1/"}),
            ("s3", {"bucket": "bucket", "endpoint_url": "http://10.0.0.1:9000"}),
            ("google_drive", {"service_account": "{}", "token_url": "http://169.254.169.254/"}),
        ):
            response = await create(api, source_type, given)
            [wrong] = response.json()["errors"]
            assert (response.status_code, wrong["code"]) == (422, "source_access_denied")
            assert "/test" not in wrong["detail"]  # there is nothing to test


async def test_without_a_key_nothing_secret_is_kept():
    """503 that names the setting; connections without credentials need none."""
    async with api_in_process(settings(keys=[])) as api:
        refused = await create(api, "http", HTTP)
        assert (refused.status_code, refused.json()["code"]) == (503, "credential_key_missing")
        assert "INGATHER_SOURCES__KEYS" in refused.json()["action"]
        assert (await create(api, "http", {"urls": HTTP["urls"]})).status_code == 201


async def test_a_folder_is_browsed_in_pages(api, root):
    """Ids as a selection takes them; a cursor belongs to its connection and folder."""
    (root / "sub").mkdir()
    await create(api, "local_directory", {"path": str(root)}, "shelf")
    files = "/v1/connections/shelf/files"
    first = (await api.http.get(files, params={"limit": 3})).json()
    assert [each["file_id"] for each in first["data"]] == ["a.txt", "b.txt", "c.txt"]
    rest = (await api.http.get(files, params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert [(each["file_id"], each["is_folder"]) for each in rest["data"]] == [("sub", True)]
    wrong = await api.http.get(files, params={"folder": "sub", "cursor": first["next_cursor"]})
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_cursor")
    lost = await api.http.get(files, params={"folder": "lost"})
    assert (lost.status_code, lost.json()["code"]) == (404, "source_file_not_found")
    climbing = await api.http.get(files, params={"folder": "../.."})
    assert (climbing.status_code, climbing.json()["code"]) == (422, "source_access_denied")


async def test_what_cannot_be_browsed_says_so(api):
    """A base address has no list."""
    await create(api, "http", {"base_url": "https://example.org/"}, "site")
    response = await api.http.get("/v1/connections/site/files")
    assert (response.status_code, response.json()["code"]) == (400, "source_not_browsable")


async def test_a_test_says_what_is_wrong_in_words(api, root):
    """200 either way: that a connection does not work is what was asked."""
    await create(api, "local_directory", {"path": f"{root}"}, "shelf")
    good = (await api.http.post("/v1/connections/shelf/test")).json()
    assert (good["ok"], good["code"], good["message"]) == (True, None, "The connection works.")
    async with drive_stand_in(a=DriveFile("a.txt")) as drive:
        await create(api, "google_drive", drive.as_user(), "drive")
        assert (await api.http.post("/v1/connections/drive/test")).json()["ok"] is True
        drive.token_troubles = [Told(400, b'{"error": "invalid_grant"}')]
        bad = (await api.http.post("/v1/connections/drive/test")).json()
    assert (bad["ok"], bad["code"]) == (False, "source_access_denied")
    assert "invalid_grant" in bad["message"]
    assert "consent" in bad["action"]


async def test_what_to_do_about_a_test_is_about_the_connection(api):
    """It has no document that could be retried, and the test itself is what was just done."""
    async with drive_stand_in(a=DriveFile("a.txt")) as drive:
        await create(api, "google_drive", drive.as_user(), "drive")
    away = (await api.http.post("/v1/connections/drive/test")).json()
    assert (away["ok"], away["code"]) == (False, "source_unavailable")
    assert "test again" in away["action"]


async def test_an_address_in_this_network_is_refused_with_who_may_allow_it():
    """Whoever tries it on the own machine finds the setting in the answer."""
    async with api_in_process(settings(allow_private=False)) as guarded:
        refused = await create(guarded, "http", {"base_url": "http://127.0.0.1:9/"})
    [error] = refused.json()["errors"]
    assert (refused.status_code, error["code"]) == (422, "source_access_denied")
    assert "INGATHER_SOURCES__ALLOW_PRIVATE" in error["detail"]


async def test_credentials_are_renewed_under_the_newest_key(api):
    """All at once; one whose key is gone is left as it is."""
    await create(api, "http", HTTP, "site")
    connections = api.catalog.connections
    before = await connections.get_connection(DEFAULT_TENANT_ID, "site")
    new = Fernet.generate_key().decode()
    async with api_in_process(settings(keys=f"{new},{KEY}")) as other:
        other.parts.connections.connections = connections
        assert await other.parts.connections.renew_all() == 1
        assert await other.parts.connections.renew_all() == 0
    after = await connections.get_connection(DEFAULT_TENANT_ID, "site")
    assert after.sealed != before.sealed
    assert await api.parts.connections.renew_all() == 0
    assert (await api.http.post("/v1/connections/site/test")).json()["code"] == "credential_key_missing"
