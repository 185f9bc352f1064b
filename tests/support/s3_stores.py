"""Stores over the test session's S3 server."""

from typing import Any

from ingather.adapters.s3 import S3BlobStore
from ingather.stack.s3 import S3Server


def s3_store(server: S3Server, **changes: Any) -> S3BlobStore:
    arguments = {
        "endpoint_url": server.endpoint_url,
        "region": server.region,
        "bucket": server.bucket,
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
    }
    return S3BlobStore(**arguments | changes)
