"""How much one caller may ask for, and how it is told."""

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from argon2 import PasswordHasher
from starlette.requests import HTTPConnection

from api.passwords import MOST_QUEUED, Passwords
from api.rates import Rate, address_of
from ingather.adapters.rate_limiter import LimitsRateLimiter
from ingather.domain.api_keys import key_id_of, new_key
from ingather.models.accounts import TenantLimits
from ingather.models.errors import CapacityExceededError, RateLimitedError
from ingather.ports.rate_limiter import RatePolicy
from ingather.settings import AuthSettings, Limits, Settings
from tests.support.api import ApiInProcess, api_in_process
from tests.support.callers import ADMIN, key_of, new_tenant

OTHER = "11111111-1111-7111-8111-111111111111"
BODY = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}


@pytest.fixture
async def strict():
    """Limits that a test can reach."""
    limits = Limits(
        requests_per_minute=4, uploads_per_minute=3, jobs_per_user_per_minute=2, logins_per_user_per_minute=2
    )
    async with api_in_process(Settings(auth=AuthSettings(mode="required"), limits=limits)) as running:
        yield running


@pytest.fixture
async def failing():
    """Three wrong credentials a minute."""
    limits = Limits(failed_credentials_per_minute=3)
    async with api_in_process(Settings(auth=AuthSettings(mode="required"), limits=limits)) as running:
        yield running


async def test_every_answer_says_how_much_is_left(strict):
    """Policy and state in the RateLimit headers, errors included."""
    key = await key_of(strict.catalog.accounts)
    for path, left in (("/v1/batches", 3), ("/v1/batches/no-id", 2)):
        response = await strict.http.get(path, headers=key)
        assert response.headers["RateLimit-Policy"] == '"default";q=4;w=60'
        assert re.fullmatch(rf'"default";r={left};t=\d+', response.headers["RateLimit"])


async def test_too_many_requests_are_429(strict):
    """With the limit's name and when to come again; another key is not held up."""
    key = await key_of(strict.catalog.accounts)
    answers = [await strict.http.get("/v1/batches", headers=key) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429]
    problem = answers[-1].json()
    assert (problem["code"], problem["limit"], problem["maximum"]) == ("rate_limited", "requests_per_minute", 4)
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 61
    assert answers[-1].headers["RateLimit"].startswith('"default";r=0;')
    assert (await strict.http.get("/v1/batches", headers=await key_of(strict.catalog.accounts))).status_code == 200


