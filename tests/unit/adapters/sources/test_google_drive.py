"""Google Drive, against a server that speaks its REST interface over real sockets."""

import gzip
import json

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ingather.models.errors import (
    DocumentTooLargeError,
    SourceAccessDeniedError,
    SourceFileNotFoundError,
    SourceUnavailableError,
)
from tests.support.drive import FOLDER, DriveFile, drive_stand_in, error
from tests.support.http_stand_in import Told
from tests.unit.adapters.sources.conftest import content_of, listed

NATIVE = "application/vnd.google-apps."
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
TEXT = b"The dome opens at nine.\n" * 100


@pytest.fixture
async def drive():
    async with drive_stand_in(
        a=DriveFile("a.txt", TEXT),
        plan=DriveFile("Plan", media_type=f"{NATIVE}document", exports={DOCX: b"PK docx"}),
        shape=DriveFile("Shape", media_type=f"{NATIVE}drawing", exports={"application/pdf": b"%PDF"}),
        sub=DriveFile("Sub", media_type=FOLDER),
        inner=DriveFile("inner.txt", b"x", parent="sub"),
        link=DriveFile("link", media_type=f"{NATIVE}shortcut", target="a"),
    ) as made:
        yield made


@pytest.fixture
def source(drive, opened):
    return opened("google_drive", drive.as_user())


async def test_folders_are_listed_page_by_page(drive, source):
    """Each file once, with what Drive says of it."""
    assert await listed(source, limit=2) == ["plan", "shape", "sub/", "a", "link"]
    assert await listed(source, "sub") == ["inner"]
    file = await source.describe("a")
    assert (file.name, file.size_bytes, file.media_type, file.modified_at.year) == (
        "a.txt",
        len(TEXT),
        "text/plain",
        2026,
    )


async def test_bytes_come_as_they_are(drive, source):
    """With one token for all requests; a shortcut leads to its file."""
    assert await content_of(source, "a") == TEXT
    assert await content_of(source, "link") == TEXT
    assert drive.tokens_given == 1


async def test_googles_own_documents_are_exported(drive, source):
    """In the format of the office program; others as PDF. Names get the ending."""
    assert await content_of(source, "plan") == b"PK docx"
    assert await content_of(source, "shape") == b"%PDF"
    assert [(await source.describe(each)).name for each in ("plan", "shape")] == ["Plan.docx", "Shape.pdf"]


async def test_a_refused_token_is_renewed_once(drive, source):
    """In the middle of a batch, without anybody's help; when the new one is refused too, access is."""
    assert await content_of(source, "a") == TEXT
    drive.revoke()
    assert await content_of(source, "a") == TEXT
    assert drive.tokens_given == 2
    drive.troubles = [error(401, "authError")] * 2
    with pytest.raises(SourceAccessDeniedError, match="just given out"):
        await content_of(source, "a")


@pytest.mark.parametrize(
    "trouble",
    [
        error(403, "rateLimitExceeded"),
        error(403, "userRateLimitExceeded"),
        error(429, "rateLimitExceeded", **{"Retry-After": "0"}),
        error(500, "backendError"),
        Told(503, b"<html>busy</html>"),
    ],
    ids=lambda told: str(told.status),
)
async def test_quotas_and_outages_are_waited_for(drive, source, trouble):
    """Three in a row are got over; more than the patience allows go on as unavailable."""
    drive.troubles = [trouble] * 3
    assert await content_of(source, "a") == TEXT
    drive.troubles = [trouble] * 4
    with pytest.raises(SourceUnavailableError, match=str(trouble.status)):
        await content_of(source, "a")


async def test_a_long_wait_is_left_to_whoever_asked(drive, source):
    """What Drive asks for is told, and not waited for here."""
    drive.troubles = [error(429, "rateLimitExceeded", **{"Retry-After": "120"})]
    with pytest.raises(SourceUnavailableError) as raised:
        await source.describe("a")
    assert raised.value.facts["retry_after_seconds"] == 120.0


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (error(403, "insufficientFilePermissions"), SourceAccessDeniedError),
        (error(403, "exportSizeLimitExceeded"), DocumentTooLargeError),
        (error(404, "notFound"), SourceFileNotFoundError),
        (error(400, "badRequest"), SourceAccessDeniedError),
    ],
)
async def test_what_waiting_does_not_cure_is_told_at_once(drive, source, trouble, kind):
    """By its own name, after one request."""
    await source.check()
    drive.troubles = [trouble]
    with pytest.raises(kind):
        await source.describe("a")
    assert drive.troubles == []


