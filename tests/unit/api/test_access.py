"""Who is let in, for which tenant, in both modes."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from api.tokens import Tokens
from ingather.domain.api_keys import new_key
from ingather.models.accounts import User
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.settings import AuthSettings, Settings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.callers import ADMIN, READ, WRITE, key_of, new_tenant

OTHER = "11111111-1111-7111-8111-111111111111"
UNKNOWN = "99999999-9999-7999-8999-999999999999"
SECRET = "a secret that signs tokens, 32 bytes and more"


@pytest.fixture
async def closed() -> AsyncIterator[ApiInProcess]:
    """The API in required mode."""
    auth = AuthSettings(mode="required", token_secret=SECRET)
    async with api_in_process(Settings(auth=auth)) as running:
        await new_tenant(running.catalog.accounts, OTHER)
        yield running


async def user(api: ApiInProcess, **facts) -> User:
    given = {"user_id": UNKNOWN, "tenant_id": OTHER, "username": "ada", "created_at": datetime.now(UTC)} | facts
    made, _ = await api.catalog.accounts.add_user(User(**given), "no password fits")
    return made


# Required mode


async def test_a_request_without_a_credential_is_401(closed):
    """With the way to present one, and nothing about what was asked for."""
    response = await closed.http.get("/v1/batches")
    problem = response.json()
    assert (response.status_code, problem["code"]) == (401, "unauthorized")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="ingather"'


@pytest.mark.parametrize("header", ["X-API-Key", "Authorization"])
async def test_a_key_comes_in_either_header(closed, header):
    """As X-API-Key, or as a bearer token."""
    key = (await key_of(closed.catalog.accounts))["X-API-Key"]
    value = key if header == "X-API-Key" else f"bearer {key}"
    assert (await closed.http.get("/v1/batches", headers={header: value})).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": "ing_live_abcdefgh_" + "x" * 38},
        {"X-API-Key": new_key()[1]},
        {"X-API-Key": "hello"},
        {"Authorization": "Bearer hello"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "ing_live"},
    ],
    ids=["checksum", "unknown", "no key", "no token", "empty", "basic", "no scheme"],
)  # fmt: skip
async def test_a_wrong_credential_is_401_in_both_modes(closed, api, headers):
    """Also where none is needed: whoever presents one expects it to count."""
    for running in (closed, api):
        response = await running.http.get("/v1/batches", headers=headers)
        assert response.status_code == 401
        assert all(value not in response.text for value in headers.values() if len(value) > 8)


async def test_a_key_with_a_bad_checksum_is_refused_without_a_look_up(closed):
    """A flood of made-up keys does not reach the catalog."""
    asked = []
    accounts = closed.catalog.accounts
    found = accounts.get_key

    async def counted(key_id):
        asked.append(key_id)
        return await found(key_id)

    accounts.get_key = counted
    for wrong in (new_key()[1][:-1], new_key()[1].swapcase()):
        await closed.http.get("/v1/batches", headers={"X-API-Key": wrong})
    assert asked == []
    await closed.http.get("/v1/batches", headers={"X-API-Key": new_key()[1]})
    assert len(asked) == 1


async def test_a_revoked_key_is_refused_at_once(closed):
    """By the process that revoked it; others remember a key for two seconds."""
    accounts = closed.catalog.accounts
    admin = await key_of(accounts, ADMIN)
    key = await key_of(accounts)
    key_id = key["X-API-Key"][9:17]
    assert (await closed.http.get("/v1/batches", headers=key)).status_code == 200
    assert (await closed.http.delete(f"/v1/api-keys/{key_id}", headers=admin)).status_code == 204
    assert (await closed.http.get("/v1/batches", headers=key)).status_code == 401


async def test_an_expired_key_is_refused(closed):
    """From the moment on that it was given."""
    expired = await key_of(closed.catalog.accounts, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (await closed.http.get("/v1/batches", headers=expired)).status_code == 401


async def test_a_key_s_last_use_is_noted_once_a_minute(closed):
    """Soon after it was used, and not at every request."""
    accounts = closed.catalog.accounts
    key = await key_of(accounts)
    written = []
    note = accounts.note_key_used

    async def counted(key_id, at):
        written.append(key_id)
        await note(key_id, at)

    accounts.note_key_used = counted
    for _ in range(5):
        await closed.http.get("/v1/batches", headers=key)
    await closed.parts.gate.authenticator.close()
    [known, _] = await accounts.get_key(key["X-API-Key"][9:17])
    assert len(written) == 1
    assert datetime.now(UTC) - known.last_used_at < timedelta(minutes=1)


async def test_scopes_say_what_a_key_may(closed):
    """403 within one's own tenant, and what is missing."""
    read = await key_of(closed.catalog.accounts, READ)
    assert (await closed.http.get("/v1/batches", headers=read)).status_code == 200
    response = await closed.http.post("/v1/batches", headers=read, json={"documents": []})
    assert (response.status_code, response.json()["code"], response.json()["scope"]) == (403, "scope_missing", "write")
    write = await key_of(closed.catalog.accounts, WRITE)
    assert (await closed.http.get("/v1/batches", headers=write)).status_code == 403


