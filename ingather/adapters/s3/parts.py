"""Multipart uploads that are carried on by whichever process comes next: the store keeps their parts, the catalog their tags."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ingather.adapters.s3.boto import BotoThreads
from ingather.models.errors import BlobNotFoundError, StorageUnavailableError, UploadDamagedError
from ingather.ports.blob_store import BlobStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client  # published for type checkers alone

_NOT_THOSE_PARTS: Final = frozenset({"InvalidPart", "InvalidPartOrder", "EntityTooSmall"})


class S3PartedObjects:
    """Shares threads with a blob store, which says whether an object is there by now."""

    def __init__(self, boto: BotoThreads, bucket: str, blobs: BlobStore) -> None:
        self._boto = boto
        self._bucket = bucket
        self._blobs = blobs

    async def begin_parts(self, key: str) -> str:
        def begin(s3: "S3Client") -> str:
            return s3.create_multipart_upload(Bucket=self._bucket, Key=key)["UploadId"]

        return await self._boto.call("upload", key, begin)

    async def put_part(self, key: str, multipart_id: str, number: int, content: bytes | bytearray) -> str:
        part: Any = {**self._where(key, multipart_id), "PartNumber": number, "Body": content}
        return await self._boto.call("upload", key, lambda s3: s3.upload_part(**part)["ETag"])

    async def copy_part(self, key: str, multipart_id: str, number: int, source_key: str) -> str:
        source: Any = {"Bucket": self._bucket, "Key": source_key}
        part: Any = {**self._where(key, multipart_id), "PartNumber": number, "CopySource": source}
        return await self._boto.call(
            "copy", source_key, lambda s3: s3.upload_part_copy(**part)["CopyPartResult"]["ETag"]
        )

    async def complete_parts(self, key: str, multipart_id: str, parts: Sequence[tuple[int, str]], size: int) -> None:
        listed = [{"PartNumber": number, "ETag": etag} for number, etag in sorted(parts)]
        done: Any = {**self._where(key, multipart_id), "MultipartUpload": {"Parts": listed}}
        try:
            await self._boto.call("complete", key, lambda s3: s3.complete_multipart_upload(**done))
        except (BlobNotFoundError, StorageUnavailableError) as error:
            # Another process may have completed it, or this one before it was killed.
            found = await self._blobs.stat(key)
            if found is not None and found.size_bytes == size:
                return
            if error.facts.get("s3_code") in _NOT_THOSE_PARTS or isinstance(error, BlobNotFoundError):
                raise _damaged() from error
            raise
        found = await self._blobs.stat(key)
        if found is None or found.size_bytes != size:
            raise _damaged()

    async def abort_parts(self, key: str, multipart_id: str) -> None:
        try:
            where: Any = self._where(key, multipart_id)
            await self._boto.call("abort", key, lambda s3: s3.abort_multipart_upload(**where))
        except BlobNotFoundError:
            return

    def _where(self, key: str, multipart_id: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": key, "UploadId": multipart_id}


def _damaged() -> UploadDamagedError:
    return UploadDamagedError("The parts of the upload in object storage are not the ones that were received.")
