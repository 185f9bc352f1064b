"""The API of a deployment whose Temporal comes late, goes, and comes back; and what its log keeps to itself."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ingather.adapters.sql.catalog import SqlCatalog
from ingather.models.batch import BatchState
from ingather.models.identity import DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME
from ingather.stack.temporal import TemporalServer
from tests.support import servers
from tests.support.catalog_records import batch_record
from tests.support.deployment import api_not_started
from tests.support.watched_world import ApiProcess


@dataclass(frozen=True)
class Alone:
    """An API process that was started without a Temporal."""

    api: ApiProcess
    temporal: TemporalServer
    http: httpx.Client

    def engine(self) -> str:
        """What readiness says of the engine."""
        answer = self.http.get("/readyz").json()
        found: str = answer["checks"]["engine"]
        return found

    def becomes(self, wanted: str) -> None:
        deadline = time.monotonic() + 30
        while (found := self.engine()) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)

    def answers(self, path: str) -> httpx.Response:
        """The first answer that is none of silence, which is remembered for a moment."""
        deadline = time.monotonic() + 30
        while (response := self.http.get(path)).status_code != 200:
            assert time.monotonic() < deadline, response.text
            time.sleep(0.1)
        return response


@pytest.fixture(scope="module")
def alone(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    folder = tmp_path_factory.mktemp("alone")
    temporal = servers.temporal_server(folder)
    api = api_not_started(temporal.address, redis_url, folder)
    api.start()
    try:
        with httpx.Client(base_url=api.url, timeout=30, trust_env=False) as http:
            yield Alone(api, temporal, http)
    finally:
        api.kill()


async def _keep(url: str, states: list[BatchState]) -> list[str]:
    catalog = SqlCatalog(url)
    await catalog.add_tenant(DEFAULT_TENANT_ID, DEFAULT_TENANT_NAME)
    records = [batch_record(state=state, created_at=datetime.now(UTC)) for state in states]
    for record in records:
        await catalog.add_batch(record)
    await catalog.close()
    return [record.batch_id for record in records]


def test_what_needs_no_engine_is_served_without_one_and_the_rest_when_it_comes(alone: Alone) -> None:
    """It starts and says that it is not ready; it goes on with Temporal, and without it again, and with it."""
    url = alone.api.environment["INGATHER_CATALOG__URL"]
    ended, open_one = asyncio.run(_keep(url, [BatchState.COMPLETED, BatchState.QUEUED]))

    assert alone.http.get("/livez").status_code == 200
    ready = alone.http.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["engine"]) == (503, "engine_unavailable")
    assert alone.http.get(f"/v1/batches/{ended}").json()["status"] == "completed"
    assert alone.http.get(f"/v1/batches/{open_one}").json()["stale"] is True
    assert [batch["stale"] for batch in alone.http.get("/v1/batches").json()["data"]] == [True, False]
    assert alone.http.get("/v1/search", params={"q": "star"}).status_code == 200
    for refused in (
        alone.http.post("/v1/batches", json={"documents": [{"filename": "a.txt", "content": "aGVsbG8="}]}),
        alone.http.post(f"/v1/batches/{open_one}/pause"),
        alone.http.get("/v1/stats"),
    ):
        assert (refused.status_code, refused.json()["code"]) == (503, "engine_unavailable"), refused.text
        assert int(refused.headers["retry-after"]) > 0

    for _ in range(2):
        with servers.started(alone.temporal):
            alone.becomes("ok")
            alone.answers("/v1/stats")
            assert [batch["stale"] for batch in alone.answers("/v1/batches").json()["data"]] == [False, False]
        alone.becomes("engine_unavailable")
        assert alone.http.get(f"/v1/batches/{ended}").status_code == 200


def test_the_query_string_of_a_socket_is_in_no_log(alone: Alone) -> None:
    """A cursor, or whatever else a client puts there: the line says which socket was opened and no more."""
    base, query = alone.api.url.replace("http", "ws"), "after=dont-tell&sig=secret"
    with connect(f"{base}/batch/ws/vera?{query}", proxy=None):
        pass
    with pytest.raises(InvalidStatus), connect(f"{base}/nowhere?{query}", proxy=None):
        pass
    # The server writes before it answers.
    said = alone.api.log.read_text(encoding="utf-8").replace("\\", "")
    assert '"WebSocket /batch/ws/vera" [accepted]' in said
    assert '"WebSocket /nowhere" 403' in said
    assert "dont-tell" not in said
    assert "secret" not in said
