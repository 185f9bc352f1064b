"""Blobs in S3: single objects over the direct path, everything else through boto3 in threads of its own."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from ingather.adapters.s3.boto import BotoThreads
from ingather.adapters.s3.direct import DirectObjects, storage_error
from ingather.adapters.s3.multipart import PartUploader, write_stream
from ingather.adapters.s3.parts import S3PartedObjects
from ingather.adapters.s3.signing import S3Credentials
from ingather.models.content import BlobRef
from ingather.models.errors import StorageUnavailableError
from ingather.ports.blob_store import BlobStat

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client  # published for type checkers alone

_STREAM_WINDOW_BYTES: Final = 4 * 1024 * 1024
_STREAM_PIECE_BYTES: Final = 1024 * 1024
_CHECK_SECONDS: Final = 2.0
_CONTENT_RANGE = re.compile(rb"bytes \d+-\d+/(\d+)")

_log = structlog.get_logger(__name__)


class S3BlobStore:
    """One bucket of an S3-compatible service.

    Args:
        endpoint_url: where the service is; None for AWS itself.
        access_key_id: with ``secret_access_key``; both None for boto3's own credential chain.
        max_threads: boto3 calls at a time (multipart uploads, copies, listings).
        max_connections: single-object requests at a time.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None,
        region: str,
        bucket: str,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        max_threads: int = 8,
        max_connections: int = 48,
    ) -> None:
        given = None
        if access_key_id is not None and secret_access_key is not None:
            given = S3Credentials(access_key_id, secret_access_key)
        self._region = region
        self._bucket = bucket
        self._boto = BotoThreads(endpoint_url, region, given, max_threads)
        address = endpoint_url or f"https://s3.{region}.amazonaws.com"
        self._direct = DirectObjects(address, region, bucket, self._boto.credentials, max_connections)
        self.parted = S3PartedObjects(self._boto, bucket, self)
        """Objects whose parts arrive one by one."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    # Single objects

    async def put(self, key: str, content: bytes) -> None:
        await self._direct.put(key, content)

    async def get(self, key: str, *, offset: int = 0, size: int | None = None) -> bytes:
        if size == 0:
            await self._must_exist(key)
            return b""
        answer = await self._direct.get(key, byte_range=_byte_range(offset, size))
        if answer.status == 416:
            return b""
        if answer.status == 200 and (offset or size is not None):
            # A server may answer a range with everything.
            return answer.body[offset : None if size is None else offset + size]
        return answer.body

    async def stat(self, key: str) -> BlobStat | None:
        size = await self._direct.size(key)
        return None if size is None else BlobStat(key, size)

    async def delete(self, key: str) -> None:
        await self._direct.delete(key)

    # Streams

    async def put_stream(self, key: str, parts: AsyncIterator[bytes]) -> BlobRef:
        return await write_stream(key, parts, put=self.put, open_upload=lambda: self._open_upload(key))

    async def stream(self, key: str, *, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """In windows that are each asked for, and asked for again, on their own: a break costs one window."""
        if size == 0:
            await self._must_exist(key)
            return
        position, end, etag = offset, None if size is None else offset + size, None
        while end is None or position < end:
            wanted = _STREAM_WINDOW_BYTES if end is None else min(_STREAM_WINDOW_BYTES, end - position)
            answer = await self._direct.get(key, byte_range=_byte_range(position, wanted), etag=etag)
            if answer.status == 416:
                return
            if answer.status == 200:
                raise StorageUnavailableError(f"Object storage ignored the byte range for {key}.", key=key)
            etag = answer.headers.get(b"etag", b"").decode() or None
            for start in range(0, len(answer.body), _STREAM_PIECE_BYTES):
                yield answer.body[start : start + _STREAM_PIECE_BYTES]
            position += len(answer.body)
            total = _CONTENT_RANGE.match(answer.headers.get(b"content-range", b""))
            if total is None:
                raise StorageUnavailableError(f"Object storage did not say how long {key} is.", key=key)
            end = int(total.group(1)) if end is None else min(end, int(total.group(1)))

    # The rest, through boto3

    async def copy(self, source_key: str, target_key: str) -> None:
        source: Any = {"Bucket": self._bucket, "Key": source_key}
        await self._boto.call(
            "copy",
            source_key,
            lambda s3: s3.copy_object(Bucket=self._bucket, Key=target_key, CopySource=source),
        )

    async def list(self, prefix: str) -> AsyncIterator[BlobStat]:
        """In the server's order: by key, except that SeaweedFS lists a folder before names that continue its own."""
        request: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix}
        while True:
            page = await self._boto.call("list", prefix, partial(_list_page, request))
            for item in page.get("Contents", []):
                yield BlobStat(item["Key"], item["Size"])
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    async def ensure_bucket(self, abandoned_after: timedelta = timedelta(days=1)) -> None:
        """Create the bucket when it is not there, and drop uploads that a killed process left half-way."""
        await self._boto.call("create bucket", self._bucket, self._create_bucket)
        await self.drop_abandoned_uploads(abandoned_after)

    async def drop_abandoned_uploads(self, older_than: timedelta = timedelta(days=1)) -> None:
        """Free the parts of uploads begun longer ago than any living one can last."""
        page = await self._boto.call("list uploads", "", lambda s3: s3.list_multipart_uploads(Bucket=self._bucket))
        latest = datetime.now(UTC) - older_than
        for upload in page.get("Uploads", []):
            if upload["Initiated"] < latest:
                await self._open_upload(upload["Key"]).abort(upload["UploadId"])
                _log.info("storage.upload_dropped", key=upload["Key"])

    async def check(self) -> None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                await self._direct.check_bucket()
        except TimeoutError as error:
            raise StorageUnavailableError(f"Object storage did not answer within {_CHECK_SECONDS:.0f} s.") from error

    async def close(self) -> None:
        await self._direct.close()
        await self._boto.close()

    # Private

    def _open_upload(self, key: str) -> PartUploader:
        async def call(operation: Callable[["S3Client"], Any]) -> Any:
            return await self._boto.call("upload", key, operation)

        return PartUploader(call, self._bucket, key)

    async def _must_exist(self, key: str) -> None:
        if await self._direct.size(key) is None:
            raise storage_error("read", key, 404, "NoSuchKey")

    def _create_bucket(self, s3: "S3Client") -> None:
        from botocore.exceptions import ClientError  # noqa: PLC0415  # loaded by now, and not before

        try:
            s3.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != 404:
                raise
        else:
            return
        where: Any = {}
        if self._region != "us-east-1":
            where = {"CreateBucketConfiguration": {"LocationConstraint": self._region}}
        try:
            s3.create_bucket(Bucket=self._bucket, **where)
        except (s3.exceptions.BucketAlreadyOwnedByYou, s3.exceptions.BucketAlreadyExists):
            # Another process was faster. A bucket that is somebody else's shows at the first request.
            return


def _byte_range(offset: int, size: int | None) -> str | None:
    if size is None:
        return f"bytes={offset}-" if offset else None
    return f"bytes={offset}-{offset + size - 1}"


def _list_page(request: dict[str, Any], s3: "S3Client") -> Any:
    return s3.list_objects_v2(**request)
