"""Which addresses a server may be sent to by somebody who does not run it."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_NAT64 = IPv6Network("64:ff9b::/96")
_NOT_PUBLIC = (
    IPv4Network("0.0.0.0/8"),  # this machine, in the words of some systems
    IPv4Network("100.64.0.0/10"),  # shared by a carrier's customers
    IPv4Network("168.63.129.16/32"),  # Azure's services for its own machines, at a public address
    IPv4Network("192.0.0.0/24"),  # among them Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
    IPv6Network("64:ff9b:1::/48"),  # a network's own NAT64
    IPv6Network("fec0::/10"),  # a site's own, before there was fc00::/7
)
"""What the standard library's tables leave out in one version or another."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet, and not to a machine, a network or a cloud's own services.

    An IPv6 address that carries an IPv4 one is judged by that too: the packet may end there.
    Raises ``ValueError`` for what is no address.
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        return _is_global(parsed) and all(map(_is_global, _carried(parsed)))
    return _is_global(parsed)


def _is_global(address: IPv4Address | IPv6Address) -> bool:
    # An IPv4 address in IPv6 clothes is no global IPv6 address, and is one where the IPv4 address is.
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return _is_global(address.ipv4_mapped)
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _carried(address: IPv6Address) -> list[IPv4Address]:
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in found if each is not None]
