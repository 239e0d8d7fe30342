"""Runs an HTTP proxy on loopback (RFC 9110, 7.3; RFC 9112, 3.2.2) for the storages that requests name. All
connections of a bucket go through it, also those to token URLs and STS.

The storages' clients resolve host names by themselves. The proxy connects only to addresses that core.reach
allows, and limits the length of answers.
"""

import asyncio
import base64
import secrets
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from openegress.core import reach
from openegress.core.loopback_server import LoopbackServer
from openegress.core.networks import Network, networks_of
from openegress.core.storages import Proxy
from openegress.core.tasks import cancelled

HEAD_BYTES = 64 * 1024
"""Limit for the head of a request or an answer; S3 accepts 8 KB of headers."""
ANSWER_BYTES = 1024 * 1024
"""Limit for an answer after the last byte that was sent. Storages answer uploads with a few kilobytes."""
CHUNK_BYTES = 256 * 1024
HEAD_WITHIN_S = 310.0
"""Time-out for the head of an answer; the storage's client gives up after 300 s."""
LAST_ANSWER_S = 5.0
"""Time-out for the rest of an answer after the client has closed its side."""
CLOSE = {"Connection": "close"}
"""Header that limits a plain HTTP connection to one request, so that the proxy need not parse bodies to find
the next."""


class ConnectionCut(Exception):
    """Raised if the connection must be closed. The text is the reason in words for people."""


@dataclass(frozen=True, slots=True)
class _Hop:
    """The next hop of a connection: the storage itself, or another proxy."""

    host: str
    port: int
    is_proxy: bool = False
    is_trusted: bool = False
    """Whether the operator named it and not a request: the server's own proxy, or an identity host."""
    tls: bool = False
    authorization: str = ""


