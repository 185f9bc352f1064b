"""`/v1/webhook-endpoints`: what is kept, what is shown once, and what comes of trying; and an address for one batch."""

import uuid
from datetime import UTC, datetime

import pytest
from cryptography.fernet import Fernet

from api.engine import EngineStatus, Presence
from ingather.domain.webhooks import new_secret
from ingather.models.accounts import TenantLimits
from ingather.models.audit import AuditType
from ingather.models.batch import BatchState
from ingather.models.errors import CatalogUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.messages import ListenerAdded
from ingather.models.webhook import DeliveryStatus, WebhookDelivery
from ingather.ports.audit import AuditFilter
from ingather.settings import Limits, Settings, SourceSettings, WebhookSettings
from tests.support.api import api_in_process
from tests.support.http_stand_in import Told
from tests.support.webhooks import receiver

KEY = Fernet.generate_key().decode()
HOOK = {
    "url": "https://hooks.example.org/in?token=verysecret",
    "event_types": ["batch.completed"],
    "description": "ops",
}


def settings(*, keys=KEY, most=20, allow_private=True) -> Settings:
    return Settings(
        sources=SourceSettings(keys=keys),
        webhooks=WebhookSettings(allow_private=allow_private),
        limits=Limits(max_webhooks=most),
    )


@pytest.fixture
async def api():
    async with api_in_process(settings()) as made:
        yield made
        await made.parts.webhooks.close()


async def create(api, body=HOOK, **headers):
    response = await api.http.post("/v1/webhook-endpoints", json=body, headers=headers)
    assert response.status_code == 201, response.text
    return response.json()


async def kinds(api) -> list[str]:
    found = await api.catalog.audit.list_events(AuditFilter(DEFAULT_TENANT_ID, resource_type="webhook"), 20)
    assert "verysecret" not in str(found)
    return sorted(event.event_type for event in found)


async def test_a_webhook_is_made_shown_changed_and_deleted(api):
    """Its secret is in the first answer and in no other, and the catalog holds it encrypted."""
    made = await create(api)
    path = f"/v1/webhook-endpoints/{made['webhook_id']}"
    secret = made.pop("secret")
    assert secret.startswith("whsec_")
    assert (await api.http.get(path)).json() == made
    assert (await api.http.get("/v1/webhook-endpoints")).json()["data"] == [made]
    kept = await api.catalog.webhooks.get_webhook(DEFAULT_TENANT_ID, made["webhook_id"])
    assert secret not in str(kept.model_dump())
    changed = await api.http.patch(path, json={"event_types": [], "is_enabled": False})
    assert changed.json() == {**made, "event_types": [], "is_enabled": False, "disabled_reason": "requested"}
    assert (await api.http.patch(path, json={"is_enabled": True})).json()["is_enabled"] is True
    assert (await api.http.delete(path)).status_code == 204
    for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/test"), ("POST", "/rotate"), ("GET", "/deliveries")):
        gone = await api.http.request(method, path + rest)
        assert (gone.status_code, gone.json()["code"]) == (404, "webhook_not_found")
    changes = [AuditType.WEBHOOK_CHANGED] * 2
    assert await kinds(api) == sorted([AuditType.WEBHOOK_CREATED, *changes, AuditType.WEBHOOK_DELETED])


async def test_the_same_request_makes_one_webhook(api):
    """Its repeat is answered without the secret; another payload under the same key is refused."""
    key = {"Idempotency-Key": "k"}
    made = await create(api, **key)
    again = await api.http.post("/v1/webhook-endpoints", json=HOOK, headers=key)
    assert again.json() == {**made, "secret": None}
    assert again.headers["idempotency-replayed"] == "true"
    other = await api.http.post("/v1/webhook-endpoints", json={**HOOK, "description": "other"}, headers=key)
    assert other.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "http://169.254.169.254/latest", "ftp://example.org/", "https://u:p@example.org/", "x"]
)
async def test_addresses_that_are_not_public_are_refused_at_once(url):
    """As those of sources are; by pointer and code, without being sent anything."""
    async with api_in_process(settings(allow_private=False)) as api:
        for method, path in (("POST", "/v1/webhook-endpoints"), ("POST", "/v1/batches")):
            body = {"url": url} if path == "/v1/webhook-endpoints" else {"webhook_url": url, "open": True}
            refused = await api.http.request(method, path, json=body)
            [problem] = refused.json()["errors"]
            assert (refused.status_code, problem["code"]) == (422, "address_refused")
            assert problem["pointer"] == ("#/url" if path == "/v1/webhook-endpoints" else "#/webhook_url")
        assert (await api.http.get("/v1/batches")).json()["data"] == []


