"""One closed tree of errors.

A class fixes what never varies: the stable ``code``, whether a retry may cure it, who
must act, and the HTTP status. An instance carries the facts: what happened, where, and
what to do. Each edge (activities, API, command line) translates the tree exactly once.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, ClassVar


class Actor(StrEnum):
    """Who can put it right."""

    SENDER = "sender"
    """Whoever submitted the document or request."""
    OPERATOR = "operator"
    """Whoever runs this deployment."""


class IngatherError(Exception):
    """Root of the tree.

    Args:
        message: what went wrong and where, in one sentence, without secrets or document text.
        action: what the reader should do; the class's own advice when omitted.
        facts: small JSON-ready values for logs and problem details.
    """

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    retryable: ClassVar[bool] = False
    actor: ClassVar[Actor] = Actor.OPERATOR
    http_status: ClassVar[int] = 500
    advice: ClassVar[str] = "Look at the server log for this request id."

    def __init__(self, message: str, *, action: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.action = action or self.advice
        self.facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.action, self.facts)


def _rebuild(cls: type[IngatherError], message: str, action: str, facts: dict[str, Any]) -> IngatherError:
    return cls(message, action=action, **facts)


# --- One document cannot be ingested ------------------------------------------------------


class DocumentError(IngatherError):
    """A result, not an accident: this document fails, its neighbours do not notice."""

    code = "document_failed"
    title = "Document failed"
    actor = Actor.SENDER
    http_status = 422
    advice = "Check the document and submit it again."


class DocumentEncryptedError(DocumentError):
    code = "encrypted"
    title = "Document is encrypted"
    advice = "Remove the password and submit the document again."


class DocumentCorruptError(DocumentError):
    code = "corrupt"
    title = "Document cannot be read"
    advice = "Open the file in its own program, save it again and submit the new copy."


class DocumentEmptyError(DocumentError):
    code = "empty"
    title = "Document has no bytes"
    advice = "The file has zero bytes: check the upload or the export that made it."


class UnsupportedTypeError(DocumentError):
    code = "unsupported_type"
    title = "Unsupported document type"
    advice = "Convert it to PDF, DOCX, PPTX, XLSX, HTML, Markdown, CSV, EML, RTF or plain text."


class DocumentTooLargeError(DocumentError):
    code = "too_large"
    title = "Document is over a limit"
    http_status = 413
    advice = "Split the document, or raise the limit named in the message."


class ParserKilledError(DocumentError):
    """The document cost a parser process its life: it crashed, or was stopped at a limit.

    ``facts['kills']`` counts how many processes it cost, and ``facts['quarantined']`` says whether
    it had its last chance: no attempt follows by itself then, only a ``retry``. A copy of such a file that comes to the
    same worker within ten minutes, in the same batch or child of a large one, fails with it untried:
    ``facts['same_as']`` is the number of the document that was tried, which the other facts are of.
    """

    code = "parser_killed"
    title = "Document ended its parser"
    actor = Actor.OPERATOR
    advice = "The document is quarantined. Report it with its raw object's key; save it in another format to go on."


class ParserCrashedError(ParserKilledError):
    """The parser process died of the document: a crash in native code, or an early exit."""

    code = "parser_crashed"
    title = "Parser crashed"


class ParserTimeoutError(ParserKilledError):
    code = "parser_timeout"
    title = "Parser ran out of time"
    actor = Actor.SENDER
    advice = (
        "Split the document, or submit it with a larger timeout_seconds (up to INGATHER_LIMITS__MAX_PARSER_SECONDS)."
    )


class ParserOutOfMemoryError(ParserKilledError):
    code = "parser_out_of_memory"
    title = "Parser ran out of memory"
    actor = Actor.SENDER
    advice = "Split the document, or raise INGATHER_LIMITS__PARSER_MEMORY_BYTES, then retry this code."


class LowQualityError(DocumentError):
    code = "low_quality"
    title = "Text is below the quality threshold"
    advice = "Submit a better copy, or lower quality_threshold for this batch."


class MetadataInvalidError(DocumentError):
    code = "metadata_invalid"
    title = "Metadata does not fit the schema"
    advice = "Correct the metadata named in the message and submit the document again."


class ContentInvalidError(DocumentError):
    """Inline content that is not what it says it is (base64)."""

    code = "content_invalid"
    title = "Inline content cannot be decoded"
    advice = "Send the document's bytes as standard base64."


class ArtifactUnreadableError(DocumentError):
    """What the document became is stored, and its bytes are damaged, cut off, or not ours.

    Told when the document is to be made searchable, and by whoever reads its text or chunks.
    """

    code = "artifact_unreadable"
    title = "Stored result is unreadable"
    actor = Actor.OPERATOR
    http_status = 500
    advice = (
        "Retry this code: the document is made anew from its own bytes. If it comes back, check the object storage."
    )


class SourceUnavailableError(DocumentError):
    """The source answered with an error of its own, too late, or with less than it announced.

    Tried again a few times, after ``facts['retry_after_seconds']`` where the source asked for that; then it is the
    document's outcome, and ``retry`` by this code tries once more.
    """

    code = "source_unavailable"
    title = "Document could not be fetched"
    retryable = True
    http_status = 502
    advice = "Check that the source answers, then retry this code."


class SourceFileNotFoundError(DocumentError):
    code = "source_file_not_found"
    title = "File is not in its source"
    http_status = 404
    advice = "Check the file id; GET /v1/connections/{id}/files lists what is there."


class SourceAccessDeniedError(DocumentError):
    """The source refuses the connection's credentials, or this file to them; or this deployment refuses the source."""

    code = "source_access_denied"
    title = "Source refuses access"
    advice = "POST /v1/connections/{id}/test says what is wrong; correct it, then retry this code."


