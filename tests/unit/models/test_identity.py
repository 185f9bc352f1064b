"""Identifiers are derived, so that a second attempt finds the first one's work."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ingather.models.identity import (
    DEFAULT_TENANT_ID,
    BatchId,
    Sha256,
    TenantId,
    activity_id_for,
    batch_id_for,
    file_id_for,
    workflow_id_for,
)

BATCH = "0192f0c1-2345-7abc-8def-0123456789ab"
OTHER_TENANT = "00000000-0000-7000-8000-000000000002"


@given(st.uuids(), st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_document_has_one_id_for_ever(batch, ordinal, other):
    """The same for every attempt, another for every other document."""
    file_id = file_id_for(str(batch), ordinal)

    assert file_id == file_id_for(str(batch), ordinal)
    assert uuid.UUID(file_id).version == 5
    assert (file_id == file_id_for(str(batch), other)) == (ordinal == other)


@given(st.text(max_size=50), st.text(max_size=50))
def test_an_idempotency_key_stands_for_one_batch(key, other):
    """Within its tenant and contract; a neighbour's same key is another batch."""
    batch_id = batch_id_for(DEFAULT_TENANT_ID, "v1", key)

    assert (batch_id == batch_id_for(DEFAULT_TENANT_ID, "v1", other)) == (key == other)
    assert batch_id != batch_id_for(OTHER_TENANT, "v1", key)
    assert batch_id != batch_id_for(DEFAULT_TENANT_ID, "a", key)
    TypeAdapter(BatchId).validate_python(batch_id)


def test_ids_in_the_temporal_ui_can_be_read():
    """Batch first; documents sort by ordinal, and a retry round shows."""
    assert workflow_id_for(BATCH) == f"batch/{BATCH}"
    assert activity_id_for(42, 0) == "doc-0000042"
    assert activity_id_for(42, 3) == "doc-0000042-r3"
    assert activity_id_for(999, 0) < activity_id_for(1_000, 0)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (TenantId, DEFAULT_TENANT_ID.upper() + "A"),
        (TenantId, "../" + DEFAULT_TENANT_ID),
        (BatchId, BATCH.upper()),
        (BatchId, BATCH + "\n"),
        (BatchId, "batch-1"),
        (Sha256, "AB" * 32),
        (Sha256, "ab" * 31),
    ],
)
def test_what_is_not_an_id_cannot_become_part_of_a_key(kind, text):
    """Ids start object keys and queries: only their one spelling is taken."""
    with pytest.raises(ValidationError):
        TypeAdapter(kind).validate_python(text)
