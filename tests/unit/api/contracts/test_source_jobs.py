"""The sources contract over ASGI: what a job is made of, what its status allows, what lists and sums say."""

from datetime import UTC, datetime

import pytest

from api.service.control import ControlService
from ingather.models.batch import BatchState, Counts
from ingather.models.content import Stage
from ingather.models.document import DocumentFailure, DocumentStatus
from ingather.models.messages import DocumentHeartbeat
from ingather.settings import AuthSettings, EmbedderSettings, Limits, LlmSettings, OtherEmbedder, Settings
from tests.support.api import api_in_process
from tests.support.callers import key_of
from tests.support.source_jobs import (
    DRIVE,
    FOLDER,
    REFS,
    add_files,
    connect,
    control,
    create,
    job_body,
    list_jobs,
    read,
    selection,
)
from tests.support.submitted import submission


@pytest.fixture
async def api():
    async with connected() as api:
        yield api


def connected(**settings):
    return _Connected(Settings(**settings))


class _Connected:
    """The API with two connections."""

    def __init__(self, settings):
        self._api = api_in_process(settings)

    async def __aenter__(self):
        api = await self._api.__aenter__()
        await connect(api, "drive", DRIVE)
        await connect(api, "shelf", FOLDER)
        return api

    async def __aexit__(self, *exc_info):
        await self._api.__aexit__(*exc_info)


def put(api, job, state, in_flight=(), **counts):
    """Let a job's workflow be so far."""
    known = api.engine.open[job["job_id"]]
    total = sum(counts.values())
    changes = {"state": state, "counts": Counts(total=total, **counts), "in_flight": in_flight, "version": 5}
    api.engine.open[job["job_id"]] = known.model_copy(update=changes)


# Health and creation


async def test_health_needs_no_credential():
    """200 with status, service and time, also where everything else asks who one is."""
    async with api_in_process(Settings(auth=AuthSettings(mode="required"))) as api:
        response = await api.http.get("/health")
        body = response.json()
        assert (response.status_code, body["status"], body["service"]) == (200, "healthy", "ingather")
        assert datetime.fromisoformat(body["timestamp"]).utcoffset() is not None


async def test_a_job_is_created_pending_and_waits_for_start(api):
    """Every selected file is a document in its order; nothing runs before ``start``."""
    job = await create(api, description="of Vela", priority="urgent")

    assert (job["status"], job["user_id"], job["name"], job["description"]) == ("pending", "vera", "Spectra", "of Vela")
    assert (job["priority"], job["total_files"], job["started_at"], job["completed_at"]) == ("urgent", 3, None, None)
    assert [(s["connection_id"], s["source_type"], s["total_files"]) for s in job["source_progress"]] == [
        ("drive", "google_drive", 1),
        ("shelf", "local_directory", 2),
    ]
    spec = api.engine.specs[job["job_id"]]
    assert (spec.hold, spec.priority, spec.contract, spec.created_by) == (True, 1, "sources", "vera")
    assert [line.source.file_id for line in await submission(api, job["job_id"])] == ["1AbC", "a.txt", "q/b.txt"]


async def test_options_have_the_contracts_defaults_and_reach_the_batch(api):
    """What the client leaves out is the contract's, not ours; what it says is passed on."""
    plain = api.engine.specs[(await create(api))["job_id"]].options
    wanted = {"chunk_size": 500, "chunk_overlap": 50, "parallel_processing": False, "max_retries": 0,
              "extract_math": False, "skip_existing": False, "timeout_seconds": 7}  # fmt: skip
    job = await create(api, processing_options=wanted)
    said = api.engine.specs[job["job_id"]].options

    assert (plain.chunk_size, plain.chunk_overlap, plain.quality_threshold, plain.max_workers) == (1000, 200, 0.7, 4)
    assert (plain.retries, plain.extract_math, plain.skip_existing, plain.preserve_structure) == (3, True, True, True)
    assert {name: getattr(said, name) for name in wanted} == wanted
    assert {name: job["processing_options"][name] for name in wanted} == wanted


