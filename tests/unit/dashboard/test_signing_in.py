"""Signing in with a browser: what the cookie opens, what proves that a page of ours used it, what ends it."""

import re

import pytest

from api.sessions import COOKIE
from ingather.domain.api_keys import key_hash, new_key
from ingather.models.accounts import ApiKey, Scope
from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.catalog_records import NOON

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def key(closed_api) -> str:
    key_id, secret = new_key()
    facts = ApiKey(key_id=key_id, tenant_id=DEFAULT_TENANT_ID, name="ada's", scopes=frozenset(Scope), created_at=NOON)
    await closed_api.catalog.accounts.add_key(facts, key_hash(secret))
    return secret


@pytest.fixture
async def signed_in(closed_api, key):
    """A browser that has just signed in with a key."""
    response = await closed_api.http.post("/sign-in", data={"key": key, "next": "/submit"})
    assert (response.status_code, response.headers["location"]) == (303, "/submit"), response.text
    return closed_api


async def proof_of(api) -> str:
    [token] = re.findall(r'name="csrf-token" content="([0-9a-f]+)"', (await api.http.get("/")).text)
    return token


async def test_who_is_not_signed_in_is_shown_the_way(closed_api):
    """And comes back to where he wanted to go; a part of a page leads there too."""
    response = await closed_api.http.get("/batches/1?status=failed")
    assert (response.status_code, response.headers["location"]) == (
        303, "/sign-in?next=%2Fbatches%2F1%3Fstatus%3Dfailed",
    )  # fmt: skip
    part = await closed_api.http.get("/?fragment=rows", headers={"HX-Request": "true"})
    assert (part.status_code, part.headers["hx-redirect"]) == (401, "/sign-in")
    assert "Sign in" in (await closed_api.http.get("/sign-in")).text


async def test_a_user_signs_in_with_name_and_password(closed_api, key):
    """A wrong password says nothing about the name, and keeps it in the form."""
    made = await closed_api.http.post(
        "/v1/users", json={"username": "ada", "password": PASSWORD}, headers={"X-API-Key": key}
    )
    assert made.status_code == 201
    wrong = await closed_api.http.post("/sign-in", data={"username": "ada", "password": "wrong"})
    assert wrong.status_code == 401
    assert "That is not a name and password" in wrong.text
    assert 'value="ada"' in wrong.text
    right = await closed_api.http.post("/sign-in", data={"username": "ada", "password": PASSWORD})
    assert right.status_code == 303
    me = (await closed_api.http.get("/v1/me")).json()
    assert (me["user"], me["tenant_name"], me["scopes"], me["credential"]) == (
        "ada",
        "default",
        ["read", "write"],
        "token",
    )


async def test_the_cookie_is_for_requests_alone(closed_api, key):
    """No script reads it, no other site's page sends it along with a change, and it is no key."""
    response = await closed_api.http.post("/sign-in", data={"key": key})
    cookie = response.headers["set-cookie"].lower()
    assert cookie.startswith(f"{COOKIE}=ing_session_")
    assert {"httponly", "samesite=lax", "path=/"} <= {part.strip() for part in cookie.split(";")}
    assert key.lower() not in cookie


async def test_a_change_needs_the_proof_of_a_page(signed_in):
    """With the cookie alone, or a wrong token, or from another site's page, nothing is changed; reading needs none."""
    token = await proof_of(signed_in)
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    for headers in ({}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": token, "Sec-Fetch-Site": "cross-site"}):
        refused = await signed_in.http.post("/v1/batches", json=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (403, "unproven_request")
    assert (await signed_in.http.get("/v1/batches")).json()["data"] == []
    accepted = await signed_in.http.post("/v1/batches", json=body, headers={"X-CSRF-Token": token})
    assert accepted.status_code == 202
    assert accepted.json()["created_by"] == "key:ada's"


async def test_a_form_carries_the_proof(signed_in):
    """In a field; without it the page says what is wrong, and nothing is done."""
    token = await proof_of(signed_in)
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    batch = (await signed_in.http.post("/v1/batches", json=body, headers={"X-CSRF-Token": token})).json()
    where = f"/batches/{batch['id']}/pause"
    refused = await signed_in.http.post(where)
    assert (refused.status_code, signed_in.engine.messages) == (403, [])
    assert "Reload the page" in refused.text
    assert (await signed_in.http.post(where, data={"csrf_token": token})).status_code == 303
    assert len(signed_in.engine.messages) == 1


async def test_a_sign_out_ends_the_session_everywhere(signed_in):
    """A copy of the cookie opens nothing any more."""
    token, copy = await proof_of(signed_in), signed_in.http.cookies[COOKIE]
    response = await signed_in.http.post("/sign-out", data={"csrf_token": token})
    assert (response.status_code, response.headers["location"]) == (303, "/sign-in")
    assert COOKIE not in signed_in.http.cookies
    again = await signed_in.http.get("/v1/batches", headers={"Cookie": f"{COOKIE}={copy}"})
    assert again.status_code == 401


async def test_a_session_ends_with_its_key(signed_in, key):
    """Whoever revokes the key need not know who signed in with it."""
    key_id = key.split("_")[2]
    await signed_in.catalog.accounts.revoke_key(key_id, NOON)
    signed_in.parts.gate.authenticator.forget_key(key_id)
    assert (await signed_in.http.get("/v1/batches")).status_code == 401


async def test_a_session_opens_no_other(signed_in):
    """It would last for ever."""
    token = await proof_of(signed_in)
    response = await signed_in.http.post("/v1/sessions", headers={"X-CSRF-Token": token})
    assert response.status_code == 401


async def test_an_open_deployment_asks_nobody(api):
    """The way to sign in leads on at once."""
    response = await api.http.get("/sign-in?next=/search")
    assert (response.status_code, response.headers["location"]) == (303, "/search")
    assert (await api.http.get("/v1/me")).json()["auth"] == "open"