async def test_a_tenant_has_so_many_webhooks_and_no_more():
    """The refusal names the limit, which is published."""
    async with api_in_process(settings(most=1)) as api:
        await create(api)
        refused = await api.http.post("/v1/webhook-endpoints", json=HOOK)
        assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhooks")
        assert (await api.http.get("/v1/limits")).json()["max_webhooks"] == 1
        own = TenantLimits(max_webhooks=2).model_dump(exclude_none=True)
        await api.http.patch(f"/v1/tenants/{DEFAULT_TENANT_ID}", json={"limits": own})
        await create(api)


async def test_what_is_sent_is_described(api):
    """In the OpenAPI document, as a webhook."""
    described = (await api.http.get("/openapi.json")).json()
    assert described["webhooks"]["event"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]


async def test_without_a_key_nothing_can_be_signed():
    """503 that names the setting; no batch is left behind."""
    async with api_in_process(settings(keys="")) as api:
        for path, body in (
            ("/v1/webhook-endpoints", HOOK),
            ("/v1/batches", {"open": True, "webhook_url": HOOK["url"]}),
        ):
            refused = await api.http.post(path, json=body)
            assert (refused.status_code, refused.json()["code"]) == (503, "credential_key_missing")
            assert "INGATHER_SOURCES__KEYS" in refused.json()["action"]
        assert (await api.http.get("/v1/batches")).json()["data"] == []


async def test_a_test_is_sent_at_once_and_logged(api):
    """Signed as every event; that it does not work is an answer. 410 switches the webhook off."""
    async with receiver() as hook:
        made = await create(api, {"url": hook.url})
        hook.secrets, hook.answers = [made["secret"]], [Told(204), Told(500), Told(410)]
        path = f"/v1/webhook-endpoints/{made['webhook_id']}"
        good, bad, gone = [(await api.http.post(f"{path}/test")).json() for _ in range(3)]
    assert (good["ok"], good["status_code"]) == (True, 204)
    assert (bad["ok"], bad["message"]) == (False, "It answered 500.")
    assert (gone["ok"], (await api.http.get(path)).json()["disabled_reason"]) == (False, "gone")
    [event] = hook.received
    assert (event["type"], event["data"]["webhook_id"]) == ("webhook.test", made["webhook_id"])
    log = (await api.http.get(f"{path}/deliveries")).json()["data"]
    assert [each["status"] for each in log] == ["failed", "failed", "succeeded"]
    assert (await api.http.get(f"{path}/deliveries/{good['delivery_id']}")).json() == log[-1]


async def test_after_a_rotation_two_signatures_come(api):
    """Also after two in a row: whoever lost an answer loses nothing."""
    async with receiver() as hook:
        made = await create(api, {"url": hook.url})
        path = f"/v1/webhook-endpoints/{made['webhook_id']}"
        await api.http.post(f"{path}/rotate")
        rotated = (await api.http.post(f"{path}/rotate")).json()
        assert rotated["previous_secret_until"] is not None
        for secret in (made["secret"], rotated["secret"]):
            hook.secrets = [secret]
            assert (await api.http.post(f"{path}/test")).json()["ok"] is True
    assert len({made["secret"], rotated["secret"]}) == 2


