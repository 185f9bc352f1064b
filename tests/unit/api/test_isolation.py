"""Another tenant's things are not there: every route of the OpenAPI document is walked, new ones included."""

import contextlib

import pytest

from api.contracts.source_job_messages import Positions
from tests.support.asgi_socket import asgi_socket
from tests.support.two_tenants import MADE_UP, SECRET_WORD, Operation, operations, shape_of, two_tenants
from tests.support.waiting import until

ADMINISTRATION = "administration"
NAMED_IN_THE_BODY = {"/api/batches/upload-chunk"}
NOT_A_THING = {"code", "page"}
"""Path parameters that name nothing of a tenant's."""


def made_up(ids: dict[str, str]) -> dict[str, str]:
    """Ids of the same form that nobody has."""
    return {name: MADE_UP.get(name, MADE_UP["uuid"]) for name in ids}


@pytest.fixture
async def world():
    async with two_tenants() as made:
        yield made


def walked(world) -> list[Operation]:
    found = [operation for operation in operations(world.api.app.openapi()) if not operation.is_public]
    assert len(found) > 30
    return found


async def test_every_thing_that_a_route_names_is_known_here(world):
    """A route with a new kind of id must be taught to the walk, so that it is not walked with nothing in hand."""
    names = {name for operation in walked(world) for name in operation.path_names}
    unknown = names - {name.rsplit("/", 1)[-1] for name in world.ids} - NOT_A_THING
    assert not unknown, f"Say in tests/support/two_tenants.py what the owner's {', '.join(sorted(unknown))} is."


async def test_without_a_credential_every_route_is_401(world):
    """Whatever is asked for, with whatever body; only what says so is open."""
    for operation in walked(world):
        request = operation.request(world.ids)
        response = await world.api.http.request(request.pop("method"), request.pop("path"), **request)
        assert response.status_code == 401, f"{operation} {response.status_code}"
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_a_body_that_fits_nothing_is_401_before_it_is_anything_else(world):
    """Nobody without a credential learns what a route takes."""
    for operation in walked(world):
        if operation.described.get("requestBody"):
            path = operation.path.format(**operation.own(world.ids))
            headers = {"Content-Type": "application/json"}
            response = await world.api.http.request(operation.method, path, content=b"{", headers=headers)
            assert response.status_code == 401, f"{operation} {response.status_code}"


async def test_public_routes_are_these_and_no_others(world):
    """Health, numbers of the process, problem pages, and where one logs in."""
    found = {operation.path for operation in operations(world.api.app.openapi()) if operation.is_public}
    assert found == {"/livez", "/readyz", "/health", "/metrics", "/problems/{code}", "/v1/tokens", "/api/auth/login"}


@pytest.mark.parametrize("who", ["stranger", "stranger_admin"])
async def test_another_tenants_ids_are_answered_like_made_up_ones(world, who):
    """404 in the same shape and with the same headers; an administrator manages tenants, and reads nobody's documents."""
    for operation in walked(world):
        if who == "stranger_admin" and ADMINISTRATION in operation.described.get("tags", ()):
            continue
        answers = []
        for ids in (world.ids, made_up(world.ids)):
            request = operation.request(ids)
            answers.append((await world.call(who, **request), ids))
        theirs, nobodys = (shape_of(answer, ids) for answer, ids in answers)
        assert theirs == nobodys, operation
        assert theirs["status"] not in {400, 405, 415, 422}, f"{operation}: the walk's request does not fit: {theirs}"
        if operation.path_names or operation.path in NAMED_IN_THE_BODY:
            assert theirs["status"] == 404, f"{operation} {theirs}"
        assert SECRET_WORD not in answers[0][0].text, operation


async def test_the_owner_finds_all_of_it(world):
    """The walk asks for things that are there, in a way that would find them."""
    for operation in walked(world):
        async with contextlib.AsyncExitStack() as stack:
            # What only reads leaves the world as it was.
            is_reading = operation.method in {"GET", "HEAD", "OPTIONS"}
            asked = world if is_reading else await stack.enter_async_context(two_tenants())
            request = operation.request(asked.ids)
            who = "owner_admin" if ADMINISTRATION in operation.described.get("tags", ()) else "owner"
            response = await asked.call(who, **request)
            assert response.status_code != 404, f"{operation} {response.text}"


async def test_lists_hold_ones_own_alone(world):
    """What a stranger lists or searches holds nothing of the owner's, and the owner's lists do."""
    for path in (
        "/v1/batches",
        "/v1/users",
        "/v1/api-keys",
        "/v1/tenants",
        "/v1/audit",
        "/v1/connections",
        "/v1/webhook-endpoints",
    ):
        assert SECRET_WORD in (await world.call("owner", "GET", path)).text, path
        assert SECRET_WORD not in (await world.call("stranger", "GET", path)).text, path