class ConnectionGoneError(DocumentError):
    """The connection was deleted, or made anew for another kind of source, after the document was submitted."""

    code = "connection_gone"
    title = "Connection is gone"
    advice = "Create the connection again under the same id, then retry this code."


class DocumentTimeoutError(DocumentError):
    """An attempt at the document took longer than its batch allows, or no worker finished any.

    Tried again as often as the batch says; then it is the document's outcome.
    """

    code = "document_timeout"
    title = "Document was not finished in time"
    retryable = True
    actor = Actor.OPERATOR
    http_status = 504
    advice = (
        "Check that workers are running (`ingather doctor`) and that its source is not slow, or submit it with a larger "
        "timeout_seconds; then retry this code."
    )


class ModelUnavailableError(DocumentError):
    """The language model's service did not answer, or answered with an error that may pass.

    Tried again a few times, after ``facts['retry_after_seconds']`` where it asked for that; then it is the text's
    outcome, and ``retry`` by this code tries once more.
    """

    code = "model_unavailable"
    title = "Language model did not answer"
    retryable = True
    actor = Actor.OPERATOR
    http_status = 502
    advice = "Check that the service at INGATHER_LLM__BASE_URL answers, then retry this code."


class ModelRefusedError(DocumentError):
    """The model declined, or its service's filter cut its answer."""

    code = "model_refused"
    title = "Language model declined"
    advice = "Send another text, or ask another model."


class ModelAnswerInvalidError(DocumentError):
    """The model's answer has not the shape it was asked for, also after it was told so once."""

    code = "model_answer_invalid"
    title = "Language model answered in another shape"
    actor = Actor.OPERATOR
    http_status = 502
    advice = "Retry this code, or set INGATHER_LLM__MODEL to a model that keeps to a schema."


class ModelRequestRefusedError(DocumentError):
    """The service takes no such request: a wrong key, an unknown model, a text that is too long for it."""

    code = "model_request_refused"
    title = "Language model's service refused the request"
    actor = Actor.OPERATOR
    http_status = 502
    advice = "Check INGATHER_LLM__BASE_URL, __MODEL and __API_KEY, then retry this code."


class ArchiveError(DocumentError):
    """A ZIP, or one entry of it, was refused; safe entries go on."""

    code = "archive_refused"
    title = "Archive refused"
    advice = "Repack the archive with an ordinary ZIP program."


class ArchiveEncryptedError(ArchiveError):
    code = "archive_encrypted"
    title = "Archive is encrypted"
    advice = "Remove the password from the ZIP and submit it again."


class ArchiveCorruptError(ArchiveError):
    code = "archive_corrupt"
    title = "Archive cannot be read"


class ArchiveTooLargeError(ArchiveError):
    """Unpacked bytes, or the ratio of unpacked to packed, over the limit: a ZIP bomb."""

    code = "archive_too_large"
    title = "Archive unpacks to too much"
    http_status = 413
    advice = "Split the archive, or raise the limit named in the message."


class ArchiveTooManyEntriesError(ArchiveError):
    code = "archive_too_many_entries"
    title = "Archive has too many entries"
    http_status = 413
    advice = "Split the archive, or raise INGATHER_LIMITS__ZIP_ENTRIES."


