"""What is particular to S3: a server that is down, refuses, or has no bucket."""

import os
import socket
import uuid
from datetime import timedelta

import pytest

from ingather.adapters.s3 import S3BlobStore
from ingather.models.errors import StorageUnavailableError
from tests.support.s3_stores import s3_store

MIB = 1024 * 1024


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_an_upload_abandoned_long_ago_is_dropped(s3_server, home):
    """``ensure_bucket`` removes the parts that a killed process left, once they are old."""
    store = s3_store(s3_server)
    await store.ensure_bucket()
    upload = store._open_upload(home + "left")
    await upload.add(1, os.urandom(8 * MIB))

    def open_uploads(s3):
        return [u["Key"] for u in s3.list_multipart_uploads(Bucket=s3_server.bucket).get("Uploads", [])]

    assert home + "left" in await store._boto.call("list", "", open_uploads)
    await store.ensure_bucket()
    assert home + "left" in await store._boto.call("list", "", open_uploads)
    await store.drop_abandoned_uploads(older_than=timedelta(minutes=-1))
    assert home + "left" not in await store._boto.call("list", "", open_uploads)
    await store.close()


async def test_a_store_that_is_down_says_so(free_port):
    """Nobody listens: every method raises ``StorageUnavailableError``, without the secret in its words."""
    store = S3BlobStore(
        endpoint_url=f"http://127.0.0.1:{free_port}",
        region="us-east-1",
        bucket="b",
        access_key_id="key",
        secret_access_key="very-secret",
    )
    for attempt in (store.check(), store.get("a"), store.put("a", b"x"), store.stat("a"), store.copy("a", "b")):
        with pytest.raises(StorageUnavailableError) as raised:
            await attempt
        assert "very-secret" not in f"{raised.value!r}{raised.value.facts}"
        assert raised.value.retryable
    await store.close()


async def test_a_wrong_secret_is_the_operators_concern(s3_server, home):
    """A refused signature names the status and what to check, and is not taken for a missing object."""
    store = s3_store(s3_server, secret_access_key="wrong-secret")
    for attempt in (store.get(home + "a"), store.put(home + "a", b"x"), store.stat(home + "a"), store.check()):
        with pytest.raises(StorageUnavailableError) as raised:
            await attempt
        assert raised.value.facts["status"] == 403
        assert "access key" in raised.value.action
        assert "wrong-secret" not in str(raised.value)
    await store.close()


async def test_a_missing_bucket_is_not_a_missing_object(s3_server, home):
    """Without its bucket the store is unavailable: nobody may conclude that a document was lost."""
    store = s3_store(s3_server, bucket=f"none-{uuid.uuid4()}")
    with pytest.raises(StorageUnavailableError):
        await store.check()
    with pytest.raises(StorageUnavailableError):
        await store.get(home + "a")
    await store.close()
