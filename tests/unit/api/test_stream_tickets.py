"""Stream tickets: what opens a stream where no header can be sent, and what does not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.requests import HTTPConnection

from api.composition import build_tokens
from api.routes.events import follow_batch
from api.tickets import OPENED_WITHIN, stream_of_batch
from ingather.domain.api_keys import key_id_of
from ingather.models.accounts import CredentialKind, Principal, User
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.settings import AuthSettings, Settings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.callers import READ, WRITE, key_of

SECRET = "a secret that signs tokens, 32 bytes and more"
BODY = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
LET_IN = 406
"""Asked for HTML, a stream that one may open has nothing to offer, and says so before it begins."""
SECOND = timedelta(seconds=1)


@pytest.fixture
async def closed() -> AsyncIterator[ApiInProcess]:
    """The API in required mode."""
    async with api_in_process(Settings(auth=AuthSettings(mode="required", token_secret=SECRET))) as running:
        yield running


@pytest.fixture
async def key(closed) -> dict[str, str]:
    return await key_of(closed.catalog.accounts)


@pytest.fixture
async def batch_id(closed, key) -> str:
    return (await closed.http.post("/v1/batches", headers=key, json=BODY)).json()["id"]


async def ticket_for(api: ApiInProcess, batch_id: str, headers: dict[str, str]) -> str:
    response = await api.http.post("/v1/stream-tickets", headers=headers, json={"batch_id": batch_id})
    assert response.status_code == 201, response.text
    return response.json()["sig"]


def events(batch_id: str) -> str:
    return f"/v1/batches/{batch_id}/events"


async def opened(api: ApiInProcess, path: str, sig: str, **headers: str) -> int:
    response = await api.http.get(path, params={"sig": sig}, headers={"Accept": "text/html", **headers})
    if response.status_code == 401:
        assert sig not in response.text
        assert "POST /v1/stream-tickets" in response.json()["action"]
    return response.status_code


def issued_at(api: ApiInProcess, batch_id: str, headers: dict[str, str], when: datetime) -> str:
    """A ticket that was made then."""
    principal = Principal(kind=CredentialKind.KEY, credential_id=key_id_of(headers["X-API-Key"]))
    return api.parts.gate.tickets.issue(DEFAULT_TENANT_ID, stream_of_batch(batch_id), principal, when)[1]


async def test_a_ticket_opens_its_batch_s_events_without_a_header(closed, key, batch_id):
    """The answer has the whole address, and says by when it has to be opened; nobody may keep a copy."""
    response = await closed.http.post("/v1/stream-tickets", headers=key, json={"batch_id": batch_id})
    made = response.json()
    assert response.headers["Cache-Control"] == "no-store"
    address = urlsplit(made["links"]["events"])
    assert (address.path, parse_qs(address.query)) == (events(batch_id), {"sig": [made["sig"]]})
    until = datetime.fromisoformat(made["open_before"]) - datetime.now(UTC)
    assert OPENED_WITHIN - 5 * SECOND < until <= OPENED_WITHIN
    assert await opened(closed, events(batch_id), made["sig"]) == LET_IN


async def test_the_same_ticket_opens_the_stream_again(closed, key, batch_id):
    """Later than a minute after it was made too, since it was opened in time: that is how a browser reconnects."""
    sig = await ticket_for(closed, batch_id, key)
    assert await opened(closed, events(batch_id), sig) == LET_IN
    assert await opened(closed, events(batch_id), sig, **{"Last-Event-ID": "7"}) == LET_IN

    old = issued_at(closed, batch_id, key, datetime.now(UTC) - timedelta(hours=1))
    ticket = closed.parts.gate.tickets.verify(old)
    await closed.catalog.accounts.note_ticket_opened(ticket.ticket_id, ticket.expires_at, ticket.issued_at)
    assert await opened(closed, events(batch_id), old) == LET_IN


async def test_a_ticket_that_was_not_opened_within_a_minute_opens_nothing(closed, key, batch_id):
    """Whoever finds it in a history later has nothing, with a Last-Event-ID or without."""
    late = issued_at(closed, batch_id, key, datetime.now(UTC) - OPENED_WITHIN - SECOND)
    assert await opened(closed, events(batch_id), late) == 401
    assert await opened(closed, events(batch_id), late, **{"Last-Event-ID": "7"}) == 401
    in_time = issued_at(closed, batch_id, key, datetime.now(UTC) - OPENED_WITHIN / 2)
    assert await opened(closed, events(batch_id), in_time) == LET_IN


async def test_a_ticket_opens_one_stream_and_reads_nothing_else(closed, key, batch_id):
    """Not another batch's, no other route, no other tenant's."""
    other = (await closed.http.post("/v1/batches", headers=key, json=BODY)).json()["id"]
    sig = await ticket_for(closed, batch_id, key)
    for path in (events(other), "/v1/batches", f"/v1/batches/{batch_id}", "/v1/search?q=a"):
        assert await opened(closed, path, sig) == 401, path
    response = await closed.http.post(f"/v1/batches/{batch_id}/pause", params={"sig": sig})
    assert response.status_code == 401


async def test_the_tenant_jobs_stream_takes_the_same_ticket(closed, key):
    """A job is a batch under the same id. One that is not there is told apart from a ticket that is refused."""
    jobs = "/api/v1/batch/jobs"
    job = (await closed.http.post(jobs, headers=key, json=BODY)).json()["job_id"]
    sig = await ticket_for(closed, job, key)
    assert (await closed.http.get(f"{jobs}/{job}", params={"sig": sig})).status_code == 401
    refused = await closed.http.get(f"{jobs}/{job}/stream", params={"sig": sig[:-4] + "AAAA"})
    assert (refused.status_code, refused.json()) == (401, {"detail": "The stream ticket is not one of this service."})
    gone = closed.parts.gate.tickets.issue(
        DEFAULT_TENANT_ID,
        stream_of_batch("99999999-9999-7999-8999-999999999999"),
        Principal(kind=CredentialKind.KEY, credential_id=key_id_of(key["X-API-Key"])),
    )[1]
    missing = await closed.http.get(f"{jobs}/99999999-9999-7999-8999-999999999999/stream", params={"sig": gone})
    assert (missing.status_code, missing.json()) == (404, {"detail": "Job not found"})


async def test_what_only_looks_like_a_ticket_is_refused(closed, key, batch_id):
    """Changed, signed by another service, or an access token in its place."""
    sig = await ticket_for(closed, batch_id, key)
    _, others = build_tokens(AuthSettings(mode="required", token_secret=SECRET[::-1]))
    forged = others.issue(DEFAULT_TENANT_ID, stream_of_batch(batch_id), Principal())[1]
    user = User(user_id="u", tenant_id=DEFAULT_TENANT_ID, username="ada", created_at=datetime.now(UTC))
    token = closed.parts.gate.authenticator.tokens.issue(user).token
    for wrong in ("", "nonsense", sig[:-4] + "AAAA", forged, token):
        response = await closed.http.get(events(batch_id), params={"sig": wrong})
        assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    for wrong in (forged, "nonsense"):
        assert (await closed.http.get(events(batch_id), headers={"X-API-Key": wrong})).status_code == 401


async def test_a_ticket_is_no_access_token(closed, key, batch_id):
    """In a header it opens nothing."""
    sig = await ticket_for(closed, batch_id, key)
    for headers in ({"Authorization": f"Bearer {sig}"}, {"X-API-Key": sig}):
        assert (await closed.http.get(events(batch_id), headers=headers)).status_code == 401


async def test_a_ticket_asks_for_read_and_gives_no_more(closed, batch_id):
    """A key that may only write gets none."""
    response = await closed.http.post(
        "/v1/stream-tickets", headers=await key_of(closed.catalog.accounts, WRITE), json={"batch_id": batch_id}
    )
    assert (response.status_code, response.json()["scope"]) == (403, "read")
    reader = await key_of(closed.catalog.accounts, READ)
    assert await opened(closed, events(batch_id), await ticket_for(closed, batch_id, reader)) == LET_IN


async def stream_client(api: ApiInProcess, batch_id: str, sig: str):
    """Who is counted for a stream that a ticket opened, and asked for again while it is open."""
    scope = {
        "type": "http",
        "method": "GET",
        "headers": [],
        "state": {},
        "client": None,
        "endpoint": follow_batch,
        "path_params": {"batch_id": batch_id},
        "query_string": f"sig={sig}".encode(),
    }
    connection = HTTPConnection(scope)
    gate = api.parts.gate
    return await gate.count_stream(await gate.admit(connection, []), connection)


async def test_a_stream_ends_with_the_key_its_ticket_was_made_with(closed, key, batch_id):
    """A revoked key ends it, and the ticket opens nothing any more. Both are counted as the key's own streams."""
    sig = await ticket_for(closed, batch_id, key)
    client = await stream_client(closed, batch_id, sig)
    key_id = key_id_of(key["X-API-Key"])
    assert client.subject == f"key:{key_id}"
    assert await client.is_welcome()
    await closed.catalog.accounts.revoke_key(key_id, datetime.now(UTC))
    closed.parts.gate.authenticator.forget_key(key_id)
    assert not await client.is_welcome()
    assert (await closed.http.get(events(batch_id), params={"sig": sig})).status_code == 401


