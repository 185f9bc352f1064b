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
