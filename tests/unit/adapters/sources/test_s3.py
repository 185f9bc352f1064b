"""Keys of a bucket as they go out, against a server that only listens; tests with a real store are in integration."""

import pytest

from ingather.models.errors import SourceAccessDeniedError, SourceUnavailableError
from tests.support.http_stand_in import Told, http_stand_in
from tests.unit.adapters.sources.conftest import content_of


@pytest.fixture
async def server():
    async def answer(_asked):
        return Told(200, b"hello")

    async with http_stand_in(answer) as made:
        yield made


@pytest.fixture
def bucket(server, opened):
    """Opens the bucket below a prefix, with a credential."""

    def open_bucket(prefix: str = ""):
        settings = {"bucket": "shelf", "prefix": prefix, "endpoint_url": server.url}
        return opened("s3", settings | {"access_key_id": "AK", "secret_access_key": "SK"})

    return open_bucket


async def test_a_date_beyond_all_calendars_is_none(opened):
    """The object is described without it."""

    async def answer(_asked):
        return Told(200, b"hello", {"Last-Modified": "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"})

    async with http_stand_in(answer) as server:
        file = await opened("s3", {"bucket": "shelf", "endpoint_url": server.url}).describe("a")
    assert (file.size_bytes, file.modified_at) == (5, None)


@pytest.mark.parametrize(
    "body",
    [
        b"not XML",
        b'<?xml version="1.0" encoding="nope"?><a/>',
        b'<?xml version="1.0" encoding="utf-7"?><a/>',
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'.encode("utf-16"),
    ],
)
async def test_an_answer_that_is_no_plain_xml_is_told_as_such(opened, body):
    """In whichever encoding it declares its entities."""

    async def answer(_asked):
        return Told(200, body)

    async with http_stand_in(answer) as server:
        with pytest.raises(SourceUnavailableError, match="XML"):
            await opened("s3", {"bucket": "shelf", "endpoint_url": server.url}).check()


@pytest.mark.parametrize("prefix", ["", "mine/"])
@pytest.mark.parametrize("file_id", ["../other/x", "/../x", "a/../../../other-bucket/x", "a/./b", "a/..", "./x"])
async def test_no_key_leads_out_of_its_prefix(server, bucket, prefix, file_id):
    """The signature would be good for another bucket too."""
    source = bucket(prefix)
    for asking in (source.describe, lambda each: content_of(source, each)):
        with pytest.raises(SourceAccessDeniedError, match="lead elsewhere"):
            await asking(file_id)
    assert server.asked == []


async def test_a_key_does_not_begin_with_a_slash(server, bucket):
    """Behind a prefix it may."""
    with pytest.raises(SourceAccessDeniedError, match="begins with"):
        await content_of(bucket(), "/x")
    assert await content_of(bucket("mine"), "/x") == b"hello"
    assert [each.target for each in server.asked] == ["/shelf/mine/x"]


@pytest.mark.parametrize(
    ("file_id", "target"),
    [
        ("a//b", "/shelf/mine/a//b"),
        ("...", "/shelf/mine/..."),
        ("..a/b..", "/shelf/mine/..a/b.."),
        ("%2e%2e/x", "/shelf/mine/%252e%252e/x"),
        ("a?b#c\\d", "/shelf/mine/a%3Fb%23c%5Cd"),
    ],
)
async def test_other_keys_go_out_as_they_are(server, bucket, file_id, target):
    """Whatever signs are in them."""
    assert await content_of(bucket("mine/"), file_id) == b"hello"
    assert [each.target for each in server.asked] == [target]