async def test_a_parse_gets_the_contracts_time_or_the_most_there_is():
    """300 seconds unless the job says otherwise; a deployment that allows less gives that, and refuses who asks for more."""
    async with connected() as api:
        assert (await create(api))["processing_options"]["timeout_seconds"] == 300
    async with connected(limits=Limits(max_parser_seconds=120)) as api:
        assert (await create(api))["processing_options"]["timeout_seconds"] == 120
        response = await api.http.post("/batch/jobs", json=job_body(processing_options={"timeout_seconds": 121}))
        assert response.status_code == 400
        assert "max_parser_seconds (120)" in response.json()["detail"]


async def test_options_of_a_type_of_source_describe_its_files(api):
    """``metadata`` under a source type goes to every document from there, and to no other."""
    options = {"source_specific_options": {"google_drive": {"metadata": {"origin": "archive"}}}}
    job = await create(api, processing_options=options)
    assert [line.metadata for line in await submission(api, job["job_id"])] == [{"origin": "archive"}, {}, {}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_llm_parsing": True}, "no language model"),
        ({"embedding_model_preference": "large-9"}, "wordllama"),
        ({"source_specific_options": {"s3": {"speed": 9}}}, "speed"),
        ({"source_specific_options": {"ftp": {}}}, "ftp"),
        ({"turbo": True}, "turbo"),
        ({"chunk_size": 100, "chunk_overlap": 100}, "chunk_overlap"),
        ({"max_workers": 0}, "max_workers"),
    ],
)
async def test_an_option_that_cannot_be_served_is_400_and_says_so(api, options, said):
    """No option is taken and then ignored."""
    response = await api.http.post("/batch/jobs", json=job_body(processing_options=options))
    assert response.status_code == 400
    assert said in response.json()["detail"]
    assert await api.keys() == []


async def test_the_model_that_is_there_may_be_preferred():
    """By the name it is configured under."""
    embedder = EmbedderSettings(kind="openai", base_url="http://127.0.0.1:9", model="large-9")
    async with connected(embedder=embedder) as api:
        await create(api, processing_options={"embedding_model_preference": "large-9"})


@pytest.mark.parametrize(
    ("wanted", "full"), [("large-9", "large-9@models.test-64"), ("large-9@models.test-64", "large-9@models.test-64"), ("wordllama", None)]
)  # fmt: skip
async def test_a_further_model_is_the_batchs_by_its_full_name(wanted, full):
    """The deployment's own needs no name; one that is not there is a 400 that says which are."""
    other = OtherEmbedder(model="large-9", base_url="http://models.test/v1", dimensions=64)
    async with connected(embedder=EmbedderSettings(others=(other,))) as api:
        job = await create(api, processing_options={"embedding_model_preference": wanted})
        refused = await api.http.post(
            "/batch/jobs", json=job_body(processing_options={"embedding_model_preference": "x"})
        )
    assert api.engine.specs[job["job_id"]].options.embedding_model == full
    assert refused.status_code == 400
    assert "large-9" in refused.json()["detail"]


async def test_a_language_model_reads_the_files_where_a_job_asks_for_it():
    """The job's batch names it; without being asked, none does."""
    llm = LlmSettings(base_url="http://127.0.0.1:9/v1", model="reads", vision_model="sees")
    async with connected(llm=llm) as api:
        asked = await create(api, processing_options={"use_llm_parsing": True})
        plain = await create(api)
    assert api.engine.specs[asked["job_id"]].options.parsing_model == "reads+sees"
    assert api.engine.specs[plain["job_id"]].options.parsing_model is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"user_id": ""}, "user_id"),
        ({"name": ""}, "name"),
        ({"priority": "asap"}, "priority"),
        ({"file_selections": []}, "file_selections"),
        ({"file_selections": [selection("lost", DRIVE, "a")]}, "lost"),
        ({"file_selections": [selection("drive", FOLDER, "a")]}, "google_drive"),
        ({"file_selections": [selection("drive", DRIVE, "a")] * 21}, "file_selections"),
    ],
)
async def test_a_job_that_cannot_be_made_is_400(api, body, said):
    """With one sentence in ``detail`` that names the place; this contract has no 422."""
    response = await api.http.post("/batch/jobs", json=job_body() | body)
    assert (response.status_code, set(response.json())) == (400, {"detail"})
    assert said in response.json()["detail"]


