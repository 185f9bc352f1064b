"""Batches of files in connected sources: what a selection becomes, and what is refused before anything is kept."""

from datetime import UTC, datetime

import pytest

from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.models.source import Connection, SourceRef, SourceType
from ingather.settings import Limits, Settings
from tests.support.api import api_in_process
from tests.support.submitted import submission


async def connect(api, connection_id: str, source_type: SourceType = SourceType.GOOGLE_DRIVE) -> None:
    connection = Connection(
        connection_id=connection_id,
        tenant_id=DEFAULT_TENANT_ID,
        source_type=source_type,
        created_at=datetime.now(UTC),
    )
    await api.catalog.connections.add_connection(connection)


def selected(connection_id: str, *file_ids: str, source_type: str = "google_drive") -> dict:
    return {"connection_id": connection_id, "source_type": source_type, "file_ids": list(file_ids)}


async def test_every_selected_file_is_a_document_in_order(api):
    """Behind the inline ones; named by the last part of its id, with no bytes yet."""
    await connect(api, "drive")
    await connect(api, "shelf", SourceType.LOCAL_DIRECTORY)
    sources = [selected("drive", "1AbC"), selected("shelf", "q1/report.pdf", "b.txt", source_type="local_directory")]
    batch = await api.submit(documents=[{"filename": "a.txt", "content": "aGVsbG8="}], sources=sources)

    lines = await submission(api, batch["id"])
    assert [line.filename for line in lines] == ["a.txt", "1AbC", "report.pdf", "b.txt"]
    assert [line.blob is None for line in lines] == [False, True, True, True]
    assert lines[2].source == SourceRef(
        connection_id="shelf", source_type=SourceType.LOCAL_DIRECTORY, file_id="q1/report.pdf", selection=1
    )
    assert (batch["counts"]["total"], api.engine.specs[batch["id"]].submitted_bytes) == (4, 5)


async def test_an_unknown_connection_is_refused_and_nothing_is_kept(api):
    """400 before the batch exists; the same for a connection that is another kind of source."""
    await connect(api, "drive")
    response = await api.http.post("/v1/batches", json={"sources": [selected("drive", "a"), selected("lost", "b")]})
    assert (response.status_code, response.json()["code"]) == (400, "unknown_connection")
    assert "'lost'" in response.json()["detail"]

    response = await api.http.post("/v1/batches", json={"sources": [selected("drive", "a", source_type="s3")]})
    assert (response.status_code, response.json()["code"]) == (400, "source_type_mismatch")
    assert response.json()["source_type"] == "google_drive"
    assert await api.keys() == []


@pytest.mark.parametrize("wrong", [{"file_ids": []}, {"file_ids": [""]}, {"source_type": "ftp"}, {"more": 1}])
async def test_a_selection_that_fits_nothing_is_422(api, wrong):
    """With a pointer to the field."""
    response = await api.http.post("/v1/batches", json={"sources": [selected("drive", "a") | wrong]})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"].startswith("#/sources/0")


async def test_selected_files_count_as_documents():
    """One more than a batch may have is refused by the limit's name."""
    async with api_in_process(Settings(limits=Limits(max_documents_per_batch=2))) as api:
        await connect(api, "drive")
        response = await api.http.post("/v1/batches", json={"sources": [selected("drive", "a", "b", "c")]})
        assert (response.status_code, response.json()["limit"]) == (413, "max_documents_per_batch")


async def test_an_open_batch_takes_selections(api):
    """As it takes documents."""
    await connect(api, "drive")
    batch = await api.submit(open=True)
    path = f"/v1/batches/{batch['id']}/documents"
    response = await api.http.post(path, json={"sources": [selected("drive", "a", "b")]})
    assert (response.status_code, response.json()["documents_added"]) == (202, 2)


async def test_the_same_key_with_other_files_is_another_request(api):
    """What is selected is part of what makes two requests one."""
    await connect(api, "drive")
    headers = {"Idempotency-Key": "k"}
    answers = [
        await api.http.post("/v1/batches", json={"sources": [selected("drive", file_id)]}, headers=headers)
        for file_id in ("a", "a", "b")
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 422]


async def test_a_replay_needs_the_connection_no_more(api):
    """The batch is there, whatever became of its connection."""
    await connect(api, "drive")
    body, headers = {"sources": [selected("drive", "a")]}, {"Idempotency-Key": "k"}
    first = await api.http.post("/v1/batches", json=body, headers=headers)
    await api.catalog.connections.delete_connection(DEFAULT_TENANT_ID, "drive")
    again = await api.http.post("/v1/batches", json=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = await api.http.post("/v1/batches", json={"sources": [selected("no such!", "a")]}, headers=headers)
    assert other.json()["code"] == "idempotency_key_reused"


async def test_a_dry_run_asks_no_source(api):
    """It says how many files would be fetched."""
    await connect(api, "drive")
    body = {"sources": [selected("drive", "a", "b")]}
    preview = (await api.http.post("/v1/batches", params={"dry_run": True}, json=body)).json()
    assert (preview["documents"], preview["from_sources"], preview["bytes"]) == (2, 2, 0)
