"""Every operation of the API as a value: the request it makes, and how its answer is read. No IO happens here.

Both front ends send the same calls: what an operation means is written once, here.
"""

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from ingather.client.bodies import (
    DocumentLines,
    LinesUpload,
    MultipartUpload,
    NewDocument,
    Selection,
    Sendable,
    Sent,
    source_of,
)
from ingather.client.bodies import Upload as Body
from ingather.client.errors import NotIngatherError
from ingather.client.models import (
    Addition,
    ApiKey,
    AuditEvent,
    Batch,
    Connection,
    ConnectionTest,
    Delivery,
    Document,
    EventPage,
    Hit,
    Job,
    JobStatistics,
    Limits,
    Preview,
    SourceFile,
    StreamTicket,
    Tenant,
    TextBatch,
    Token,
    User,
    Webhook,
    WebhookTest,
)
from ingather.client.server import header_value

ANSWER_TIMEOUT = 45.0
"""Seconds an ordinary request may take: longer than the server waits for its own parts, so that its word is heard."""
UPLOAD_ANSWER_TIMEOUT = 600.0
"""Seconds a submission may take after its last byte: the server makes it durable first."""
LONGEST_WAIT = 60.0
"""Seconds the server holds an answer back at the most (`Prefer: wait`)."""
PAGE_SIZE = 200

T = TypeVar("T")

_OTHER_JSON = "JSON that is no answer of this API"
_MISREAD = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading meets in JSON that has other members, or other values in them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes
    url: str

    def json(self) -> dict[str, Any]:
        """The object it holds.

        Raises:
            NotIngatherError: it holds none.
        """
        try:
            value = json.loads(self.content)
        except (ValueError, RecursionError):
            raise NotIngatherError(self.url, self.headers.get("content-type", "")) from None
        if not isinstance(value, dict):
            raise NotIngatherError(self.url, _OTHER_JSON)
        return value

    @contextmanager
    def reading(self) -> Iterator[None]:
        """The block makes of it what was asked for.

        Raises:
            NotIngatherError: it is an answer of something else.
        """
        try:
            yield
        except _MISREAD as error:
            raise NotIngatherError(self.url, _OTHER_JSON) from error


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request. Sent again, it is the same one: its idempotency key was chosen when it was made."""

    method: str
    path: str
    read: Callable[[Answer], T]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = ANSWER_TIMEOUT
    """Seconds for the answer."""

    def taken(self, answer: Answer) -> T:
        """What an answer says. Raises ``NotIngatherError`` where it says something else."""
        with answer.reading():
            return self.read(answer)


PageCall = Call[Answer]


def _behind_cursor(call: PageCall, page: Mapping[str, Any]) -> PageCall | None:
    cursor = page.get("next_cursor") if page.get("has_more") else None
    return replace(call, parameters={**call.parameters, "cursor": cursor}) if cursor else None


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """A list over any number of pages."""

    first: PageCall
    items: Callable[[Mapping[str, Any]], Iterable[T]]
    limit: int | None = None
    """Items wanted; None is all of them."""
    following: Callable[[PageCall, Mapping[str, Any]], PageCall | None] = _behind_cursor
    """The call for the page behind this one; None where it is the last."""


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that is passed on as it arrives."""

    call: Call[bytes]
    what: str


class PageWalk(Generic[T]):
    """Where a reader of a list stands: send ``call`` and give ``take`` its answer, until there is none left."""

    def __init__(self, listing: Listing[T]) -> None:
        self.call: PageCall | None = listing.first
        self._items = listing.items
        self._following = listing.following
        self._left = listing.limit

    def take(self, answer: Answer) -> list[T]:
        """The items of a page that are wanted. Raises ``NotIngatherError`` where it is none."""
        page = answer.json()
        with answer.reading():
            items = list(self._items(page))
            if self._left is not None:
                items = items[: self._left]
                self._left -= len(items)
            self.call = self._following(self.call, page) if self.call and self._left != 0 else None
        return items


class Spec(TypedDict, total=False):
    """What can be said about a batch; the server's defaults for what is left out."""

    name: str
    collection: str
    """Where search finds it."""
    priority: int
    """1 is the most urgent, 5 the least."""
    hold: bool
    """Wait in ``pending`` until ``start``."""
    open: bool
    """Take more documents until ``seal``."""
    pipeline: str
    options: Mapping[str, Any]
    """Processing options, such as ``chunk_size``."""
    batch_metadata: Mapping[str, Any]
    """Of the batch itself; ``metadata`` is that of its documents."""
    webhook_url: str
    """Hears of this batch alone, beside the tenant's webhooks."""
    webhook_secret: str
    """``whsec_…``: what signs the events that are sent there."""


