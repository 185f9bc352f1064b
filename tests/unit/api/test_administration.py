"""Tenants, users, API keys and tokens over HTTP."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from api.sessions import COOKIE, new_session, session_hash
from ingather.domain.api_keys import key_hash, new_key
from ingather.models.accounts import CredentialKind, Session
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.settings import AuthSettings, Settings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.callers import ADMIN, key_of, new_tenant

OTHER = "11111111-1111-7111-8111-111111111111"
SCHEMA = {"type": "object", "required": ["author"], "properties": {"author": {"type": "string"}}}
DOCUMENTS = [{"filename": "a.txt", "content": "aGVsbG8="}]


@pytest.fixture
async def closed():
    async with api_in_process(Settings(auth=AuthSettings(mode="required"))) as running:
        yield running


async def created(api: ApiInProcess, path: str, headers=None, **body):
    response = await api.http.post(path, json=body, headers=headers)
    assert response.status_code == 201, response.text
    return response.json()


# Tenants


async def test_a_tenant_is_registered_with_its_settings(api):
    """All of them come back, and it is at its Location."""
    body = {
        "name": "Acme",
        "pipeline": "handoff",
        "default_metadata": {"source": "acme"},
        "metadata_schema": SCHEMA,
        "collection_schemas": {"reports": {"type": "object"}},
        "limits": {"max_concurrent_jobs": 2, "max_file_bytes": 1000},
        "fairness_weight": 2.5,
    }
    response = await api.http.post("/v1/tenants", json=body)
    made = response.json()
    assert response.status_code == 201
    assert made["id"] == made["tenant_id"]
    assert {name: made[name] for name in body} == body
    assert (await api.http.get(response.headers["Location"])).json() == made


async def test_a_tenant_may_bring_its_id(api):
    """A platform's tenants have ids already; the same again is the same tenant, another one under it is 409."""
    for _ in range(2):
        assert (await created(api, "/v1/tenants", name="Acme", tenant_id=OTHER))["id"] == OTHER
    response = await api.http.post("/v1/tenants", json={"name": "Other", "tenant_id": OTHER})
    assert (response.status_code, response.json()["code"]) == (409, "already_exists")


