"""Connects to a stream server by RTMP(S) or SRT, and explains its failures."""

import errno
import os
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from av.error import FFmpegError

from openegress.core.codecs import Container
from openegress.core.errors import Code, EgressError, Phase
from openegress.core.networks import Network
from openegress.core.plan import StreamTarget
from openegress.core.reach import AddrInfo, Denied, resolve
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.muxer import Muxer
from openegress.media.srt import SrtConnection, SrtError
from openegress.output.live.rtmp import RtmpError, RtmpRefused
from openegress.output.live.rtmp.publisher import NeedsLogin, Publisher
from openegress.output.live.rtmp.tags import FlvTags
from openegress.output.live.rtmp.wire import Wire
from openegress.request.rtmp_url import parse as parse_rtmp
from openegress.request.srt_url import parse as parse_srt

STALL_S = 5.0
"""Time after which a peer that takes no byte is stuck: live servers read at once."""

_BUFFER_S = 1.0
"""Length of media in the kernel's send buffer at the requested rate: enough for any round trip."""
_MIN_BUFFER_BYTES = 65_536

_OFFSET_NS = S // 5
"""Shift of all times, as FLV and MPEG-TS have no negative times, and encoders begin slightly before media
time zero."""

_SRT_DRAIN_S = 1.0
"""Time at the end for data that the receiver holds back as latency (120 ms by default)."""

_RTMP_OPTIONS = {"flush_packets": "1", "flvflags": "no_duration_filesize"}
_SRT_OPTIONS = {"flush_packets": "1"}
_ADDRESS_ERRORS = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT)
"""Errors after which another address of the same name may answer."""
_HANG_UP_S = 1.0
"""Time at the end for a server of RTMP to read the last messages."""
_MAX_LOGINS = 3
"""Limit for attempts to log in. A server says that it wants a login, and then for what; the third attempt has
it."""


class StreamConnection(Protocol):
    """A connection to a stream server. The thread that calls the constructor opens it, and is the only one to
    write and close it."""

    def open(self) -> None:
        """Connects, but to no address in a denied network, and announces the streams. Raises OSError,
        FFmpegError or EgressError."""

    def write(self, packet: Packet) -> None: ...

    def close(self) -> None:
        """Ends the stream as the protocol requires. Raises like write()."""

    def abandon(self) -> None:
        """Releases a connection that failed. Raises nothing."""

    def interrupt(self) -> None:
        """Makes any waiting call fail. Call it from any thread."""