async def test_the_credential_decides_the_tenant(closed):
    """Its batches are its tenant's; another tenant in the header is 404."""
    key = await key_of(closed.catalog.accounts, tenant_id=OTHER, name="nightly import")
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    batch = (await closed.http.post("/v1/batches", headers=key, json=body)).json()
    assert (batch["tenant_id"], batch["created_by"]) == (OTHER, "key:nightly import")
    assert (await closed.http.get("/v1/batches", headers={**key, "X-Tenant-ID": OTHER})).status_code == 200
    for named in (DEFAULT_TENANT_ID, UNKNOWN, "no id"):
        response = await closed.http.get("/v1/batches", headers={**key, "X-Tenant-ID": named})
        assert (response.status_code, response.json()["code"]) == (404, "tenant_not_found")


async def test_health_and_documentation_are_open(closed):
    """Whoever watches a service needs no key for it."""
    for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/sign-in", "/problems/unauthorized"):
        assert (await closed.http.get(path)).status_code in {200, 503}, path


# Tokens


async def test_a_token_acts_for_its_user(closed):
    """Its tenant, its name, its scopes as they are now."""
    ada = await user(closed)
    token = closed.parts.accounts.authenticator.tokens.issue(ada).token
    headers = {"Authorization": f"Bearer {token}"}
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    batch = (await closed.http.post("/v1/batches", headers=headers, json=body)).json()
    assert (batch["tenant_id"], batch["created_by"]) == (OTHER, "ada")
    assert (
        await closed.http.post("/v1/users", headers=headers, json={"username": "b", "password": "c"})
    ).status_code == 403


async def test_a_deleted_user_s_token_is_refused(closed):
    """Long before it expires."""
    ada = await user(closed)
    admin = await key_of(closed.catalog.accounts, ADMIN)
    headers = {"Authorization": f"Bearer {closed.parts.accounts.authenticator.tokens.issue(ada).token}"}
    assert (await closed.http.get("/v1/batches", headers=headers)).status_code == 200
    assert (await closed.http.delete(f"/v1/users/{ada.user_id}", headers=admin)).status_code == 204
    assert (await closed.http.get("/v1/batches", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "somebody else"},
        {"iss": "somebody else"},
        {"exp": datetime.now(UTC) - timedelta(minutes=1)},
        {"sub": None},
        {"exp": None},
        {"aud": None},
    ],
    ids=["audience", "issuer", "expired", "no subject", "no end", "no audience"],
)
async def test_a_token_must_be_one_of_ours(closed, changes):
    """Issuer, audience and time are checked, and none may be missing."""
    ada = await user(closed)
    now = datetime.now(UTC)
    claims = {"sub": ada.user_id, "iss": "ingather", "aud": "ingather-api", "iat": now, "exp": now + timedelta(hours=1)}
    right = jwt.encode(claims, SECRET, algorithm="HS256")
    wrong_claims = {name: value for name, value in (claims | changes).items() if value is not None}
    wrong = jwt.encode(wrong_claims, SECRET, algorithm="HS256")
    assert (await closed.http.get("/v1/batches", headers={"Authorization": f"Bearer {right}"})).status_code == 200
    assert (await closed.http.get("/v1/batches", headers={"Authorization": f"Bearer {wrong}"})).status_code == 401