async def test_the_same_request_tries_once(api):
    """Its repeat is answered with what came of the first, and nothing is sent; another key is another event."""
    async with receiver() as hook:
        made = await create(api, {"url": hook.url})
        hook.secrets, hook.answers = [made["secret"]], [Told(500)]
        path = f"/v1/webhook-endpoints/{made['webhook_id']}/test"
        first, replay, other = [await api.http.post(path, headers={"Idempotency-Key": key}) for key in "aab"]
    assert replay.json() == first.json()
    assert ["idempotency-replayed" in each.headers for each in (first, replay, other)] == [False, True, False]
    assert ([first.json()["ok"], other.json()["ok"]], len(hook.asked)) == ([False, True], 2)


async def test_the_same_request_turns_a_secret_over_once(api):
    """Its repeat, also after another rotation, changes nothing and shows no secret."""
    async with receiver() as hook:
        made = await create(api, {"url": hook.url})
        path = f"/v1/webhook-endpoints/{made['webhook_id']}"
        first, between, replay = [
            await api.http.post(f"{path}/rotate", headers={"Idempotency-Key": key}) for key in "aba"
        ]
        assert replay.json() == {**between.json(), "secret": None}
        assert ["idempotency-replayed" in each.headers for each in (first, between, replay)] == [False, False, True]
        for secret in (first.json()["secret"], between.json()["secret"]):
            hook.secrets = [secret]
            assert (await api.http.post(f"{path}/test")).json()["ok"] is True
    assert (await kinds(api)).count(AuditType.WEBHOOK_ROTATED) == 2
    refused = await api.http.post(f"{path}/rotate", headers={"Idempotency-Key": " "})
    assert refused.status_code == 400


