"""Addresses in denied networks, by each of their spellings, wherever we are asked to go there."""

import socket
from ipaddress import ip_address

import pytest

from openegress.core.networks import denying, networks_of
from openegress.core.reach import socket_factory

NETWORKS = networks_of(["10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::1/128", "fd00::/8"])


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("169.254.169.254", "169.254.0.0/16"),
        ("::ffff:169.254.169.254", "169.254.0.0/16"),
        ("64:ff9b::a9fe:a9fe", "169.254.0.0/16"),
        ("2002:a9fe:a9fe::1", "169.254.0.0/16"),
        ("fd12::1", "fd00::/8"),
        ("0.0.0.0", "127.0.0.0/8"),
        ("::", "127.0.0.0/8"),
        ("93.184.216.34", None),
        ("2606:2800::1", None),
    ],
)
def test_denied_networks(address: str, network: str | None) -> None:
    found = denying(ip_address(address), NETWORKS)
    assert (None if found is None else str(found)) == network


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "0.0.0.0",
        "::1%1",
    ],
)
def test_a_webhook_gets_no_socket_to_a_denied_network(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(PermissionError, match="deny_networks"):
        socket_factory(NETWORKS)((family, socket.SOCK_STREAM, 0, "", (address, 80)))
