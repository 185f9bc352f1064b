"""Vectors from any service that speaks OpenAI's ``POST /v1/embeddings``."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import httpx
import structlog

from ingather.adapters.retry_after import seconds_asked
from ingather.adapters.together import together
from ingather.domain.metadata_pairs import well_formed
from ingather.models.errors import ConfigurationError, EmbedderUnavailableError
from ingather.ports.embedder import Vectors

logger = structlog.get_logger(__name__)

_BATCH_TEXTS = 64
_BATCH_CHARACTERS = 100_000
"""About 25,000 tokens of English: well inside what services take in one request."""
_PARALLEL_REQUESTS = 4
_ATTEMPTS = 5
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_PASSING_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})


class OpenAiEmbedder:
    """A ``RemoteEmbedder`` over HTTP.

    Texts go out in batches, a few requests at a time, results come back in order. What may pass by
    itself (no connection, a timeout, 429, 5xx) is tried up to five times, as ``Retry-After`` asks
    where it asks for at most 30 seconds. Use an instance in one event loop only.

    Args:
        base_url: up to and including the version, such as ``https://api.openai.com/v1``.
        model: the service's name of the model.
        dimensions: length the vectors must have.
        api_key: sent as a bearer token, and never part of an error or a log line.
        timeout: for one request.
        request_dimensions: ask the service for ``dimensions`` too; only some models accept that.
        first_wait_seconds: before the second attempt; each further wait is twice as long.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        dimensions: int,
        api_key: str | None = None,
        *,
        timeout: timedelta = timedelta(seconds=60),
        request_dimensions: bool = False,
        first_wait_seconds: float = _FIRST_WAIT_SECONDS,
    ) -> None:
        self._url = httpx.URL(base_url.rstrip("/") + "/embeddings")
        self._model = model
        self._dimensions = dimensions
        self._api_key = _checked_key(api_key)
        self._timeout = timeout
        self._request_dimensions = request_dimensions
        self._first_wait_seconds = first_wait_seconds
        self._client: httpx.AsyncClient | None = None
        self._places = asyncio.Semaphore(_PARALLEL_REQUESTS)

    @property
    def name(self) -> str:
        """Model, host and dimensions, such as ``text-embedding-3-small@api.openai.com-256``."""
        return f"{self._model}@{self._url.host}-{self._dimensions}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    async def embed_remote(self, texts: list[str]) -> Vectors:
        """Vectors of the texts, in order, rows of length 1.

        Raises:
            EmbedderUnavailableError: the service did not answer, or not with what was asked for.
            ConfigurationError: it refuses the key, the model or the request, or its vectors are of another length.
        """
        import numpy as np  # noqa: PLC0415 - whoever names models only has no use for it

        vectors = await together(self._embed_batch(batch) for batch in _batches(texts))
        return np.concatenate([np.empty((0, self._dimensions), dtype=np.float32), *vectors])

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _embed_batch(self, texts: list[str]) -> Vectors:
        # Services refuse the empty text; a space means as little.
        payload: dict[str, Any] = {"model": self._model, "input": [well_formed(text) or " " for text in texts]}
        if self._request_dimensions:
            payload["dimensions"] = self._dimensions
        async with self._places:
            response = await self._post(payload)
        return self._read_vectors(response, len(texts))

    async def _post(self, payload: dict[str, Any]) -> httpx.Response:
        for attempt in range(1, _ATTEMPTS + 1):
            asked_wait: float | None = None
            try:
                # The client's own time-out is for each piece of an answer: one that trickles in would outlast it.
                async with asyncio.timeout(self._timeout.total_seconds()):
                    response = await self._open_client().post(self._url, json=payload)
            except (httpx.HTTPError, TimeoutError) as error:
                reason = type(error).__name__
            else:
                if response.is_success:
                    return response
                reason = f"status {response.status_code}"
                if response.status_code not in _PASSING_STATUSES:
                    raise self._refused(response.status_code)
                asked_wait = seconds_asked(response.headers.get("Retry-After"))
            if attempt == _ATTEMPTS or (asked_wait or 0.0) > _LONGEST_WAIT_SECONDS:
                break
            wait = asked_wait or self._first_wait_seconds * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
            logger.info("embedder.request_repeated", host=self._url.host, reason=reason, wait_seconds=round(wait, 2))
            await asyncio.sleep(wait)
        raise EmbedderUnavailableError(
            f"The embedding service at {self._url.host} did not answer ({reason}, {attempt} attempts).",
            host=self._url.host,
            reason=reason,
            retry_after_seconds=asked_wait,
        )

    def _open_client(self) -> httpx.AsyncClient:
        if self._client is None:
            headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            self._client = httpx.AsyncClient(headers=headers, timeout=self._timeout.total_seconds())
        return self._client

    def _refused(self, status: int) -> ConfigurationError:
        # The body is left out: services quote parts of the key, and of the text, in it.
        return ConfigurationError(
            f"The embedding service at {self._url.host} refused the request with status {status}.",
            action="Check INGATHER_EMBEDDER__BASE_URL, __MODEL, __API_KEY and __DIMENSIONS.",
            host=self._url.host,
            status=status,
        )

    def _read_vectors(self, response: httpx.Response, count: int) -> Vectors:
        import numpy as np  # noqa: PLC0415 - as above

        try:
            data = sorted(response.json()["data"], key=lambda item: item["index"])
            in_order = [item["index"] for item in data] == list(range(count))
            vectors = np.array([item["embedding"] for item in data], dtype=np.float32)
        except (ValueError, TypeError, KeyError) as error:
            raise self._nonsense("an answer that cannot be read") from error
        if not in_order:
            raise self._nonsense(f"{len(vectors)} vectors for {count} texts")
        if vectors.ndim != 2:
            raise self._nonsense("an answer that cannot be read")
        if vectors.shape[1] != self._dimensions:
            raise ConfigurationError(
                f"The model {self._model} gives vectors of {vectors.shape[1]} dimensions, not {self._dimensions}.",
                action="Set INGATHER_EMBEDDER__DIMENSIONS to what the model gives.",
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(lengths).all() or not lengths.all():
            raise self._nonsense("vectors without a direction")
        vectors /= lengths
        return vectors

    def _nonsense(self, what: str) -> EmbedderUnavailableError:
        return EmbedderUnavailableError(f"The embedding service at {self._url.host} sent {what}.", host=self._url.host)


def _checked_key(api_key: str | None) -> str | None:
    """The key without blanks around it; refused here where it could end up in an error about a bad header."""
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(
            "The embedding service's API key has characters that no key has.",
            action="Set INGATHER_EMBEDDER__API_KEY again.",
        )
    return key or None


def _batches(texts: list[str]) -> list[list[str]]:
    """Neighbours together, up to a number of texts and of characters; a longer text goes alone."""
    batches: list[list[str]] = []
    characters = 0
    for text in texts:
        if not batches or len(batches[-1]) == _BATCH_TEXTS or characters + len(text) > _BATCH_CHARACTERS:
            batches.append([])
            characters = 0
        batches[-1].append(text)
        characters += len(text)
    return batches