class Gateway:
    """The proxy of one bucket, from open() to close()."""

    def __init__(
        self, networks: Sequence[Network], proxy: Proxy | None, identity_hosts: frozenset[str]
    ) -> None:
        self._networks = networks
        self._identity_hosts = identity_hosts
        self._proxy = proxy
        self._key = secrets.token_urlsafe(24)
        self._server = LoopbackServer(self._serve, (OSError, EOFError, asyncio.LimitOverrunError, ValueError))
        self.problem = ""
        """The reason why the last connection failed; "" if it did not."""
        self.is_denied = False
        """Whether the last connection failed because of `deny_networks`, so that retrying does not help."""

    @classmethod
    async def open(
        cls,
        deny_networks: Sequence[str],
        proxy: Proxy | None = None,
        identity_hosts: frozenset[str] = frozenset(),
    ) -> "Gateway":
        """Starts the proxy. `identity_hosts` (storage.identity) may be reached in any network."""
        gateway = cls(networks_of(deny_networks), proxy, identity_hosts)
        await gateway._server.start(CHUNK_BYTES)
        return gateway

    @property
    def proxy(self) -> Proxy:
        """The address of this proxy for the storage's client, with a password that nobody else has."""
        return Proxy(f"http://127.0.0.1:{self._server.port}", "openegress", self._key)

    async def close(self) -> None:
        await self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _Head.read(reader)
        if not secrets.compare_digest(
            request.headers.get("proxy-authorization", "").encode(),
            _basic("openegress", self._key).encode(),
        ):
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = request.first.split(" ", 2)
        try:
            far_reader, far_writer = await self._connected(method, target, request)
        except (OSError, ConnectionCut) as error:
            self.problem = getattr(error, "strerror", None) or str(error)
            self.is_denied = isinstance(error, reach.Denied)
            status = "403 Forbidden" if self.is_denied else "502 Bad Gateway"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            return
        self.problem, self.is_denied = "", False
        far = _NextHop(far_reader, far_writer, self._too_long)
        try:
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await _exchange(far.take_from(reader), far.give_to(writer, with_head=method != "CONNECT"))
        finally:
            far_writer.close()

    async def _connected(
        self, method: str, target: str, request: "_Head"
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connects to the next hop and sends it the head of the request. Raises OSError, ConnectionCut."""
        is_tunnel = method == "CONNECT"
        parts = urlsplit(f"https://{target}" if is_tunnel else target)
        host, port = parts.hostname or "", parts.port or (443 if is_tunnel else 80)
        hop = self._hop("https" if is_tunnel else "http", host, port)
        networks = () if hop.is_trusted else self._networks
        tls = ssl.create_default_context() if hop.tls else None
        try:
            reader, writer = await reach.connect(hop.host, hop.port, networks, tls=tls, limit=CHUNK_BYTES)
        except reach.Denied:
            raise
        except OSError as error:
            if not hop.is_proxy:
                raise
            why = error.strerror or str(error)
            raise ConnectionCut(f"its proxy {hop.host}:{hop.port} cannot be reached: {why}") from error
        try:
            if not is_tunnel:
                path = target if hop.is_proxy else _origin(parts)
                headers = {"Proxy-Authorization": hop.authorization} if hop.authorization else {}
                writer.write(request.forwarded(f"{method} {path} HTTP/1.1", CLOSE | headers))
            elif hop.is_proxy:
                authorization = f"Proxy-Authorization: {hop.authorization}\r\n" if hop.authorization else ""
                writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n".encode())
                answer = await _Head.read(reader)
                if answer.status != 200:
                    words = "proxy authentication required" if answer.status == 407 else "the proxy refused"
                    raise ConnectionCut(f"{words} (HTTP status {answer.status})")
        except BaseException:
            writer.close()
            raise
        return reader, writer

    def _hop(self, scheme: str, host: str, port: int) -> _Hop:
        """The next hop for a host. Raises Denied."""
        if host in self._identity_hosts:
            return _Hop(host, port, is_trusted=True)
        reach.check_literal(host, self._networks)
        if self._proxy is not None:
            return _proxy_hop(self._proxy.url, self._proxy.username, self._proxy.password, is_trusted=False)
        proxies = getproxies()
        url = proxies.get(scheme) or proxies.get("all") or ""
        if url and not proxy_bypass(f"{host}:{port}"):
            return _proxy_hop(url, "", "", is_trusted=True)
        return _Hop(host, port)

    def _too_long(self) -> None:
        self.problem = f"it answered with more than {ANSWER_BYTES} bytes"


class _NextHop:
    """The connection to the next hop."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_too_long: Callable[[], None]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_too_long = on_too_long
        self._left_bytes = ANSWER_BYTES

    async def take_from(self, reader: asyncio.StreamReader) -> None:
        """Passes on everything that the client sends."""
        while data := await reader.read(CHUNK_BYTES):
            self._left_bytes = ANSWER_BYTES
            self._writer.write(data)
            await self._writer.drain()

    async def give_to(self, writer: asyncio.StreamWriter, *, with_head: bool) -> None:
        """Passes on what the next hop answers. `with_head`: the connection is plain HTTP, so the head is
        rewritten to tell the client that the connection ends with this answer."""
        while with_head:
            async with asyncio.timeout(HEAD_WITHIN_S):
                head = await _Head.read(self._reader)
            with_head = head.status // 100 == 1  # another head follows
            writer.write(head.forwarded(head.first, {} if with_head else CLOSE))
        while data := await self._reader.read(CHUNK_BYTES):
            self._left_bytes -= len(data)
            if self._left_bytes < 0:
                self._on_too_long()
                writer.transport.abort()
                return
            writer.write(data)
            await writer.drain()


async def _exchange(there: Coroutine[Any, Any, None], back: Coroutine[Any, Any, None]) -> None:
    """Runs both directions until the next hop closes, or the client is gone."""
    sending, coming = asyncio.ensure_future(there), asyncio.ensure_future(back)
    try:
        await asyncio.wait({sending, coming}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({coming}, timeout=LAST_ANSWER_S)
    finally:
        await cancelled(sending, coming)


class _Head:
    """The head of an HTTP message."""

    def __init__(self, first: str, fields: Sequence[tuple[str, str]]) -> None:
        self.first = first
        self.fields = fields
        self.headers = {name.lower(): value for name, value in fields}

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> "_Head":
        """Reads a head. Raises ValueError if it is not a head, EOFError and asyncio.LimitOverrunError."""
        data = await reader.readuntil(b"\r\n\r\n")
        if len(data) > HEAD_BYTES:
            raise ValueError("a head that is too long")
        first, *lines = data.decode("latin-1").split("\r\n")[:-2]
        fields = []
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError("a line that is not a field")
            fields.append((name, value.strip()))
        return cls(first, fields)

    @property
    def status(self) -> int:
        """The status of an answer. Raises ValueError."""
        return int(self.first.split(" ", 2)[1])

    def forwarded(self, first: str, headers: Mapping[str, str]) -> bytes:
        """The head for the other side, without hop-by-hop fields (RFC 9110, 7.6.1)."""
        kept = [(n, v) for n, v in self.fields if n.lower() not in _HOP_BY_HOP]
        kept += headers.items()
        return "\r\n".join([first, *(f"{n}: {v}" for n, v in kept), "", ""]).encode("latin-1")


_HOP_BY_HOP = frozenset({"connection", "keep-alive", "proxy-authorization", "proxy-connection"})


def _proxy_hop(url: str, username: str, password: str, *, is_trusted: bool) -> _Hop:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    username = username or unquote(parts.username or "")
    password = password or unquote(parts.password or "")
    tls = parts.scheme == "https"
    return _Hop(
        host=parts.hostname or "",
        port=parts.port or (443 if tls else 80),
        is_proxy=True,
        is_trusted=is_trusted,
        tls=tls,
        authorization=_basic(username, password) if username else "",
    )


def _basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _origin(parts: SplitResult) -> str:
    """The request target in origin form (RFC 9112, 3.2.1)."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
