"""Events follow from what happened: told again, they are the same."""

import uuid

from ingather.domain.audit import batch_event, document_event_id, documents_ingested
from ingather.models.audit import SYSTEM, Actor, AuditType
from ingather.models.identity import DEFAULT_TENANT_ID
from tests.support.catalog_records import NOON, done_record

BATCH, OTHER = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def test_each_document_of_each_batch_has_an_event_of_its_own():
    """A UUID, in the order of the documents, up to the last of a million."""
    ordinals = [0, 1, 15, 16, 999_999]
    ids = [document_event_id(batch_id, ordinal) for batch_id in (BATCH, OTHER) for ordinal in ordinals]
    assert len({uuid.UUID(each) for each in ids}) == 10
    assert {uuid.UUID(each).version for each in ids} == {8}
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}
    assert ids[:5] == sorted(ids[:5])
    assert ids == [document_event_id(batch_id, ordinal) for batch_id in (BATCH, OTHER) for ordinal in ordinals]


def test_only_what_is_done_was_ingested():
    """Not what failed, was skipped or cancelled."""
    records = [
        done_record(BATCH, n, status=status) for n, status in enumerate(("done", "failed", "skipped", "cancelled"))
    ]
    assert [event.resource_id for event in documents_ingested(records)] == [records[0].file_id]


def test_two_requests_are_two_events():
    """And one request is one, whoever tells it; a credential is told where there is one."""

    def paused(which, by=SYSTEM):
        return batch_event(AuditType.BATCH_PAUSED, DEFAULT_TENANT_ID, BATCH, by, NOON, which=which)

    assert paused("a").event_id == paused("a", Actor(name="ada")).event_id != paused("b").event_id
    assert paused("a").details == {}
    assert paused("a", Actor(name="ada", credential="key:abcdefgh")).details == {"credential": "key:abcdefgh"}
