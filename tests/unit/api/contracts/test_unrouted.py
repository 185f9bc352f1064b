"""What no route answers, below a contract's paths: its clients read one shape of error everywhere."""

import pytest

JOBS, UPLOAD = "/api/v1/batch/jobs", "/api/v1/documents/ingest/batch"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("PUT", JOBS, 405), ("PATCH", f"{JOBS}/x", 405), ("GET", f"{JOBS}/x/y/z", 404)]
)
async def test_tenant_jobs_answer_in_their_own_words(api, method, path, status):
    """A `detail`, and for a wrong method the right ones."""
    response = await api.http.request(method, path)

    assert (response.status_code, list(response.json())) == (status, ["detail"])
    assert isinstance(response.json()["detail"], str)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("DELETE", UPLOAD, 405, "METHOD_NOT_ALLOWED"), ("GET", f"{UPLOAD}/x/y", 404, "NOT_FOUND")],
)
async def test_uploads_answer_in_their_own_words(api, method, path, status, code):
    """A code and a message."""
    response = await api.http.request(method, path)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["message"]


async def test_elsewhere_it_is_a_problem(api):
    """Also where a path only begins alike."""
    for path in (f"{UPLOAD}es", "/v1/nothing"):
        response = await api.http.get(path)
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
