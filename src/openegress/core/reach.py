"""Connections made for callers who may start a recording: never to an address in a denied network.

A name is resolved once, here, and the connection goes to the address that was checked: neither a name whose
address changes in between (DNS rebinding) nor a redirect leads anywhere else.
"""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from openegress.core.networks import Network, denying
from openegress.core.text import shown

CONNECT_TIMEOUT_S = 10.0
"""Time-out for each address of a name, after which the next one is tried."""

AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]
"""An item of getaddrinfo()'s result."""


class Denied(PermissionError):
    """The address lies in a denied network."""

    def __init__(self, address: object, network: object) -> None:
        super().__init__(
            errno.EACCES, f"its address {address} is in {network}, which is one of deny_networks"
        )


def socket_factory(networks: Sequence[Network]) -> Callable[[Any], socket.socket]:
    """Makes sockets for aiohttp's connector, but none for an address in one of the networks."""

    def make(info: Any) -> socket.socket:
        family, kind, protocol, _, to = info
        _check(str(to[0]), networks)
        return socket.socket(family, kind, protocol)

    return make


def check_literal(host: str, networks: Sequence[Network]) -> None:
    """Checks a host that is written as an address; names are checked when they are resolved. Raises
    Denied."""
    try:
        ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return
    _check(host.strip("[]"), networks)


def resolve(host: str, port: int, networks: Sequence[Network], kind: int) -> list[AddrInfo]:
    """Addresses of a host that may be connected to, for sockets of `kind`. Blocks. Raises Denied where all of
    them are denied, and socket.gaierror."""
    allowed: list[AddrInfo] = []
    denied: Denied | None = None
    for found in socket.getaddrinfo(host, port, type=kind):
        try:
            _check(str(found[4][0]), networks)
            allowed.append(found)
        except Denied as error:
            denied = error
    if denied is not None and not allowed:
        raise denied
    return allowed


async def connect(
    host: str,
    port: int,
    networks: Sequence[Network],
    *,
    tls: ssl.SSLContext | None = None,
    limit: int = 65_536,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects to the first address of the host that answers and is not denied. Raises Denied where all are,
    and OSError, whose text says why in plain words."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise OSError(errno.EHOSTUNREACH, "the host name is not known") from None
    problem: OSError = OSError(errno.EHOSTUNREACH, "the host name has no address")
    for *_, to in found:
        address = str(to[0])
        try:
            _check(address, networks)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await asyncio.open_connection(
                    address, port, ssl=tls, server_hostname=host if tls else None, limit=limit
                )
        except TimeoutError:
            problem = OSError(errno.ETIMEDOUT, "timed out")
        except OSError as error:
            problem = error
    if problem.errno == errno.ECONNREFUSED:
        raise OSError(errno.ECONNREFUSED, "Connection refused")
    raise problem


def _check(address: str, networks: Sequence[Network]) -> None:
    judged = ip_address(address.partition("%")[0])
    network = denying(judged, networks)
    if network is not None:
        raise Denied(shown(address), network)
