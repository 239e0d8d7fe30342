"""A minimal X11 client, with only the part of the protocol that filming one window needs.

X Window System Protocol, version 11; little-endian. It blocks: use it in threads, never on the event loop.
"""

import select
import socket
import struct
import time
from collections.abc import Callable

from openegress.source.web.display import COOKIE_NAME
from openegress.source.web.display_number import SOCKETS

QUERY_WINDOW_ATTRIBUTES, CHANGE_WINDOW_ATTRIBUTES, CONFIGURE_WINDOW = 3, 2, 12
QUERY_TREE, GET_INPUT_FOCUS, QUERY_EXTENSION = 15, 43, 98
EVENT_MASK_BIT = 1 << 11
SUBSTRUCTURE_NOTIFY = 1 << 19
VIEWABLE = 2
_SYNC = struct.pack("<BxH", GET_INPUT_FOCUS, 1)
REPLY_TIMEOUT_S = 5.0
"""Time-out for a reply: the server answers within microseconds, unless it was stopped or killed."""
SETTLED_TIMEOUT_S = 0.2
"""Time after which filming continues without an answer."""


class XError(Exception):
    """The server refused a request, is gone, or does not answer."""


class XSilent(XError):
    """The server did not answer in time."""


class XRefused(XError):
    """A protocol error: the server did not carry out this request, but the connection is still usable."""


class XConnection:
    """One connection to a display. `events` holds the events that arrived before an awaited reply."""

    def __init__(self, number: int, cookie: bytes) -> None:
        self.events: list[bytes] = []
        self.asked_s: float | None = None
        """Monotonic time of the oldest request without a reply."""
        self._requests = 0
        self._buffer = b""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(REPLY_TIMEOUT_S)
        try:
            path = SOCKETS / f"X{number}"
            self._socket.connect(str(path) if path.exists() else f"\0{path}")
            self.id_base, self.root = self._set_up(cookie)
        except OSError as e:
            self._socket.close()
            raise XError(f"no connection to display :{number}: {e}") from e
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        """Sends one request."""
        self._requests += 1
        try:
            self._socket.sendall(request)
        except OSError as e:
            raise XError(f"the display is gone: {e}") from e

    def call(self, request: bytes) -> bytes:
        """Sends a request, and returns its reply; events that arrive before it are kept."""
        self.send(request)
        return self._reply()

    def _reply(self) -> bytes:
        """Reads the reply to the last request."""
        while True:
            message = self._message()
            if message[0] != 1:
                self.events.append(message)
            elif struct.unpack_from("<H", message, 2)[0] == self._requests & 0xFFFF:
                return message

    def sync(self) -> None:
        """Returns when the server has carried out all earlier requests."""
        self.call(_SYNC)

    def ask(self) -> None:
        """Asks the server to answer; receive() reads the reply."""
        if self.asked_s is None:
            self.asked_s = time.monotonic()
            self.send(_SYNC)

    def receive(self) -> list[bytes]:
        """All pending events. Blocks if there are none, so poll first. Raises XError when the connection
        ends."""
        self._take(self._message())
        return self._taken()

    def settled(self) -> list[bytes]:
        """All events of operations that the server had begun when it was asked. If it does not answer soon,
        only the events that have arrived."""
        if self.asked_s is None:
            self.ask()
            self._socket.settimeout(SETTLED_TIMEOUT_S)
            try:
                while self.asked_s is not None:
                    self._take(self._message())
            except XSilent:
                pass
            finally:
                self._socket.settimeout(REPLY_TIMEOUT_S)
        return self._taken()

    def _take(self, message: bytes) -> None:
        if message[0] != 1:
            self.events.append(message)
        else:
            self.asked_s = None

    def _taken(self) -> list[bytes]:
        while len(self._buffer) >= 32:
            self._take(self._message())
        events, self.events = self.events, []
        return events

    def resize_windows(self, width: int, height: int, timeout_s: float) -> None:
        """Resizes every visible window to exactly this frame, from its corner; waits for the first one to be
        shown.

        Chromium keeps its window one pixel smaller than the display, and never below some 500 pixels. There
        is no window manager, so the server lets a client resize a window that is not its own.
        """
        self.send(
            struct.pack(
                "<BxHIII", CHANGE_WINDOW_ATTRIBUTES, 4, self.root, EVENT_MASK_BIT, SUBSTRUCTURE_NOTIFY
            )
        )
        deadline = time.monotonic() + timeout_s
        while not self._resize(width, height):
            if not select.select([self], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise XError(f"no window was shown within {timeout_s:.0f} s")
            self._skip_refused(self.receive)
        self._skip_refused(self.sync)

    def _resize(self, width: int, height: int) -> int:
        reply = self.call(struct.pack("<BxHI", QUERY_TREE, 2, self.root))
        (count,) = struct.unpack_from("<H", reply, 16)
        shown = 0
        for window in struct.unpack_from(f"<{count}I", reply, 32):
            try:
                attributes = self.call(struct.pack("<BxHI", QUERY_WINDOW_ATTRIBUTES, 2, window))
            except XRefused:
                continue  # closed since it was listed
            if attributes[26] == VIEWABLE:
                shown += 1
                self.send(
                    struct.pack("<BxHIHxxiiII", CONFIGURE_WINDOW, 7, window, 0b1111, 0, 0, width, height)
                )
        return shown

    def _skip_refused(self, action: Callable[[], object]) -> None:
        """Runs `action`, and ignores the error for a window that was closed before it is resized."""
        try:
            action()
        except XRefused:
            self.sync()

    def _set_up(self, cookie: bytes) -> tuple[int, int]:
        """Sets up the connection. Returns the base of our resource ids, and the root window."""
        name = COOKIE_NAME + bytes(-len(COOKIE_NAME) % 4)
        self._socket.sendall(
            struct.pack("<BxHHHHxx", 0x6C, 11, 0, len(COOKIE_NAME), len(cookie)) + name + cookie
        )
        head = self._read(8)
        body = self._read(struct.unpack_from("<H", head, 6)[0] * 4)
        if head[0] != 1:
            raise XError(f"the display refused us: {body[: head[1]].decode(errors='replace')}")
        (id_base,) = struct.unpack_from("<I", body, 4)
        (vendor_length,) = struct.unpack_from("<H", body, 16)
        format_count = body[21]
        (root,) = struct.unpack_from("<I", body, 32 + (vendor_length + 3 & ~3) + 8 * format_count)
        return id_base, root

    def _message(self) -> bytes:
        """Reads the next reply (whole) or event (32 bytes). Raises XRefused for errors of the protocol."""
        message = self._read(32)
        if message[0] == 0:
            raise XRefused(f"the display refused request {message[10]}: error {message[1]}")
        if message[0] == 1:
            message += self._read(struct.unpack_from("<I", message, 4)[0] * 4)
        return message

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = self._socket.recv(65536)
            except TimeoutError as e:
                raise XSilent(f"the display does not answer: {e}") from e
            except OSError as e:
                raise XError(f"the display does not answer: {e}") from e
            if not data:
                raise XError("the display is gone")
            self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data
