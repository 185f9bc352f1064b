"""The contract of accounts: tenants, users and keys over memory, SQLite and PostgreSQL."""

import asyncio
import uuid
from datetime import timedelta
from functools import partial

import pytest

from ingather.models.accounts import ApiKey, CredentialKind, Scope, Session, Tenant, TenantLimits, User
from ingather.models.errors import AlreadyExistsError, ApiKeyNotFoundError, InvalidStateError, TenantNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.catalog_records import NOON, batch_record

OTHER = "11111111-1111-7111-8111-111111111111"
SECOND = timedelta(seconds=1)


@pytest.fixture
def accounts(catalog):
    return catalog.accounts


def tenant(**facts) -> Tenant:
    return Tenant(**{"tenant_id": OTHER, "name": "Acme", "created_at": NOON} | facts)


def user(**facts) -> User:
    given = {"user_id": str(uuid.uuid4()), "tenant_id": DEFAULT_TENANT_ID, "username": "ada", "created_at": NOON}
    return User(**given | facts)


def key(**facts) -> ApiKey:
    given = {"key_id": uuid.uuid4().hex[:8], "tenant_id": DEFAULT_TENANT_ID, "name": "nightly", "created_at": NOON}
    return ApiKey(**given | facts)


# Tenants


async def test_a_tenant_is_read_as_it_was_written(accounts):
    """Every setting comes back."""
    wanted = tenant(
        name="Zoë & Söhne",
        pipeline="handoff",
        default_metadata={"a": [1, {"b": None}]},
        metadata_schema={"type": "object", "required": ["author"]},
        collection_schemas={"reports": {"type": "object"}},
        limits=TenantLimits(max_concurrent_jobs=2, max_file_bytes=5),
        fairness_weight=2.5,
    )
    assert await accounts.add_tenant(wanted) == (wanted, True)
    assert await accounts.get_tenant(OTHER) == wanted
    assert await accounts.list_tenants() == [wanted, await accounts.get_tenant(DEFAULT_TENANT_ID)]


async def test_the_default_tenant_has_no_settings_of_its_own(accounts):
    """It takes what the deployment has."""
    default = await accounts.get_tenant(DEFAULT_TENANT_ID)
    assert (default.name, default.pipeline, default.limits) == ("default", "ingest", TenantLimits())
    assert (default.default_metadata, default.metadata_schema, default.fairness_weight) == ({}, None, 1.0)


async def test_a_tenant_is_added_once(accounts):
    """The same id again is answered with the one that is there."""
    first = tenant()
    await accounts.add_tenant(first)
    assert await accounts.add_tenant(tenant(name="Another")) == (first, False)


async def test_settings_are_edited_by_name(accounts):
    """The others stay; an unknown tenant is None."""
    await accounts.add_tenant(tenant(default_metadata={"a": 1}, metadata_schema={"type": "object"}))
    changes = {"name": "New", "limits": {"max_file_bytes": 7}, "metadata_schema": None}
    edited = await accounts.edit_tenant(OTHER, changes)
    assert edited == tenant(name="New", default_metadata={"a": 1}, limits=TenantLimits(max_file_bytes=7))
    assert await accounts.get_tenant(OTHER) == edited
    assert await accounts.edit_tenant(str(uuid.uuid4()), changes) is None
    assert await accounts.edit_tenant(OTHER, {}) == edited


