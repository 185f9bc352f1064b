"""Jobs over connected sources, as a research tool would ask for them, for tests over ASGI."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ingather.models.document import DocumentRecord
from ingather.models.identity import DEFAULT_TENANT_ID, file_id_for
from ingather.models.source import Connection, SourceRef, SourceType
from tests.support.api import ApiInProcess

Json = dict[str, Any]
DRIVE, FOLDER = SourceType.GOOGLE_DRIVE, SourceType.LOCAL_DIRECTORY


async def connect(api: ApiInProcess, connection_id: str, kind: SourceType, tenant_id: str = DEFAULT_TENANT_ID) -> None:
    """A connection, without asking anybody whether it works."""
    await api.catalog.connections.add_connection(
        Connection(connection_id=connection_id, tenant_id=tenant_id, source_type=kind, created_at=datetime.now(UTC))
    )


def selection(connection_id: str, kind: SourceType, *file_ids: str) -> Json:
    return {"connection_id": connection_id, "source_type": kind.value, "file_ids": list(file_ids)}


def job_body(*selections: Json, user_id: str = "vera", **changes: Any) -> Json:
    """A job of three files from two sources, unless other selections are named."""
    wanted = selections or (selection("drive", DRIVE, "1AbC"), selection("shelf", FOLDER, "a.txt", "q/b.txt"))
    return {"user_id": user_id, "name": "Spectra", "file_selections": list(wanted)} | changes


async def create(api: ApiInProcess, *selections: Json, headers: Json | None = None, **changes: Any) -> Json:
    response = await api.http.post("/batch/jobs", json=job_body(*selections, **changes), headers=headers)
    assert response.status_code == 200, response.text
    job: Json = response.json()
    return job


async def read(api: ApiInProcess, job_id: str, user_id: str = "vera") -> Json:
    response = await api.http.get(f"/batch/jobs/{job_id}", params={"user_id": user_id})
    assert response.status_code == 200, response.text
    job: Json = response.json()
    return job


async def control(
    api: ApiInProcess, job_id: str, action: str, user_id: str = "vera", headers: Json | None = None, **more: Any
) -> tuple[int, Json]:
    body = {"user_id": user_id, "action": action, **more}
    response = await api.http.post(f"/batch/jobs/{job_id}/control", json=body, headers=headers)
    return response.status_code, response.json()


async def list_jobs(api: ApiInProcess, user_id: str = "vera", **more: Any) -> Json:
    response = await api.http.post("/batch/jobs/list", json={"user_id": user_id, "limit": 50, "offset": 0, **more})
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def add_files(api: ApiInProcess, job: Json, refs: Sequence[SourceRef], **changes: Json) -> None:
    """The documents of a job as its manifest would make them; ``changes`` by file id."""
    records = []
    for ordinal, ref in enumerate(refs):
        given: Json = {
            "file_id": file_id_for(job["job_id"], ordinal),
            "tenant_id": DEFAULT_TENANT_ID,
            "batch_id": job["job_id"],
            "ordinal": ordinal,
            "filename": ref.file_id.rsplit("/", 1)[-1],
            "collection": "default",
            "source": ref,
        }
        records.append(DocumentRecord.model_validate(given | changes.get(ref.file_id, {})))
    await api.catalog.add_documents(records)


REFS = (
    SourceRef(connection_id="drive", source_type=DRIVE, file_id="1AbC"),
    SourceRef(connection_id="shelf", source_type=FOLDER, file_id="a.txt", selection=1),
    SourceRef(connection_id="shelf", source_type=FOLDER, file_id="q/b.txt", selection=1),
)
"""The files of the job that ``job_body`` asks for."""
