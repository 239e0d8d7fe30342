"""FFmpeg's network output (RTMP, RTMPS, SRT), called so that a slow peer blocks one thread and no other.

PyAV holds the interpreter's lock while it connects and while it ends a stream: for seconds, when a server
does not answer. So the byte stream is opened and written here, through ctypes, which gives the lock back
around every call; PyAV's muxer writes into it as into a file.

AVIOContext's layout is that of libavformat 59 to 62 (avio.h); another version is refused.
"""

import ctypes
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import av

_WRITE = 2
"""AVIO_FLAG_WRITE."""

_SUPPORTED_MAJORS = range(59, 63)


class _InterruptCB(ctypes.Structure):
    _fields_ = (("callback", ctypes.c_void_p), ("opaque", ctypes.c_void_p))


class _AVIOContext(ctypes.Structure):
    _fields_ = (
        ("av_class", ctypes.c_void_p),
        ("buffer", ctypes.c_void_p),
        ("buffer_size", ctypes.c_int),
        ("buf_ptr", ctypes.c_void_p),
        ("buf_end", ctypes.c_void_p),
        ("opaque", ctypes.c_void_p),
        ("read_packet", ctypes.c_void_p),
        ("write_packet", ctypes.c_void_p),
        ("seek", ctypes.c_void_p),
        ("pos", ctypes.c_int64),
        ("eof_reached", ctypes.c_int),
        ("error", ctypes.c_int),
    )


class Interrupt:
    """Makes FFmpeg stop waiting within 100 ms. To be called from any thread.

    FFmpeg asks a C function with one pointer whether to stop. libc's atoi is one: it reads the digit kept
    here, and needs no interpreter.
    """

    def __init__(self) -> None:
        self._digit = ctypes.create_string_buffer(b"0")
        self.struct = _InterruptCB(
            ctypes.cast(ctypes.CDLL(None).atoi, ctypes.c_void_p), ctypes.addressof(self._digit)
        )

    def set(self) -> None:
        self._digit[0] = b"1"

    @property
    def is_set(self) -> bool:
        return self._digit[0] == b"1"


class AvioError(OSError):
    """FFmpeg's error code and what it says about it; never the URL."""


class Avio:
    """One connection, for writing (media.muxer.ByteSink). Confined to one thread, but for its Interrupt."""

    def __init__(self, url: str, options: Mapping[str, str], interrupt: Interrupt) -> None:
        """Connects, with the protocol's `options`. Raises AvioError. Blocks until connected, refused or timed
        out (rw_timeout, microseconds) or interrupted."""
        format_library, util_library = _libraries()
        self._interrupt = interrupt  # FFmpeg keeps its address
        self._context = ctypes.POINTER(_AVIOContext)()
        self.closed = False
        dictionary = ctypes.c_void_p()
        for key, value in options.items():
            util_library.av_dict_set(ctypes.byref(dictionary), key.encode(), value.encode(), 0)
        try:
            result = format_library.avio_open2(
                ctypes.byref(self._context),
                url.encode(),
                _WRITE,
                ctypes.byref(interrupt.struct),
                ctypes.byref(dictionary),
            )
        finally:
            util_library.av_dict_free(ctypes.byref(dictionary))
        if result < 0:
            self.closed = True
            raise _error(result)

    def write(self, data: bytes) -> int:
        """Returns when the peer's window has taken all of it. Raises AvioError."""
        if self.closed:
            raise AvioError(0, "the connection is closed")
        library = _libraries()[0]
        library.avio_write(self._context, bytes(data), len(data))
        library.avio_flush(self._context)
        code = self._context.contents.error
        if code < 0:
            self.closed = True  # PyAV then leaves out the trailer
            raise _error(code)
        return len(data)

    def close(self) -> None:
        """Ends the connection: properly, however long that takes, or at once after an Interrupt. Idempotent.
        Raises AvioError."""
        self.closed = True
        if not self._context:
            return
        context, self._context = self._context, ctypes.POINTER(_AVIOContext)()
        result = _libraries()[0].avio_close(context)
        if result < 0:
            raise _error(result)


def _error(code: int) -> AvioError:
    text = ctypes.create_string_buffer(256)
    _libraries()[1].av_strerror(code, text, len(text))
    return AvioError(-code, text.value.decode(errors="replace"))


@cache
def _libraries() -> tuple[ctypes.CDLL, ctypes.CDLL]:
    """libavformat and libavutil as PyAV has loaded them."""
    major = av.library_versions["libavformat"][0]
    if major not in _SUPPORTED_MAJORS:
        raise RuntimeError(f"libavformat {major} is not known to openegress.media.avio")
    maps = Path("/proc/self/maps").read_text()
    found = re.findall(r"(/\S*/(libavformat|libavutil)\S*)$", maps, re.MULTILINE)
    loaded = {name: path for path, name in found}
    libavformat, libavutil = ctypes.CDLL(loaded["libavformat"]), ctypes.CDLL(loaded["libavutil"])
    libavformat.avio_open2.argtypes = (
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
    )
    libavformat.avio_write.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
    libavformat.avio_write.restype = None
    libavformat.avio_flush.argtypes = (ctypes.c_void_p,)
    libavformat.avio_flush.restype = None
    libavformat.avio_close.argtypes = (ctypes.c_void_p,)
    libavutil.av_dict_set.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
    libavutil.av_dict_free.argtypes = (ctypes.c_void_p,)
    libavutil.av_dict_free.restype = None
    libavutil.av_strerror.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t)
    libavformat.avformat_network_init()
    return libavformat, libavutil