class RtmpConnection:
    """FLV over RTMP(S), to an address that has been checked."""

    def __init__(self, url: str, formats: Sequence[StreamFormat], networks: Sequence[Network] = ()) -> None:
        self._url = parse_rtmp(url)
        self._formats = formats
        self._networks = networks
        self._interrupted = threading.Event()
        self._socket: socket.socket | None = None
        """The socket that was connected last."""
        self._wire: Wire | None = None
        self._publisher: Publisher | None = None
        self._tags: FlvTags | None = None
        self._muxer: Muxer | None = None

    def open(self) -> None:
        # The buffers of both kernels fill before a peer that stopped reading is noticed: ours is kept small.
        buffer_bytes = max(_MIN_BUFFER_BYTES, round(sum(f.kbps for f in self._formats) * 125 * _BUFFER_S))
        found = _allowed(self._url.host, self._url.port, self._networks)
        self._publisher = self._published(found, buffer_bytes)
        self._tags = FlvTags(self._publisher)
        self._muxer = Muxer(self._tags, Container.FLV, self._formats, _RTMP_OPTIONS, offset_ns=_OFFSET_NS)
        self._muxer.open()

    def _published(self, found: Sequence[AddrInfo], buffer_bytes: int) -> Publisher:
        """Returns a publisher whose stream the server accepts. Opens as many connections as a login takes."""
        query = ""
        for _ in range(_MAX_LOGINS):
            self._wire = Wire(self._dial(found, buffer_bytes), STALL_S)
            publisher = Publisher(self._wire, self._url, query)
            try:
                publisher.open()
            except NeedsLogin as needed:
                query = needed.query
                self._wire.close()
            else:
                return publisher
        raise RtmpRefused

    def _dial(self, found: Sequence[AddrInfo], buffer_bytes: int) -> socket.socket:
        """Connects to the first address that answers."""
        problem: OSError = OSError(errno.EHOSTUNREACH, "no address")
        for each in found:
            try:
                return self._dial_one(each, buffer_bytes)
            except OSError as error:
                problem = error
                if error.errno not in _ADDRESS_ERRORS or self._interrupted.is_set():
                    break
        raise problem

    def _dial_one(self, to: AddrInfo, buffer_bytes: int) -> socket.socket:
        family, kind, protocol, _, address = to
        plain = self._socket = socket.socket(family, kind, protocol)
        try:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(STALL_S)
            if self._interrupted.is_set():
                raise InterruptedError
            plain.connect(address)
            return self._with_tls(plain) if self._url.scheme == "rtmps" else plain
        except TimeoutError:
            self._socket.close()
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
        except BaseException:
            self._socket.close()
            raise

    def _with_tls(self, plain: socket.socket) -> socket.socket:
        context = ssl.create_default_context()  # SSL_CERT_FILE names other authorities
        tls = self._socket = context.wrap_socket(
            plain, server_hostname=self._url.host, do_handshake_on_connect=False
        )
        tls.do_handshake()
        return tls

    def write(self, packet: Packet) -> None:
        assert self._muxer is not None
        self._muxer.write(packet)

    def close(self) -> None:
        if self._muxer is not None:
            self._muxer.close()
        if self._publisher is not None:
            self._publisher.close()
        if self._wire is not None:
            self._wire.hang_up(_HANG_UP_S)

    def abandon(self) -> None:
        if self._tags is not None:
            self._tags.closed = True
        if self._muxer is not None:
            self._muxer.abandon()
        if self._wire is not None:
            self._wire.close()

    def interrupt(self) -> None:
        self._interrupted.set()
        if self._socket is not None:
            with suppress(OSError):  # it is not connected yet, or closed
                # Shuts down the plain socket, as the other thread may be in the shutdown of TLS.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class SrtStream:
    """MPEG-TS over SRT."""

    def __init__(self, url: str, formats: Sequence[StreamFormat], networks: Sequence[Network] = ()) -> None:
        self._url = parse_srt(url)
        self._formats = formats
        self._networks = networks
        self._srt = SrtConnection(STALL_S)
        self._muxer: Muxer | None = None
        self._interrupted = threading.Event()

    def open(self) -> None:
        try:
            self._srt.connect(self._url, self._networks)
        except Denied as denied:
            raise _refused(denied) from None
        self._muxer = Muxer(self._srt, Container.TS, self._formats, _SRT_OPTIONS, offset_ns=_OFFSET_NS)
        self._muxer.open()

    def write(self, packet: Packet) -> None:
        assert self._muxer is not None
        self._muxer.write(packet)

    def close(self) -> None:
        if self._muxer is not None:
            self._muxer.close()
        self._srt.flush()
        self._interrupted.wait(_SRT_DRAIN_S)
        self._srt.close()

    def abandon(self) -> None:
        self._srt.closed = True
        if self._muxer is not None:
            self._muxer.abandon()
        self._srt.close()

    def interrupt(self) -> None:
        self._interrupted.set()
        self._srt.interrupt()


def connection(
    target: StreamTarget, formats: Sequence[StreamFormat], networks: Sequence[Network] = ()
) -> StreamConnection:
    """Returns an unopened connection, which leads to no address in `networks`. Raises EgressError for a URL
    that is not of a stream server, or whose protocol this host cannot speak."""
    if target.url.startswith("srt:"):
        return SrtStream(target.url, formats, networks)
    return RtmpConnection(target.url, formats, networks)


def _allowed(host: str, port: int, networks: Sequence[Network]) -> list[AddrInfo]:
    try:
        return resolve(host, port, networks, socket.SOCK_STREAM)
    except Denied as denied:
        raise _refused(denied) from None


def _refused(denied: Denied) -> EgressError:
    return EgressError(Code.PERMISSION_DENIED, denied.strerror or "", phase=Phase.STREAM)


def explain(error: OSError | FFmpegError, target: StreamTarget, *, was_connected: bool) -> str:
    """Describes what happened, with the URL in redacted form; never anything that FFmpeg took from the URL
    itself."""
    where = target.redacted
    if isinstance(error, SrtError | RtmpError):
        return f"{where}: {error.strerror}"
    if isinstance(error, socket.gaierror):
        return f"{where}: the host name cannot be resolved; check the URL"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{where}: its certificate is not trusted ({error.verify_message})"
    match error.errno:
        case errno.ECONNREFUSED:
            return f"{where}: nothing accepts connections there (refused); check host and port"
        case errno.ETIMEDOUT | errno.EAGAIN:
            return f"{where}: the server took no data for {STALL_S:g} s"
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return f"{where}: no route to the host"
        case errno.EPIPE | errno.ECONNRESET if was_connected:
            return f"{where}: the server closed the connection"
        case _ if not was_connected and target.url.startswith("rtmps:"):
            return (
                f"{where}: the server refused to take the stream, or speaks no TLS; "
                "check host, port, application and stream key"
            )
        case _ if not was_connected:
            return (
                f"{where}: the server refused to take the stream; check application and stream key, and that "
                "nobody else publishes with it"
            )
        case _:
            return f"{where}: the connection broke ({type(error).__name__} {error.errno})"