# --- Submitting -----------------------------------------------------------------------------


def limits() -> Call[Limits]:
    """What the server takes at the most."""
    return Call("GET", "/v1/limits", _read(Limits.from_json))


def submit(
    files: Iterable[Sendable],
    *,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    idempotency_key: str | None = None,
    wait: float | None = None,
    sent: Sent | None = None,
    **spec: Unpack[Spec],
) -> Call[Batch]:
    """Upload files as one batch; repeating it with the same key and files gives the same batch.

    Args:
        files: paths, or names with bytes or a stream; ZIPs are expanded when the batch runs.
        metadata: by file name, that of each document.
        idempotency_key: one is made up where none is given, and serves for this call's own attempts.
        wait: seconds to wait for the batch's end, 60 at the most; it is answered as it is then.
        sent: told how many bytes have left.
        spec: what to say about the batch.

    Raises:
        UploadError: a file could not be read, or changed while it was sent; nothing was submitted.
    """
    return _submission(_form(files, _spec(spec), metadata, sent), idempotency_key, wait)


def submit_documents(
    documents: Iterable[NewDocument],
    *,
    idempotency_key: str | None = None,
    wait: float | None = None,
    **spec: Unpack[Spec],
) -> Call[Batch]:
    """Submit a few small documents inline, in one piece of JSON."""
    body = {**_spec(spec), "documents": [document.to_json() for document in documents]}
    return _json_submission(body, idempotency_key, wait)


def submit_sources(
    selections: Iterable[Selection],
    *,
    idempotency_key: str | None = None,
    wait: float | None = None,
    **spec: Unpack[Spec],
) -> Call[Batch]:
    """Submit files that lie in connected sources as one batch. They are fetched as it runs: one that is not there fails alone.

    Raises:
        InvalidRequestError: ``unknown_connection``, ``source_type_mismatch``.
    """
    body = {**_spec(spec), "sources": [selection.to_json() for selection in selections]}
    return _json_submission(body, idempotency_key, wait)


def submit_lines(
    lines: Path | Iterable[NewDocument],
    *,
    idempotency_key: str | None = None,
    wait: float | None = None,
    sent: Sent | None = None,
    **spec: Unpack[Spec],
) -> Call[Batch]:
    """Submit documents as NDJSON, a document a line, as they come: a manifest's file, or any number of documents.

    A generator can be read once: where the connection breaks after it has begun, the error is the caller's.
    """
    return _submission(_lines(lines, _spec(spec), sent), idempotency_key, wait)


def preview(
    files: Iterable[Sendable],
    *,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    sent: Sent | None = None,
    **spec: Unpack[Spec],
) -> Call[Preview]:
    """Say what a submission of these files would do, and keep nothing (a dry run)."""
    return _dry_run(_form(files, _spec(spec), metadata, sent))


def preview_lines(
    lines: Path | Iterable[NewDocument], *, sent: Sent | None = None, **spec: Unpack[Spec]
) -> Call[Preview]:
    """Say what a submission of these documents would do, and keep nothing (a dry run)."""
    return _dry_run(_lines(lines, _spec(spec), sent))


def open_batch(*, idempotency_key: str | None = None, **spec: Unpack[Spec]) -> Call[Batch]:
    """Begin a batch that takes documents until it is sealed."""
    spec["open"] = True
    return replace(submit_documents((), idempotency_key=idempotency_key, **spec), timeout=ANSWER_TIMEOUT)


def add(
    batch_id: str,
    files: Iterable[Sendable],
    *,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    idempotency_key: str | None = None,
    sent: Sent | None = None,
) -> Call[Addition]:
    """Upload files into an open batch. Repeating it with the same key and files adds them once."""
    return _addition(batch_id, _form(files, None, metadata, sent), idempotency_key)


def add_lines(
    batch_id: str,
    lines: Path | Iterable[NewDocument],
    *,
    idempotency_key: str | None = None,
    sent: Sent | None = None,
) -> Call[Addition]:
    """Add documents to an open batch as NDJSON."""
    return _addition(batch_id, _lines(lines, None, sent), idempotency_key)