async def test_no_socket_opens_on_what_is_anothers(world):
    """A stranger who names the owner, or a job of the owner's, is closed as if there were no such user or job."""
    owner, job_id = world.ids["source jobs/user_id"], world.ids["source jobs/job_id"]
    tries = [("stranger", owner, None), ("stranger", owner, job_id), ("stranger", "key:stranger", job_id)]
    for who, user, job in [*tries, ("stranger_admin", "key:stranger", job_id)]:
        headers = {"X-API-Key": world.keys[who]}
        async with asgi_socket(world.api.app, f"/batch/ws/{user}", headers, job_id=job) as socket:
            assert await socket.closes() == 4404, (who, user, job)
            assert socket.messages == []
    async with asgi_socket(world.api.app, f"/batch/ws/{owner}") as socket:
        socket.say({"type": "authenticate", "token": "none"})
        assert await socket.closes() == 4401


async def test_a_sockets_cursor_opens_nothing_of_anothers(world):
    """Whatever job ``after`` names: it is followed for its owner, and a stranger is connected and told of nothing."""
    owner, job_id = world.ids["source jobs/user_id"], world.ids["source jobs/job_id"]
    cursor = Positions(by_job={job_id: 0}).cursor()
    for who in ("stranger", "stranger_admin"):
        headers = {"X-API-Key": world.keys[who]}
        async with asgi_socket(world.api.app, f"/batch/ws/key:{who}", headers, after=cursor) as socket:
            for _ in range(20):
                socket.say({"type": "ping"})
                await socket.until("pong")
        assert {message["type"] for message in socket.messages} == {"connection_established", "pong"}
        assert SECRET_WORD not in str(socket.messages)
    assert world.streams.followed == []
    async with asgi_socket(world.api.app, f"/batch/ws/{owner}", {"X-API-Key": world.keys["owner"]}, after=cursor):
        await until(lambda: world.streams.followed == [job_id])


async def test_a_cursor_is_its_owners(world):
    """The same cursor under another tenant is 400, like one that was made up."""
    for path, cursor in world.cursors.items():
        assert (await world.call("owner", "GET", path, params={"cursor": cursor})).status_code == 200
        response = await world.call("stranger", "GET", path, params={"cursor": cursor})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")


async def test_a_ticket_is_for_ones_own_stream(world):
    """Nobody gets one for another tenant's batch, whether there is such a batch or not; a ticket of one's own opens
    nothing of another's.
    """
    mine = await world.call("stranger", "POST", "/v1/batches", json={"open": True})
    ask = {"json": {"batch_id": mine.json()["id"]}}
    sig = (await world.call("stranger", "POST", "/v1/stream-tickets", **ask)).json()["sig"]
    answers, openings = [], []
    for ids in (world.ids, made_up(world.ids)):
        for who in ("stranger", "stranger_admin"):
            body = {"batch_id": ids["batch_id"]}
            answers.append(shape_of(await world.call(who, "POST", "/v1/stream-tickets", json=body), ids))
        for path in (f"/v1/batches/{ids['batch_id']}/events", f"/api/v1/batch/jobs/{ids['job_id']}/stream"):
            opening = await world.api.http.get(path, params={"sig": sig})
            openings.append(shape_of(opening, ids))
    assert answers[0]["status"] == 404
    assert all(answer == answers[0] for answer in answers)
    assert [opening["status"] for opening in openings] == [401] * 4
    assert openings[:2] == openings[2:]


async def test_an_upload_that_goes_on_is_its_owners(world):
    """Its batch is there to be watched before it has begun: for its owner, and for nobody else."""
    upload = await world.api.catalog.uploads.get_upload(world.ids["scanned sheets/upload_id"])
    shapes = []
    for batch_id in (upload.batch_id, MADE_UP["uuid"]):
        asks = [("GET", f"/api/batches/{batch_id}/{what}", {}) for what in ("status", "progress", "stream")]
        asks.append(("POST", "/v1/stream-tickets", {"json": {"batch_id": batch_id}}))
        for method, path, body in asks:
            answers = [await world.call(who, method, path, **body) for who in ("stranger", "stranger_admin")]
            shapes.append([shape_of(answer, {"": batch_id}) for answer in answers])
    assert shapes[:4] == shapes[4:]
    assert {shape["status"] for some in shapes for shape in some} == {404}
    for what in ("status", "progress"):
        assert (await world.call("owner", "GET", f"/api/batches/{upload.batch_id}/{what}")).status_code == 200
    made = await world.call("owner", "POST", "/v1/stream-tickets", json={"batch_id": upload.batch_id})
    assert made.status_code == 201


async def test_a_header_does_not_lead_to_another_tenant(world):
    """X-Tenant-ID is 404 for every tenant but the credential's own, whether it is registered or not."""
    answers = []
    for tenant_id in (world.ids["tenant_id"], MADE_UP["uuid"]):
        headers = {"X-Tenant-ID": tenant_id}
        for who in ("stranger", "stranger_admin"):
            answer = await world.call(who, "GET", "/v1/batches", headers=headers)
            answers.append(shape_of(answer, {"": tenant_id}))
    assert answers[0]["status"] == 404
    assert all(answer == answers[0] for answer in answers)


async def test_an_idempotency_key_is_ones_own(world):
    """The same key under two tenants makes two batches."""
    body = {"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    headers = {"Idempotency-Key": "the-same"}
    one = await world.call("owner", "POST", "/v1/batches", json=body, headers=headers)
    two = await world.call("stranger", "POST", "/v1/batches", json=body, headers=headers)
    assert one.json()["id"] != two.json()["id"]
    assert "Idempotency-Replayed" not in two.headers