@pytest.mark.parametrize("path", ["/batch/jobs", "/batch/jobs/list"])
async def test_a_body_that_is_no_json_is_400(api, path):
    """In the contract's shape."""
    response = await api.http.post(path, content=b"{", headers={"Content-Type": "application/json"})
    assert (response.status_code, set(response.json())) == (400, {"detail"})


async def test_a_path_of_nothing_is_404_in_the_contracts_shape(api):
    """Below its own prefix alone."""
    response = await api.http.get("/batch/nothing")
    assert (response.status_code, set(response.json())) == (404, {"detail"})


async def test_the_same_idempotency_key_is_one_job_of_each_user(api):
    """A repeated creation is answered with the first job; another user's key of the same name is another job."""
    headers = {"Idempotency-Key": "k"}
    first, again = [(await create(api, headers=headers))["job_id"] for _ in range(2)]
    other = (await create(api, headers=headers, user_id="jocelyn"))["job_id"]
    assert first == again != other


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_an_idempotency_key_that_is_none_is_400(api, key):
    """An empty one would make all jobs that come with it the first of them."""
    response = await api.http.post("/batch/jobs", json=job_body(), headers={"Idempotency-Key": key})
    assert (response.status_code, set(response.json())) == (400, {"detail"})
    assert api.engine.specs == {}


async def test_jobs_a_user_creates_in_a_minute_are_counted():
    """429 with ``Retry-After``; another user is not held up."""
    async with connected(limits=Limits(jobs_per_user_per_minute=1)) as api:
        await create(api)
        response = await api.http.post("/batch/jobs", json=job_body())
        assert (response.status_code, set(response.json())) == (429, {"detail"})
        assert int(response.headers["Retry-After"]) > 0
        await create(api, user_id="jocelyn")


async def test_nothing_is_made_while_the_engine_is_away(api):
    """503 with ``Retry-After``, and nothing is kept."""
    api.engine.is_down = True
    response = await api.http.post("/batch/jobs", json=job_body())
    assert (response.status_code, set(response.json())) == (503, {"detail"})
    assert "Retry-After" in response.headers
    assert await api.keys() == []


# Reading


async def test_a_running_job_shows_each_file_with_its_live_step(api):
    """Files under their selection, by the ids they were selected with; the one in flight as its worker tells."""
    job = await create(api)
    failure = DocumentFailure(code="source_file_not_found", message="The folder has no 'q/b.txt'.")
    await add_files(
        api, job, REFS,
        **{"1AbC": {"status": DocumentStatus.DONE, "size_bytes": 9, "original_filename": "night log.pdf"},
           "q/b.txt": {"status": DocumentStatus.FAILED, "error": failure}},
    )  # fmt: skip
    known = api.engine.open[job["job_id"]]
    api.engine.open[job["job_id"]] = known.model_copy(
        update={
            "state": BatchState.RUNNING,
            "counts": Counts(total=3, done=1, failed=1, in_flight=1),
            "in_flight": (1,),
            "started_at": datetime.now(UTC),
        }
    )
    api.engine.beats[1] = DocumentHeartbeat(stage=Stage.EMBEDDING, filename="a.txt", started_at=datetime.now(UTC))

    shown = await read(api, job["job_id"])

    assert (shown["status"], shown["completed_files"], shown["failed_files"]) == ("running", 1, 1)
    assert shown["progress_percentage"] == 66.67
    drive, shelf = shown["source_progress"]
    assert drive["files"] == [
        {
            "file_id": "1AbC", "status": "completed", "progress": 100, "current_step": "completed", "error": None,
            "file_metadata": {"name": "night log.pdf", "size": 9, "source_type": "google_drive"},
        }
    ]  # fmt: skip
    assert [(f["file_id"], f["status"], f["progress"], f["current_step"]) for f in shelf["files"]] == [
        ("a.txt", "embedding", 75, "embedding"),
        ("q/b.txt", "failed", 100, "failed"),
    ]
    assert shelf["files"][1]["error"] == "The folder has no 'q/b.txt'."
    assert (drive["files_omitted"], shelf["files_omitted"]) == (0, 0)