async def test_a_stream_ends_with_the_user_and_with_the_token(closed, batch_id):
    """A ticket lives no longer than the access token it was made with, nor than its user."""
    ada = User(user_id="u", tenant_id=DEFAULT_TENANT_ID, username="ada", created_at=datetime.now(UTC))
    await closed.catalog.accounts.add_user(ada, "no password fits")
    issued = closed.parts.gate.authenticator.tokens.issue(ada)
    headers = {"Authorization": f"Bearer {issued.token}"}
    made = await closed.http.post("/v1/stream-tickets", headers=headers, json={"batch_id": batch_id})
    assert datetime.fromisoformat(made.json()["expires_at"]) == issued.expires_at.replace(microsecond=0)
    client = await stream_client(closed, batch_id, made.json()["sig"])
    assert await client.is_welcome()
    await closed.catalog.accounts.delete_user("u", datetime.now(UTC))
    closed.parts.gate.authenticator.forget_users()
    assert not await client.is_welcome()


async def test_an_expired_ticket_opens_nothing(closed, key, batch_id):
    """Also where it was opened in time; and a stream that is open then ends."""
    gate = closed.parts.gate
    principal = Principal(kind=CredentialKind.KEY, credential_id=key_id_of(key["X-API-Key"]))
    day_before = datetime.now(UTC) - timedelta(hours=24)
    ticket, sig = gate.tickets.issue(DEFAULT_TENANT_ID, stream_of_batch(batch_id), principal, day_before)
    assert await opened(closed, events(batch_id), sig) == 401
    assert not await gate.is_welcome(ticket)