async def test_a_token_must_be_signed_by_us(closed):
    """Neither with another secret nor with none."""
    ada = await user(closed)
    lifetime = timedelta(hours=1)
    other = Tokens(
        b"another secret, 32 bytes and some more", issuer="ingather", audience="ingather-api", lifetime=lifetime
    )
    claims = {"sub": ada.user_id, "iss": "ingather", "aud": "ingather-api", "iat": 0, "exp": 4_000_000_000}
    for token in (other.issue(ada).token, jwt.encode(claims, None, algorithm="none")):
        assert (await closed.http.get("/v1/batches", headers={"Authorization": f"Bearer {token}"})).status_code == 401


# Open mode


async def test_an_open_deployment_asks_for_nothing(api):
    """Whoever says nothing acts for the default tenant, as anonymous."""
    batch = await api.submit()
    assert (batch["tenant_id"], batch["created_by"]) == (DEFAULT_TENANT_ID, "anonymous")


async def test_an_open_deployment_takes_the_tenant_that_is_named(api):
    """By the header, else by the credential."""
    await new_tenant(api.catalog.accounts, OTHER)
    key = await key_of(api.catalog.accounts, tenant_id=OTHER)
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    for headers in ({"X-Tenant-ID": OTHER.upper()}, key, {**key, "X-Tenant-ID": OTHER}):
        assert (await api.http.post("/v1/batches", headers=headers, json=body)).json()["tenant_id"] == OTHER
    named = {**key, "X-Tenant-ID": DEFAULT_TENANT_ID}
    assert (await api.http.post("/v1/batches", headers=named, json=body)).json()["tenant_id"] == DEFAULT_TENANT_ID
    assert (await api.http.get("/v1/batches", headers={"X-Tenant-ID": UNKNOWN})).status_code == 404


async def test_an_id_alone_finds_its_batch_in_any_tenant(api):
    """Unless X-Tenant-ID narrows it. Lists stay with one tenant."""
    await new_tenant(api.catalog.accounts, OTHER)
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    batch = (await api.http.post("/v1/batches", headers={"X-Tenant-ID": OTHER}, json=body)).json()
    key = await key_of(api.catalog.accounts)
    for path in (
        f"/v1/batches/{batch['id']}",
        f"/v1/batches/{batch['id']}/documents",
        f"/v1/batches/{batch['id']}/report",
    ):
        assert (await api.http.get(path)).status_code == 200, path
        assert (await api.http.get(path, headers=key)).status_code == 200, path
        assert (await api.http.get(path, headers={"X-Tenant-ID": OTHER})).status_code == 200, path
        assert (await api.http.get(path, headers={"X-Tenant-ID": DEFAULT_TENANT_ID})).status_code == 404, path
    assert (await api.http.post(f"/v1/batches/{batch['id']}/pause")).status_code == 202
    assert (await api.http.get("/v1/batches")).json()["data"] == []


async def test_administration_is_free_where_it_is_open(api):
    """Also with a key that could not do it elsewhere."""
    key = await key_of(api.catalog.accounts, READ)
    for headers in ({}, key):
        assert (await api.http.post("/v1/tenants", headers=headers, json={"name": "acme"})).status_code == 201
