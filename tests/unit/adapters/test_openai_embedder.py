"""The remote embedder against a service that answers, refuses, stumbles and talks nonsense."""

import asyncio
import contextlib
import json
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from ingather.adapters.openai_embedder import OpenAiEmbedder
from ingather.models.errors import ConfigurationError, EmbedderUnavailableError
from tests.support.http_stand_in import Told, http_stand_in

KEY = "sk-very-secret"


class Service:
    """An HTTP server on loopback. ``script`` holds the next answers; when it is empty, good ones follow."""

    def __init__(self):
        self.requests = []
        self.script = []
        self.delay = threading.Event()
        self.at_once = 0
        self.most_at_once = 0
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, headers, answer = service.answer(self.path, dict(self.headers), body)
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                with contextlib.suppress(ConnectionError):  # a client that gave up is part of the story
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def answer(self, path, headers, body):
        with self._lock:
            self.requests.append((path, headers, body))
            self.at_once += 1
            self.most_at_once = max(self.at_once, self.most_at_once)
            scripted = self.script.pop(0) if self.script else None
        self.delay.wait(0.02)
        with self._lock:
            self.at_once -= 1
        return scripted or (200, {}, good(body["input"]))


def good(texts):
    """Vectors that tell the texts apart, in reverse order, as the protocol allows."""
    data = [{"index": n, "embedding": [float(len(text)), 1.0, 0.0, 0.0]} for n, text in enumerate(texts)]
    return {"data": data[::-1]}


@pytest.fixture
def service():
    service = Service()
    thread = threading.Thread(target=service.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield service
    service.server.shutdown()
    service.server.server_close()
    thread.join()


@pytest.fixture
async def embedder(service):
    embedder = OpenAiEmbedder(service.url, "a-model", 4, KEY, first_wait_seconds=0.01, timeout=timedelta(seconds=2))
    yield embedder
    await embedder.close()


async def test_vectors_come_in_the_order_of_the_texts(embedder, service):
    """However the service orders its answer; rows are float32 of length 1."""
    vectors = await embedder.embed_remote(["a", "bbb"])

    np.testing.assert_allclose(vectors, [[0.5**0.5, 0.5**0.5, 0, 0], [0.9**0.5, 0.1**0.5, 0, 0]], atol=1e-6)
    assert vectors.dtype == np.float32
    path, headers, body = service.requests[0]
    assert path == "/v1/embeddings"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "a-model", "input": ["a", "bbb"]}


async def test_many_texts_go_out_in_batches(embedder, service):
    """At most 64 texts a request and four requests at a time, and the order still holds."""
    texts = ["x" * (n % 50 + 1) for n in range(1_000)]

    vectors = await embedder.embed_remote(texts)

    assert np.argsort(vectors[:, 0], kind="stable").tolist() == sorted(range(1_000), key=lambda n: len(texts[n]))
    assert [len(body["input"]) for _, _, body in service.requests].count(64) == 15
    assert 1 < service.most_at_once <= 4


async def test_long_texts_make_smaller_batches(embedder, service):
    """A request holds at most 100,000 characters, or one text."""
    await embedder.embed_remote(["x" * 60_000] * 3 + ["y" * 150_000])

    assert len(service.requests) == 4


async def test_no_texts_ask_nobody(embedder, service):
    """An empty list is answered without a request."""
    assert (await embedder.embed_remote([])).shape == (0, 4)
    assert service.requests == []


async def test_texts_no_service_takes_are_made_harmless(embedder, service):
    """The empty text goes out as a space, a lone surrogate as a question mark."""
    assert (await embedder.embed_remote(["", "\ud800"])).shape == (2, 4)
    assert service.requests[0][2]["input"] == [" ", "?"]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_what_passes_by_itself_is_tried_again(embedder, service, status):
    """An overloaded service is asked again until it answers."""
    service.script = [(status, {}, {"error": "busy"})] * 3

    assert (await embedder.embed_remote(["a"])).shape == (1, 4)
    assert len(service.requests) == 4


async def test_a_service_that_stays_busy_is_unavailable(embedder, service):
    """After five attempts the activity's own retry takes over."""
    service.script = [(503, {}, {})] * 9

    with pytest.raises(EmbedderUnavailableError, match=r"status 503, 5 attempts") as caught:
        await embedder.embed_remote(["a"])

    assert caught.value.retryable
    assert len(service.requests) == 5


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_obeyed(embedder, service, as_date):
    """The next attempt waits at least as long as the service asks, in seconds or until a date."""
    value = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True) if as_date else "1"
    service.script = [(429, {"Retry-After": value}, {})]
    started = asyncio.get_running_loop().time()

    await embedder.embed_remote(["a"])

    assert asyncio.get_running_loop().time() - started >= 0.9


@pytest.mark.parametrize("value", ["nonsense", "nan", "-5", "Wed, 99 Foo"])
async def test_a_strange_retry_after_is_ignored(embedder, service, value):
    """The usual wait applies instead."""
    service.script = [(429, {"Retry-After": value}, {})]

    assert len(await embedder.embed_remote(["a"])) == 1


