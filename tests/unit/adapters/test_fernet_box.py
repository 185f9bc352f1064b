"""Credentials at rest: useless without the key, and under another connection's name."""

import pytest
from cryptography.fernet import Fernet

from ingather.adapters.fernet_box import FernetBox
from ingather.models.errors import ConfigurationError, CredentialKeyMissingError

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
SECRETS = {"refresh_token": "shh", "headers": {"A": "b"}}


def test_what_is_sealed_cannot_be_read():
    """And comes out as it went in."""
    sealed = FernetBox([NEW]).seal(SECRETS, "tenant/drive")
    assert "shh" not in sealed
    assert FernetBox([NEW]).open(sealed, "tenant/drive") == SECRETS


def test_it_is_bound_to_its_connection():
    """Copied into another's row it opens nothing."""
    sealed = FernetBox([NEW]).seal(SECRETS, "tenant/drive")
    with pytest.raises(CredentialKeyMissingError, match="another connection"):
        FernetBox([NEW]).open(sealed, "other/drive")


def test_keys_are_rotated():
    """Old ones open, the newest seals; what is renewed needs the old one no more."""
    sealed = FernetBox([OLD]).seal(SECRETS, "t/c")
    both = FernetBox([NEW, OLD])
    assert both.open(sealed, "t/c") == SECRETS
    renewed = both.renewed(sealed)
    assert both.renewed(renewed) is None
    assert FernetBox([NEW]).open(renewed, "t/c") == SECRETS
    for refused in (FernetBox([NEW]), FernetBox([])):
        with pytest.raises(CredentialKeyMissingError):
            refused.renewed(sealed)


def test_without_a_key_nothing_is_sealed():
    """The advice names the setting."""
    with pytest.raises(CredentialKeyMissingError) as raised:
        FernetBox([]).seal(SECRETS, "t/c")
    assert "INGATHER_SOURCES__KEYS" in raised.value.action


def test_a_key_that_is_none_is_refused_at_the_start():
    """It is not quoted."""
    with pytest.raises(ConfigurationError) as raised:
        FernetBox(["hunter2"])
    assert "hunter2" not in str(raised.value)