async def test_a_deleted_tenant_takes_its_keys_and_users_along(catalog, accounts):
    """Its batches stay, its id is not free again, and others keep what they have."""
    await accounts.add_tenant(tenant())
    record, _ = await catalog.add_batch(batch_record(tenant_id=OTHER))
    gone, stays = key(tenant_id=OTHER), key()
    for each in (gone, stays):
        await accounts.add_key(each, "hash")
    ada, bob = user(tenant_id=OTHER), user(username="bob")
    for each in (ada, bob):
        await accounts.add_user(each, "hash")

    assert await accounts.delete_tenant(OTHER, NOON + SECOND)
    assert not await accounts.delete_tenant(OTHER, NOON + 2 * SECOND)

    assert await accounts.get_tenant(OTHER) is None
    assert not await catalog.tenant_exists(OTHER)
    assert [each.tenant_id for each in await accounts.list_tenants()] == [DEFAULT_TENANT_ID]
    assert (await accounts.get_key(gone.key_id))[0].revoked_at == NOON + SECOND
    assert await accounts.list_keys() == [stays]
    assert await accounts.list_users() == [bob]
    assert await catalog.get_batch(record.batch_id) == record
    with pytest.raises(AlreadyExistsError, match="deleted"):
        await accounts.add_tenant(tenant())
    assert await accounts.get_tenant(OTHER) is None


