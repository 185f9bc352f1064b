"""Object keys: every one starts with its kind and its tenant, none holds an attempt or a time."""

import hashlib

INCOMING = "incoming/"
"""Pieces of uploads, of all tenants: what is left behind there is found in one go."""


def raw_key(tenant_id: str, file_id: str, sha256: str) -> str:
    """A document's own bytes."""
    return f"raw/{tenant_id}/{file_id}/{sha256}"


def artifact_key(tenant_id: str, sha256: str, fingerprint: str) -> str:
    """Chunks with vectors of a content, shared by all documents of the tenant that hold it."""
    return f"derived/{tenant_id}/{sha256}/{fingerprint}/chunks.arrow"


def artifact_pack_key(tenant_id: str, fingerprint: str, sha256: str) -> str:
    """Artifacts of several small contents, one behind the other, by the hash of all their bytes.

    Other names, or another order, make other bytes of the same contents: rows that point into this one must not see them.
    """
    return f"derived/{tenant_id}/packs/{fingerprint}/{sha256}.arrow"


def parsed_key(tenant_id: str, sha256: str, fingerprint: str) -> str:
    """Chunks without vectors, kept where embedding is a service that may fail: a retry starts there."""
    return f"derived/{tenant_id}/{sha256}/{fingerprint}/parsed.arrow"


def text_result_key(tenant_id: str, digest: str) -> str:
    """What came of a text, for all of the tenant's that ask the same of the same (``ingather.domain.texts``)."""
    return f"texts/{tenant_id}/{digest}.json"


def upload_key(tenant_id: str, upload_id: str, part: str) -> str:
    """Bytes as they came in: a large file of its own, or a pack of small ones (``pack-00001``)."""
    return f"uploads/{tenant_id}/{upload_id}/{part}"


def incoming_key(tenant_id: str, object_id: str) -> str:
    """A piece of an upload, until it is part of the whole. The id, a UUID of version 7, says since when it lies there."""
    return f"{INCOMING}{tenant_id}/{object_id}"


def submission_part_key(tenant_id: str, batch_id: str, upload_id: str) -> str:
    """What one request handed in, one ``Submitted`` a line; the catalog knows which of them make the batch."""
    return f"{submission_prefix(tenant_id, batch_id)}{upload_id}.jsonl"


def submission_prefix(tenant_id: str, batch_id: str) -> str:
    """All that was handed in for a batch."""
    return f"batches/{tenant_id}/{batch_id}/submission/"


def metadata_rules_key(tenant_id: str, content: bytes) -> str:
    """Rules for metadata, shared by all batches that were submitted under them."""
    return f"rules/{tenant_id}/{hashlib.sha256(content).hexdigest()}.json"


def manifest_key(tenant_id: str, batch_id: str, page: int) -> str:
    """Up to 1,000 ``DocumentRef`` lines."""
    return f"batches/{tenant_id}/{batch_id}/manifest/{page}.jsonl"


def ends_prefix(tenant_id: str, batch_id: str) -> str:
    """What is written when a batch ends. It may end more than once; a later end sorts behind an earlier one."""
    return f"batches/{tenant_id}/{batch_id}/ends/"


def end_prefix(tenant_id: str, batch_id: str, version: int) -> str:
    """What is written when it ends with this version."""
    return f"{ends_prefix(tenant_id, batch_id)}{version:012}/"


def report_key(tenant_id: str, batch_id: str, version: int) -> str:
    """One line a document: how it ended."""
    return f"{end_prefix(tenant_id, batch_id, version)}report.jsonl"


def summary_key(tenant_id: str, batch_id: str, version: int) -> str:
    """How the batch ended, with what a later retry needs to open it again."""
    return f"{end_prefix(tenant_id, batch_id, version)}summary.json"


def sheets_prefix(tenant_id: str, batch_id: str) -> str:
    """What a batch of sheets notes on its way to its manifest."""
    return f"batches/{tenant_id}/{batch_id}/sheets/"


def sheet_files_key(tenant_id: str, batch_id: str, page: int) -> str:
    """Up to 250 ``SheetFile`` lines: the files that came out of an upload, in their order."""
    return f"{sheets_prefix(tenant_id, batch_id)}files/{page}.jsonl"


def sheet_readings_key(tenant_id: str, batch_id: str, page: int) -> str:
    """What was read on the files of that page: the same lines, with their readings."""
    return f"{sheets_prefix(tenant_id, batch_id)}readings/{page}.jsonl"


def skipped_files_key(tenant_id: str, batch_id: str) -> str:
    """One line for each file of an upload that is no sheet: its name, and why it was passed over."""
    return f"{sheets_prefix(tenant_id, batch_id)}skipped.jsonl"


def sheet_rows_key(tenant_id: str, batch_id: str, version: int) -> str:
    """One ``SheetRow`` a line, in the order of the sheets."""
    return f"{end_prefix(tenant_id, batch_id, version)}results.jsonl"


def sheet_csv_key(tenant_id: str, batch_id: str, version: int) -> str:
    """The same as a table."""
    return f"{end_prefix(tenant_id, batch_id, version)}results.csv"


def upload_prefix(tenant_id: str, upload_id: str) -> str:
    """All that came in under one upload."""
    return f"uploads/{tenant_id}/{upload_id}/"