def add_sources(
    batch_id: str, selections: Iterable[Selection], *, idempotency_key: str | None = None
) -> Call[Addition]:
    """Add files of connected sources to an open batch."""
    body, headers = {"sources": [selection.to_json() for selection in selections]}, _key(idempotency_key)
    path = f"{_batch(batch_id)}/documents"
    return Call("POST", path, _read(Addition.from_json), json=body, headers=headers, timeout=UPLOAD_ANSWER_TIMEOUT)


def _form(
    files: Iterable[Sendable],
    spec: Mapping[str, Any] | None,
    metadata: Mapping[str, Mapping[str, Any]] | None,
    sent: Sent | None,
) -> Body:
    fields: dict[str, Any] = {} if spec is None else {"spec": spec}
    if metadata:
        fields["metadata"] = {name: dict(values) for name, values in metadata.items()}
    return MultipartUpload([source_of(file) for file in files], fields, sent=sent)


def _lines(lines: Path | Iterable[NewDocument], spec: Mapping[str, Any] | None, sent: Sent | None) -> Body:
    if isinstance(lines, Path):
        return LinesUpload(lines, spec, sent=sent)
    return DocumentLines(lines, spec, sent=sent)


def _submission(body: Body, key: str | None, wait: float | None) -> Call[Batch]:
    return _upload("/v1/batches", body, _submitted, {**_key(key), **_prefer(wait)})


def _json_submission(body: Mapping[str, Any], key: str | None, wait: float | None) -> Call[Batch]:
    headers = {**_key(key), **_prefer(wait)}
    return Call("POST", "/v1/batches", _submitted, json=dict(body), headers=headers, timeout=UPLOAD_ANSWER_TIMEOUT)


def _dry_run(body: Body) -> Call[Preview]:
    call = _upload("/v1/batches", body, _read(Preview.from_json), _key(None))
    return replace(call, parameters={"dry_run": "true"})


def _addition(batch_id: str, body: Body, key: str | None) -> Call[Addition]:
    return _upload(f"{_batch(batch_id)}/documents", body, _read(Addition.from_json), _key(key))


def _upload(path: str, body: Body, read: Callable[[Answer], T], headers: Mapping[str, str]) -> Call[T]:
    own = {"Content-Type": body.content_type}
    if body.content_length is not None:
        own["Content-Length"] = str(body.content_length)
    return Call("POST", path, read, body=body, headers={**own, **headers}, timeout=UPLOAD_ANSWER_TIMEOUT)


def _spec(given: Spec) -> dict[str, Any]:
    spec: dict[str, Any] = {**given}
    if "batch_metadata" in spec:
        spec["metadata"] = spec.pop("batch_metadata")
    return spec


def _submitted(answer: Answer) -> Batch:
    return replace(Batch.from_json(answer.json()), was_replayed="idempotency-replayed" in answer.headers)


# --- Batches --------------------------------------------------------------------------------


def batches(*, limit: int | None = None, status: str | None = None, collection: str | None = None) -> Listing[Batch]:
    """Batches, newest first; all of them unless ``limit`` is given. ``status`` may be several, with commas."""
    return _pages("/v1/batches", Batch.from_json, limit, status=status, collection=collection)


def batch(batch_id: str, *, wait: float | None = None) -> Call[Batch]:
    """A batch now; with ``wait``, as soon as it has ended, or after so many seconds (60 at the most)."""
    seconds = ANSWER_TIMEOUT + (wait or 0.0)
    return Call("GET", _batch(batch_id), _read(Batch.from_json), headers=_prefer(wait), timeout=seconds)


def start(batch_id: str, *, idempotency_key: str | None = None) -> Call[Batch]:
    """Let a batch run that was submitted with ``hold``."""
    return _control(batch_id, "start", idempotency_key)


def pause(batch_id: str, *, idempotency_key: str | None = None) -> Call[Batch]:
    """Start no more documents; those in flight finish."""
    return _control(batch_id, "pause", idempotency_key)


def resume(batch_id: str, *, idempotency_key: str | None = None) -> Call[Batch]:
    """Go on after a pause."""
    return _control(batch_id, "resume", idempotency_key)


def cancel(batch_id: str, *, idempotency_key: str | None = None) -> Call[Batch]:
    """Stop what runs, keep what is done."""
    return _control(batch_id, "cancel", idempotency_key)