class ArchiveTooDeepError(ArchiveError):
    code = "archive_too_deep"
    title = "Archive is nested too deeply"
    advice = "Unpack the inner archive and submit its files."


class ArchiveUnsafePathError(ArchiveError):
    code = "archive_unsafe_path"
    title = "Archive entry leaves its folder"


class ArchiveSymlinkError(ArchiveError):
    code = "archive_symlink"
    title = "Archive entry is a symbolic link"
    advice = "Pack the file the link points to."


class ArchiveDuplicateNameError(ArchiveError):
    code = "archive_duplicate_name"
    title = "Archive holds the same name twice"


class ArchiveSizeMismatchError(ArchiveError):
    code = "archive_size_mismatch"
    title = "Archive entry is not the size it claims"


class ArchiveOverlapError(ArchiveError):
    """Entries share packed bytes: a bomb without nesting."""

    code = "archive_overlap"
    title = "Archive entries lie over each other"


class ArchiveUnsupportedCompressionError(ArchiveError):
    code = "archive_unsupported_compression"
    title = "Archive entry is packed by an unknown method"
    advice = "Repack the archive as an ordinary ZIP (method Deflate)."


# --- A request cannot be answered as asked ------------------------------------------------


class RequestError(IngatherError):
    code = "bad_request"
    title = "Request cannot be read"
    actor = Actor.SENDER
    http_status = 400
    advice = "Correct the request as the detail says."


class BatchNotFoundError(RequestError):
    code = "batch_not_found"
    title = "Batch not found"
    http_status = 404
    advice = "Check the id and the tenant; list batches with GET /v1/batches."


class PageNotDrawableError(RequestError):
    """There is no picture of this page: it is not there, or nothing here draws documents of its type."""

    code = "page_not_drawable"
    title = "Page cannot be drawn"
    http_status = 422
    advice = "Ask for a page of a PDF or an image, 1 being the first; download others with `/raw`."


class DocumentNotFoundError(RequestError):
    code = "document_not_found"
    title = "Document not found"
    http_status = 404
    advice = "Check the id; list documents with GET /v1/batches/{id}/documents."


class TenantNotFoundError(RequestError):
    code = "tenant_not_found"
    title = "Tenant not found"
    http_status = 404
    advice = "Leave X-Tenant-ID out for the default tenant, or name a registered one."


class UserNotFoundError(RequestError):
    code = "user_not_found"
    title = "User not found"
    http_status = 404
    advice = "Check the id; list users with GET /v1/users."


class ApiKeyNotFoundError(RequestError):
    code = "api_key_not_found"
    title = "API key not found"
    http_status = 404
    advice = "Check the id; list keys with GET /v1/api-keys."


class ConnectionNotFoundError(RequestError):
    code = "connection_not_found"
    title = "Connection not found"
    http_status = 404
    advice = "Check the id; list connections with GET /v1/connections."


class WebhookNotFoundError(RequestError):
    code = "webhook_not_found"
    title = "No such webhook"
    http_status = 404
    advice = "Check the id; list webhooks with GET /v1/webhook-endpoints."


class DeliveryNotFoundError(RequestError):
    code = "delivery_not_found"
    title = "No such delivery"
    http_status = 404
    advice = "Check the id; list deliveries with GET /v1/webhook-endpoints/{id}/deliveries. Old ones are removed."


class TooManyWebhooksError(RequestError):
    code = "too_many_webhooks"
    title = "Too many webhooks"
    http_status = 409
    advice = "Delete one that is not needed any more; the limit is max_webhooks at GET /v1/limits."


class UnknownConnectionError(RequestError):
    """A selection names a connection that its tenant does not have."""

    code = "unknown_connection"
    title = "Selection of an unknown connection"
    advice = "Name a connection of GET /v1/connections, or create it first with POST /v1/connections."


class SourceTypeMismatchError(RequestError):
    """A selection calls a connection something it is not; ``facts['source_type']`` is what it is."""

    code = "source_type_mismatch"
    title = "Selection of another kind of source"
    advice = "Send the connection's own source_type, as GET /v1/connections shows it."


class SourceNotBrowsableError(RequestError):
    """The kind of source has no lists of its files."""

    code = "source_not_browsable"
    title = "Source cannot be browsed"
    advice = "Select files by their ids, as docs/reference/connections.md says for this kind of source."


