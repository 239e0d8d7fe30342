"""A connection to a stream server: RTMP(S) or SRT, with the words for what goes wrong on it."""

import errno
import socket
import ssl
import threading
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from av.error import FFmpegError

from openegress.core.codecs import Container
from openegress.core.plan import StreamTarget
from openegress.core.srt_url import parse as parse_srt
from openegress.media import NS, Packet, StreamFormat
from openegress.media.avio import Avio, AvioError, Interrupt
from openegress.media.muxer import Muxer
from openegress.media.srt import SrtConnection, SrtError

STALL_S = 5.0
"""A peer that takes no byte for this long is stuck: live servers read at once."""

_BUFFER_S = 1.0
"""Of media at the asked rate in the kernel's send buffer: enough for any round trip."""
_MIN_BUFFER_BYTES = 65_536

_OFFSET_NS = NS // 5
"""FLV and MPEG-TS know no negative times, and encoders begin a little before media time zero."""

_SRT_DRAIN_S = 1.0
"""At the end, for what the receiver holds back by its latency (120 ms unless asked otherwise)."""

_RTMP_OPTIONS = {"flush_packets": "1", "flvflags": "no_duration_filesize"}
_SRT_OPTIONS = {"flush_packets": "1"}


class Connection(Protocol):
    """Opened in its constructor's caller's thread, which alone writes and closes it."""

    def open(self) -> None:
        """Connects and announces the streams. Raises OSError, FFmpegError or EgressError."""

    def write(self, packet: Packet) -> None: ...

    def close(self) -> None:
        """Ends the stream as the protocol says. Raises as write()."""

    def abandon(self) -> None:
        """Lets go of a connection that failed. Raises nothing."""

    def interrupt(self) -> None:
        """From any thread: whatever it waits for, fails."""


class RtmpConnection:
    """RTMP or RTMPS by FFmpeg."""

    def __init__(self, url: str, formats: Sequence[StreamFormat]) -> None:
        self._url = url
        self._formats = formats
        self._interrupt = Interrupt()
        self._avio: Avio | None = None
        self._muxer: Muxer | None = None

    def open(self) -> None:
        # FFmpeg says "Input/output error" for a name that does not exist as for a refusal: ask first.
        parts = urlsplit(self._url)
        socket.getaddrinfo(parts.hostname, parts.port or 1935, type=socket.SOCK_STREAM)
        # The buffers of both kernels fill before a peer that stopped reading is noticed: ours is kept small.
        buffer_bytes = max(_MIN_BUFFER_BYTES, round(sum(f.kbps for f in self._formats) * 125 * _BUFFER_S))
        options = {"rw_timeout": str(round(STALL_S * 1e6)), "send_buffer_size": str(buffer_bytes)}
        if parts.scheme == "rtmps":
            # FFmpeg trusts everybody unless it is told whom; SSL_CERT_FILE names other authorities.
            options |= {"tls_verify": "1", "ca_file": ssl.get_default_verify_paths().cafile or ""}
        self._avio = Avio(self._url, options, self._interrupt)
        self._muxer = Muxer(self._avio, Container.FLV, self._formats, _RTMP_OPTIONS, offset_ns=_OFFSET_NS)
        self._muxer.open()

    def write(self, packet: Packet) -> None:
        assert self._muxer is not None
        self._muxer.write(packet)

    def close(self) -> None:
        if self._muxer is not None:
            self._muxer.close()
        if self._avio is not None:
            self._avio.close()

    def abandon(self) -> None:
        self._interrupt.set()
        if self._avio is not None:
            self._avio.closed = True
        if self._muxer is not None:
            self._muxer.abandon()
        if self._avio is not None:
            try:
                self._avio.close()
            except AvioError:
                # The failure that led here has been told.
                pass

    def interrupt(self) -> None:
        self._interrupt.set()


class SrtStream:
    """MPEG-TS over SRT."""

    def __init__(self, url: str, formats: Sequence[StreamFormat]) -> None:
        self._url = parse_srt(url)
        self._formats = formats
        self._srt = SrtConnection(STALL_S)
        self._muxer: Muxer | None = None
        self._interrupted = threading.Event()

    def open(self) -> None:
        self._srt.connect(self._url)
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


def connection(target: StreamTarget, formats: Sequence[StreamFormat]) -> Connection:
    """Not yet opened. Raises EgressError when the URL is none of a stream server, or this host cannot speak
    its protocol."""
    if target.url.startswith("srt:"):
        return SrtStream(target.url, formats)
    return RtmpConnection(target.url, formats)


def explain(error: OSError | FFmpegError, target: StreamTarget, *, was_connected: bool) -> str:
    """What happened, by the URL's redacted form; never anything FFmpeg took from the URL itself."""
    where = target.redacted
    if isinstance(error, SrtError):
        return f"{where}: {error.strerror}"
    if isinstance(error, socket.gaierror):
        return f"{where}: the host name cannot be resolved; check the URL"
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
                f"{where}: the server refused to take the stream, or its certificate is not to be trusted; "
                "check host, application and stream key"
            )
        case _ if not was_connected:
            return (
                f"{where}: the server refused to take the stream; check application and stream key, and that "
                "nobody else publishes with it"
            )
        case _:
            return f"{where}: the connection broke ({type(error).__name__} {error.errno})"
