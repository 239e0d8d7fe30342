"""Sends by SRT as a caller (draft-sharabayko-srt), through the host's libsrt, because PyAV's FFmpeg has none.

Called through ctypes, so that waiting blocks only one thread: PyAV holds the interpreter lock while it
connects.
"""

import ctypes
import ctypes.util
import socket
from collections.abc import Sequence
from functools import cache

from openegress.core import reach
from openegress.core.errors import Code, EgressError, Fault, Phase
from openegress.core.networks import Network
from openegress.request.srt_url import SrtUrl

PAYLOAD_BYTES = 1316
"""Size of libsrt's live payload: seven packets of MPEG-TS."""

_RCVBUF, _SNDTIMEO, _SNDDATA, _CONNTIMEO, _PEERIDLETIMEO = 6, 13, 19, 36, 55
"""SRT_SOCKOPT from srt.h."""

_OPTIONS = {
    "latency": 23,
    "rcvlatency": 43,
    "peerlatency": 44,
    "pbkeylen": 27,
    "oheadbw": 25,
    "enforcedencryption": 53,
    "maxbw": 16,
    "inputbw": 24,
    "conntimeo": _CONNTIMEO,
    "snddropdelay": 32,
    "nakreport": 33,
    "retransmitalgo": 61,
    "lossmaxttl": 42,
    "kmrefreshrate": 51,
    "kmpreannounce": 52,
    "ipttl": 29,
    "iptos": 30,
    "passphrase": 26,
    "streamid": 46,
    "packetfilter": 60,
}
"""SRT_SOCKOPT from srt.h, by parameter of request.srt_url."""

_INT64 = ("maxbw", "inputbw")

_IDLE_MS = 5000
"""How long a peer may be silent before it counts as lost; libsrt peers send keep-alives every second."""

_HEARD_BYTES = 65_536
"""Size of the buffer for data from the peer, which nobody reads: libsrt would keep 12 MB. It needs room for
32 packets."""

_ECONNLOST, _ENOCONN = 2001, 2002

INSTALL = "install libsrt1.5-gnutls (Debian 12, Ubuntu 24.04) or srt"


class SrtError(OSError):
    """A failure as libsrt reports it; never contains the URL."""