@pytest.mark.parametrize(
    ("state", "counts", "status"),
    [
        (BatchState.COMPLETED, {"done": 2, "skipped": 1}, "completed"),
        (BatchState.COMPLETED_WITH_FAILURES, {"done": 2, "failed": 1}, "completed"),
        (BatchState.FAILED, {"failed": 3}, "failed"),
        (BatchState.CANCELLED, {"done": 1, "cancelled": 2}, "cancelled"),
    ],
)
async def test_a_job_ends_in_the_contracts_words(api, state, counts, status):
    """Some failures are completed, nothing but failures is failed; the counts say the rest."""
    job = await create(api)
    await api.end(job["job_id"], state, **counts)

    shown = await read(api, job["job_id"])

    assert (shown["status"], shown["completed_files"], shown["failed_files"], shown["skipped_files"]) == (
        status, counts.get("done", 0), counts.get("failed", 0), counts.get("skipped", 0),
    )  # fmt: skip
    assert shown["completed_at"] is not None
    assert shown["estimated_duration_ms"] is not None


@pytest.mark.parametrize("job_id", ["99999999-9999-7999-8999-999999999999", "no-id"])
async def test_an_unknown_job_is_404(api, job_id):
    """Whatever is asked of it."""
    for response in (
        await api.http.get(f"/batch/jobs/{job_id}", params={"user_id": "vera"}),
        await api.http.post(f"/batch/jobs/{job_id}/control", json={"user_id": "vera", "action": "start"}),
    ):
        assert (response.status_code, response.json()) == (404, {"detail": "Job not found"})


async def test_another_users_job_is_not_there(api):
    """Nor is a batch that came through another door."""
    job = await create(api)
    other = await api.submit()
    for job_id, user in ((job["job_id"], "jocelyn"), (other["id"], "anonymous")):
        response = await api.http.get(f"/batch/jobs/{job_id}", params={"user_id": user})
        assert (response.status_code, response.json()) == (404, {"detail": "Job not found"})


async def test_without_user_id_a_job_is_not_told(api):
    """400: whose it is has to be said."""
    assert (await api.http.get("/batch/jobs/99999999-9999-7999-8999-999999999999")).status_code == 400


async def test_where_credentials_are_asked_for_user_id_is_ones_own():
    """401 without a credential; another user's id is answered as if there were no such job."""
    async with connected(auth=AuthSettings(mode="required")) as api:
        assert (await api.http.post("/batch/jobs", json=job_body())).status_code == 401
        mine = await key_of(api.catalog.accounts, username="vera")
        job = await create(api, headers=mine)
        shown = await api.http.get(f"/batch/jobs/{job['job_id']}", params={"user_id": "vera"}, headers=mine)
        assert shown.status_code == 200
        for response in (
            await api.http.post("/batch/jobs", json=job_body(user_id="jocelyn"), headers=mine),
            await api.http.get(f"/batch/jobs/{job['job_id']}", params={"user_id": "jocelyn"}, headers=mine),
            await api.http.post("/batch/jobs/list", json={"user_id": "jocelyn"}, headers=mine),
            await api.http.get("/batch/statistics", params={"user_id": "jocelyn"}, headers=mine),
        ):
            assert response.status_code == 404


# Control