async def test_lists_are_read_page_by_page(accounts):
    """Newest first, behind the last one seen, also where several were made in the same moment; tenants by name too."""
    for number in range(5):
        at = NOON + (number // 2) * SECOND
        tenant_id = f"{number}1111111-1111-7111-8111-111111111111"
        await accounts.add_tenant(tenant(tenant_id=tenant_id, name=f"t{number % 2}", created_at=at))
        await accounts.add_user(user(username=f"u{number}", created_at=at), "hash")
        await accounts.add_key(key(name=f"k{number}", created_at=at), "hash")
    lists = [
        (accounts.list_tenants, "tenant_id", 6),
        (partial(accounts.list_users, DEFAULT_TENANT_ID), "user_id", 5),
        (accounts.list_keys, "key_id", 5),
    ]
    for listed, its_id, count in lists:
        whole, found, before = await listed(), [], None
        while page := await listed(limit=2, before=before):
            found += page
            before = (page[-1].created_at, getattr(page[-1], its_id))
        assert found == whole
        assert len(whole) == count
    named = await accounts.list_tenants(name="t1", limit=1)
    assert [each.name for each in named] == ["t1"]
    assert await accounts.list_tenants(name="T1") == []


# Stream tickets


async def test_an_opened_ticket_is_remembered_until_it_expires(accounts):
    """Noting it again changes nothing; what has expired is forgotten when another is opened."""
    assert not await accounts.was_ticket_opened("one")
    for _ in range(2):
        await accounts.note_ticket_opened("one", NOON + SECOND, NOON)
    assert await accounts.was_ticket_opened("one")
    assert not await accounts.was_ticket_opened("two")
    await accounts.note_ticket_opened("two", NOON + 9 * SECOND, NOON + SECOND)
    assert [await accounts.was_ticket_opened(each) for each in ("one", "two")] == [False, True]


# Sessions


async def test_a_session_is_found_until_it_is_closed(accounts):
    """By the hash of its secret; what has expired is forgotten when another is opened."""
    short = Session(
        tenant_id=DEFAULT_TENANT_ID,
        kind=CredentialKind.KEY,
        credential_id="abc",
        created_at=NOON,
        expires_at=NOON + SECOND,
    )
    for _ in range(2):
        await accounts.add_session(short, "one")
    assert await accounts.get_session("one") == short
    assert await accounts.get_session("two") is None
    long = short.model_copy(update={"created_at": NOON + SECOND, "expires_at": NOON + 9 * SECOND})
    await accounts.add_session(long, "two")
    assert await accounts.get_session("one") is None
    assert [await accounts.delete_session("two") for _ in range(2)] == [True, False]
    assert await accounts.get_session("two") is None


# Users


async def test_a_user_is_found_by_id_and_by_name(accounts):
    """By name with the password's hash."""
    ada = user(username="Ada 🎉", scopes=frozenset(Scope))
    assert await accounts.add_user(ada, "hash") == (ada, True)
    assert await accounts.get_user(ada.user_id) == ada
    assert await accounts.find_user("Ada 🎉") == (ada, "hash")
    assert await accounts.find_user("ada 🎉") is None
    assert await accounts.get_user(str(uuid.uuid4())) is None


async def test_a_user_is_changed_in_part(accounts):
    """Fields by name, and the password where one is given; repeating is harmless, an unknown one is None."""
    ada = user()
    await accounts.add_user(ada, "hash")
    changes = {"scopes": frozenset({Scope.READ}), "disabled_at": NOON}
    wanted = ada.model_copy(update=changes)
    for _ in range(2):
        assert await accounts.edit_user(ada.user_id, changes) == wanted
    assert await accounts.find_user("ada") == (wanted, "hash")
    changed = await accounts.edit_user(
        ada.user_id, {"disabled_at": None, "password_changed_at": NOON}, password_hash="other"
    )
    assert await accounts.find_user("ada") == (changed, "other")
    assert (changed.is_disabled, changed.password_changed_at) == (False, NOON)
    assert await accounts.edit_user(str(uuid.uuid4()), changes) is None


async def test_a_user_is_added_once(accounts):
    """The same id again is answered with the one that is there; the same name under another id is refused."""
    ada = user()
    await accounts.add_user(ada, "hash")
    assert await accounts.add_user(user(user_id=ada.user_id, username="other"), "x") == (ada, False)
    with pytest.raises(AlreadyExistsError):
        await accounts.add_user(user(), "hash")


async def test_of_two_users_with_one_name_at_once_one_is_registered(accounts):
    """Whichever comes first."""
    outcomes = await asyncio.gather(*(accounts.add_user(user(), "hash") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, AlreadyExistsError) for outcome in outcomes) == 4
    assert len(await accounts.list_users()) == 1


async def test_one_user_registered_by_several_at_once_is_one(accounts):
    """With one id: the first is new, the others are answered with it."""
    ada = user()
    outcomes = await asyncio.gather(*(accounts.add_user(ada, "hash") for _ in range(5)))
    assert sorted(is_new for _, is_new in outcomes) == [False] * 4 + [True]
    assert all(there == ada for there, _ in outcomes)


async def test_users_and_keys_need_their_tenant(accounts):
    """One that is registered, and not deleted."""
    await accounts.add_tenant(tenant())
    await accounts.delete_tenant(OTHER, NOON)
    for tenant_id in (OTHER, str(uuid.uuid4())):
        with pytest.raises(TenantNotFoundError):
            await accounts.add_user(user(tenant_id=tenant_id), "hash")
        with pytest.raises(TenantNotFoundError):
            await accounts.add_key(key(tenant_id=tenant_id), "hash")


async def test_a_deleted_user_s_keys_are_revoked(accounts):
    """And no one else's; the name is free again."""
    ada = user()
    await accounts.add_user(ada, "hash")
    hers, plain = key(username="ada"), key()
    for each in (hers, plain):
        await accounts.add_key(each, "hash")
    assert await accounts.delete_user(ada.user_id, NOON + SECOND)
    assert not await accounts.delete_user(ada.user_id, NOON + SECOND)
    assert await accounts.list_keys() == [plain]
    assert (await accounts.get_key(hers.key_id))[0].revoked_at == NOON + SECOND
    await accounts.add_user(user(), "hash")


async def test_users_are_listed_newest_first(accounts):
    """Of one tenant or of all."""
    await accounts.add_tenant(tenant())
    ada = user(username="ada", created_at=NOON)
    bob = user(username="bob", created_at=NOON + SECOND, tenant_id=OTHER)
    for each in (ada, bob):
        await accounts.add_user(each, "hash")
    assert await accounts.list_users() == [bob, ada]
    assert await accounts.list_users(OTHER) == [bob]


# Keys


async def test_a_key_is_read_as_it_was_written(accounts):
    """With its hash."""
    wanted = key(
        username="ada",
        scopes=frozenset({Scope.READ}),
        expires_at=NOON + SECOND,
        rotated_from="abcdefgh",
        fingerprint="0" * 64,
    )
    assert await accounts.add_key(wanted, "hash") == (wanted, True)
    assert await accounts.get_key(wanted.key_id) == (wanted, "hash")
    assert await accounts.get_key("unknown") is None


async def test_a_key_is_added_once(accounts):
    """The same id again is answered with the one that is there, and its hash stays."""
    first = key(name="first")
    await accounts.add_key(first, "hash")
    assert await accounts.add_key(key(key_id=first.key_id, name="second"), "other") == (first, False)
    assert await accounts.get_key(first.key_id) == (first, "hash")


async def test_a_key_is_revoked_for_good(accounts):
    """At the moment it was revoked first; it leaves the list and stays known."""
    one = key()
    await accounts.add_key(one, "hash")
    assert await accounts.revoke_key(one.key_id, NOON + SECOND)
    assert not await accounts.revoke_key(one.key_id, NOON + 2 * SECOND)
    assert not await accounts.revoke_key("unknown", NOON)
    assert await accounts.list_keys() == []
    assert (await accounts.get_key(one.key_id))[0].revoked_at == NOON + SECOND


async def rotated(accounts, old, **facts):
    """What became of a rotation of ``old``, whose end is brought forward to five seconds past noon."""
    following = key(rotated_from=old.key_id, **facts)
    return await accounts.rotate_key(following, "hash", at=NOON + SECOND, old_until=NOON + 5 * SECOND)


async def test_an_end_is_only_brought_forward(accounts):
    """A rotation must not prolong a key that would have ended sooner."""
    soon, never = key(expires_at=NOON + SECOND), key()
    for each in (soon, never):
        await accounts.add_key(each, "hash")
        await rotated(accounts, each)
    assert (await accounts.get_key(soon.key_id))[0].expires_at == NOON + SECOND
    assert (await accounts.get_key(never.key_id))[0].expires_at == NOON + 5 * SECOND


async def test_a_rotation_ends_the_key_before_the_last(accounts):
    """Two of a line are accepted; the same rotation again is answered with the key that is there."""
    first = key()
    await accounts.add_key(first, "hash")
    second, _ = await rotated(accounts, first)
    third, is_new = await rotated(accounts, second)
    assert is_new
    assert (await accounts.get_key(first.key_id))[0].revoked_at == NOON + SECOND
    assert (await accounts.get_key(second.key_id))[0].is_live(NOON + 4 * SECOND)
    assert await rotated(accounts, second, key_id=third.key_id) == (third, False)


async def test_a_line_of_keys_never_forks(accounts):
    """A key is rotated once, in turn and at once, also when the key that followed it is revoked."""
    old = key()
    await accounts.add_key(old, "hash")
    outcomes = await asyncio.gather(*(rotated(accounts, old) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(outcome, InvalidStateError) for outcome in outcomes) == 4
    following = next(each for each in await accounts.list_keys() if each.rotated_from == old.key_id)
    await accounts.revoke_key(following.key_id, NOON)
    with pytest.raises(InvalidStateError):
        await rotated(accounts, old)
    assert await accounts.list_keys() == [old.model_copy(update={"expires_at": NOON + 5 * SECOND})]


async def test_a_revoked_key_is_not_rotated(accounts):
    """Nor one that nobody knows; nothing is made."""
    old = key()
    await accounts.add_key(old, "hash")
    await accounts.revoke_key(old.key_id, NOON)
    for gone in (old, key()):
        with pytest.raises(ApiKeyNotFoundError):
            await rotated(accounts, gone)
    assert await accounts.list_keys() == []


async def test_the_last_use_is_kept(accounts):
    """Of a key nobody knows, nothing is."""
    one = key()
    await accounts.add_key(one, "hash")
    await accounts.note_key_used(one.key_id, NOON + SECOND)
    await accounts.note_key_used("unknown", NOON)
    assert (await accounts.get_key(one.key_id))[0].last_used_at == NOON + SECOND


async def test_keys_are_listed_newest_first(accounts):
    """Of one tenant or of all."""
    await accounts.add_tenant(tenant())
    old, new = key(created_at=NOON), key(created_at=NOON + SECOND, tenant_id=OTHER)
    for each in (old, new):
        await accounts.add_key(each, "hash")
    assert await accounts.list_keys() == [new, old]
    assert await accounts.list_keys(OTHER) == [new]
