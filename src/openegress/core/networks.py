"""Finds whether an address lies in a denied network, however it is written."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NAT64 = IPv6Network("64:ff9b::/96")
"""RFC 6052: an IPv4 address in the last 32 bits."""


def networks_of(texts: Iterable[str]) -> tuple[Network, ...]:
    """CIDR networks. Raises ValueError for an invalid text, and for an address inside a network."""
    return tuple(ip_network(text) for text in texts)


def denying(address: Address, networks: Iterable[Network]) -> Network | None:
    """The first network that contains the address in any of its spellings."""
    spellings: list[Address] = [address]
    if isinstance(address, IPv6Address):
        spellings += [a for a in (address.ipv4_mapped, address.sixtofour) if a is not None]
        if address in _NAT64:
            spellings.append(IPv4Address(int(address) & 0xFFFFFFFF))
    if any(a.is_unspecified for a in spellings):  # connects to this machine
        spellings += [IPv4Address("127.0.0.1"), IPv6Address("::1")]
    for network in networks:
        if any(a.version == network.version and a in network for a in spellings):
            return network
    return None
