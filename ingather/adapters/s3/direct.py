"""Single objects over plain signed HTTP: the hot path.

boto3 takes about 1.9 ms of CPU for a put or get of a few kilobytes, on a thread; every
document needs several. The same requests cost a twentieth of that here. Multipart uploads,
listings, copies and buckets stay with boto3.
"""

import asyncio
import hashlib
import ipaddress
import random
import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from ingather.adapters.s3.http import HttpAnswer, HttpPool
from ingather.adapters.s3.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, ObjectSigner, S3Credentials, object_path
from ingather.models.errors import BlobNotFoundError, StorageUnavailableError

_BACKOFF_SECONDS: Final = (0.05, 0.2, 0.8)
_PASSING_STATUSES: Final = frozenset({408, 429, 500, 502, 503, 504})
_HASH_ON_LOOP_BYTES: Final = 256 * 1024
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,64})</Code>")

CredentialsSource = Callable[[], Awaitable[S3Credentials]]


class DirectObjects:
    """put, get, head and delete of one object each, retried while the trouble may pass."""

    def __init__(
        self, endpoint_url: str, region: str, bucket: str, credentials: CredentialsSource, max_connections: int
    ) -> None:
        parts = urlsplit(endpoint_url)
        self._bucket = bucket
        self._credentials = credentials
        self._signer = ObjectSigner(parts.netloc.rpartition("@")[2], region)
        self._pool = HttpPool(endpoint_url, max_connections)
        # TLS guards the bytes already, and loopback loses none; elsewhere the signature covers them.
        self._signs_payload = parts.scheme == "http" and not _is_loopback(parts.hostname)

    async def put(self, key: str, content: bytes) -> None:
        answer = await self._ask("PUT", key, body=content)
        if answer.status not in {200, 201, 204}:
            raise _refused("write", key, answer)

    async def get(self, key: str, *, byte_range: str | None = None, etag: str | None = None) -> HttpAnswer:
        """The whole object or a range of it: status 200 or 206, or 416 for a range beyond the end."""
        extra = {}
        if byte_range is not None:
            extra["range"] = byte_range
        if etag is not None:
            extra["if-match"] = etag
        answer = await self._ask("GET", key, extra=extra)
        if answer.status not in {200, 206, 416}:
            raise _refused("read", key, answer)
        return answer

    async def size(self, key: str) -> int | None:
        """Bytes of the object; None when it is not there."""
        answer = await self._ask("HEAD", key)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise _refused("look up", key, answer)
        return int(answer.headers.get(b"content-length", b"0"))

    async def delete(self, key: str) -> None:
        answer = await self._ask("DELETE", key)
        if answer.status not in {200, 204, 404}:
            raise _refused("delete", key, answer)

    async def check_bucket(self) -> None:
        """One question, no second try: readiness wants to know now."""
        try:
            answer = await self._send("HEAD", f"/{self._bucket}", b"", EMPTY_SHA256, {})
        except OSError as error:
            raise _unreachable("check", self._bucket, error) from error
        if answer.status != 200:
            # An answer to HEAD has no body that could name the reason.
            code = "NoSuchBucket" if answer.status == 404 else ""
            raise storage_error("use bucket", self._bucket, answer.status, code)

    async def close(self) -> None:
        await self._pool.close()

    async def _ask(
        self, method: str, key: str, *, body: bytes = b"", extra: dict[str, str] | None = None
    ) -> HttpAnswer:
        path = object_path(self._bucket, key)
        digest = await self._payload_digest(body)
        for pause in _BACKOFF_SECONDS:
            try:
                answer = await self._send(method, path, body, digest, extra or {})
            except OSError:
                pass
            else:
                if answer.status not in _PASSING_STATUSES:
                    return answer
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        try:
            return await self._send(method, path, body, digest, extra or {})
        except OSError as error:
            raise _unreachable(method.lower(), key, error) from error

    async def _send(self, method: str, path: str, body: bytes, digest: str, extra: dict[str, str]) -> HttpAnswer:
        headers = self._signer.headers(method, path, digest, await self._credentials())
        return await self._pool.request(method, path, headers | extra, body)

    async def _payload_digest(self, body: bytes) -> str:
        if not self._signs_payload:
            return UNSIGNED_PAYLOAD
        if len(body) > _HASH_ON_LOOP_BYTES:
            return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
        return hashlib.sha256(body).hexdigest()


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _refused(verb: str, key: str, answer: HttpAnswer) -> Exception:
    """The error an answer stands for."""
    found = _ERROR_CODE.search(answer.body)
    return storage_error(verb, key, answer.status, found.group(1).decode() if found else "")


def _unreachable(verb: str, key: str, error: OSError) -> StorageUnavailableError:
    reason = str(error) or type(error).__name__
    return StorageUnavailableError(f"Object storage did not answer ({verb} {key}): {reason}", key=key)


def storage_error(verb: str, key: str, status: int, code: str) -> StorageUnavailableError | BlobNotFoundError:
    """Translate an S3 error answer, from here or from boto3."""
    if status == 404 and code != "NoSuchBucket":
        return BlobNotFoundError(f"There is no object {key} in storage.", key=key)
    message = f"Object storage refused to {verb} {key}: status {status} {code}".rstrip() + "."
    action = None
    if code == "NoSuchBucket":
        action = "Create the bucket, or let the service make it at start."
    elif status in {401, 403}:
        action = "Check the access key, its permissions on the bucket, and the clocks of both machines."
    return StorageUnavailableError(message, action=action, key=key, status=status, s3_code=code)
