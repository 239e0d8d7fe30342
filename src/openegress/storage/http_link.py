"""HTTP to one storage: connections that are kept, proxies, and time-outs.

By http.client, which every handler has loaded; in threads, as sending and encrypting a part would keep the
event loop from its packets. A cancelled request ends at once: its connection is cut under it.
"""

import asyncio
import base64
import contextlib
import errno
import functools
import http.client
import socket
import ssl
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from openegress.core.plan import Proxy
from openegress.core.text import shown
from openegress.storage.failures import Answer
from openegress.storage.traits import proxy_url

T = TypeVar("T")

Body = bytes | memoryview

ANSWER_BYTES = 64 * 1024
"""Of an answer's body; an error document has less than 2 KB."""
THREADS = 8
IDLE_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class CallTimeouts:
    """Seconds to connect (each address of a name), and for a request and its answer in all."""

    connect_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """`headers` by names in lower case. `body`: its first ANSWER_BYTES."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotAnswered(Exception):
    """No answer came; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.words)
        self.answer = answer


@functools.cache
def tls_context() -> ssl.SSLContext:
    """With the certificates of the system (SSL_CERT_FILE and SSL_CERT_DIR), read once."""
    return ssl.create_default_context()


class TunnelRefused(OSError):
    """A proxy leads no further."""

    def __init__(self, status: int) -> None:
        words = "proxy authentication required" if status == 407 else "the proxy refused"
        super().__init__(errno.EACCES, f"{words} (HTTP status {status})")
        self.status = status


