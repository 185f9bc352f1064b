"""Where a document's bytes and its artifact lie."""

import uuid

import pytest

from ingather.domain.keys import artifact_key
from ingather.domain.stored import StoredBytes, artifact_of, raw_of
from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.catalog_records import SHA, done_record

BATCH = str(uuid.uuid4())


def test_an_artifact_of_its_own_is_named_after_content_and_fingerprint():
    """The whole object is the document's."""
    assert artifact_of(done_record(BATCH)) == StoredBytes(artifact_key(DEFAULT_TENANT_ID, SHA, "f1"))


def test_a_range_is_cut_from_its_object():
    """Nothing of the neighbours; an object of one's own is taken whole."""
    assert StoredBytes("packs/x", 2, 3).cut_from(b"..abc..") == b"abc"
    assert StoredBytes("own").cut_from(b"abc") == b"abc"


def test_a_shared_object_is_named_by_the_row():
    """With the range that is this document's."""
    record = done_record(BATCH, artifact_key="packs/x", artifact_offset=10, artifact_bytes=20)
    assert artifact_of(record) == StoredBytes("packs/x", 10, 20)


@pytest.mark.parametrize("missing", ["sha256", "fingerprint"])
def test_a_row_that_does_not_say_what_it_is_has_no_artifact(missing):
    """Nobody guesses."""
    assert artifact_of(done_record(BATCH, **{missing: None})) is None


def test_the_documents_own_bytes():
    """A range as well: small documents may lie in what they came in with."""
    assert raw_of(done_record(BATCH)) is None
    assert raw_of(done_record(BATCH, raw_key="raw/x", size_bytes=5)) == StoredBytes("raw/x", 0, 5)
    assert raw_of(done_record(BATCH, raw_key="uploads/x", raw_offset=7, size_bytes=5)) == StoredBytes("uploads/x", 7, 5)
