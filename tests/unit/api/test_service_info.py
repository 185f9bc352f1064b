"""The service about itself."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ingather.domain.artifact import encode
from ingather.models.batch import BatchState
from ingather.models.content import Chunk, ParsedDocument
from ingather.models.errors import CatalogUnavailableError
from ingather.models.identity import DEFAULT_TENANT_ID
from ingather.ports.chunk_index import IndexEntry
from ingather.settings import Limits

API_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "api.md"


async def test_every_limit_is_published_under_its_settings_name(api):
    """With its value."""
    assert (await api.http.get("/v1/limits")).json() == Limits().model_dump()


async def test_alive_is_not_ready(api):
    """livez looks at nothing; readyz names what is down and when the process is going away."""
    assert (await api.http.get("/readyz")).json()["checks"].keys() == {
        "storage", "catalog", "index", "events", "engine",
    }  # fmt: skip

    async def down():
        raise CatalogUnavailableError("away")

    api.parts.readiness._checks["catalog"] = down
    response = await api.http.get("/readyz")
    assert (response.status_code, response.json()["checks"]["catalog"]) == (503, "catalog_unavailable")
    assert int(response.headers["retry-after"]) > 0
    assert (await api.http.get("/livez")).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health"])
async def test_a_probe_may_ask_by_head(api, path):
    """Load balancers do; they read the status alone."""
    assert (await api.http.head(path)).status_code == (await api.http.get(path)).status_code == 200
    assert (await api.http.post(path)).headers["allow"] == "GET, HEAD"


async def test_a_draining_process_takes_no_new_batches(api):
    """readyz says so, submissions are 503, the rest is answered."""
    api.parts.readiness.drains_with(lambda: True)
    assert (await api.http.get("/readyz")).status_code == 503
    body = {"documents": [{"filename": "a", "content": "YQ=="}]}
    assert (await api.http.post("/v1/batches", json=body)).status_code == 503
    assert (await api.http.get("/v1/batches")).status_code == 200


async def test_metrics_count_requests_by_route_and_never_by_tenant_or_batch(api):
    """Routes are templates; unknown paths share one label."""
    batch = await api.submit()
    await api.http.get(f"/v1/batches/{batch['id']}")
    await api.http.get("/some/where")
    text = (await api.http.get("/metrics")).text

    assert 'ingather_http_requests_total{method="GET",route="/v1/batches/{batch_id}",status="200"} 1.0' in text
    assert 'route="unmatched",status="404"' in text
    assert "ingather_batches_submitted_total 1.0" in text
    assert "ingather_upload_bytes_total 5.0" in text
    assert batch["id"] not in text
    assert DEFAULT_TENANT_ID not in text


async def test_every_metric_is_on_the_reference_page(api):
    """Those of streams, which this application has none of, stand beside them."""
    families = re.findall(r"^# TYPE (ingather_\w+)", (await api.http.get("/metrics")).text, re.MULTILINE)
    shown = set(re.findall(r"`(ingather_\w+)`", API_PAGE.read_text(encoding="utf-8")))
    assert {name for name in families if not name.endswith("_created")} <= shown


async def test_every_reference_of_the_openapi_document_leads_somewhere(api):
    """A broken one is an error box on top of /docs, and breaks client generators."""
    text = (await api.http.get("/openapi.json")).text
    known = {f"#/components/schemas/{name}" for name in json.loads(text)["components"]["schemas"]}
    assert set(re.findall(r'"\$ref":"([^"]+)"', text)) <= known
    submission = json.loads(text)["paths"]["/v1/batches"]["post"]["requestBody"]["content"]["application/json"]
    assert "content" in submission["schema"]["properties"]["documents"]["items"]["properties"]


async def test_documentation_needs_no_other_host(api):
    """The page and all it loads come from here."""
    page = (await api.http.get("/docs")).text
    assert "http://" not in page
    assert "https://" not in page
    for path in ("/static/swagger-ui-bundle.js", "/static/swagger-ui.css", "/openapi.json"):
        assert path in page
        assert (await api.http.get(path)).status_code == 200


async def test_search_answers_with_chunks(api):
    """Text, score, document, page; filtered by collection, batch and metadata."""
    parsed = ParsedDocument(media_type="text/plain", text="the quick brown fox")
    chunk = Chunk(ordinal=0, text=parsed.text, start=0, end=19, page=2)
    artifact = encode(parsed, [chunk], np.array([[1, 0]], np.float32), quality=1.0, embedder="e", versions={})
    entry = IndexEntry(
        file_id="33333333-3333-5333-8333-333333333333", batch_id="b", collection="c", filename="f.txt",
        sha256="a" * 64, fingerprint="f", metadata={"team": "red"}, artifact=artifact,
    )  # fmt: skip
    await api.index.upsert(DEFAULT_TENANT_ID, [entry])

    [hit] = (await api.http.get("/v1/search?q=fox&collection=c&metadata[team]=red")).json()["data"]
    assert (hit["text"], hit["filename"], hit["page"]) == ("the quick brown fox", "f.txt", 2)
    assert (await api.http.get("/v1/search?q=fox&collection=other")).json()["data"] == []
    assert (await api.http.get("/v1/search?q=fox&metadata[team]=blue")).json()["data"] == []


async def test_stats_count_open_batches(api):
    """By state, with what is left of their documents."""
    await api.submit()
    stats = (await api.http.get("/v1/stats")).json()
    assert stats == {"batches_open": {"running": 1}, "documents_open": 1, "bytes_open": 5, "chunks": 0}


async def test_stats_count_batches_that_wait_by_the_catalog(api):
    """However many there are: the engine is asked of those alone that do more."""
    ids = [(await api.submit())["id"] for _ in range(3)]
    for batch_id in ids[1:]:
        del api.engine.open[batch_id]  # whoever waits is not listed
    stats = (await api.http.get("/v1/stats")).json()
    assert (stats["batches_open"], stats["documents_open"]) == ({"running": 1, "queued": 2}, 3)
    await api.end(ids[0], BatchState.COMPLETED, done=1)
    assert (await api.http.get("/v1/stats")).json()["batches_open"] == {"queued": 2}