async def test_jobs_are_counted_by_user(strict):
    """All keys of a user share them; refused before the body is read."""
    accounts = strict.catalog.accounts
    first, second = await key_of(accounts, username="ada"), await key_of(accounts, username="ada")
    answers = [await strict.http.post("/v1/batches", headers=key, json=BODY) for key in (first, second, first)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[-1].json()["limit"] == "jobs_per_user_per_minute"
    assert answers[0].headers["RateLimit-Policy"] == '"upload";q=3;w=60, "jobs";q=2;w=60'
    other = await key_of(accounts, username="bob")
    assert (await strict.http.post("/v1/batches", headers=other, json=BODY)).status_code == 202


async def test_a_key_never_goes_for_a_user(strict):
    """One without a user, named like a user, has a name and a count of its own; and no user is named like a key."""
    accounts = strict.catalog.accounts
    hers, namesake = await key_of(accounts, username="ada"), await key_of(accounts, name="ada")
    for key, user in ((hers, "ada"), (namesake, "key:ada")):
        for _ in range(2):
            response = await strict.http.post("/v1/batches", headers=key, json=BODY)
            assert (response.status_code, response.json()["created_by"]) == (202, user)
    admin = await key_of(accounts, ADMIN)
    response = await strict.http.post("/v1/users", headers=admin, json={"username": "key:ada", "password": "a"})
    assert response.status_code == 422


async def test_uploads_are_counted_by_themselves(strict):
    """Bringing documents to an open batch takes nothing from the other requests."""
    key = await key_of(strict.catalog.accounts)
    batch = (await strict.http.post("/v1/batches", headers=key, json={"open": True})).json()
    path = f"/v1/batches/{batch['id']}/documents"
    answers = [await strict.http.post(path, headers=key, json=BODY) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert answers[-1].json()["limit"] == "uploads_per_minute"
    assert (await strict.http.get("/v1/batches", headers=key)).headers["RateLimit"].startswith('"default";r=3')


async def test_a_tenant_may_have_limits_of_its_own(strict):
    """In place of the deployment's, and shown at /v1/limits."""
    accounts = strict.catalog.accounts
    await new_tenant(accounts, OTHER, limits=TenantLimits(requests_per_minute=9, max_file_bytes=5))
    key = await key_of(accounts, tenant_id=OTHER)
    response = await strict.http.get("/v1/limits", headers=key)
    assert response.headers["RateLimit-Policy"] == '"default";q=9;w=60'
    assert (response.json()["requests_per_minute"], response.json()["max_file_bytes"]) == (9, 5)
    assert response.json()["max_documents_per_batch"] == 1_000_000


async def test_guessing_passwords_is_slow(strict):
    """So many attempts under one name, right or wrong."""
    admin = await key_of(strict.catalog.accounts, ADMIN)
    await strict.http.post("/v1/users", headers=admin, json={"username": "ada", "password": "secret"})
    answers = [await strict.http.post("/v1/tokens", json={"username": "ada", "password": "x"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]


def made_up_key() -> dict[str, str]:
    """Well-formed, and nobody's."""
    return {"X-API-Key": new_key()[1]}


def from_address(running: ApiInProcess, address: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(running.app, client=(address, 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://testserver")


async def test_guessing_a_password_does_not_lock_its_user_out(strict):
    """Attempts are counted by name and address."""
    admin = await key_of(strict.catalog.accounts, ADMIN)
    right = {"username": "ada", "password": "secret"}
    await strict.http.post("/v1/users", headers=admin, json=right)
    for _ in range(3):
        await strict.http.post("/v1/tokens", json=right | {"password": "x"})
    async with from_address(strict, "192.0.2.7") as elsewhere:
        assert (await elsewhere.post("/v1/tokens", json=right)).status_code == 200


async def test_guessing_keys_is_slow(failing):
    """Three wrong ones from an address, then none is looked at that was not right before; other addresses go on."""
    known, unheard_of = await key_of(failing.catalog.accounts), await key_of(failing.catalog.accounts)
    answers = [await failing.http.get("/v1/batches", headers=known)]
    answers += [await failing.http.get("/v1/batches", headers=made_up_key()) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 401, 401, 401, 429]
    assert answers[-1].json()["limit"] == "failed_credentials_per_minute"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 62
    assert (await failing.http.get("/v1/batches", headers=unheard_of)).status_code == 429
    assert (await failing.http.get("/v1/batches", headers=known)).status_code == 200
    async with from_address(failing, "2001:db8::7") as elsewhere:
        assert (await elsewhere.get("/v1/batches", headers=unheard_of)).status_code == 200


async def test_guessing_passwords_under_many_names_is_slow(failing):
    """Each name once: the fourth is refused before a password is compared."""
    names = ["ada", "bob", "cleo", "dora"]
    answers = [await failing.http.post("/v1/tokens", json={"username": name, "password": "x"}) for name in names]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


@pytest.mark.parametrize(
    ("client", "counted_as"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (("::ffff:192.0.2.7", 1), "192.0.2.7"),
        (("testclient", 1), "testclient"),
        (None, ""),
    ],
)
def test_an_address_is_what_one_customer_has(client, counted_as):
    """An IPv6 customer has more addresses than anybody could count."""
    assert address_of({"client": client}) == counted_as


async def test_a_flood_of_log_ins_is_turned_away():
    """So many wait for their turn; the others are told to come again."""
    passwords = Passwords(PasswordHasher(time_cost=1, memory_cost=1024))
    known = await passwords.hash("secret")
    outcomes = await asyncio.gather(*(passwords.is_right("x", known) for _ in range(40)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, CapacityExceededError)]
    assert len(refused) == 40 - MOST_QUEUED
    assert refused[0].facts["retry_after_seconds"] > 0
    assert await passwords.is_right("secret", known)


async def test_an_open_stream_s_credential_is_looked_at_again(strict):
    """A revoked key is not welcome any more; one that cannot be looked up for the moment is."""
    accounts = strict.catalog.accounts
    headers = await key_of(accounts)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    connection = HTTPConnection({"type": "http", "method": "GET", "headers": raw, "state": {}, "client": None})
    gate = strict.parts.gate
    client = await gate.count_stream(await gate.admit(connection, []), connection)
    assert await client.is_welcome()
    key_id = key_id_of(headers["X-API-Key"])
    await accounts.revoke_key(key_id, datetime.now(UTC))
    gate.authenticator.forget_key(key_id)
    assert not await client.is_welcome()


async def test_nobody_in_particular_has_room_enough(api):
    """An open deployment serves the tools of one machine: they are counted together, generously, and no jobs are."""
    for _ in range(70):
        assert (await api.http.post("/v1/batches?dry_run=true", json=BODY)).status_code == 200
    response = await api.http.get("/v1/batches")
    assert response.headers["RateLimit-Policy"] == '"default";q=60000;w=60'


class Away(LimitsRateLimiter):
    """Counters that cannot be reached."""

    async def hit(self, policy: RatePolicy, subject: str) -> None:
        return None


async def test_nobody_is_held_up_while_the_counters_are_away():
    """Requests go through, without headers that would claim something."""
    limits = Limits(requests_per_minute=1)
    async with api_in_process(Settings(limits=limits)) as running:
        gate = running.parts.gate
        gate.rates = type(gate.rates)(Away.in_memory(), replace(gate.rates._limits))
        key = await key_of(running.catalog.accounts)
        for _ in range(3):
            response = await running.http.get("/v1/batches", headers=key)
            assert response.status_code == 200
            assert "RateLimit" not in response.headers


async def test_a_named_user_of_an_open_deployment_is_counted(api):
    """A contract that names its users counts the jobs of each."""
    gate = api.parts.gate
    gate.rates._limits = replace(gate.rates._limits, jobs_per_user_per_minute=1)
    request = type("Connection", (), {"headers": {}, "scope": {"method": "POST"}})()
    anonymous = await gate.admit(request, [])
    ada, bob = anonymous.acting_as("ada"), anonymous.acting_as("bob")
    await gate.count_job(anonymous)
    await gate.count_job(anonymous)
    await gate.count_job(ada)
    await gate.count_job(bob)
    with pytest.raises(RateLimitedError) as raised:
        await gate.count_job(ada)
    assert raised.value.facts["limit"] == "jobs_per_user_per_minute"
    assert Rate.JOBS == "jobs"