async def test_each_action_is_answered_in_the_contracts_words(api):
    """Start, pause, resume, cancel, in this order."""
    job = await create(api)
    statuses = []
    for action in ("start", "pause", "resume", "cancel"):
        code, body = await control(api, job["job_id"], action)
        assert (code, body["success"], body["message"]) == (200, True, f"Job {action} successful")
        statuses.append(body["status"])
    assert statuses == ["running", "paused", "running", "cancelled"]


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        (BatchState.PENDING, ["pause", "resume", "retry"]),
        (BatchState.RUNNING, ["start", "resume"]),
        (BatchState.PAUSED, ["start", "pause"]),
        (BatchState.CANCELLING, ["start", "pause", "resume", "cancel", "retry"]),
        (BatchState.COMPLETED, ["start", "pause", "resume", "cancel", "retry"]),
        (BatchState.CANCELLED, ["start", "pause", "resume", "cancel"]),
    ],
)
async def test_an_action_the_status_does_not_allow_is_400_with_that_status(api, state, refused):
    """And changes nothing. A job of which nothing failed has nothing to retry."""
    job = await create(api)
    if state.is_final:
        cancelled = state is BatchState.CANCELLED
        await api.end(job["job_id"], state, **({"done": 1, "cancelled": 2} if cancelled else {"done": 3}))
    else:
        known = api.engine.open[job["job_id"]]
        api.engine.open[job["job_id"]] = known.model_copy(update={"state": state})
    for action in refused:
        code, body = await control(api, job["job_id"], action)
        assert (code, set(body)) == (400, {"detail"}), action
        said = {BatchState.CANCELLING: "cancelled"}.get(state, state.value)
        assert f"Current status: {said}." in body["detail"]
    assert api.engine.messages == []


async def test_a_repeated_key_is_answered_as_the_first_time(api):
    """Its job has moved on because of it: a status that allows the action no more refuses others, and not this one."""
    job = await create(api)
    for action, status in (("start", "running"), ("pause", "paused"), ("resume", "running")):
        key = {"Idempotency-Key": action}
        told = [await control(api, job["job_id"], action, headers=key) for _ in range(2)]
        assert [(code, body["message"], body["status"]) for code, body in told] == [
            (200, f"Job {action} successful", status)
        ] * 2
    assert [name for _, name, _ in api.engine.messages] == ["start", "pause", "resume"]
    code, _ = await control(api, job["job_id"], "start", headers={"Idempotency-Key": "another"})
    assert code == 400


async def test_a_repeated_key_is_known_to_every_process(api):
    """The audit log says that the batch took it, also one that was cancelled meanwhile."""
    job = await create(api)
    key = {"Idempotency-Key": "k"}
    await control(api, job["job_id"], "start", headers=key)
    await api.end(job["job_id"], BatchState.CANCELLED, done=1, cancelled=2)
    elsewhere = ControlService(api.parts.batches, api.engine, api.blobs, api.parts.audit)
    assert await elsewhere.took(job["job_id"], "k", "start")
    assert not await elsewhere.took(job["job_id"], "k", "pause")
    assert not await elsewhere.took(job["job_id"], "k2", "start")
    code, body = await control(api, job["job_id"], "start", headers=key)
    assert (code, body["status"]) == (200, "cancelled")


async def test_a_job_that_is_being_cancelled_says_so(api):
    """Its status is ``cancelled``, of which a retry is allowed: the refusal says what it still waits for."""
    job = await create(api)
    put(api, job, BatchState.CANCELLING, done=1, in_flight=1, cancelled=1)
    code, body = await control(api, job["job_id"], "retry")
    assert (code, "still being cancelled" in body["detail"]) == (400, True)


async def test_a_retry_runs_what_failed_and_what_a_cancel_left(api):
    """``retry_failed_only`` is what a retry does unless told otherwise."""
    job = await create(api)
    await api.end(job["job_id"], BatchState.CANCELLED, done=1, cancelled=2)
    code, body = await control(api, job["job_id"], "retry")
    [(_, name, request)] = api.engine.messages
    assert (code, body["status"], name) == (200, "retrying", "reopen")
    assert (request.include_cancelled, request.include_done) == (True, False)


