"""Files behind plain addresses: what is fetched, and where nobody is led."""

import gzip

import pytest

from ingather.models.errors import (
    SourceAccessDeniedError,
    SourceFileNotFoundError,
    SourceNotBrowsableError,
    SourceUnavailableError,
)
from tests.support.http_stand_in import Told, http_stand_in
from tests.unit.adapters.sources.conftest import content_of, listed

PDF = Told(200, b"%PDF", {"Content-Type": "application/pdf; x=1", "Last-Modified": "Sat, 14 Mar 2026 12:00:00 GMT"})


class Site:
    """Answers by path."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Told]] = {}
        self.server = None

    async def answer(self, asked):
        told = self.answers.get(asked.target, [Told(404)])
        return told[0] if len(told) == 1 else told.pop(0)


@pytest.fixture
async def site():
    made = Site()
    async with http_stand_in(made.answer) as server:
        made.server = server
        yield made


@pytest.fixture
def below(site, opened):
    """All below one address, with a credential."""
    settings = {"base_url": f"{site.server.url}/docs", "headers": {"Authorization": "Bearer shh"}}
    return opened("http", settings)


async def test_paths_below_an_address_are_fetched(site, below):
    """With the connection's headers, and what the server says of them."""
    site.answers["/docs/q1/a%20b.pdf?v=2"] = [PDF]
    assert await content_of(below, "q1/a b.pdf?v=2") == b"%PDF"
    file = await below.describe("q1/a b.pdf?v=2")
    assert (file.name, file.size_bytes, file.media_type, file.modified_at.year) == (
        "a b.pdf",
        4,
        "application/pdf",
        2026,
    )
    assert {each.headers["authorization"] for each in site.server.asked} == {"Bearer shh"}
    assert [each.method for each in site.server.asked] == ["GET", "HEAD"]


@pytest.mark.parametrize("name", ["100%25.pdf", "a%3Bb.pdf", "...", "..a", "a..", "v1;x.txt", "%e9t%c3%a9.txt"])
async def test_dots_and_signs_in_a_name_are_only_that(site, below, name):
    """What leads nowhere is fetched as it is written."""
    site.answers[f"/docs/{name}"] = [PDF]
    assert await content_of(below, name) == b"%PDF"


async def test_a_list_of_addresses_is_its_own_listing(site, opened):
    """Nothing else is fetched."""
    urls = [f"{site.server.url}/{n}.txt" for n in range(3)]
    source = opened("http", {"urls": urls})
    assert await listed(source, limit=2) == urls
    assert site.server.asked == []
    site.answers["/0.txt"] = [Told(200, b"zero")]
    assert await content_of(source, urls[0]) == b"zero"
    for file_id in (f"{site.server.url}/9.txt", "0.txt"):
        with pytest.raises(SourceFileNotFoundError):
            await content_of(source, file_id)


async def test_what_lies_below_an_address_cannot_be_listed(below):
    """There is no such list in HTTP."""
    with pytest.raises(SourceNotBrowsableError):
        await below.list_files()


@pytest.mark.parametrize(
    "file_id",
    [
        "../secret",
        "a/../../secret",
        "%2e%2e/secret",
        "/secret",
        "http://other.example/x",
        "//other.example/x",
        "a\\..\\b",
        "..%2fprivate/x",
        "a%2f..%2f..%2fprivate",
        "..%5cx",
        "..;/x",
        "a/..;v=1/x",
        "%2e%2e%3b/x",
        "%252e%252e%252fx",
        "..%20/x",
        "a/.",
        "a%00.pdf",
        "a%0d%0aX-Injected:%201",
        "a\n.pdf",
        "%" + "25" * 50 + "41",
    ],
)
async def test_no_path_leads_elsewhere(site, below, file_id):
    """The headers are sent to nobody else."""
    with pytest.raises(SourceAccessDeniedError):
        await content_of(below, file_id)
    assert site.server.asked == []


