"""A client of Ingather's HTTP API: synchronous, typed, safe to repeat.

Every POST carries an idempotency key, so a request that may or may not have arrived is simply sent
again. Errors come out as ``CliError`` and its children, ready to be shown.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
from httpx_sse import EventSource

from ingather.cli.answers import busy_wait, json_of, raise_for_problem, read_timeout, reason_of, stream_event
from ingather.cli.errors import CliError, ServerTimeoutError, ServerUnreachableError
from ingather.cli.exit_codes import ExitCode
from ingather.cli.multipart import LinesUpload, MultipartUpload, Sent, Upload, UploadFile
from ingather.cli.resources import Addition, Batch, Document, Hit, Limits, StreamEvent

ANSWER_TIMEOUT = 30.0
"""Seconds an ordinary request may take."""
UPLOAD_ANSWER_TIMEOUT = 600.0
"""Seconds a submission may take after its last byte: the server makes it durable first."""
STREAM_SILENCE = 45.0
"""Seconds without a byte after which a stream counts as lost; the server sends a comment every 15."""
CONNECT_WAITS = (0.2, 0.5, 1.0)
"""Seconds between attempts while nobody answers at all."""
RESTART_WAITS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Seconds between attempts when a server that did answer is gone: it is probably being restarted."""
BUSY_PATIENCE = 60.0
"""Seconds of ``Retry-After`` (and our own waits) we sit out in total before a 429 or 503 is the answer."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

Sleep = Callable[[float], None]


class IngatherClient:
    """Open it as a context manager.

    Args:
        base_url: where the API is, without ``/v1``.
        api_key: sent as a bearer token when given.
        tenant: sent as ``X-Tenant-ID`` when given.
        transport: for tests and for servers in the same process.
        sleep: waits between attempts.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        tenant: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._sleep = sleep
        self._has_answered = False
        headers = {"User-Agent": "ingather-cli", "Accept": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        if tenant:
            headers["X-Tenant-ID"] = tenant
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL as error:
            raise _not_an_address(base_url) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise _not_an_address(base_url)
        self._http = httpx.Client(
            base_url=self.base_url,
            headers=headers,
            timeout=httpx.Timeout(ANSWER_TIMEOUT, connect=5.0),
            transport=transport,
            # A proxy from the environment cannot reach this machine's own loopback.
            trust_env=url.host not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def act_for(self, tenant_id: str) -> None:
        """Send this tenant with every request from now on."""
        self._http.headers["X-Tenant-ID"] = tenant_id

    # --- Submitting -------------------------------------------------------------------------

    def limits(self) -> Limits:
        return Limits.from_json(self._get_json("/v1/limits"))

    def submit(
        self,
        files: Sequence[UploadFile],
        *,
        spec: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        sent: Sent | None = None,
    ) -> Batch:
        """Upload files as one batch. Repeating it with the same key and files gives the same batch.

        Raises:
            CliError: a file could not be read, or changed while it was sent; nothing was submitted.
        """
        fields: dict[str, Any] = {"spec": dict(spec)}
        if metadata:
            fields["metadata"] = dict(metadata)
        response = self._upload("/v1/batches", MultipartUpload(files, fields, sent=sent), idempotency_key)
        return _submitted(response)

    def submit_lines(self, lines: LinesUpload, *, idempotency_key: str | None = None) -> Batch:
        """Upload an NDJSON manifest, a document a line, as one batch."""
        return _submitted(self._upload("/v1/batches", lines, idempotency_key))

    def open_batch(self, spec: Mapping[str, Any], *, idempotency_key: str | None = None) -> Batch:
        """Begin a batch that takes documents until it is sealed."""
        response = self._send(
            "POST",
            "/v1/batches",
            json_body={**spec, "open": True, "documents": []},
            headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
        )
        return _submitted(response)

    def add(
        self,
        batch_id: str,
        files: Sequence[UploadFile],
        *,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        sent: Sent | None = None,
    ) -> Addition:
        """Upload files into an open batch. Repeating it with the same key and files adds them once."""
        fields = {"metadata": dict(metadata)} if metadata else {}
        return self._add(batch_id, MultipartUpload(files, fields, sent=sent), idempotency_key)

    def add_lines(self, batch_id: str, lines: LinesUpload, *, idempotency_key: str | None = None) -> Addition:
        """Upload an NDJSON manifest into an open batch."""
        return self._add(batch_id, lines, idempotency_key)

    def _add(self, batch_id: str, body: Upload, idempotency_key: str | None) -> Addition:
        response = self._upload(f"{_batch_path(batch_id)}/documents", body, idempotency_key)
        return Addition.from_json(json_of(response))

    def _upload(self, path: str, body: Upload, idempotency_key: str | None) -> httpx.Response:
        return self._send(
            "POST",
            path,
            content=body,
            headers={
                "Content-Type": body.content_type,
                "Content-Length": str(body.content_length),
                "Idempotency-Key": idempotency_key or str(uuid.uuid4()),
            },
            timeout=httpx.Timeout(UPLOAD_ANSWER_TIMEOUT, connect=5.0, write=120.0),
        )

    # --- Batches ----------------------------------------------------------------------------

    def batches(self, *, limit: int | None = None, status: str | None = None) -> Iterator[Batch]:
        """Newest first; all of them unless ``limit`` is given."""
        for item in self._pages("/v1/batches", {"status": status}, limit):
            yield Batch.from_json(item)

    def batch(self, batch_id: str) -> Batch:
        return Batch.from_json(self._get_json(_batch_path(batch_id)))

    def newest_batch(self) -> Batch:
        for batch in self.batches(limit=1):
            return batch
        raise CliError(
            "There is no batch yet",
            action="Submit one with `ingather submit PATH`.",
            exit_code=ExitCode.NOT_FOUND,
            code="batch_not_found",
        )

    def control(self, batch_id: str, action: str, body: Mapping[str, Any] | None = None) -> Batch:
        """``start``, ``pause``, ``resume``, ``cancel``, ``retry`` or ``seal``; asking twice is harmless."""
        response = self._send(
            "POST",
            f"{_batch_path(batch_id)}/{action}",
            json_body=dict(body or {}),
            headers={"Idempotency-Key": str(uuid.uuid4())},
        )
        return Batch.from_json(json_of(response))

    def documents(
        self, batch_id: str, *, status: str | None = None, error_code: str | None = None, limit: int | None = None
    ) -> Iterator[Document]:
        filters = {"status": status, "error_code": error_code}
        for item in self._pages(f"{_batch_path(batch_id)}/documents", filters, limit):
            yield Document.from_json(item)

    def report(self, batch_id: str) -> Iterator[bytes]:
        """The NDJSON report as it arrives, one line a document."""
        request = self._http.build_request(
            "GET", f"{_batch_path(batch_id)}/report", headers={"Accept": "application/x-ndjson"}
        )
        response = self._exchange(lambda: request, stream=True)
        try:
            yield from response.iter_bytes()
        except httpx.TransportError as error:
            raise CliError(
                "The connection was lost in the middle of the report", detail=str(error), action="Ask for it again."
            ) from error
        finally:
            response.close()

    def text(self, batch_id: str, document_id: str) -> str:
        """A document's whole text, as its chunks quote it."""
        path = f"{_batch_path(batch_id)}/documents/{quote(document_id, safe='')}/text"
        return self._send("GET", path, headers={"Accept": "text/plain"}).text

    def search(
        self,
        query: str,
        *,
        collection: str | None = None,
        batch_id: str | None = None,
        metadata: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> list[Hit]:
        parameters = {"q": query, "collection": collection, "batch_id": batch_id, "limit": limit}
        wanted = {name: value for name, value in parameters.items() if value is not None}
        wanted |= {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
        return [Hit.from_json(item) for item in self._get_json("/v1/search", wanted)["data"]]

    # --- Administration ---------------------------------------------------------------------

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Register something; sent again after a lost answer, it is registered once."""
        key = {"Idempotency-Key": str(uuid.uuid4())}
        return json_of(self._send("POST", path, json_body=dict(body), headers=key))

    def all_of(self, path: str, filters: Mapping[str, Any] | None = None) -> list[Mapping[str, Any]]:
        """Everything on a list, page by page."""
        return list(self._pages(path, filters or {}, None))

    def delete(self, path: str) -> None:
        self._send("DELETE", path)

    def audit(self, filters: Mapping[str, Any], *, limit: int | None = None) -> Iterator[Mapping[str, Any]]:
        """Audit events, newest first, page by page."""
        return self._pages("/v1/audit", filters, limit)

    def push_again(self, batch_id: str, *, idempotency_key: str, tenant_id: str | None = None) -> Iterator[int]:
        """Have a batch's documents pushed to the hand-off list again: how many, request by request."""
        parameters = {"tenant_id": tenant_id} if tenant_id else {}
        headers = {"Idempotency-Key": idempotency_key}
        while True:
            path = f"{_batch_path(batch_id)}/push-again"
            page = json_of(self._send("POST", path, parameters=parameters, headers=headers))
            yield int(page["pushed"])
            if not page["has_more"]:
                return
            parameters["cursor"] = page["next_cursor"]

    # --- Events -----------------------------------------------------------------------------

    @contextmanager
    def events(self, batch_id: str, *, after: int | None = None) -> Iterator[Iterator[StreamEvent]]:
        """One connection to a batch's event stream; ``after`` resumes behind that ``seq``.

        It yields nothing when the batch ended and everything up to its end was seen before (204).

        Raises:
            httpx.TransportError: the connection was lost, or could not be made; connect again to go on.
            ApiProblemError: the server refused the stream.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        timeout = httpx.Timeout(ANSWER_TIMEOUT, connect=5.0, read=STREAM_SILENCE)
        with self._http.stream("GET", f"{_batch_path(batch_id)}/events", headers=headers, timeout=timeout) as response:
            if response.status_code == httpx.codes.NO_CONTENT:
                yield iter(())
            else:
                raise_for_problem(response)
                yield (stream_event(sse.event, sse.data) for sse in EventSource(response).iter_sse() if sse.data)

    # --- How a request is sent --------------------------------------------------------------

    def _pages(self, path: str, filters: Mapping[str, Any], limit: int | None) -> Iterator[Mapping[str, Any]]:
        parameters = {name: value for name, value in filters.items() if value is not None}
        parameters["limit"] = min(limit or 200, 200)
        left = limit
        while True:
            page = self._get_json(path, parameters)
            for item in page["data"]:
                yield item
                if left is not None and (left := left - 1) <= 0:
                    return
            if not page.get("has_more") or not page.get("next_cursor"):
                return
            parameters["cursor"] = page["next_cursor"]

    def _get_json(self, path: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return json_of(self._send("GET", path, parameters=parameters))

    def _send(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        json_body: Any = None,
        content: Upload | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Response:
        def build() -> httpx.Request:
            return self._http.build_request(
                method,
                path,
                params=dict(parameters) if parameters else None,
                json=json_body,
                # httpx reads an iterator once; a repeated attempt gets a fresh one.
                content=iter(content) if content is not None else None,
                headers=dict(headers or {}),
                timeout=timeout or self._http.timeout,
            )

        return self._exchange(build)

    def _exchange(self, build: Callable[[], httpx.Request], *, stream: bool = False) -> httpx.Response:
        """Send until there is an answer: through a refused or broken connection, and through "busy"."""
        attempt, waited = 0, 0.0
        while True:
            request = build()
            try:
                response = self._http.send(request, stream=stream)
            except httpx.TimeoutException as error:
                if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
                    raise ServerUnreachableError(self.base_url, "no connection within 5 seconds") from error
                raise ServerTimeoutError(
                    str(request.url.copy_with(query=None)), read_timeout(request, ANSWER_TIMEOUT)
                ) from error
            except httpx.TransportError as error:
                waits = RESTART_WAITS if self._has_answered else CONNECT_WAITS
                if attempt >= len(waits):
                    raise ServerUnreachableError(self.base_url, reason_of(error)) from error
                self._sleep(waits[attempt])
                attempt += 1
                continue
            self._has_answered = True
            wait = busy_wait(response)
            if wait is None or waited + wait > BUSY_PATIENCE:
                raise_for_problem(response)
                return response
            response.close()
            self._sleep(wait)
            waited += wait


def _batch_path(batch_id: str) -> str:
    return f"/v1/batches/{quote(batch_id, safe='')}"


def _submitted(response: httpx.Response) -> Batch:
    return replace(Batch.from_json(json_of(response)), was_replayed="Idempotency-Replayed" in response.headers)


def _not_an_address(url: str) -> CliError:
    return CliError("INGATHER_URL is not an address", detail=repr(url), action="Write it like http://127.0.0.1:8000.")