async def test_an_open_deployment_gives_tickets_to_everybody(api):
    """So that a page need not know the mode; a wrong one is refused there too."""
    batch = await api.submit()
    sig = await ticket_for(api, batch["id"], {})
    assert await opened(api, events(batch["id"]), sig) == LET_IN
    assert await opened(api, events(batch["id"]), sig[:-4] + "AAAA") == 401


async def test_a_ticket_of_an_open_deployment_opens_nothing_where_a_credential_is_asked_for(closed, batch_id):
    """Nobody is nobody."""
    sig = closed.parts.gate.tickets.issue(DEFAULT_TENANT_ID, stream_of_batch(batch_id), Principal())[1]
    assert (await closed.http.get(events(batch_id), params={"sig": sig})).status_code == 401


@pytest.mark.parametrize("name", ["sig", "api_key", "X-API-Key", "q", "anything"])
async def test_a_key_in_a_url_is_refused(closed, key, batch_id, name):
    """Also a right one, and beside a right header: URLs are kept where nobody should find a key."""
    for headers in ({}, key):
        response = await closed.http.get(events(batch_id), params={name: key["X-API-Key"]}, headers=headers)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (400, "credential_in_url")
        assert key["X-API-Key"] not in response.text
        assert "POST /v1/stream-tickets" in problem["action"]


@pytest.mark.parametrize("name", ["access_token", "token", "authorization"])
async def test_a_token_in_a_url_is_refused(closed, batch_id, name):
    """By the name of the parameter; in a contract's own shape too."""
    response = await closed.http.get(events(batch_id), params={name: "x"})
    assert (response.status_code, response.json()["code"]) == (400, "credential_in_url")
    response = await closed.http.get(f"/api/v1/batch/jobs/{batch_id}/stream", params={name: "x"})
    assert (response.status_code, list(response.json())) == (400, ["detail"])
