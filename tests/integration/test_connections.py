"""The contract of connections over memory, SQLite and PostgreSQL."""

import uuid
from datetime import timedelta

import pytest

from ingather.models.accounts import Tenant
from ingather.models.audit import AuditEvent
from ingather.models.errors import TenantNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.source import Connection, SourceType
from ingather.ports.audit import AuditFilter
from tests.support.catalog_records import NOON

OTHER = "11111111-1111-7111-8111-111111111111"
SECOND = timedelta(seconds=1)


@pytest.fixture
async def connections(catalog):
    await catalog.accounts.add_tenant(Tenant(tenant_id=OTHER, name="Acme", created_at=NOON))
    return catalog.connections


def connection(connection_id: str = "drive", **facts) -> Connection:
    given = {"tenant_id": DEFAULT_TENANT_ID, "source_type": SourceType.GOOGLE_DRIVE, "created_at": NOON}
    return Connection(connection_id=connection_id, **given | facts)


async def test_a_connection_is_read_as_it_was_written(connections):
    """Every field comes back; the second of an id is answered with the first."""
    wanted = connection(
        settings={"folder": "1AbC", "n": [1, None]}, sealed="gAAA", secret_names=("a", "b"),
        created_by="Zoë",
    )  # fmt: skip
    assert await connections.add_connection(wanted) == (wanted, True)
    assert await connections.get_connection(DEFAULT_TENANT_ID, "drive") == wanted
    assert await connections.add_connection(connection(sealed="other")) == (wanted, False)


async def test_an_id_is_its_tenants_own(connections):
    """Two tenants may use the same one; neither sees or deletes the other's."""
    await connections.add_connection(connection())
    assert await connections.get_connection(OTHER, "drive") is None
    assert await connections.delete_connection(OTHER, "drive") is False
    _, is_new = await connections.add_connection(connection(tenant_id=OTHER))
    assert is_new
    assert [each.tenant_id for each in await connections.list_connections(OTHER, 10)] == [OTHER]
    with pytest.raises(TenantNotFoundError):
        await connections.add_connection(connection(tenant_id=str(uuid.uuid4())))


async def test_they_are_listed_newest_first_page_by_page(connections):
    """Those of one moment in the order of their ids, so that no page repeats or misses one."""
    for number, name in enumerate(["a", "c", "b"]):
        await connections.add_connection(connection(name, created_at=NOON + SECOND * (number > 0)))
    first = await connections.list_connections(DEFAULT_TENANT_ID, 2)
    assert [each.connection_id for each in first] == ["c", "b"]
    before = first[-1].created_at, first[-1].connection_id
    rest = await connections.list_connections(DEFAULT_TENANT_ID, 2, before=before)
    assert [each.connection_id for each in rest] == ["a"]


async def test_what_happens_to_one_is_recorded_with_it(catalog, connections):
    """And not where nothing happened."""
    event = AuditEvent(
        event_id=str(uuid.uuid4()), tenant_id=DEFAULT_TENANT_ID, event_type="CONNECTION_CREATED",
        resource_type="connection", resource_id="drive", actor="ada", timestamp=NOON,
    )  # fmt: skip
    gone = event.model_copy(update={"event_id": str(uuid.uuid4()), "event_type": "CONNECTION_DELETED"})
    await connections.delete_connection(DEFAULT_TENANT_ID, "drive", [gone])
    await connections.add_connection(connection(), [event])
    await connections.add_connection(connection(), [event.model_copy(update={"event_id": str(uuid.uuid4())})])
    assert await catalog.audit.list_events(AuditFilter(DEFAULT_TENANT_ID), 10) == [event]
    assert await connections.delete_connection(DEFAULT_TENANT_ID, "drive", [gone]) is True
    assert len(await catalog.audit.list_events(AuditFilter(DEFAULT_TENANT_ID), 10)) == 2


async def test_a_deleted_tenants_connections_are_gone(catalog, connections):
    """With their credentials."""
    await connections.add_connection(connection(tenant_id=OTHER, sealed="gAAA"))
    await catalog.accounts.delete_tenant(OTHER, NOON)
    assert await connections.get_connection(OTHER, "drive") is None
    assert await connections.list_sealed(10) == []


async def test_credentials_are_encrypted_anew_where_they_did_not_change_meanwhile(connections):
    """All tenants' in pages; what was replaced since it was read stays."""
    for tenant_id, name, sealed in ((OTHER, "a", "s1"), (DEFAULT_TENANT_ID, "b", "s2"), (OTHER, "c", None)):
        await connections.add_connection(connection(name, tenant_id=tenant_id, sealed=sealed))
    [first] = await connections.list_sealed(1)
    [second] = await connections.list_sealed(5, after=(first.tenant_id, first.connection_id))
    assert (first.sealed, second.sealed) == ("s2", "s1")
    assert await connections.replace_sealed(first, "new") is True
    assert await connections.replace_sealed(first, "newer") is False
    assert (await connections.get_connection(DEFAULT_TENANT_ID, "b")).sealed == "new"