def retry(
    batch_id: str,
    *,
    codes: Iterable[str] = (),
    ordinals: Iterable[int] = (),
    include_cancelled: bool = False,
    idempotency_key: str | None = None,
) -> Call[Batch]:
    """Run documents again: all that failed, or those that match every filter given."""
    body = {"codes": list(codes), "ordinals": list(ordinals), "include_cancelled": include_cancelled}
    return _control(batch_id, "retry", idempotency_key, body)


def seal(batch_id: str, *, idempotency_key: str | None = None) -> Call[Batch]:
    """Let an open batch run: it takes no more documents."""
    return _control(batch_id, "seal", idempotency_key)


def edit(batch_id: str, *, name: str | None = None, priority: int | None = None) -> Call[Batch]:
    """Rename a batch, or move it ahead (1) or back (5)."""
    body = _given(name=name, priority=priority)
    return Call("PATCH", _batch(batch_id), _read(Batch.from_json), json=body)


def push_again(batch_id: str, *, idempotency_key: str | None = None, tenant_id: str | None = None) -> Listing[int]:
    """Have a batch's documents pushed to the hand-off list again: how many, request by request."""
    path, headers = f"{_batch(batch_id)}/push-again", _key(idempotency_key)
    first = Call("POST", path, _whole, parameters=_given(tenant_id=tenant_id), headers=headers)
    return Listing(first, lambda page: [int(page["pushed"])])


def _control(batch_id: str, action: str, key: str | None, body: Mapping[str, Any] | None = None) -> Call[Batch]:
    path = f"{_batch(batch_id)}/{action}"
    return Call("POST", path, _read(Batch.from_json), json=dict(body or {}), headers=_key(key))


# --- What came out --------------------------------------------------------------------------


def documents(
    batch_id: str, *, status: str | None = None, error_code: str | None = None, limit: int | None = None
) -> Listing[Document]:
    """Documents of a batch, in the order of their ordinals."""
    path = f"{_batch(batch_id)}/documents"
    return _pages(path, Document.from_json, limit, status=status, error_code=error_code)


def document(batch_id: str, document_id: str) -> Call[Document]:
    """One document."""
    return Call("GET", _document(batch_id, document_id), _read(Document.from_json))


def text(batch_id: str, document_id: str) -> Call[str]:
    """A document's whole text, as its chunks quote it."""
    path = f"{_document(batch_id, document_id)}/text"
    return Call("GET", path, lambda answer: answer.content.decode("utf-8"), headers={"Accept": "text/plain"})


def raw(batch_id: str, document_id: str) -> Download:
    """A document's own bytes, as they arrive."""
    return _download(f"{_document(batch_id, document_id)}/raw", "*/*", "document")


def report(batch_id: str) -> Download:
    """The NDJSON report as it arrives, one line a document; also while the batch runs."""
    return _download(f"{_batch(batch_id)}/report", "application/x-ndjson", "report")


