"""Our signature of a single-object request is botocore's."""

from datetime import UTC, datetime
from unittest import mock

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from ingather.adapters.s3.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, ObjectSigner, S3Credentials, object_path

NOW = datetime(2026, 11, 22, 17, 5, 9, tzinfo=UTC)


def botocore_authorization(method: str, url: str, payload: str, token: str | None) -> str:
    request = AWSRequest(method, url, headers={"X-Amz-Content-SHA256": payload})
    signer = S3SigV4Auth(Credentials("AKIDEXAMPLE", "wJalr/secret+key", token), "s3", "eu-west-3")
    clock = mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None))
    with clock, mock.patch.object(signer, "payload", return_value=payload):
        signer.add_auth(request)
    return request.headers["Authorization"]


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
@pytest.mark.parametrize("token", [None, "session/token=="])
@pytest.mark.parametrize("payload", [UNSIGNED_PAYLOAD, EMPTY_SHA256])
@pytest.mark.parametrize("key", ["derived/a/b/chunks.arrow", "ä b+c=d&e%20?f#g~!*'()", "raw/ключ/🎉"])
def test_the_signature_is_botocores(method, token, payload, key):
    """Same request, same moment, same credentials: the same Authorization header, letter by letter."""
    path = object_path("bucket", key)
    signer = ObjectSigner("s3.example.com:9000", "eu-west-3")
    credentials = S3Credentials("AKIDEXAMPLE", "wJalr/secret+key", token)
    headers = signer.headers(method, path, payload, credentials, NOW.timestamp())
    expected = botocore_authorization(method, f"https://s3.example.com:9000{path}", payload, token)
    assert headers["authorization"] == expected


def test_a_new_day_has_a_new_key():
    """The kept signing key is not used beyond its day, nor for another secret."""
    signer = ObjectSigner("host", "us-east-1")
    path = object_path("bucket", "key")

    def signature(at: float, secret: str) -> str:
        return signer.headers("GET", path, UNSIGNED_PAYLOAD, S3Credentials("id", secret), at)["authorization"]

    fresh = ObjectSigner("host", "us-east-1")
    signature(0, "one")
    for at, secret in [(90_000, "one"), (90_000, "two")]:
        expected = fresh.headers("GET", path, UNSIGNED_PAYLOAD, S3Credentials("id", secret), at)["authorization"]
        assert signature(at, secret) == expected


def test_secrets_do_not_show():
    """Printing credentials shows who, not the secret."""
    shown = repr(S3Credentials("AKID", "very-secret", "token-secret"))
    assert "AKID" in shown
    assert "secret" not in shown.replace("secret_access_key", "")