class _Connection:
    """One, which another thread may cut. Not TLS to a proxy and TLS again: a Gateway does that."""

    def __init__(self, endpoint: SplitResult, proxy: SplitResult | None) -> None:
        self._endpoint = endpoint
        self._proxy = proxy
        self._sock: socket.socket | None = None
        self._is_cut = False
        self.is_used = False
        self._is_tls = endpoint.scheme == "https"
        self.http = http.client.HTTPConnection(*_at(endpoint))
        through = proxy is not None and not self._is_tls
        self.prefix = f"http://{endpoint.netloc}" if through else ""
        """Before the target of a request: a proxy is sent whole URLs."""
        self.headers = _proxy_headers(proxy) if through else {}

    def open(self, patience: CallTimeouts) -> None:
        """Blocks. Raises OSError."""
        if self.http.sock is None:
            to = self._proxy or self._endpoint
            self._sock = socket.create_connection(_at(to), patience.connect_s)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if to.scheme == "https":
                self._encrypt(to.hostname or "")
            if self._is_tls and self._proxy is not None:
                self._tunnel(self._proxy)
                self._encrypt(self._endpoint.hostname or "")
            self.http.sock = self._sock
        assert self._sock is not None
        self._sock.settimeout(patience.whole_s)
        if self._is_cut:
            raise ConnectionAbortedError(errno.ECONNABORTED, "given up")

    def cut(self) -> None:
        """Whoever waits for it is told so. Not SSLSocket's way, which would go on in the clear."""
        self._is_cut = True
        if (sock := self._sock) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        self.http.close()
        if self._sock is not None:
            self._sock.close()

    def _encrypt(self, host: str) -> None:
        assert self._sock is not None
        self._sock = tls_context().wrap_socket(self._sock, server_hostname=host)

    def _tunnel(self, proxy: SplitResult) -> None:
        """RFC 9110, 9.3.6."""
        assert self._sock is not None
        host, port = _at(self._endpoint)
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        fields = {"Host": authority, **_proxy_headers(proxy)}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._sock.sendall(f"CONNECT {authority} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))
        answer = http.client.HTTPResponse(self._sock, method="CONNECT")
        try:
            answer.begin()
            if answer.status != 200:
                raise TunnelRefused(answer.status)
        finally:
            answer.close()


def _at(url: SplitResult) -> tuple[str, int]:
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def _proxy_headers(proxy: SplitResult | None) -> dict[str, str]:
    if proxy is None or not proxy.username:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


class HttpLink:
    """From its making to close()."""

    def __init__(self, endpoint: str, proxy: Proxy | None = None, *, environment: bool = True) -> None:
        """`endpoint`: scheme, host and port. `environment`: HTTP_PROXY and its like are heeded where no proxy
        is given."""
        self._endpoint = urlsplit(endpoint)
        self._proxy = proxy_url(proxy) if proxy is not None else ""
        self._environment = environment
        self._threads = ThreadPoolExecutor(THREADS, "store")
        self._idle: list[_Connection] = []
        weakref.finalize(self, _close_all, self._idle, self._threads)

    async def work(self, task: Callable[[], T]) -> T:
        """In a thread of this link: reading and hashing what is sent."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, task)

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: Body, patience: CallTimeouts
    ) -> HttpAnswer:
        """`target`: path and query, encoded. Raises NotAnswered."""
        while True:
            connection = self._taken()
            was_used = connection.is_used
            try:
                return await self._asked(connection, method, target, headers, body, patience)
            except (OSError, http.client.HTTPException, ValueError) as error:
                # A store closes what was idle for long, and this request was then never read.
                if not (was_used and isinstance(error, ConnectionError | ssl.SSLError)):
                    raise NotAnswered(_told(error)) from None

    async def close(self) -> None:
        """Idempotent."""
        _close_all(self._idle, self._threads)

    async def _asked(
        self,
        connection: _Connection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: Body,
        patience: CallTimeouts,
    ) -> HttpAnswer:
        asking = asyncio.get_running_loop().run_in_executor(
            self._threads, _exchange, connection, method, target, headers, body, patience
        )
        try:
            async with asyncio.timeout(patience.whole_s):
                answer, is_kept = await asyncio.shield(asking)
        except BaseException:
            connection.cut()
            asking.add_done_callback(lambda done: _closed(done, connection))
            raise
        if is_kept and len(self._idle) < IDLE_CONNECTIONS:
            connection.is_used = True
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _taken(self) -> _Connection:
        if self._idle:
            return self._idle.pop()
        return _Connection(self._endpoint, self._way())

    def _way(self) -> SplitResult | None:
        """The proxy to take."""
        proxy = self._proxy
        host, port = _at(self._endpoint)
        if not proxy and self._environment and not proxy_bypass(f"{host}:{port}"):
            proxies = getproxies()
            proxy = proxies.get(self._endpoint.scheme) or proxies.get("all") or ""
        if not proxy:
            return None
        return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _exchange(
    connection: _Connection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: Body,
    patience: CallTimeouts,
) -> tuple[HttpAnswer, bool]:
    """The answer, and whether the connection takes another request. Blocks."""
    connection.open(patience)
    http_ = connection.http
    http_.putrequest(method, connection.prefix + target, skip_host=True, skip_accept_encoding=True)
    for name, value in {**headers, **connection.headers}.items():
        http_.putheader(name, value)
    http_.putheader("user-agent", "openegress")
    if body or method in ("PUT", "POST"):
        http_.putheader("content-length", str(len(body)))
    try:
        http_.endheaders(body)
    except ConnectionError:
        # A store that refuses a body answers before it has come, and hangs up.
        try:
            answer = http_.getresponse()
        except (OSError, http.client.HTTPException):
            answer = None
        if answer is None:
            raise
    else:
        answer = http_.getresponse()
    data = answer.read(ANSWER_BYTES)
    if answer.length and len(data) < ANSWER_BYTES:
        raise http.client.IncompleteRead(data, answer.length)
    is_kept = answer.isclosed() and not answer.will_close
    return HttpAnswer(answer.status, {n.lower(): v for n, v in answer.getheaders()}, data), is_kept


def _closed(asking: "asyncio.Future[tuple[HttpAnswer, bool]]", connection: _Connection) -> None:
    """Once no thread uses it any more."""
    if not asking.cancelled():
        asking.exception()  # told to whoever asked, or to nobody
    connection.close()


def _close_all(idle: list[_Connection], threads: ThreadPoolExecutor) -> None:
    for connection in idle:
        connection.close()
    idle.clear()
    threads.shutdown(wait=False)


def _told(error: OSError | http.client.HTTPException | ValueError) -> Answer:
    """Nothing of what the other side said is in it."""
    if isinstance(error, ValueError) and not isinstance(error, OSError):
        return Answer(0, "", "its name is none that can be looked up")  # no host (IDNA), no port
    if isinstance(error, TimeoutError):
        return Answer(0, "", "timed out")
    if isinstance(error, socket.gaierror):
        return Answer(0, "", "the host name is not known")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Answer(0, "", f"its certificate is not accepted: {shown(error.verify_message)}")
    if isinstance(error, ssl.SSLError):
        return Answer(0, "", "no TLS connection came about")
    if isinstance(error, http.client.HTTPException):
        return Answer(0, "", "the connection was closed before the answer" if _is_end(error) else "no HTTP")
    if isinstance(error, TunnelRefused):
        return Answer(error.status, "", str(error.strerror))
    return Answer(0, "", error.strerror or "the connection was lost")


def _is_end(error: http.client.HTTPException) -> bool:
    return isinstance(error, http.client.IncompleteRead | http.client.BadStatusLine)