async def test_a_retry_may_run_every_file_again(api):
    """Without ``retry_failed_only``, also of a job of which nothing failed; while it runs it is refused."""
    job = await create(api)
    await control(api, job["job_id"], "start")
    code, _ = await control(api, job["job_id"], "retry", retry_failed_only=False)
    assert code == 400
    await api.end(job["job_id"], BatchState.COMPLETED, done=3)
    code, body = await control(api, job["job_id"], "retry", retry_failed_only=False)
    assert (code, body["message"], api.engine.messages[-1][2].include_done) == (200, "Job retry successful", True)


async def test_nothing_is_refused_for_a_status_that_may_be_over(api):
    """While the engine is away every control is 503 with ``Retry-After``, whatever the last known status allows."""
    job = await create(api)
    api.engine.is_down = True
    for action in ("start", "pause", "resume", "cancel", "retry"):
        body = {"user_id": "vera", "action": action}
        response = await api.http.post(f"/batch/jobs/{job['job_id']}/control", json=body)
        assert (response.status_code, set(response.json())) == (503, {"detail"}), action
        assert int(response.headers["Retry-After"]) > 0


async def test_what_is_last_known_is_told_as_stale(api):
    """A job, lists and statistics while the engine is away; not for a user all of whose jobs have ended."""
    job = await create(api)
    ended = await create(api, user_id="jocelyn")
    await api.end(ended["job_id"], BatchState.COMPLETED, done=3)

    async def told(job, user):
        page, filtered = await list_jobs(api, user), await list_jobs(api, user, status_filter=["running"])
        statistics = (await api.http.get("/batch/statistics", params={"user_id": user})).json()
        shown = await read(api, job["job_id"], user)
        return [each["stale"] for each in (shown, page, page["jobs"][0], filtered, statistics)]

    assert (await read(api, job["job_id"]))["stale"] is False
    api.engine.is_down = True
    assert await told(job, "vera") == [True] * 5
    assert await told(ended, "jocelyn") == [False] * 5


# Lists and sums


async def test_jobs_are_listed_newest_first_by_limit_and_offset(api):
    """With how many there are and whether more follow; without their files."""
    ids = [(await create(api))["job_id"] for _ in range(5)]
    await create(api, user_id="jocelyn")

    first = await list_jobs(api, limit=2)
    last = await list_jobs(api, limit=2, offset=4)

    assert [job["job_id"] for job in first["jobs"]] == ids[:2:-1]
    assert (first["total_jobs"], first["has_more"]) == (5, True)
    assert ([job["job_id"] for job in last["jobs"]], last["has_more"]) == (ids[:1], False)
    assert first["jobs"][0]["source_progress"][0]["files"] == []


async def test_a_list_is_not_shifted_by_jobs_created_meanwhile(api):
    """With ``as_of`` of the first page, the second goes on exactly behind it."""
    ids = [(await create(api))["job_id"] for _ in range(4)]
    first = await list_jobs(api, limit=2)
    await create(api)
    second = await list_jobs(api, limit=2, offset=2, as_of=first["as_of"])
    assert [job["job_id"] for page in (first, second) for job in page["jobs"]] == ids[::-1]
    assert (second["total_jobs"], second["has_more"]) == (4, False)


async def test_a_moment_that_utc_has_no_date_for_is_no_as_of(api):
    """A malformed body like any other; without a zone it is one in UTC."""
    bodies = [{"user_id": "vera", "as_of": moment} for moment in ("0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00")]
    answers = [await api.http.post("/batch/jobs/list", json=body) for body in bodies]
    assert [answer.status_code for answer in answers] == [400, 200]
    assert answers[1].json()["as_of"] == "2026-01-01T00:00:00Z"


