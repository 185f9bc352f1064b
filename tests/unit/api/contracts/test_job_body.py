"""What clients of the tenant jobs may say."""

import pytest

DOCUMENTS = [{"filename": "a.txt", "content": "aGVsbG8="}]


@pytest.mark.parametrize("priority", [True, "7", 7.5, None, 0, 11])
async def test_a_priority_is_a_whole_number_from_1_to_10(api, priority):
    """What only looks like one is not taken for one."""
    response = await api.http.post("/api/v1/batch/jobs", json={"documents": DOCUMENTS, "priority": priority})

    assert response.status_code == 422, response.text
    assert response.json()["detail"][0]["loc"] == ["body", "priority"]


@pytest.mark.parametrize("priority", range(1, 11))
async def test_a_job_keeps_its_priority(api, priority):
    """Also where ours has fewer."""
    response = await api.http.post("/api/v1/batch/jobs", json={"documents": DOCUMENTS, "priority": priority})
    assert (response.status_code, response.json()["priority"]) == (200, priority)


@pytest.mark.parametrize("name", ["Client Files/2026", "it's; DROP TABLE --", "../../etc", "档案 🎉", " ", "x" * 255])
async def test_a_collection_is_any_name(api, name):
    """It comes back as it was sent, and finds its batch in lists and searches."""
    body = {"documents": DOCUMENTS, "collection": name}
    job = await api.http.post("/api/v1/batch/jobs", json=body)
    assert (job.status_code, job.json()["collection"]) == (200, name)
    found = (await api.http.get("/v1/batches", params={"collection": name})).json()["data"]
    assert [(batch["id"], batch["collection"]) for batch in found] == [(job.json()["job_id"], name)]
    assert (await api.http.get("/v1/search", params={"q": "a", "collection": name})).status_code == 200
    assert not any("DROP" in key or "etc" in key for key in await api.keys())


@pytest.mark.parametrize("name", [None, ""])
async def test_a_job_without_a_collection_is_in_the_default_one(api, name):
    """Left out, null or empty."""
    job = await api.http.post("/api/v1/batch/jobs", json={"documents": DOCUMENTS, "collection": name})
    assert (job.status_code, job.json()["collection"]) == (200, "default")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "\x00", "a\u2028b", "\x85", "x" * 256, 7])
async def test_a_collection_has_no_control_characters(api, name):
    """They would steer terminals and break lines of logs."""
    response = await api.http.post("/api/v1/batch/jobs", json={"documents": DOCUMENTS, "collection": name})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "collection"]
