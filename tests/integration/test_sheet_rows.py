"""Results of sheets in the catalog, over memory and both databases."""

import uuid

import pytest

from ingather.models.batch import Counts
from ingather.models.document import DocumentStatus
from ingather.models.errors import BatchNotFoundError
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.sheets import SheetRow
from tests.support.catalog_records import done_record


def row(batch_id, ordinal, group="A", **fields):
    given = {"status": DocumentStatus.DONE, "codes": ("A", "B"), "width": 1240, "text": "Zeile\u2028 zwei"} | fields
    return SheetRow(
        batch_id=batch_id, tenant_id=DEFAULT_TENANT_ID, file_id=file_id_for(batch_id, ordinal), ordinal=ordinal,
        filename=f"{ordinal}.png", group_code=group, **given,
    )  # fmt: skip


async def test_rows_come_back_as_they_were_loaded(catalog, batch_id):
    """In the order of the sheets, page by page."""
    rows = [row(batch_id, ordinal) for ordinal in range(3)]
    await catalog.sheets.load(rows[::-1], 1)

    assert await catalog.sheets.list_rows(batch_id, 10) == rows
    assert await catalog.sheets.list_rows(batch_id, 1, after_ordinal=0) == rows[1:2]


async def test_a_group_is_listed_alone(catalog, batch_id):
    """By its code."""
    await catalog.sheets.load([row(batch_id, 0, "A"), row(batch_id, 1, "B"), row(batch_id, 2, None)], 1)
    assert [each.ordinal for each in await catalog.sheets.list_rows(batch_id, 10, group_code="B")] == [1]


async def test_a_later_end_takes_the_place_of_an_earlier_one(catalog, batch_id):
    """And never the other way; the same again changes nothing."""
    failed = row(batch_id, 0, status=DocumentStatus.FAILED, error_code="corrupt")
    await catalog.sheets.load([failed], 5)
    await catalog.sheets.load([row(batch_id, 0)], 9)
    await catalog.sheets.load([failed], 5)
    await catalog.sheets.load([row(batch_id, 0)], 9)

    assert await catalog.sheets.list_rows(batch_id, 10) == [row(batch_id, 0)]


async def test_documents_of_a_batch_are_counted_by_where_they_stand(catalog, batch_id):
    """As their rows say; nothing of an unknown batch."""
    done, pending = (
        done_record(batch_id, 0),
        done_record(batch_id, 1).model_copy(update={"status": DocumentStatus.PENDING}),
    )
    await catalog.add_documents([done, pending])

    assert await catalog.count_documents(batch_id) == Counts(total=2, done=1, pending=1)
    assert await catalog.count_documents(str(uuid.uuid4())) == Counts()


async def test_rows_of_an_unknown_batch_are_refused(catalog, catalog_kind):
    """A database knows that there is none."""
    if catalog_kind == "memory":
        pytest.skip("memory takes what it is given")
    with pytest.raises(BatchNotFoundError):
        await catalog.sheets.load([row(str(uuid.uuid4()), 0)], 1)