@pytest.mark.parametrize("file_id", ["lost", "sub", "../a", "a/../b", "a?alt=media", "x' or name contains 'y", ""])
async def test_an_id_that_is_none_is_not_there(drive, source, file_id):
    """Whatever is in it: it never becomes part of an address or a query."""
    with pytest.raises(SourceFileNotFoundError):
        await content_of(source, file_id)


@pytest.mark.parametrize(
    "media",
    [
        Told(200, TEXT, cut_after=50),
        Told(200, TEXT[:50]),
        Told(200, TEXT[::-1]),
        Told(200, TEXT, hangs_after=50),
    ],
    ids=["cut off", "too short", "other bytes", "slow"],
)
async def test_bytes_that_are_not_the_file_are_noticed(drive, source, media):
    """By length, by checksum, or by the silence; another attempt may get them."""
    drive.media = media
    with pytest.raises(SourceUnavailableError):
        await content_of(source, "a")
    assert await content_of(source, "a") == TEXT


async def test_a_revoked_refresh_token_says_so(drive, opened):
    """In words that tell what to do, without the token."""
    source = opened("google_drive", drive.as_user(refresh_token="an-old-one"))
    with pytest.raises(SourceAccessDeniedError, match="invalid_grant") as raised:
        await source.check()
    assert "consent" in raised.value.action
    assert "an-old-one" not in str(raised.value)


async def test_the_token_service_may_be_busy(drive, source):
    """It is waited for as Drive is."""
    drive.token_troubles = [Told(503), Told(500, b"not json")]
    await source.check()
    assert drive.tokens_given == 1


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"files": ' + b"[" * 100_000,
        b'{"files": [{"id": "a", "name": "a", "mimeType": "text/plain", "size": Infinity}]}',
        b'{"files": [{"id": "a", "name": "a", "mimeType": "text/plain", "size": 1e999}]}',
    ],
    ids=lambda body: body[:12].decode(),
)
async def test_nonsense_is_told_as_such(drive, source, body):
    """However deep, however large."""
    drive.troubles = [Told(200, body)]
    with pytest.raises(SourceUnavailableError, match="cannot be read"):
        await source.check()
    drive.troubles = [Told(403, body)]
    with pytest.raises(SourceAccessDeniedError, match="403"):
        await source.describe("a")
    drive.revoke()
    drive.token_troubles = [Told(200, body)]
    with pytest.raises(SourceUnavailableError, match="without a token"):
        await source.check()


async def test_packed_answers_are_refused_unopened(drive, source):
    """Of the token service, of lists, and of errors, which then say no reason."""
    packed = Told(200, gzip.compress(b"{}"), {"Content-Encoding": "gzip"})
    drive.token_troubles = [packed]
    with pytest.raises(SourceAccessDeniedError, match="packs what it sends"):
        await source.check()
    drive.troubles = [packed]
    with pytest.raises(SourceAccessDeniedError, match="packs what it sends"):
        await source.check()
    drive.troubles = [Told(503, packed.body, packed.headers)]
    await source.check()
    assert {each.headers["accept-encoding"] for each in drive.server.asked} == {"identity"}


async def test_a_service_account_signs_for_itself(drive, opened):
    """With its own key, for the user it acts for."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    drive.public_key = key.public_key()
    key_file = json.dumps({"client_email": "robot@example.org", "private_key": pem, "private_key_id": "k1"})
    settings = {"service_account": key_file, "subject": "ada@example.org"}
    settings |= {"base_url": drive.base_url, "token_url": drive.token_url}
    source = opened("google_drive", settings)
    assert await content_of(source, "a") == TEXT
    [asked] = [each for each in drive.server.asked if each.path == "/token"]
    claims = jwt.decode(asked.body.decode().split("assertion=")[1], options={"verify_signature": False})
    assert (claims["iss"], claims["sub"], claims["scope"].rsplit("/")[-1]) == (
        "robot@example.org", "ada@example.org", "drive.readonly",
    )  # fmt: skip


async def test_a_key_file_that_is_none_is_not_quoted(drive, opened):
    """It may hold a key all the same."""
    source = opened("google_drive", drive.as_user() | {"service_account": "{secret"} | dict.fromkeys(
        ("client_id", "client_secret", "refresh_token")
    ))  # fmt: skip
    with pytest.raises(SourceAccessDeniedError) as raised:
        await source.check()
    assert "secret" not in str(raised.value)