class SrtConnection:
    """One connection, for writing MPEG-TS (media.muxer.ByteSink). Confined to one thread, except for
    interrupt()."""

    def __init__(self, timeout_s: float) -> None:
        self._library = _library()
        self._timeout_ms = round(timeout_s * 1000)
        self._socket = -1
        self._rest = b""
        self.closed = False

    def connect(self, url: SrtUrl, networks: Sequence[Network]) -> None:
        """Blocks until connected. Raises SrtError, socket.gaierror for an unknown host, and reach.Denied for
        a host in `networks`."""
        family, _, _, _, address = reach.resolve(url.host, url.port, networks, socket.SOCK_DGRAM)[0]
        number = self._library.srt_create_socket()
        if number < 0:
            raise self._error()
        self._socket = number
        for option, value in (
            (_SNDTIMEO, self._timeout_ms),
            (_CONNTIMEO, self._timeout_ms),
            (_PEERIDLETIMEO, _IDLE_MS),
            (_RCVBUF, _HEARD_BYTES),
        ):
            self._set_int(option, value)
        for key, number_asked in url.numbers.items():
            size = ctypes.c_int64 if key in _INT64 else ctypes.c_int
            self._set(_OPTIONS[key], bytes(size(number_asked)))
        for key, text in url.texts.items():
            self._set(_OPTIONS[key], text.encode())
        raw = _sockaddr(family, str(address[0]), int(address[1]))
        if self._library.srt_connect(self._socket, raw, len(raw)) < 0:
            error = self._error()
            reason = self._library.srt_getrejectreason(self._socket)
            if reason > 0:
                text = self._library.srt_rejectreason_str(reason).decode(errors="replace")
                error = SrtError(error.errno, f"{error.strerror} ({text})")
            raise error

    def write(self, data: bytes) -> int:
        """Sends `data`. Raises SrtError if the connection is lost."""
        if self.closed:
            raise SrtError(_ENOCONN, "the connection is closed")
        pending = self._rest + bytes(data)
        at = 0
        while len(pending) - at >= PAYLOAD_BYTES:
            self._send(pending[at : at + PAYLOAD_BYTES])
            at += PAYLOAD_BYTES
        self._rest = pending[at:]
        return len(data)

    def flush(self) -> None:
        """Sends a partial payload."""
        rest, self._rest = self._rest, b""
        if rest and not self.closed:
            self._send(rest)

    def unsent(self) -> int:
        """Number of payloads that the peer has not confirmed."""
        value = ctypes.c_int(0)
        size = ctypes.c_int(ctypes.sizeof(value))
        if self._library.srt_getsockflag(self._socket, _SNDDATA, ctypes.byref(value), ctypes.byref(size)) < 0:
            return 0
        return value.value

    def interrupt(self) -> None:
        """Makes any waiting call fail. Any thread may call it."""
        number = self._socket
        if number >= 0:
            self._library.srt_close(number)

    def close(self) -> None:
        """Closes the connection. Idempotent."""
        self.closed = True
        number, self._socket = self._socket, -1
        if number >= 0:
            self._library.srt_close(number)

    def _send(self, payload: bytes) -> None:
        if self._library.srt_send(self._socket, payload, len(payload)) < 0:
            self.closed = True
            raise self._error()

    def _set_int(self, option: int, value: int) -> None:
        self._set(option, bytes(ctypes.c_int(value)))

    def _set(self, option: int, value: bytes) -> None:
        if self._library.srt_setsockflag(self._socket, option, value, len(value)) < 0:
            raise self._error()

    def _error(self) -> SrtError:
        code = self._library.srt_getlasterror(None)
        return SrtError(code, self._library.srt_getlasterror_str().decode(errors="replace").strip(" ."))


def _sockaddr(family: int, host: str, port: int) -> bytes:
    """Builds a struct sockaddr_in or sockaddr_in6."""
    packed = socket.inet_pton(family, host)
    head = family.to_bytes(2, "little" if _IS_LITTLE else "big") + port.to_bytes(2, "big")
    if family == socket.AF_INET6:
        return head + bytes(4) + packed + bytes(4)
    return head + packed + bytes(8)


_IS_LITTLE = bytes(ctypes.c_uint16(1))[0] == 1


@cache
def find() -> str:
    """Finds the file name of the host's libsrt; "" if there is none. Starts programs."""
    names = (ctypes.util.find_library(name) for name in ("srt-gnutls", "srt-openssl", "srt"))
    return next(filter(None, names), "")


@cache
def _library() -> ctypes.CDLL:
    """Loads and starts the host's libsrt. It has its own threads, so it loads only when SRT is used."""
    name = find()
    if not name:
        raise EgressError(
            Code.FAILED_PRECONDITION,
            f"SRT needs the library libsrt on this host: {INSTALL}",
            fault=Fault.SERVICE,
            phase=Phase.STREAM,
        )
    library = ctypes.CDLL(name)
    library.srt_connect.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
    library.srt_send.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
    library.srt_setsockflag.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int)
    library.srt_getsockflag.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    library.srt_getlasterror.argtypes = (ctypes.c_void_p,)
    library.srt_getlasterror_str.restype = ctypes.c_char_p
    library.srt_rejectreason_str.restype = ctypes.c_char_p
    library.srt_setloglevel.argtypes = (ctypes.c_int,)
    library.srt_setloglevel(2)  # critical only: its lines name the peer, and go to stderr
    if library.srt_startup() < 0:
        raise EgressError(Code.INTERNAL, "libsrt did not start", fault=Fault.SERVICE, phase=Phase.STREAM)
    return library