async def test_a_repeated_request_registers_one_tenant(api):
    """By its Idempotency-Key."""
    headers = {"Idempotency-Key": "k-1"}
    first = await api.http.post("/v1/tenants", json={"name": "Acme"}, headers=headers)
    second = await api.http.post("/v1/tenants", json={"name": "Acme"}, headers=headers)
    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": ""},
        {"name": "a", "pipeline": "unknown"},
        {"name": "a", "pipeline": "noop"},
        {"name": "a", "metadata_schema": {"type": "nothing"}},
        {"name": "a", "collection_schemas": {"c": {"type": 5}}},
        {"name": "a", "metadata_schema": {"$ref": "http://127.0.0.1/schema.json"}},
        {"name": "a", "limits": {"no_such_limit": 1}},
        {"name": "a", "limits": {"max_concurrent_jobs": 0}},
        {"name": "a", "fairness_weight": 0},
        {"name": "a", "tenant_id": "no id"},
        {"name": "a", "unknown": 1},
        {"name": "a", "default_metadata": {"x": "y" * 300_000}},
        {"name": "a", "default_metadata": {"x": 1 << 64}},
        {"name": "a", "metadata_schema": {"title": "\ud800"}},
    ],
)
async def test_what_fits_no_tenant_is_422(api, body):
    """Also a schema that is none, and what JSON can carry and nothing can keep."""
    content = json.dumps(body)
    response = await api.http.post("/v1/tenants", content=content, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")


async def test_a_tenant_s_settings_are_edited_one_by_one(api):
    """What is not sent stays; null takes a schema away."""
    made = await created(api, "/v1/tenants", name="Acme", metadata_schema=SCHEMA, limits={"max_file_bytes": 5})
    path = f"/v1/tenants/{made['id']}"
    edited = (await api.http.patch(path, json={"pipeline": "handoff", "limits": {"max_concurrent_jobs": 1}})).json()
    assert (edited["pipeline"], edited["limits"], edited["metadata_schema"]) == (
        "handoff",
        {"max_concurrent_jobs": 1},
        SCHEMA,
    )
    edited = (await api.http.patch(path, json={"metadata_schema": None, "limits": None, "pipeline": None})).json()
    assert (edited["metadata_schema"], edited["limits"], edited["pipeline"]) == (None, {}, "ingest")
    assert (await api.http.patch(path, json={})).status_code == 422


async def test_a_deleted_tenant_is_gone(api):
    """Nobody can act for it, and its id is never used again; the default tenant stays."""
    made = await created(api, "/v1/tenants", name="Acme")
    path = f"/v1/tenants/{made['id']}"
    assert (await api.http.delete(path)).status_code == 204
    assert (await api.http.get(path)).status_code == 404
    assert (await api.http.delete(path)).status_code == 404
    assert (await api.http.get("/v1/batches", headers={"X-Tenant-ID": made["id"]})).status_code == 404
    assert made["id"] not in (await api.http.get("/v1/tenants")).text
    assert (await api.http.delete(f"/v1/tenants/{DEFAULT_TENANT_ID}")).status_code == 409
    again = await api.http.post("/v1/tenants", json={"name": "Acme", "tenant_id": made["id"]})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    assert "deleted" in again.json()["detail"]


async def test_a_tenant_s_settings_reach_its_batches(api):
    """Pipeline, share of the workers and limits, as they are when the batch is made."""
    made = await created(
        api,
        "/v1/tenants",
        name="Acme",
        pipeline="handoff",
        fairness_weight=3,
        limits={"max_documents_per_batch": 2, "max_file_bytes": 4, "max_request_bytes": 100_000},
    )
    headers = {"X-Tenant-ID": made["id"]}
    batch = (await api.http.post("/v1/batches", headers=headers, json={"documents": DOCUMENTS})).json()
    spec = api.engine.specs[batch["id"]]
    assert (batch["pipeline"], spec.fairness_weight, spec.max_documents) == ("handoff", 3.0, 2)
    preview = await api.http.post("/v1/batches?dry_run=true", headers=headers, json={"documents": DOCUMENTS})
    assert preview.json()["refused"][0]["code"] == "too_large"
    response = await api.http.post("/v1/batches", headers=headers, json={"documents": DOCUMENTS * 3})
    assert (response.status_code, response.json()["code"]) == (413, "batch_too_large")
    files = [("files", ("a.txt", b"x" * 200_000))]
    assert (await api.http.post("/v1/batches", headers=headers, files=files)).status_code == 413
    named = (
        await api.http.post("/v1/batches", headers=headers, json={"documents": DOCUMENTS, "pipeline": "ingest"})
    ).json()
    assert named["pipeline"] == "ingest"


# Users and tokens


async def test_a_user_logs_in(closed):
    """With the right password, for a token that acts as the user; the password is nowhere to be read."""
    accounts = closed.catalog.accounts
    await new_tenant(accounts, OTHER)
    admin = await key_of(accounts, ADMIN)
    made = await created(closed, "/v1/users", admin, username="ada", password="correct horse", tenant_id=OTHER)
    assert (made["username"], made["tenant_id"], made["scopes"]) == ("ada", OTHER, ["read", "write"])
    assert "horse" not in (await closed.http.get("/v1/users", headers=admin)).text
    known = await accounts.find_user("ada")
    assert known is not None
    assert known[1].startswith("$argon2id$")

    response = await closed.http.post("/v1/tokens", json={"username": "ada", "password": "correct horse"})
    token = response.json()
    assert (response.status_code, token["token_type"]) == (200, "bearer")
    assert 3_500 < token["expires_in"] <= 3_600
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    batch = (await closed.http.post("/v1/batches", headers=headers, json={"documents": DOCUMENTS})).json()
    assert (batch["tenant_id"], batch["created_by"]) == (OTHER, "ada")


@pytest.mark.parametrize(("username", "password"), [("ada", "wrong"), ("nobody", "correct horse")])
async def test_a_wrong_password_and_an_unknown_user_look_alike(api, username, password):
    """401 in the same words."""
    await created(api, "/v1/users", username="ada", password="correct horse")
    response = await api.http.post("/v1/tokens", json={"username": username, "password": password})
    assert (response.status_code, response.json()["detail"]) == (401, "User name or password is wrong.")


@pytest.mark.parametrize("path", ["/v1/users", "/v1/tokens"])
async def test_a_password_is_text(api, path):
    """Half of a character, which JSON can carry, is 422, and not told again."""
    content = json.dumps({"username": "ada", "password": "horse \ud800"})
    response = await api.http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (422, "validation_failed")
    assert "horse" not in response.text


async def test_user_names_are_unique(api):
    """In the whole deployment, since one logs in with a name alone. A deleted user's name is free again."""
    made = await created(api, "/v1/users", username="ada", password="a")
    response = await api.http.post("/v1/users", json={"username": "ada", "password": "b"})
    assert (response.status_code, response.json()["code"]) == (409, "already_exists")
    assert (await api.http.delete(f"/v1/users/{made['id']}")).status_code == 204
    await created(api, "/v1/users", username="ada", password="b")


async def signed_in(api: ApiInProcess, username: str, password: str) -> dict[str, str]:
    """Headers with a fresh token."""
    answer = await api.http.post("/v1/tokens", json={"username": username, "password": password})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_a_disabled_user_is_refused_whatever_it_shows(closed):
    """Its password, its token and a key that acts as it; all of them count again once it is let in."""
    admin = await key_of(closed.catalog.accounts, ADMIN)
    user = await created(closed, "/v1/users", admin, username="ada", password="a")
    key = await created(closed, "/v1/api-keys", admin, name="ada's", user="ada")
    shown = [await signed_in(closed, "ada", "a"), {"X-API-Key": key["key"]}]
    where = f"/v1/users/{user['id']}"

    edited = await closed.http.patch(where, headers=admin, json={"is_disabled": True})
    assert (edited.status_code, edited.json()["is_disabled"]) == (200, True)
    for headers in shown:
        assert (await closed.http.get("/v1/batches", headers=headers)).status_code == 401
    refused = await closed.http.post("/v1/tokens", json={"username": "ada", "password": "a"})
    assert (refused.status_code, refused.json()["detail"]) == (401, "The user is disabled.")

    await closed.http.patch(where, headers=admin, json={"is_disabled": False})
    for headers in shown:
        assert (await closed.http.get("/v1/batches", headers=headers)).status_code == 200


async def test_a_new_password_ends_what_the_old_one_opened(closed):
    """Tokens and sessions from before; what the new one opens counts, and keys are not touched."""
    accounts = closed.catalog.accounts
    admin = await key_of(accounts, ADMIN)
    user = await created(closed, "/v1/users", admin, username="ada", password="a")
    before = datetime.now(UTC) - timedelta(minutes=1)
    session = Session(
        tenant_id=DEFAULT_TENANT_ID,
        kind=CredentialKind.TOKEN,
        credential_id=user["id"],
        created_at=before,
        expires_at=before + timedelta(hours=1),
    )
    secret = new_session()
    await accounts.add_session(session, session_hash(secret))
    cookie = {"Cookie": f"{COOKIE}={secret}"}
    assert (await closed.http.get("/v1/batches", headers=cookie)).status_code == 200

    await closed.http.patch(f"/v1/users/{user['id']}", headers=admin, json={"password": "b"})
    refused = await closed.http.get("/v1/batches", headers=cookie)
    assert (refused.status_code, refused.json()["detail"]) == (401, "The password was changed since.")
    assert (await closed.http.post("/v1/tokens", json={"username": "ada", "password": "a"})).status_code == 401
    assert (await closed.http.get("/v1/batches", headers=await signed_in(closed, "ada", "b"))).status_code == 200


async def test_what_a_user_may_do_can_be_changed_and_is_on_record(closed):
    """By an administrator, who cannot take its own access away; of a password the record says that it changed."""
    admin = await key_of(closed.catalog.accounts, ADMIN)
    user = await created(closed, "/v1/users", admin, username="ada", password="a", scopes=["admin"])
    where, own = f"/v1/users/{user['id']}", await signed_in(closed, "ada", "a")
    for body in ({"is_disabled": True}, {"scopes": ["read"]}):
        refused = await closed.http.patch(where, headers=own, json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    for body in ({}, {"scopes": []}, {"password": ""}, {"username": "eve"}):
        assert (await closed.http.patch(where, headers=admin, json=body)).status_code == 422
    edited = await closed.http.patch(where, headers=admin, json={"scopes": ["read"], "password": "secret b"})
    assert edited.json()["scopes"] == ["read"]
    assert (await closed.http.patch(where, headers=own, json={"scopes": ["admin"]})).status_code in {401, 403}
    answer = await closed.http.get("/v1/audit?event_type=USER_CHANGED", headers=admin)
    [event] = answer.json()["data"]
    assert (event["details"]["scopes"], event["details"]["password_changed"]) == (["read"], True)
    assert "secret b" not in answer.text


# API keys


async def test_a_key_is_shown_once(closed):
    """When it is made; afterwards there is only what it is for."""
    admin = await key_of(closed.catalog.accounts, ADMIN)
    made = await created(closed, "/v1/api-keys", admin, name="nightly")
    assert made["key"].startswith(f"{made['prefix']}_")
    assert (await closed.http.get("/v1/batches", headers={"X-API-Key": made["key"]})).status_code == 200
    for path in ("/v1/api-keys", f"/v1/api-keys/{made['id']}"):
        answer = await closed.http.get(path, headers=admin)
        assert made["key"] not in answer.text
        assert '"nightly"' in answer.text
    known = await closed.catalog.accounts.get_key(made["id"])
    assert known is not None
    assert known[1] == key_hash(made["key"])


async def test_a_repeated_request_makes_one_key(api):
    """Its replay cannot show the key again, and says so by leaving it out."""
    headers = {"Idempotency-Key": "k-1"}
    first = await api.http.post("/v1/api-keys", json={"name": "a"}, headers=headers)
    second = await api.http.post("/v1/api-keys", json={"name": "a"}, headers=headers)
    assert (second.json()["id"], second.json()["key"]) == (first.json()["id"], None)
    assert second.headers["Idempotency-Replayed"] == "true"


async def test_a_key_may_act_as_a_user(closed):
    """Named by name or id; it dies with the user."""
    admin = await key_of(closed.catalog.accounts, ADMIN)
    user = await created(closed, "/v1/users", admin, username="ada", password="a")
    for named in ("ada", user["id"]):
        made = await created(closed, "/v1/api-keys", admin, name="ada's", user=named)
        headers = {"X-API-Key": made["key"]}
        batch = (await closed.http.post("/v1/batches", headers=headers, json={"documents": DOCUMENTS})).json()
        assert batch["created_by"] == "ada"
    response = await closed.http.post("/v1/api-keys", headers=admin, json={"name": "a", "user": "nobody"})
    assert response.status_code == 404
    await closed.http.delete(f"/v1/users/{user['id']}", headers=admin)
    assert (await closed.http.get("/v1/batches", headers=headers)).status_code == 401


async def test_a_rotated_key_leaves_two_live_ones(closed):
    """The new one and, for the grace, the old one; a third rotation ends the first at once."""
    admin = await key_of(closed.catalog.accounts, ADMIN)
    keys = [await created(closed, "/v1/api-keys", admin, name="nightly")]
    for _ in range(2):
        own = {"X-API-Key": keys[-1]["key"]}
        keys.append(await created(closed, f"/v1/api-keys/{keys[-1]['id']}/rotate", own))
    statuses = [(await closed.http.get("/v1/batches", headers={"X-API-Key": key["key"]})).status_code for key in keys]
    assert statuses == [401, 200, 200]
    assert (keys[2]["name"], keys[2]["rotated_from"]) == ("nightly", keys[1]["id"])
    old = (await closed.http.get(f"/v1/api-keys/{keys[1]['id']}", headers=admin)).json()
    left = datetime.fromisoformat(old["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left <= timedelta(hours=24)


async def test_a_key_is_rotated_once(closed):
    """Whoever has a key that was rotated cannot renew it while it still is accepted."""
    admin = await key_of(closed.catalog.accounts, ADMIN)
    made = await created(closed, "/v1/api-keys", admin, name="leaked")
    path = f"/v1/api-keys/{made['id']}/rotate"
    await created(closed, path, admin)
    for headers in ({"X-API-Key": made["key"]}, admin):
        response = await closed.http.post(path, headers=headers, json={})
        assert (response.status_code, response.json()["code"]) == (409, "invalid_state")
    listed = (await closed.http.get("/v1/api-keys", headers=admin)).json()["data"]
    assert [key["name"] for key in listed].count("leaked") == 2


async def test_a_repeated_rotation_is_one(closed):
    """By its Idempotency-Key: a lost answer can be asked for again, to learn which key to revoke."""
    admin = await key_of(closed.catalog.accounts, ADMIN)
    made = await created(closed, "/v1/api-keys", admin, name="nightly")
    path, headers = f"/v1/api-keys/{made['id']}/rotate", admin | {"Idempotency-Key": "r-1"}
    first = await closed.http.post(path, headers=headers, json={})
    second = await closed.http.post(path, headers=headers, json={})
    assert (second.status_code, second.json()["id"], second.json()["key"]) == (201, first.json()["id"], None)
    assert second.headers["Idempotency-Replayed"] == "true"
    other = await closed.http.post(path, headers=headers, json={"grace_seconds": 5})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


ADA = {"username": "ada", "password": "correct horse"}


@pytest.mark.parametrize(
    ("path", "body", "changes"),
    [
        ("/v1/users", ADA, {"username": "bob"}),
        ("/v1/users", ADA, {"password": "another"}),
        ("/v1/users", ADA, {"scopes": ["read"]}),
        ("/v1/api-keys", {"name": "a"}, {"name": "b"}),
        ("/v1/api-keys", {"name": "a"}, {"scopes": ["read"]}),
        ("/v1/api-keys", {"name": "a"}, {"expires_at": "2099-01-01T00:00:00Z"}),
        ("/v1/tenants", {"name": "a"}, {"name": "b"}),
    ],
)
async def test_an_idempotency_key_stands_for_one_request(api, path, body, changes):
    """The same again is a replay, another one is 422 and makes nothing; one that cannot be a key is 400."""
    headers = {"Idempotency-Key": "k-1"}
    first = await api.http.post(path, headers=headers, json=body)
    again = await api.http.post(path, headers=headers, json=body)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    other = await api.http.post(path, headers=headers, json=body | changes)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    unusable = await api.http.post(path, headers={"Idempotency-Key": "k" * 256}, json=body)
    assert unusable.status_code == 400


async def test_two_tenants_idempotency_keys_do_not_meet(api):
    """Each tenant's keys are its own."""
    await created(api, "/v1/tenants", name="Acme", tenant_id=OTHER)
    ids = set()
    for username, tenant in (("ada", OTHER), ("bob", DEFAULT_TENANT_ID)):
        headers = {"Idempotency-Key": "k-1", "X-Tenant-ID": tenant}
        ids.add((await created(api, "/v1/users", headers, username=username, password="a"))["id"])
    assert len(ids) == 2


async def test_without_grace_the_old_key_ends_at_once(closed):
    """For a key that has leaked."""
    admin = await key_of(closed.catalog.accounts, ADMIN)
    made = await created(closed, "/v1/api-keys", admin, name="leaked")
    await created(closed, f"/v1/api-keys/{made['id']}/rotate", admin, grace_seconds=0)
    assert (await closed.http.get("/v1/batches", headers={"X-API-Key": made["key"]})).status_code == 401


async def test_a_key_s_end_lies_in_the_future(api):
    """One that never would be accepted is a mistake, and so is one that UTC has no date for."""
    for end in ("2020-01-01T00:00:00Z", "9999-12-31T23:59:59-12:00"):
        response = await api.http.post("/v1/api-keys", json={"name": "a", "expires_at": end})
        assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "#/expires_at")


async def test_without_the_scope_nothing_is_administered(closed):
    """403 for what is one's own, and one sees one's own alone."""
    accounts = closed.catalog.accounts
    await new_tenant(accounts, OTHER)
    admin, plain = await key_of(accounts, ADMIN), await key_of(accounts)
    user = await created(closed, "/v1/users", admin, username="ada", password="a")
    key_id = plain["X-API-Key"][9:17]
    refused = [
        await closed.http.post("/v1/tenants", headers=plain, json={"name": "a"}),
        await closed.http.patch(f"/v1/tenants/{DEFAULT_TENANT_ID}", headers=plain, json={"name": "a"}),
        await closed.http.delete(f"/v1/tenants/{DEFAULT_TENANT_ID}", headers=plain),
        await closed.http.post("/v1/users", headers=plain, json={"username": "b", "password": "b"}),
        await closed.http.delete(f"/v1/users/{user['id']}", headers=plain),
        await closed.http.post("/v1/api-keys", headers=plain, json={"name": "a", "scopes": ["admin"]}),
        await closed.http.delete(f"/v1/api-keys/{key_id}", headers=plain),
    ]
    assert [(answer.status_code, answer.json()["scope"]) for answer in refused] == [(403, "admin")] * len(refused)
    seen = (await closed.http.get("/v1/tenants", headers=plain)).json()["data"]
    assert [tenant["id"] for tenant in seen] == [DEFAULT_TENANT_ID]
    assert len((await closed.http.get("/v1/tenants", headers=admin)).json()["data"]) == 2


async def test_the_first_key_is_known_by_its_hash(closed):
    """Registered at every start, made an administrator's, and never brought back once it was revoked."""
    key_id, key = new_key()
    service = closed.parts.accounts
    for _ in range(2):
        await service.register_first_key(f"{key_id}.{key_hash(key)}")
    headers = {"X-API-Key": key}
    assert (await closed.http.get("/v1/tenants", headers=headers)).status_code == 200
    assert (await closed.http.delete(f"/v1/api-keys/{key_id}", headers=headers)).status_code == 204
    await service.register_first_key(f"{key_id}.{key_hash(key)}")
    assert (await closed.http.get("/v1/tenants", headers=headers)).status_code == 401


# Lists


@pytest.mark.parametrize("path", ["/v1/tenants", "/v1/users", "/v1/api-keys"])
async def test_lists_come_in_pages(api, path):
    """Newest first, with a cursor that is this list's own: nothing is left out, nothing comes twice."""
    for number in range(5):
        body = {"/v1/users": {"username": f"u{number}", "password": "p"}}.get(path, {"name": f"n{number}"})
        await created(api, path, **body)
    whole = (await api.http.get(path)).json()
    assert (whole["has_more"], whole["next_cursor"]) == (False, None)
    found, cursor = [], {}
    while cursor is not None:
        page = (await api.http.get(path, params={"limit": 2, **cursor})).json()
        assert len(page["data"]) <= 2
        found += page["data"]
        cursor = {"cursor": page["next_cursor"]} if page["has_more"] else None
    assert found == whole["data"]
    first = (await api.http.get(path, params={"limit": 1})).json()["next_cursor"]
    for other in {"/v1/tenants", "/v1/users", "/v1/api-keys"} - {path}:
        response = await api.http.get(other, params={"cursor": first})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


async def test_tenants_are_found_by_name(api, closed):
    """Exactly; whoever is no administrator finds its own alone."""
    await created(api, "/v1/tenants", name="Acme")
    await created(api, "/v1/tenants", name="Acme Two")
    found = (await api.http.get("/v1/tenants", params={"name": "Acme"})).json()["data"]
    assert [tenant["name"] for tenant in found] == ["Acme"]
    key = await key_of(closed.catalog.accounts)
    for name, count in (("default", 1), ("Acme", 0)):
        listed = await closed.http.get("/v1/tenants", params={"name": name}, headers=key)
        assert len(listed.json()["data"]) == count