async def test_a_repeat_finishes_a_redelivery_that_broke_off(api):
    """The new delivery was on its way, and the old one not given up: the event would arrive twice."""
    made = await create(api, {"url": "https://hooks.example.com/"})
    path = f"/v1/webhook-endpoints/{made['webhook_id']}"
    origin = WebhookDelivery(
        delivery_id=str(uuid.uuid4()),
        tenant_id=DEFAULT_TENANT_ID,
        webhook_id=made["webhook_id"],
        event_id=str(uuid.uuid4()),
        event_type="batch.completed",
        payload={},
        created_at=datetime.now(UTC),
    )
    await api.catalog.webhooks.add_deliveries([origin])
    note, calls = api.catalog.webhooks.note_attempt, []

    async def away_once(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise CatalogUnavailableError("The catalog is away.")
        return await note(*arguments, **options)

    api.catalog.webhooks.note_attempt = away_once
    headers = {"Idempotency-Key": "once more"}
    broken, repeated = [
        await api.http.post(f"{path}/deliveries/{origin.delivery_id}/redeliver", headers=headers) for _ in range(2)
    ]
    assert (broken.status_code, repeated.status_code) == (503, 202)
    log = (await api.http.get(f"{path}/deliveries", params={"status": "pending"})).json()["data"]
    assert [each["delivery_id"] for each in log] == [repeated.json()["delivery_id"]]
    assert (await api.http.get("/v1/audit")).text.count("WEBHOOK_REDELIVERED") == 1


async def test_an_event_is_sent_again(api):
    """A new delivery of the same event, once a key; one still under way is given up for it."""
    async with receiver() as hook:
        made = await create(api, {"url": hook.url})
        hook.secrets = [made["secret"]]
        path = f"/v1/webhook-endpoints/{made['webhook_id']}"
        sent = (await api.http.post(f"{path}/test")).json()["delivery_id"]
    again, replay = [
        await api.http.post(f"{path}/deliveries/{sent}/redeliver", headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert (again.status_code, again.json()) == (202, replay.json())
    assert ["idempotency-replayed" in each.headers for each in (again, replay)] == [False, True]
    assert again.json()["redelivery_of"] == sent
    [started] = api.engine.deliveries.values()
    assert (started.delivery_id, started.redelivery_of) == (again.json()["delivery_id"], sent)
    third = (await api.http.post(f"{path}/deliveries/{started.delivery_id}/redeliver")).json()
    log = (await api.http.get(f"{path}/deliveries", params={"status": "pending"})).json()["data"]
    assert [each["delivery_id"] for each in log] == [third["delivery_id"]]
    assert len({each["event_id"] for each in (again.json(), third)}) == 1
    await api.http.patch(path, json={"is_enabled": False})
    refused = await api.http.post(f"{path}/deliveries/{sent}/redeliver")
    assert (refused.status_code, refused.json()["current_status"]) == (409, "disabled")
    missing = await api.http.get(f"{path}/deliveries/{made['webhook_id']}")
    assert missing.json()["code"] == "delivery_not_found"


async def test_lists_are_paged(api):
    """Endpoints and deliveries alike; a cursor with other filters is refused."""
    async with receiver() as hook:
        made = [await create(api, {"url": hook.url}) for _ in range(3)]
        path = f"/v1/webhook-endpoints/{made[0]['webhook_id']}/deliveries"
        hook.secrets = [made[0]["secret"]]
        for _ in range(3):
            await api.http.post(f"/v1/webhook-endpoints/{made[0]['webhook_id']}/test")
    for listed, count in (("/v1/webhook-endpoints", 3), (path, 3)):
        first = (await api.http.get(listed, params={"limit": 2})).json()
        rest = (await api.http.get(listed, params={"limit": 2, "cursor": first["next_cursor"]})).json()
        assert len(first["data"] + rest["data"]) == count
        assert (first["has_more"], rest["has_more"]) == (True, False)
    params = {"cursor": first["next_cursor"], "status": DeliveryStatus.FAILED.value}
    assert (await api.http.get(path, params=params)).json()["code"] == "invalid_cursor"


# --- For one batch --------------------------------------------------------------------------


async def test_a_batch_names_an_address_of_its_own(api):
    """It is registered before the batch begins; the secret made for it is in a header of the first answer alone."""
    body = {"webhook_url": HOOK["url"], "documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
    key = {"Idempotency-Key": "k"}
    accepted = await api.http.post("/v1/batches", json=body, headers=key)
    assert accepted.status_code == 202, accepted.text
    batch_id = accepted.json()["id"]
    assert accepted.headers["ingather-webhook-secret"].startswith("whsec_")
    assert HOOK["url"] not in accepted.text
    replay = await api.http.post("/v1/batches", json=body, headers=key)
    assert (replay.json()["id"], "ingather-webhook-secret" in replay.headers) == (batch_id, False)
    other = await api.http.post("/v1/batches", json={**body, "webhook_url": "https://example.org/"}, headers=key)
    assert other.json()["code"] == "idempotency_key_reused"
    [webhook] = (await api.http.get("/v1/webhook-endpoints", params={"batch_id": batch_id})).json()["data"]
    assert (webhook["url"], webhook["batch_id"]) == (HOOK["url"], batch_id)
    assert (await api.http.get("/v1/webhook-endpoints")).json()["data"] == []
    spec = api.engine.specs[batch_id]
    assert spec.is_heard is True
    assert "verysecret" not in spec.model_dump_json()


async def test_a_dry_run_refuses_the_address_that_a_submission_would():
    """And registers none that it takes."""
    async with api_in_process(settings(allow_private=False)) as api:
        for url, status in (("http://127.0.0.1/", 422), (HOOK["url"], 200)):
            body = {"webhook_url": url, "documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}
            answer = await api.http.post("/v1/batches?dry_run=true", json=body)
            assert answer.status_code == status, answer.text
        assert await api.catalog.webhooks.list_all(10) == []


async def test_a_secret_of_ones_own_signs(api):
    """It is not shown again; one of another form is refused without being quoted."""
    async with receiver() as hook:
        secret = new_secret()
        hook.secrets = [secret]
        accepted = await api.submit(webhook_url=hook.url, webhook_secret=secret)
        [webhook] = (await api.http.get("/v1/webhook-endpoints", params={"batch_id": accepted["id"]})).json()["data"]
        assert (await api.http.post(f"/v1/webhook-endpoints/{webhook['webhook_id']}/test")).json()["ok"] is True
    for bad in ("hunter2", "whsec_" + "hunter2x" * 3, "whsec_" + "hunter2x" * 4 + "A", secret.rstrip("=")):
        refused = await api.http.post(
            "/v1/batches", json={"webhook_url": hook.url, "webhook_secret": bad, "open": True}
        )
        assert refused.status_code == 422
        assert bad not in refused.text


async def test_a_batch_is_heard_where_somebody_listens(api):
    """Whatever door it came through; without anybody it is not, and tells its end alone."""
    assert api.engine.specs[(await api.submit())["id"]].is_heard is False
    webhook = await create(api)
    assert api.engine.specs[(await api.submit(name="b"))["id"]].is_heard is True
    await api.http.patch(f"/v1/webhook-endpoints/{webhook['webhook_id']}", json={"is_enabled": False})
    assert api.engine.specs[(await api.submit(name="c"))["id"]].is_heard is False


async def test_batches_under_way_hear_of_a_new_listener(api):
    """Of one that is made or switched on, each time that is asked for: those of its tenant that have not ended, and the
    reopened too.
    """
    batch, ended = (await api.submit())["id"], (await api.submit(name="b"))["id"]
    await api.end(ended, BatchState.COMPLETED_WITH_FAILURES, codes={"corrupt": 1}, done=1, failed=1)
    webhook = await create(api)
    assert api.engine.signals == [(batch, "listener_added", ListenerAdded())]
    path = f"/v1/webhook-endpoints/{webhook['webhook_id']}"
    for is_enabled, count in ((True, 2), (False, 2), (True, 3)):
        await api.http.patch(path, json={"is_enabled": is_enabled})
        assert len(api.engine.signals) == count
    assert (await api.http.post(f"/v1/batches/{ended}/retry")).status_code == 202
    assert api.engine.specs[ended].is_heard is True


async def test_a_batch_that_is_being_submitted_hears_of_a_new_listener(api):
    """Whichever of both comes first."""
    start = api.engine.start

    async def start_meanwhile(spec, created_at):
        await create(api)
        await start(spec, created_at)

    api.engine.start = start_meanwhile
    batch = await api.submit()
    assert api.engine.specs[batch["id"]].is_heard is False
    assert api.engine.signals == [(batch["id"], "listener_added", ListenerAdded())]


async def test_a_webhook_is_made_while_the_engine_is_away(api):
    """Batches under way tell it their end alone."""
    await api.submit()
    api.engine.is_down = True
    assert (await create(api))["secret"] is not None


async def test_secrets_are_encrypted_anew_under_a_new_key(api):
    """When the API starts with a newer key before the old one."""
    made = await create(api)
    newer = Fernet.generate_key().decode()
    async with api_in_process(settings(keys=f"{newer},{KEY}")) as other:
        other.parts.webhooks.webhooks = api.catalog.webhooks
        assert await other.parts.webhooks.renew_all() == 1
        assert await other.parts.webhooks.renew_all() == 0
    kept = await api.catalog.webhooks.get_webhook(DEFAULT_TENANT_ID, made["webhook_id"])
    async with api_in_process(settings(keys=newer)) as other:
        assert other.parts.webhooks.box.open(kept.sealed, kept.owner)["secret"] == made["secret"]


async def test_a_batch_that_was_ended_from_outside_is_told_too(api):
    """It has no last activity of its own: whoever writes its end down tells it, once."""
    webhook = await create(api, {"url": HOOK["url"]})
    batch = await api.submit()
    progress = api.engine.open.pop(batch["id"])

    async def status(_batch_id):
        return EngineStatus(Presence.CLOSED, progress, was_terminated=True)

    api.engine.status = status
    for _ in range(2):
        assert (await api.http.get(f"/v1/batches/{batch['id']}")).json()["status"] == "failed"
    [delivery] = (await api.http.get(f"/v1/webhook-endpoints/{webhook['webhook_id']}/deliveries")).json()["data"]
    assert (delivery["event_type"], delivery["payload"]["data"]["problem"]["code"]) == ("batch.failed", "terminated")
    assert list(api.engine.deliveries) == [delivery["delivery_id"]]
