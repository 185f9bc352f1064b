"""Somebody's bucket as a source, on a real S3 server: signed with the connection's own credentials."""

import uuid

import pytest

from ingather.adapters.fernet_box import FernetBox
from ingather.adapters.sources.opener import SourceOpener
from ingather.adapters.sources.patience import Patience
from ingather.models.errors import SourceAccessDeniedError, SourceFileNotFoundError, SourceUnavailableError
from tests.support.s3_stores import s3_store
from tests.support.sources import connection
from tests.unit.adapters.sources.conftest import content_of, listed

QUICK = Patience(attempts=2, first_wait_seconds=0.01)


@pytest.fixture
async def opened(s3_server):
    """Opens the test server's bucket below a prefix of this test's own, which holds some files."""
    prefix = f"in-{uuid.uuid4()}/"
    store = s3_store(s3_server)
    await store.ensure_bucket()
    for name in ("a.txt", "b c+d.txt", "sub/ü.txt", "sub/deep/e.txt"):
        await store.put(prefix + name, name.encode())
    await store.close()
    sources = []

    def open_bucket(**changes):
        settings = {
            "endpoint_url": s3_server.endpoint_url, "region": s3_server.region, "bucket": s3_server.bucket,
            "prefix": prefix, "access_key_id": s3_server.access_key_id,
            "secret_access_key": s3_server.secret_access_key,
        }  # fmt: skip
        opener = SourceOpener(FernetBox([]), allow_private=True, patience=QUICK)
        sources.append(opener.open(connection("bucket", "s3", settings=settings | changes)))
        return sources[-1]

    yield open_bucket
    for source in sources:
        await source.close()


async def test_a_prefix_is_listed_and_read(opened):
    """Ids are keys without the prefix, whatever characters are in them."""
    source = opened()
    await source.check()
    assert sorted(await listed(source)) == ["a.txt", "b c+d.txt", "sub/"]
    assert sorted(await listed(source, limit=1)) == ["a.txt", "b c+d.txt", "sub/"]
    assert sorted(await listed(source, "sub")) == ["sub/deep/", "sub/ü.txt"]
    for file_id in ("a.txt", "b c+d.txt", "sub/ü.txt"):
        assert await content_of(source, file_id) == file_id.encode()
        assert (await source.describe(file_id)).size_bytes == len(file_id.encode())


async def test_what_is_not_there_is_said(opened):
    """Of files, folders and buckets."""
    with pytest.raises(SourceFileNotFoundError):
        await content_of(opened(), "lost.txt")
    with pytest.raises(SourceFileNotFoundError):
        await opened().list_files("lost")
    with pytest.raises((SourceAccessDeniedError, SourceFileNotFoundError)):
        await opened(bucket="no-such-bucket").check()


async def test_wrong_credentials_are_refused(opened):
    """In S3's own word; without any, too."""
    with pytest.raises(SourceAccessDeniedError, match="SignatureDoesNotMatch"):
        await opened(secret_access_key="wrong").check()
    with pytest.raises(SourceAccessDeniedError):
        await opened(access_key_id=None, secret_access_key=None).check()


async def test_a_server_that_is_down_is_unavailable(opened):
    """After as many requests as the patience allows."""
    with pytest.raises(SourceUnavailableError):
        await opened(endpoint_url="http://127.0.0.1:1").check()