class UploadNotFoundError(RequestError):
    """Unknown, another tenant's, or expired and removed."""

    code = "upload_not_found"
    title = "Upload not found"
    http_status = 404
    advice = (
        "Start the upload again; one that is not finished is kept as long as upload_lifetime at GET /v1/limits says."
    )


class UploadChunkInvalidError(RequestError):
    """A chunk's number or count is not one of its upload's."""

    code = "upload_chunk_invalid"
    title = "Chunk does not belong there"
    advice = "Send each chunk with its number from 0, and all of them with the same total_chunks and upload_id."


class UploadOffsetConflictError(RequestError):
    """The bytes do not begin where the upload ends; ``facts['offset']`` is where that is."""

    code = "upload_offset_conflict"
    title = "Upload goes on elsewhere"
    http_status = 409
    advice = "Ask with HEAD how far the upload is, and go on from there."


class UploadChecksumMismatchError(RequestError):
    """The bytes that arrived are not the ones that were sent; none of them is kept."""

    code = "upload_checksum_mismatch"
    title = "Checksum does not fit"
    http_status = 460
    advice = "Send the same bytes again."


class UploadIncompleteError(RequestError):
    """A batch names an upload that is still arriving."""

    code = "upload_incomplete"
    title = "Upload is not finished"
    http_status = 409
    advice = "Finish the upload, then submit the batch again."


class UploadDamagedError(RequestError):
    """What lies in storage is not what was received: two clients wrote one upload at the same time, or parts were removed."""

    code = "upload_damaged"
    title = "Upload cannot be put together"
    http_status = 409
    advice = "Start the upload again."


class ProtocolVersionError(RequestError):
    """A tus request without ``Tus-Resumable``, or of another version."""

    code = "protocol_version"
    title = "Protocol version not served"
    http_status = 412
    advice = "Send `Tus-Resumable: 1.0.0`."


class AlreadyExistsError(RequestError):
    """The name or id belongs to something else; ``facts['field']`` says which of them."""

    code = "already_exists"
    title = "Name or id is taken"
    http_status = 409
    advice = "Choose another name or id."


class UnauthorizedError(RequestError):
    """No credential where one is needed, or one that is wrong, expired or revoked."""

    code = "unauthorized"
    title = "Credential is missing or wrong"
    http_status = 401
    advice = "Send a key or token as `Authorization: Bearer …`, or a key as `X-API-Key`."


class CredentialInUrlError(RequestError):
    """A key or token in a URL is refused, right or wrong: URLs end up in histories and in logs of others."""

    code = "credential_in_url"
    title = "Credential in a URL"
    http_status = 400
    advice = (
        "Send it as `Authorization: Bearer …` or as `X-API-Key`, and where no header can be sent ask POST "
        "/v1/stream-tickets for a ticket. Rotate a key that was in a URL: others may have read it."
    )


class ScopeMissingError(RequestError):
    """The credential is right and may not do this; ``facts['scope']`` is what it lacks."""

    code = "scope_missing"
    title = "Credential may not do this"
    http_status = 403
    advice = "Use a key with the scope named in the detail."


class UnprovenRequestError(RequestError):
    """A browser's session asks for a change, and nothing shows that a page of ours made it do so."""

    code = "unproven_request"
    title = "Request does not come from a page of this service"
    http_status = 403
    advice = "Reload the page and do it again; a program sends a key in place of the cookie."


class RateLimitedError(RequestError):
    """Too many in a while; ``facts['limit']`` names the limit."""

    code = "rate_limited"
    title = "Too many requests"
    http_status = 429
    retryable = True
    advice = "Wait as long as Retry-After says; the limits are listed at GET /v1/limits."


class EmptyBatchError(RequestError):
    code = "empty_batch"
    title = "Batch has no documents"
    http_status = 422
    advice = "Send at least one document."


class BatchTooLargeError(RequestError):
    code = "batch_too_large"
    title = "Batch has too many documents"
    http_status = 413
    advice = "Split the batch; the limit is listed at GET /v1/limits."


class TooManyTextsError(RequestError):
    code = "too_many_texts"
    title = "Batch has too many texts"
    advice = "Send them in several batches; the limit is max_batch_requests at GET /v1/limits."


class PayloadTooLargeError(RequestError):
    code = "payload_too_large"
    title = "Request is over a limit"
    http_status = 413
    advice = "Send less in one request; the limits are listed at GET /v1/limits."