def search(
    query: str,
    *,
    collection: str | None = None,
    batch_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> Call[list[Hit]]:
    """The chunks that answer a query best."""
    wanted = _given(q=query, collection=collection, batch_id=batch_id, limit=limit)
    wanted |= {f"metadata[{name}]": value for name, value in (metadata or {}).items()}
    return Call("GET", "/v1/search", lambda answer: [Hit.from_json(hit) for hit in answer.json()["data"]], wanted)


def event_page(batch_id: str, *, after: int = 0, limit: int | None = None) -> Call[EventPage]:
    """A page of a batch's history, behind the event of that number."""
    path, wanted = f"{_batch(batch_id)}/events", _given(after=after, limit=limit)
    return Call("GET", path, _read(EventPage.from_json), wanted, headers={"Accept": "application/json"})


def stream_ticket(batch_id: str) -> Call[StreamTicket]:
    """A ticket that opens the events of one batch, and nothing else, where no header can be sent: for a browser."""
    return Call("POST", "/v1/stream-tickets", _read(StreamTicket.from_json), json={"batch_id": batch_id})


# --- Sources --------------------------------------------------------------------------------


def connections() -> Listing[Connection]:
    """Connections, newest first; their credentials are masked."""
    return _pages("/v1/connections", Connection.from_json)


def create_connection(
    source_type: str,
    settings: Mapping[str, Any],
    *,
    connection_id: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Connection]:
    """Register a way to a source; nothing is asked of the source. The same again is answered with what is there.

    Args:
        source_type: ``local_directory``, ``local_zip``, ``s3``, ``http`` or ``google_drive``.
        settings: what this kind of source needs.
        connection_id: what selections name it by; made by the server when left out.
        idempotency_key: one is made up where none is given.

    Raises:
        ConflictError: the id is taken, by a connection with other settings.
        InvalidRequestError: the settings are not those of such a source, or lead where this deployment does not go.
    """
    body = {"source_type": source_type, "settings": dict(settings), **_given(connection_id=connection_id)}
    return _creation("/v1/connections", body, Connection.from_json, idempotency_key)


def connection(connection_id: str) -> Call[Connection]:
    """One connection."""
    return Call("GET", _connection(connection_id), _read(Connection.from_json))


def test_connection(connection_id: str) -> Call[ConnectionTest]:
    """Use a connection as a batch would, and say what is wrong. That it does not work is an answer, no error."""
    return Call("POST", f"{_connection(connection_id)}/test", _read(ConnectionTest.from_json))


def connection_files(connection_id: str, *, folder: str | None = None, limit: int | None = None) -> Listing[SourceFile]:
    """Files and folders right below a folder, in the source's own order; below its root where none is named."""
    return _pages(f"{_connection(connection_id)}/files", SourceFile.from_json, limit, folder=folder)


def delete_connection(connection_id: str) -> Call[None]:
    """Forget a connection and its credentials. Documents still to be fetched through it fail."""
    return _deletion("/v1/connections", connection_id)


# --- Webhooks -------------------------------------------------------------------------------


def webhooks(*, batch_id: str | None = None) -> Listing[Webhook]:
    """Webhooks, newest first: those of all batches, or the one that a batch named. Their secrets are not told."""
    return _pages("/v1/webhook-endpoints", Webhook.from_json, batch_id=batch_id)


def create_webhook(
    url: str,
    *,
    event_types: Iterable[str] = (),
    description: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Webhook]:
    """Register where events of batches are sent. The answer holds its ``secret``, and no later one does.

    Args:
        url: http or https, on the public Internet.
        event_types: what it hears of, such as ``batch.completed``; everything when left out.
        description: for people.
        idempotency_key: one is made up where none is given.

    Raises:
        ConflictError: the tenant has as many as it may.
        InvalidRequestError: the address leads where this deployment sends nothing.
    """
    body = {"url": url, "event_types": list(event_types), **_given(description=description)}
    return _creation("/v1/webhook-endpoints", body, Webhook.from_json, idempotency_key)


def webhook(webhook_id: str) -> Call[Webhook]:
    """One webhook."""
    return Call("GET", _webhook(webhook_id), _read(Webhook.from_json))


def edit_webhook(
    webhook_id: str,
    *,
    url: str | None = None,
    event_types: Iterable[str] | None = None,
    description: str | None = None,
    is_enabled: bool | None = None,
) -> Call[Webhook]:
    """Change what is named; ``is_enabled`` switches it off, and on again."""
    wanted = None if event_types is None else list(event_types)
    changes = _given(url=url, event_types=wanted, description=description, is_enabled=is_enabled)
    return Call("PATCH", _webhook(webhook_id), _read(Webhook.from_json), json=changes)


def rotate_webhook(webhook_id: str, *, idempotency_key: str | None = None) -> Call[Webhook]:
    """Give it a new ``secret``, which the answer holds; for a day the one before signs too."""
    return Call("POST", f"{_webhook(webhook_id)}/rotate", _read(Webhook.from_json), headers=_key(idempotency_key))


def test_webhook(
    webhook_id: str,
    *,
    idempotency_key: str | None = None,  # noqa: PT028  # it tests, and is no test
) -> Call[WebhookTest]:
    """Send it a test event now. That it does not work is an answer, no error."""
    return Call("POST", f"{_webhook(webhook_id)}/test", _read(WebhookTest.from_json), headers=_key(idempotency_key))


def delete_webhook(webhook_id: str) -> Call[None]:
    """Forget it, its secret and its log. What is on its way to it is given up."""
    return _deletion("/v1/webhook-endpoints", webhook_id)


def deliveries(
    webhook_id: str, *, status: str | None = None, event_type: str | None = None, limit: int | None = None
) -> Listing[Delivery]:
    """What was sent to a webhook, newest first."""
    path = f"{_webhook(webhook_id)}/deliveries"
    return _pages(path, Delivery.from_json, limit, status=status, event_type=event_type)


def delivery(webhook_id: str, delivery_id: str) -> Call[Delivery]:
    """One delivery, with every attempt."""
    return Call("GET", _delivery(webhook_id, delivery_id), _read(Delivery.from_json))


def redeliver(webhook_id: str, delivery_id: str, *, idempotency_key: str | None = None) -> Call[Delivery]:
    """Send an event again, under its own event id; answers the new delivery."""
    path = f"{_delivery(webhook_id, delivery_id)}/redeliver"
    return Call("POST", path, _read(Delivery.from_json), headers=_key(idempotency_key))


# --- Texts ----------------------------------------------------------------------------------


def process_texts(
    requests: Iterable[Mapping[str, Any]],
    *,
    batch_id: str | None = None,
    wait: float | None = LONGEST_WAIT,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    idempotency_key: str | None = None,
) -> Call[TextBatch]:
    """Have short texts summarized, judged, boiled down, asked about, or turned into questions.

    Args:
        requests: a mapping a text: ``text``, ``operation``, and where wanted ``question``, ``options``, ``user_metadata``.
        batch_id: a name of one's own; the same with the same requests is the same batch.
        wait: answer when all have ended, or after so many seconds (60 at the most); at once when 0 or None.
        webhook_url: hears of this batch alone.
        webhook_secret: ``whsec_…``, signs what is sent there. Where none is given one is made, and is not told here.
        idempotency_key: one is made up where none is given; of no use beside a ``batch_id``.

    Raises:
        InvalidRequestError: too many, or one that does not fit.
        ConflictError: the ``batch_id`` stands for other requests.
    """
    given = _given(batch_id=batch_id, webhook_url=webhook_url, webhook_secret=webhook_secret)
    body = {"requests": [dict(each) for each in requests], **given}
    prefer = _prefer(wait) or {"Prefer": "respond-async"}
    headers = {**_key(idempotency_key), **prefer}
    seconds = ANSWER_TIMEOUT + (wait or 0.0)
    return Call("POST", "/batch_process", _read(TextBatch.from_json), json=body, headers=headers, timeout=seconds)


def text_batch(batch_id: str) -> Call[TextBatch]:
    """How far a batch of texts is, by its id or by the name it was given."""
    return Call("GET", f"/batch_status/{_segment(batch_id)}", _read(TextBatch.from_json))


# --- Jobs over sources ----------------------------------------------------------------------


def create_job(
    user_id: str,
    name: str,
    selections: Iterable[Selection],
    *,
    description: str | None = None,
    priority: str | None = None,
    options: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Call[Job]:
    """Make a job of files that lie in connected sources. It waits for ``control_job(…, "start")``.

    Args:
        user_id: whose job it is; the caller's own name, where the service asks for a credential.
        name: what it is called.
        selections: 1 to 20. The sources are asked when the job runs: a file that is not there fails alone.
        description: what it is for.
        priority: ``low``, ``normal``, ``high``, ``urgent``.
        options: how each file is processed, such as ``chunk_size``.
        idempotency_key: one is made up where none is given; the same key of the same user is the same job.

    Raises:
        InvalidRequestError: a connection that is not there or of another type, an option that is not served.
    """
    body = {
        "user_id": user_id,
        "name": name,
        "file_selections": [selection.to_json() for selection in selections],
        **_given(description=description, priority=priority, processing_options=options and dict(options)),
    }
    call = _creation("/batch/jobs", body, Job.from_json, idempotency_key)
    return replace(call, timeout=UPLOAD_ANSWER_TIMEOUT)


def job(user_id: str, job_id: str) -> Call[Job]:
    """A job now, with its files: the first thousand, and those being worked on."""
    return Call("GET", _job(job_id), _read(Job.from_json), {"user_id": user_id})


def jobs(user_id: str, *, statuses: Iterable[str] | None = None, limit: int | None = None) -> Listing[Job]:
    """A user's jobs, newest first, without their files; those in any of ``statuses``. What is created while the list is
    read is not in it.
    """
    body = {
        "user_id": user_id,
        "limit": min(limit or PAGE_SIZE, PAGE_SIZE),
        "offset": 0,
        **_given(status_filter=None if statuses is None else list(statuses)),
    }
    first = Call("POST", "/batch/jobs/list", _whole, json=body)
    return Listing(first, lambda page: [Job.from_json(each) for each in page["jobs"]], limit, _behind_offset)


def control_job(
    user_id: str,
    job_id: str,
    action: str,
    *,
    retry_failed_only: bool = True,
    idempotency_key: str | None = None,
) -> Call[str]:
    """Steer a job, and answer its status then.

    Args:
        user_id: whose job it is.
        job_id: which one.
        action: ``start``, ``pause``, ``resume``, ``cancel``, ``retry``.
        retry_failed_only: False has a retry run every file of a job that has ended.
        idempotency_key: one is made up where none is given.

    Raises:
        InvalidRequestError: the job's status, which it names, does not allow the action.
        NotFoundError: the user has no such job.
    """
    body: dict[str, Any] = {"user_id": user_id, "action": action}
    if not retry_failed_only:
        body["retry_failed_only"] = False
    return _creation(f"{_job(job_id)}/control", body, lambda done: str(done["status"]), idempotency_key)


def job_statistics(user_id: str) -> Call[JobStatistics]:
    """All of a user's jobs, added up."""
    return Call("GET", "/batch/statistics", _read(JobStatistics.from_json), {"user_id": user_id})


def _behind_offset(call: PageCall, page: Mapping[str, Any]) -> PageCall | None:
    if not page.get("has_more") or not page["jobs"]:
        return None
    body = {**call.json, "offset": call.json["offset"] + len(page["jobs"]), **_given(as_of=page.get("as_of"))}
    return replace(call, json=body)


# --- Administration -------------------------------------------------------------------------


def tenants(*, name: str | None = None) -> Listing[Tenant]:
    """Tenants, newest first, or those of a name; without the scope ``admin`` one's own."""
    return _pages("/v1/tenants", Tenant.from_json, name=name)


def create_tenant(
    name: str,
    settings: Mapping[str, Any] | None = None,
    *,
    tenant_id: str | None = None,
    pipeline: str | None = None,
    idempotency_key: str | None = None,
) -> Call[Tenant]:
    """Register a tenant.

    Args:
        name: what it is called.
        settings: ``default_metadata``, ``metadata_schema``, ``collection_schemas``, ``limits``, ``fairness_weight``.
        tenant_id: the UUID it has elsewhere; made by the server when left out.
        pipeline: what its batches run through where they do not say.
        idempotency_key: one is made up where none is given.
    """
    body = {**(settings or {}), "name": name, **_given(tenant_id=tenant_id, pipeline=pipeline)}
    return _creation("/v1/tenants", body, Tenant.from_json, idempotency_key)


def edit_tenant(tenant_id: str, changes: Mapping[str, Any]) -> Call[Tenant]:
    """Change what is named, and set back what is None."""
    return Call("PATCH", f"/v1/tenants/{_segment(tenant_id)}", _read(Tenant.from_json), json=dict(changes))


def delete_tenant(tenant_id: str) -> Call[None]:
    """Delete a tenant: its keys and users go with it, its batches stay on record."""
    return _deletion("/v1/tenants", tenant_id)


def users(*, tenant_id: str | None = None) -> Listing[User]:
    """Users, newest first."""
    return _pages("/v1/users", User.from_json, tenant_id=tenant_id)


def create_user(
    username: str,
    password: str,
    *,
    tenant_id: str | None = None,
    scopes: Iterable[str] | None = None,
    idempotency_key: str | None = None,
) -> Call[User]:
    """Register a user; names are unique in the whole deployment."""
    given = _given(tenant_id=tenant_id, scopes=list(scopes) if scopes is not None else None)
    body = {"username": username, "password": password, **given}
    return _creation("/v1/users", body, User.from_json, idempotency_key)


def delete_user(user_id: str) -> Call[None]:
    """Delete a user, and revoke its keys."""
    return _deletion("/v1/users", user_id)


def log_in(username: str, password: str) -> Call[Token]:
    """An access token for a user."""
    return Call("POST", "/v1/tokens", _read(Token.from_json), json={"username": username, "password": password})


def api_keys(*, tenant_id: str | None = None) -> Listing[ApiKey]:
    """Keys, newest first; what they look like, never the keys themselves."""
    return _pages("/v1/api-keys", ApiKey.from_json, tenant_id=tenant_id)


def create_api_key(
    name: str,
    *,
    tenant_id: str | None = None,
    scopes: Iterable[str] | None = None,
    user: str | None = None,
    expires_at: datetime | None = None,
    idempotency_key: str | None = None,
) -> Call[ApiKey]:
    """Make a key. Its ``key`` is shown in this answer alone: keep it."""
    chosen = list(scopes) if scopes is not None else None
    body = {"name": name, **_given(tenant_id=tenant_id, scopes=chosen, user=user, expires_at=_moment(expires_at))}
    return _creation("/v1/api-keys", body, ApiKey.from_json, idempotency_key)


def rotate_api_key(
    key_id: str, *, grace_seconds: int | None = None, idempotency_key: str | None = None
) -> Call[ApiKey]:
    """Make the next key of the same kind, while the old one is accepted for a while (a day)."""
    path, body = f"/v1/api-keys/{_segment(key_id)}/rotate", _given(grace_seconds=grace_seconds)
    return _creation(path, body, ApiKey.from_json, idempotency_key)


def delete_api_key(key_id: str) -> Call[None]:
    """Revoke a key."""
    return _deletion("/v1/api-keys", key_id)


def audit(
    *,
    event_type: str | None = None,
    resource_type: str | None = None,
    resource_id: str | None = None,
    actor: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    tenant_id: str | None = None,
    limit: int | None = None,
) -> Listing[AuditEvent]:
    """Who did what, newest first; from ``since`` on, and before ``until``."""
    return _pages(
        "/v1/audit",
        AuditEvent.from_json,
        limit,
        event_type=event_type,
        resource_type=resource_type,
        resource_id=resource_id,
        actor=actor,
        since=_moment(since),
        until=_moment(until),
        tenant_id=tenant_id,
    )


def _creation(path: str, body: Mapping[str, Any], read: Callable[[Mapping[str, Any]], T], key: str | None) -> Call[T]:
    return Call("POST", path, _read(read), json=dict(body), headers=_key(key))


def _deletion(path: str, its_id: str) -> Call[None]:
    return Call("DELETE", f"{path}/{_segment(its_id)}", lambda _: None)


# --- Parts of requests ----------------------------------------------------------------------


def event_stream(batch_id: str, after: int | None) -> Call[None]:
    """A connection to a batch's events, behind the event of that number."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    return Call("GET", f"{_batch(batch_id)}/events", lambda _: None, headers=headers)


def _pages(path: str, read: Callable[[Mapping[str, Any]], T], limit: int | None = None, **filters: Any) -> Listing[T]:
    parameters = {**_given(**filters), "limit": min(limit or PAGE_SIZE, PAGE_SIZE)}
    first = Call("GET", path, _whole, parameters)
    return Listing(first, lambda page: [read(item) for item in page["data"]], limit)


def _download(path: str, accept: str, what: str) -> Download:
    return Download(Call("GET", path, lambda answer: answer.content, headers={"Accept": accept}), what)


def _whole(answer: Answer) -> Answer:
    return answer


def _read(build: Callable[[Mapping[str, Any]], T]) -> Callable[[Answer], T]:
    return lambda answer: build(answer.json())


def _key(given: str | None) -> dict[str, str]:
    return {"Idempotency-Key": header_value("idempotency key", given) if given else str(uuid.uuid4())}


def _prefer(wait: float | None) -> dict[str, str]:
    return {"Prefer": f"wait={min(wait, LONGEST_WAIT):.0f}"} if wait else {}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _moment(value: datetime | None) -> str | None:
    """A time that names its zone; one that does not is this machine's."""
    if value is None:
        return None
    if value.tzinfo is not None:
        return value.isoformat()
    try:
        return value.astimezone().isoformat()
    except (OverflowError, ValueError):
        # Within hours of the calendar's ends, where this machine's zone leads out of it.
        return value.replace(tzinfo=UTC).isoformat()


def _segment(name: str) -> str:
    """One segment of a path, whatever is in it."""
    return quote(name, safe="")


def _batch(batch_id: str) -> str:
    return f"/v1/batches/{_segment(batch_id)}"


def _connection(connection_id: str) -> str:
    return f"/v1/connections/{_segment(connection_id)}"


def _webhook(webhook_id: str) -> str:
    return f"/v1/webhook-endpoints/{_segment(webhook_id)}"


def _delivery(webhook_id: str, delivery_id: str) -> str:
    return f"{_webhook(webhook_id)}/deliveries/{_segment(delivery_id)}"


def _job(job_id: str) -> str:
    return f"/batch/jobs/{_segment(job_id)}"


def _document(batch_id: str, document_id: str) -> str:
    return f"{_batch(batch_id)}/documents/{_segment(document_id)}"
