"""Which addresses are public."""

import pytest

from ingather.domain.addresses import is_public


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_ones_are(address):
    """Of both kinds."""
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "192.0.2.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::1",
        "fec0::1", "feff::1", "0.1.2.3", "100.127.255.255", "168.63.129.16", "192.0.0.192", "192.88.99.1", "::127.0.0.1",
        "::ffff:100.64.0.1", "::ffff:168.63.129.16", "64:ff9b::a9fe:a9fe", "64:ff9b::6440:1", "64:ff9b:1::808:808",
        "2002:a00:1::1", "2002:a9fe:a9fe::", "2002:6440:1::",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",  # Teredo of 10.0.0.1
    ],
)  # fmt: skip
def test_others_are_not(address):
    """This machine, its network, a cloud's metadata, and IPv4 ones in IPv6 clothes."""
    assert not is_public(address)


def test_a_name_is_no_address():
    """It must be resolved first."""
    with pytest.raises(ValueError, match="example"):
        is_public("example.org")
