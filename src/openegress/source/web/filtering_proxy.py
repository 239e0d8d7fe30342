"""Keeps pages out of denied networks: a SOCKS5 proxy on loopback that all TCP of the browser goes through.

It resolves names itself, and connects to exactly the address that it has checked. That covers a name that
changes its address in between (DNS rebinding), redirects, frames, WebSockets, and WebRTC over TCP. It
supports only CONNECT (RFC 1928). WebRTC's UDP does not pass here: pages have no UDP where that matters
(BrowserSettings.udp). Pages cannot reach the ports of this service either.
"""

import asyncio
import errno
import socket
from collections.abc import Iterable
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.loopback_server import LoopbackServer
from openegress.core.networks import Address, Network, denying, networks_of
from openegress.core.recent import Recent

VERSION, CONNECT, NO_AUTHENTICATION = 5, 1, 0
CONNECT_TIMEOUT_S = 10.0
"""Time-out for each address of a name."""
CHUNK_BYTES = 65536
KEPT_REASONS = 100
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class AddressType(IntEnum):
    IPV4 = 1
    NAME = 3
    IPV6 = 4


class SocksReply(IntEnum):
    SUCCEEDED = 0
    FAILED = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    REFUSED = 5
    COMMAND_NOT_SUPPORTED = 7


class Refused(Exception):
    """A connection is refused: `reply` is for the browser, the text for people."""

    def __init__(self, reply: SocksReply, message: str) -> None:
        super().__init__(message)
        self.reply = reply


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Parses CIDR networks. Raises EgressError for an invalid one."""
    try:
        return networks_of(texts)
    except ValueError as e:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            f"deny_networks: {e}; write networks as 169.254.0.0/16",
            fault=Fault.SERVICE,
            phase=Phase.BROWSER_START,
        ) from e


class FilteringProxy:
    """The proxy of one browser."""

    def __init__(self, networks: tuple[Network, ...], own_ports: Iterable[int] = ()) -> None:
        """`own_ports`: where this service listens, on any of the machine's addresses."""
        self._networks = networks
        self._own_ports = frozenset(own_ports)
        self._own_pages: set[tuple[str, int]] = set()
        self._server = LoopbackServer(self._serve, (OSError, EOFError))
        self._trusted: set[tuple[str, int]] = set()
        self._reasons: Recent[str, str] = Recent(KEPT_REASONS)

    async def start(self) -> str:
        """Starts the proxy. Returns its URL for --proxy-server."""
        await self._server.start()
        return f"socks5://127.0.0.1:{self._server.port}"

    def trust(self, url: str) -> None:
        """Allows this URL's host and port, whatever their address: they belong to the operator."""
        if (server := _server_of(url)) is not None:
            self._trusted.add(server)

    def open_own(self, url: str) -> None:
        """Allows this URL's host and port although this service may listen there: it is a template of its
        own. Denied networks stay denied."""
        if (server := _server_of(url)) is not None:
            self._own_pages.add(server)

    def reason(self, url: str) -> str:
        """Why there was no connection to the URL's host; empty if that is unknown."""
        return self._reasons.get(urlsplit(url).hostname or "", "")

    async def close(self) -> None:
        await self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, methods = await reader.readexactly(2)
        if version != VERSION:
            return
        await reader.readexactly(methods)
        writer.write(bytes((VERSION, NO_AUTHENTICATION)))
        _, command, _, kind = await reader.readexactly(4)
        host = await _read_host(reader, kind)
        port = int.from_bytes(await reader.readexactly(2), "big")
        try:
            if command != CONNECT:
                raise Refused(SocksReply.COMMAND_NOT_SUPPORTED, "only connections are proxied")
            far_reader, far_writer = await self._connect(host, port)
        except Refused as e:
            self._reasons[host] = str(e)
            writer.write(_reply(e.reply))
            await writer.drain()
            return
        try:
            writer.write(_reply(SocksReply.SUCCEEDED))
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            far_writer.close()

    async def _connect(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to the first allowed address of the host that answers. Raises Refused."""
        allowed = await self._resolve(host, port)
        problem = Refused(SocksReply.HOST_UNREACHABLE, "it has no address")
        for address in allowed:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await asyncio.open_connection(str(address), port)
            except TimeoutError:
                problem = Refused(SocksReply.HOST_UNREACHABLE, "its address does not answer")
            except OSError as e:
                problem = _refused(e)
        raise problem

    async def _resolve(self, host: str, port: int) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as e:
            raise Refused(
                SocksReply.HOST_UNREACHABLE, f"its host name is not known to DNS here ({e.strerror})"
            ) from e
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        if (host, port) in self._trusted:
            return addresses
        allowed = [a for a in addresses if denying(a, self._networks) is None]
        if allowed and port in self._own_ports and (host, port) not in self._own_pages:
            allowed = [a for a in allowed if not is_here(a)]
            if not allowed:
                raise Refused(SocksReply.NOT_ALLOWED, "it is this service itself, which pages may not reach")
        if not allowed:
            network = denying(addresses[0], self._networks)
            raise Refused(
                SocksReply.NOT_ALLOWED,
                f"its address {addresses[0]} is in {network}, which pages may not reach",
            )
        return allowed


def _server_of(url: str) -> tuple[str, int] | None:
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    return parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme, 0)


def is_here(address: Address) -> bool:
    """Whether the address belongs to this machine: a socket can be bound only to such an address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_unspecified:
        return True
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(address), 0))
        except OSError:
            return False
    return True


async def _read_host(reader: asyncio.StreamReader, kind: int) -> str:
    match kind:
        case AddressType.IPV4:
            return str(IPv4Address(await reader.readexactly(4)))
        case AddressType.IPV6:
            return str(IPv6Address(await reader.readexactly(16)))
        case AddressType.NAME:
            return (await reader.readexactly((await reader.readexactly(1))[0])).decode("ascii", "replace")
    raise EOFError(f"address type {kind}")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _reply(reply: SocksReply) -> bytes:
    return bytes((VERSION, reply, 0, AddressType.IPV4)) + bytes(6)


def _refused(error: OSError) -> Refused:
    match error.errno:
        case errno.ECONNREFUSED:
            return Refused(SocksReply.REFUSED, "nothing listens at its address")
        case errno.ENETUNREACH:
            return Refused(SocksReply.NETWORK_UNREACHABLE, "its network cannot be reached from here")
        case _:
            return Refused(
                SocksReply.HOST_UNREACHABLE, f"its address could not be reached ({error.strerror})"
            )
