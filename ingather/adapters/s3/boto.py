"""boto3 on threads of its own, its errors translated.

It is imported where it is first used: that takes a sixth of a second, which a worker that was killed does not have,
and most of what a worker does passes boto3 by.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from ingather.adapters.s3.direct import storage_error
from ingather.adapters.s3.signing import S3Credentials
from ingather.models.errors import ConfigurationError, StorageUnavailableError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client  # published for type checkers alone

_Answer = TypeVar("_Answer")

_CREDENTIALS_KEPT_SECONDS: Final = 60.0


class BotoThreads:
    """An S3 client that is made at the first call, and the threads its calls run on."""

    def __init__(
        self, endpoint_url: str | None, region: str, fixed_credentials: S3Credentials | None, max_threads: int
    ) -> None:
        self._endpoint_url = endpoint_url
        self._region = region
        self._fixed_credentials = fixed_credentials
        self._chain_credentials: tuple[float, S3Credentials] | None = None
        self._max_threads = max_threads
        self._threads = ThreadPoolExecutor(max_threads, thread_name_prefix="s3")
        self._made: S3Client | None = None
        self._making = threading.Lock()

    async def call(self, verb: str, key: str, operation: Callable[["S3Client"], _Answer]) -> _Answer:
        """Run ``operation`` on a thread. ``verb`` and ``key`` say in an error what was being done to what."""

        def run() -> _Answer:
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # see above

            try:
                return operation(self._client())
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
                raise storage_error(verb, key, status, error.response.get("Error", {}).get("Code", "")) from error
            except BotoCoreError as error:
                # The class name only: some of these errors quote the request.
                message = f"Object storage did not answer ({verb} {key}): {type(error).__name__}."
                raise StorageUnavailableError(message, key=key) from error

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    async def credentials(self) -> S3Credentials:
        """The ones given, or those of boto3's own chain (environment, profile, instance role)."""
        if self._fixed_credentials is not None:
            return self._fixed_credentials
        loop = asyncio.get_running_loop()
        kept = self._chain_credentials
        if kept is None or loop.time() - kept[0] > _CREDENTIALS_KEPT_SECONDS:
            # Instance roles rotate theirs; asking may mean a network call.
            kept = (loop.time(), await loop.run_in_executor(self._threads, _ask_chain))
            self._chain_credentials = kept
        return kept[1]

    async def close(self) -> None:
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        if self._made is not None:
            self._made.close()

    def _client(self) -> "S3Client":
        """Made on a thread, since loading the service model takes a fifth of a second."""
        import boto3  # noqa: PLC0415  # see above
        from botocore.config import Config  # noqa: PLC0415

        with self._making:
            if self._made is None:
                fixed = self._fixed_credentials
                session = boto3.session.Session(
                    aws_access_key_id=fixed.access_key_id if fixed else None,
                    aws_secret_access_key=fixed.secret_access_key if fixed else None,
                    region_name=self._region,
                )
                config = Config(
                    s3={"addressing_style": "path"},
                    retries={"mode": "standard", "max_attempts": 4},
                    connect_timeout=3,
                    read_timeout=60,
                    max_pool_connections=self._max_threads,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                )
                self._made = session.client("s3", endpoint_url=self._endpoint_url, config=config)
            return self._made


def _ask_chain() -> S3Credentials:
    import boto3  # noqa: PLC0415  # see above

    found = boto3.session.Session().get_credentials()
    frozen = found.get_frozen_credentials() if found is not None else None
    if frozen is None or frozen.access_key is None or frozen.secret_key is None:
        raise ConfigurationError(
            "No S3 credentials: set INGATHER_S3__ACCESS_KEY_ID and INGATHER_S3__SECRET_ACCESS_KEY."
        )
    return S3Credentials(frozen.access_key, frozen.secret_key, frozen.token)
