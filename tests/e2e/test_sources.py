"""Batches of files in connected sources, on a real stack."""

import pytest

from tests.support.drive import DriveFile, drive_stand_in
from tests.support.running_stack import notes

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(shelf):
    """On the shelf, with notes nobody submitted before."""
    folder = shelf / "nights"
    (folder / "q1").mkdir(parents=True)
    for name, content in notes(3, "quasar"):
        (folder / "q1" / name).write_bytes(content)
    return folder


async def test_files_are_selected_from_several_sources(stack, visitor, folder):
    """A folder is browsed, a drive has quotas; what is there becomes searchable, what is not fails alone, and each
    selection's progress is told by itself."""
    exported = b"# Plan of the quasar night\n\nThe mirror is turned at eleven.\n"
    async with drive_stand_in(a=DriveFile("Plan.md", exported), b=DriveFile("b.txt", b"Bright.\n")) as drive:
        made = {"source_type": "local_directory", "settings": {"path": str(folder)}, "connection_id": "shelf"}
        await visitor.post("/v1/connections", made, 201)
        made = {"source_type": "google_drive", "settings": drive.as_user(), "connection_id": "drive"}
        await visitor.post("/v1/connections", made, 201)
        listed = (await visitor.get("/v1/connections/shelf/files", params={"folder": "q1"})).json()["data"]
        chosen = [file["file_id"] for file in listed]
        assert len(chosen) == 3

        sources = [
            {"connection_id": "shelf", "source_type": "local_directory", "file_ids": [*chosen, "q1/lost.txt"]},
            {"connection_id": "drive", "source_type": "google_drive", "file_ids": ["a", "b"]},
        ]
        batch = await visitor.post("/v1/batches", {"sources": sources, "collection": "nights"})
        ended = await visitor.ended(batch["id"])

    assert (ended["counts"]["done"], ended["counts"]["failed"]) == (5, 1)
    assert ended["failures_by_code"] == {"source_file_not_found": 1}
    told = [(each["connection_id"], each["source_type"], each["counts"]["done"]) for each in ended["sources"]]
    assert told == [("shelf", "local_directory", 3), ("drive", "google_drive", 2)]
    documents = await visitor.documents(batch["id"])
    assert [document["filename"] for document in documents[3:]] == ["lost.txt", "Plan.md", "b.txt"]
    assert documents[4]["source"] == {"connection_id": "drive", "source_type": "google_drive", "file_id": "a"}
    [hit, *_] = await visitor.search("When is the mirror turned?", collection="nights")
    assert hit["filename"] == "Plan.md"
    assert b"refresh-me" not in (stack.up.data_dir / "catalog.db").read_bytes()