class MappingInvalidError(RequestError):
    """A table or JSON object with the metadata of uploaded files cannot be read."""

    code = "invalid_metadata_mapping"
    title = "Metadata mapping cannot be used"
    http_status = 422
    advice = "Send a CSV with a filename column, or a JSON object from file name to an object of fields."


class CapacityExceededError(RequestError):
    """The tenant has as many bytes under way as it may. ``facts['retry_after_seconds']`` says when to come again."""

    code = "capacity_exceeded"
    title = "Too much is under way"
    retryable = True
    http_status = 503
    advice = "Wait until running batches have ended; the limit is max_concurrent_bytes at GET /v1/limits."


class NotAcceptableError(RequestError):
    code = "not_acceptable"
    title = "Not available in that form"
    http_status = 406
    advice = "Ask for one of the media types named in the detail."


class UnsupportedMediaTypeError(RequestError):
    code = "unsupported_media_type"
    title = "Content type not accepted"
    http_status = 415
    advice = "Send the content type that the route's documentation names."


class ValidationFailedError(RequestError):
    code = "validation_failed"
    title = "Request does not fit the schema"
    http_status = 422
    advice = "Correct the fields listed in errors."


class IdempotencyKeyReusedError(RequestError):
    code = "idempotency_key_reused"
    title = "Idempotency key used with another payload"
    http_status = 422
    advice = "Use a new Idempotency-Key for a different request."


class InvalidStateError(RequestError):
    """The batch cannot do that in its state; ``facts['current_status']`` says which it is in."""

    code = "invalid_state"
    title = "Batch is in another state"
    http_status = 409
    advice = "Read the batch's status and choose an action it allows."


class InvalidCursorError(RequestError):
    code = "invalid_cursor"
    title = "Cursor cannot be used here"
    advice = "Start again without a cursor, with the filters you want."


class TooManyStreamsError(RequestError):
    code = "too_many_streams"
    title = "Too many open streams"
    http_status = 429
    retryable = True
    advice = "Close a stream or wait, then connect again."


# --- A part we depend on is not there -----------------------------------------------------


class DependencyError(IngatherError):
    """Infrastructure: retried by every activity, 503 at the API."""

    code = "dependency_unavailable"
    title = "A part of the service is unavailable"
    retryable = True
    actor = Actor.OPERATOR
    http_status = 503
    advice = "Try again in a moment; `ingather doctor` says which part is down."


class StorageUnavailableError(DependencyError):
    code = "storage_unavailable"
    title = "Object storage is unavailable"


class BlobNotFoundError(DependencyError):
    """An object that must be there is not. Not cured by waiting."""

    code = "blob_not_found"
    title = "Stored object is missing"
    retryable = False
    http_status = 500
    advice = "The object was removed behind the service's back: submit the document again."


class CatalogUnavailableError(DependencyError):
    code = "catalog_unavailable"
    title = "Catalog is unavailable"


class IndexUnavailableError(DependencyError):
    code = "index_unavailable"
    title = "Search index is unavailable"


class EmbedderUnavailableError(DependencyError):
    code = "embedder_unavailable"
    title = "Embedding service is unavailable"


class EventLogUnavailableError(DependencyError):
    code = "event_log_unavailable"
    title = "Event log is unavailable"


class HandoffUnavailableError(DependencyError):
    """The Redis that the next stage reads from cannot be reached, or takes nothing."""

    code = "handoff_unavailable"
    title = "Hand-off list is unavailable"


class EngineUnavailableError(DependencyError):
    """Temporal cannot be reached, or answers too late."""

    code = "engine_unavailable"
    title = "Workflow engine is unavailable"


class CredentialKeyMissingError(IngatherError):
    """Credentials of connections, or secrets of webhooks, cannot be encrypted or read: there is no key, or not the one they were sealed with."""

    code = "credential_key_missing"
    title = "Key for credentials is missing"
    http_status = 503
    advice = "Set INGATHER_SOURCES__KEYS in the API and in every worker, old keys behind the new one."


class ConfigurationError(IngatherError):
    """Wrong settings: refuse to start."""

    code = "configuration_error"
    title = "Settings do not fit"
    advice = "Correct the setting named in the message."


def _walk(cls: type[IngatherError]) -> Iterator[type[IngatherError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _walk(child)


def error_classes() -> dict[str, type[IngatherError]]:
    """Every error class by its stable code, root and intermediate classes included."""
    return {cls.code: cls for cls in _walk(IngatherError)}
