"""Object keys: by kind and tenant, and the same for every attempt."""

import inspect

import pytest

from ingather.domain import keys
from ingather.models.identity import DEFAULT_TENANT_ID as TENANT

BATCH = "0192f0c1-2345-7abc-8def-0123456789ab"
FUNCTIONS = [function for _, function in inspect.getmembers(keys, inspect.isfunction)]


def call(function):
    values = {"tenant_id": TENANT, "page": 7, "content": b"{}"}
    names = inspect.signature(function).parameters
    return function(*(values.get(name, f"<{name}>") for name in names))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_key_starts_with_kind_and_tenant(function):
    """So that a tenant's objects can be listed, kept apart and removed."""
    kind, tenant, rest = call(function).split("/", 2)

    assert kind in {"raw", "derived", "uploads", "incoming", "batches", "rules", "texts"}
    assert tenant == TENANT
    assert "//" not in rest


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_key_is_made_of_identities_alone(function):
    """Nothing in it tells an attempt or a time: a second attempt overwrites the same object."""
    assert not {"attempt", "run_id", "at", "now"} & inspect.signature(function).parameters.keys()
    assert call(function) == call(function)


def test_no_two_kinds_of_object_share_a_key():
    """Each function has a place of its own."""
    made = [call(function) for function in FUNCTIONS]
    assert len(set(made)) == len(made)


def test_the_prefix_of_an_upload_holds_its_parts_and_no_other():
    """Removing one upload must not touch an upload whose id begins alike."""
    assert keys.upload_key(TENANT, BATCH, "pack-00001").startswith(keys.upload_prefix(TENANT, BATCH))
    assert not keys.upload_key(TENANT, BATCH + "0", "pack-00001").startswith(keys.upload_prefix(TENANT, BATCH))