async def test_a_client_that_knows_offsets_alone_is_not_shifted_either(api):
    """The next page goes on behind the last one it was given; a first page, or another list, is always one of now."""
    ids = [(await create(api))["job_id"] for _ in range(5)]
    pages = [await list_jobs(api, limit=2)]
    new = (await create(api))["job_id"]
    pages += [await list_jobs(api, limit=2, offset=2)]
    newer = (await create(api))["job_id"]
    pages += [await list_jobs(api, limit=2, offset=4)]

    assert [job["job_id"] for page in pages for job in page["jobs"]] == ids[::-1]
    assert [(page["total_jobs"], page["has_more"]) for page in pages] == [(5, True), (5, True), (5, False)]
    again = await list_jobs(api, limit=2)
    assert ([job["job_id"] for job in again["jobs"]], again["total_jobs"]) == ([newer, new], 7)
    [second] = (await list_jobs(api, limit=1, offset=1))["jobs"]
    assert second["job_id"] == new


async def test_pages_of_one_user_are_not_anothers(api):
    """Where a list goes on is known of whoever read it, with the same filter."""
    ids = [(await create(api))["job_id"] for _ in range(3)]
    await list_jobs(api, limit=1)
    new = (await create(api))["job_id"]
    [other] = (await list_jobs(api, limit=1, offset=1, status_filter=["pending"]))["jobs"]
    assert other["job_id"] == ids[2]
    assert (await list_jobs(api, user_id="jocelyn", limit=1, offset=1))["total_jobs"] == 0
    [mine] = (await list_jobs(api, limit=1, offset=1))["jobs"]
    assert mine["job_id"] == ids[1] != new


async def test_a_list_is_filtered_by_what_jobs_are_doing_now(api):
    """By the live status, which the catalog does not know, and by how they ended."""
    running, pending, ended = [await create(api) for _ in range(3)]
    await control(api, running["job_id"], "start")
    await api.end(ended["job_id"], BatchState.COMPLETED_WITH_FAILURES, done=2, failed=1)

    async def listed(*statuses):
        return [job["job_id"] for job in (await list_jobs(api, status_filter=list(statuses)))["jobs"]]

    assert await listed("running") == [running["job_id"]]
    assert await listed("pending") == [pending["job_id"]]
    assert await listed("completed", "running") == [ended["job_id"], running["job_id"]]
    assert await listed("paused") == []
    assert await listed() == []


async def test_statistics_add_up_everything_a_user_has(api):
    """Jobs by status and priority, files by source; those that run count as far as they are."""
    running, _, mixed, lost = [await create(api, priority=p) for p in ("high", "normal", "normal", "low")]
    await create(api, user_id="jocelyn")
    await control(api, running["job_id"], "start")
    put(api, running, BatchState.RUNNING, done=1, pending=2)
    await api.end(mixed["job_id"], BatchState.COMPLETED_WITH_FAILURES, done=1, failed=1, skipped=1)
    await api.end(lost["job_id"], BatchState.FAILED, failed=3)

    response = await api.http.get("/batch/statistics", params={"user_id": "vera"})

    said = response.json()
    assert (said["total_jobs"], said["active_jobs"], said["completed_jobs"], said["failed_jobs"]) == (4, 1, 1, 1)
    assert (said["cancelled_jobs"], said["total_files_processed"], said["success_rate"]) == (0, 7, 28.57)
    assert said["by_source_type"] == {"google_drive": 4, "local_directory": 8}
    assert said["by_priority"] == {"low": 1, "normal": 2, "high": 1, "urgent": 0}
    assert said["by_status"] == {
        "pending": 1, "queued": 0, "running": 1, "paused": 0, "completed": 1, "failed": 1, "cancelled": 0, "retrying": 0,
    }  # fmt: skip
    assert said["average_processing_time_ms"] >= 0


async def test_statistics_of_nobody_are_zeros(api):
    """No division by nothing."""
    said = (await api.http.get("/batch/statistics", params={"user_id": "nobody"})).json()
    assert (said["total_jobs"], said["success_rate"], said["average_processing_time_ms"]) == (0, 0.0, 0.0)