async def test_a_long_wait_is_left_to_the_activity(embedder, service):
    """Nobody sleeps for an hour inside an activity."""
    service.script = [(429, {"Retry-After": "3600"}, {})]

    with pytest.raises(EmbedderUnavailableError) as caught:
        await embedder.embed_remote(["a"])

    assert caught.value.facts["retry_after_seconds"] == 3600


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 422])
async def test_a_refusal_is_a_matter_of_settings(embedder, service, status):
    """It is not tried again, and the key the service quotes back is not passed on."""
    service.script = [(status, {"Location": "http://127.0.0.1:1/"}, {"error": f"wrong key {KEY}"})] * 9

    with pytest.raises(ConfigurationError) as caught:
        await embedder.embed_remote(["a"])

    assert len(service.requests) == 1
    assert str(status) in caught.value.message
    assert KEY not in repr((caught.value, caught.value.facts, caught.value.action, caught.value.__cause__))


@pytest.mark.parametrize(
    "answer",
    [
        b"not json",
        [],
        {"data": None},
        {"data": []},
        {"data": [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": [1, 2, 3, 4]}]},
        {"data": [{"index": 0, "embedding": 1.0}, {"index": 1, "embedding": 1.0}]},
        {"data": [{"index": 0, "embedding": [1, 2, 3, 4]}]},
        {"data": [{"index": 0, "embedding": [1, 2, 3, 4]}] * 2},
        {"data": [{"index": 0, "embedding": [1, 2, 3]}, {"index": 1, "embedding": [1, 2, 3, 4]}]},
        {"data": [{"index": 0, "embedding": [0, 0, 0, 0]}, {"index": 1, "embedding": [1, 2, 3, 4]}]},
        b'{"data": [{"index": 0, "embedding": [NaN, 0, 0, 1]}, {"index": 1, "embedding": [1, 2, 3, 4]}]}',
    ],
)
async def test_nonsense_is_not_taken_for_vectors(embedder, service, answer):
    """A broken answer is an unavailable service, never a wrong vector."""
    service.script = [(200, {}, answer)]

    with pytest.raises(EmbedderUnavailableError):
        await embedder.embed_remote(["a", "b"])


async def test_vectors_of_another_length_name_the_setting(embedder, service):
    """The error says both lengths and what to set."""
    service.script = [(200, {}, {"data": [{"index": 0, "embedding": [1.0] * 6}]})]

    with pytest.raises(ConfigurationError, match="6 dimensions, not 4") as caught:
        await embedder.embed_remote(["a"])

    assert "INGATHER_EMBEDDER__DIMENSIONS" in caught.value.action


async def test_a_service_that_is_not_there_is_unavailable():
    """A refused connection is told with the host, without the key."""
    embedder = OpenAiEmbedder("http://127.0.0.1:9/v1", "m", 4, KEY, first_wait_seconds=0.001)
    with pytest.raises(EmbedderUnavailableError, match=r"127\.0\.0\.1.*ConnectError") as caught:
        await embedder.embed_remote(["a"])
    await embedder.close()

    assert KEY not in repr(caught.value)


async def test_an_answer_that_trickles_in_runs_into_the_timeout():
    """It is for the whole answer, however often a piece of one comes."""

    async def answer(_asked):
        return Told(trickles=True)

    async with http_stand_in(answer) as server:
        embedder = OpenAiEmbedder(server.url, "m", 4, timeout=timedelta(seconds=0.1), first_wait_seconds=0.001)
        with pytest.raises(EmbedderUnavailableError, match=r"Timeout.*, 5 attempts"):
            await embedder.embed_remote(["text"])
        await embedder.close()


async def test_a_silent_service_runs_into_the_timeout(service):
    """Each attempt ends after the timeout."""
    service.delay.wait = lambda seconds: threading.Event().wait(0.5)
    embedder = OpenAiEmbedder(service.url, "m", 4, timeout=timedelta(seconds=0.05), first_wait_seconds=0.001)
    with pytest.raises(EmbedderUnavailableError, match="Timeout"):
        await embedder.embed_remote(["a"])
    await embedder.close()


async def test_one_failed_batch_stops_the_others(embedder, service):
    """A refusal is told at once, and the requests still waiting are never sent."""
    service.script = [(401, {}, {})] * 20

    with pytest.raises(ConfigurationError):
        await embedder.embed_remote(["x"] * 64 * 20)

    await asyncio.sleep(0.1)
    assert len(service.requests) <= 8


@pytest.mark.parametrize("key", ["sk-\nInjected: header", "schlüssel"])
def test_a_key_that_cannot_be_one_is_refused_early(key):
    """It is refused without being quoted."""
    with pytest.raises(ConfigurationError) as caught:
        OpenAiEmbedder("http://127.0.0.1:9/v1", "m", 4, key)

    assert key not in caught.value.message


def test_the_name_tells_model_service_and_dimensions():
    """It is part of the fingerprint: another service may serve another model under the same name."""
    assert OpenAiEmbedder("https://api.example.com/v1/", "small", 256).name == "small@api.example.com-256"


async def test_dimensions_are_asked_for_only_on_request(service):
    """Most models have one length and refuse the parameter."""
    embedder = OpenAiEmbedder(service.url, "m", 4, request_dimensions=True)
    await embedder.embed_remote(["a"])
    await embedder.close()

    assert service.requests[0][2]["dimensions"] == 4
    assert "Authorization" not in service.requests[0][1]