@pytest.mark.parametrize(
    ("told", "kind", "word"),
    [
        (Told(404), SourceFileNotFoundError, "404"),
        (Told(401), SourceAccessDeniedError, "headers"),
        (Told(302, headers={"Location": "http://127.0.0.1:1/"}), SourceAccessDeniedError, "redirect"),
        (Told(418), SourceAccessDeniedError, "418"),
        (Told(500), SourceUnavailableError, "500"),
        (Told(200, b"0123456789", cut_after=5), SourceUnavailableError, "broke off"),
        (Told(200, b"0123456789", hangs_after=5), SourceUnavailableError, "broke off"),
    ],
)
async def test_each_answer_means_something(site, below, told, kind, word):
    """Redirects are followed nowhere; what breaks off or hangs is not a file."""
    site.answers["/docs/a"] = [told]
    with pytest.raises(kind, match=word):
        await content_of(below, "a")


async def test_a_signature_in_an_address_is_in_no_message(site, opened):
    """Messages go into logs and history."""
    url = f"{site.server.url}/a.pdf?signature=hunter2"
    source = opened("http", {"urls": [url]})
    with pytest.raises(SourceFileNotFoundError, match=r"a\.pdf") as raised:
        await content_of(source, url)
    assert "hunter2" not in str(raised.value)


async def test_a_length_nobody_says_is_no_fault(site, below):
    """The end is where the server closes."""
    site.answers["/docs/a"] = [Told(200, b"hello", says_length=False)]
    assert await content_of(below, "a") == b"hello"


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "identity, br", "x-unheard-of"])
async def test_a_packed_body_is_refused_unopened(site, below, encoding):
    """A small one may unpack to any size; nobody asked for it."""
    site.answers["/docs/a"] = [Told(200, gzip.compress(bytes(1_000_000)), {"Content-Encoding": encoding})]
    assert (await below.describe("a")).size_bytes is None
    with pytest.raises(SourceAccessDeniedError, match="packs what it sends"):
        await content_of(below, "a")
    assert {each.headers["accept-encoding"] for each in site.server.asked} == {"identity"}


@pytest.mark.parametrize("encoding", ["identity", "Identity", "aws-chunked"])
async def test_a_word_that_packs_nothing_is_no_fault(site, below, encoding):
    """The bytes are what they are, and of the length that was announced."""
    site.answers["/docs/a"] = [Told(200, b"hello", {"Content-Encoding": encoding})]
    assert await content_of(below, "a") == b"hello"
    assert (await below.describe("a")).size_bytes == 5


ABSURD_DATES = [
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Mon, 01 Jan 2026 00:00:00 +99999999999999999999",
    "Mon, 01 Jan 2026 00:00:00 -9999",
    "Fri, 31 Dec 9999 23:59:59 -1200",
    "yesterday",
]


@pytest.mark.parametrize("date", ABSURD_DATES)
async def test_a_date_beyond_all_calendars_is_none(site, below, date):
    """Of a file it is left out; one to wait for is not waited for."""
    site.answers["/docs/a"] = [Told(503, headers={"Retry-After": date}), Told(200, b"hello", {"Last-Modified": date})]
    assert (await below.describe("a")).modified_at is None


async def test_a_busy_server_is_waited_for(site, below):
    """As long as the patience lasts."""
    site.answers["/docs/a"] = [Told(503), Told(429, headers={"Retry-After": "0"}), Told(200, b"at last")]
    assert await content_of(below, "a") == b"at last"


async def test_a_server_that_is_not_there_is_unavailable(opened):
    """The message names it."""
    source = opened("http", {"urls": ["http://127.0.0.1:1/a.txt"]})
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:1"):
        await source.check()


@pytest.mark.parametrize(("status", "works"), [(200, True), (403, True), (404, True), (401, False), (503, False)])
async def test_a_base_address_is_tested_as_far_as_that_goes(site, below, status, works):
    """That there is nothing to see there says nothing about what is below."""
    site.answers["/docs/"] = [Told(status)]
    if works:
        await below.check()
    else:
        with pytest.raises((SourceAccessDeniedError, SourceUnavailableError)):
            await below.check()


async def test_private_addresses_are_refused_when_the_connection_is_opened(opened):
    """Unless the deployment allows them."""
    for url in (
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "http://169.254.169.254/latest",
        "http://user:pw@example.org/x",
    ):
        with pytest.raises(SourceAccessDeniedError):
            opened("http", {"urls": [url]}, allow_private=False)


async def test_a_name_that_leads_home_is_refused_when_it_is_asked(opened):
    """What it resolves to is what counts."""
    source = opened("http", {"urls": ["http://localhost:9/x"]}, allow_private=False)
    with pytest.raises(SourceAccessDeniedError, match="not on the public Internet"):
        await source.check()
