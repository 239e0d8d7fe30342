"""Reports when the picture of a display changes, by one DAMAGE object on its root window.

DAMAGE extension 1.1 (damageproto). Each drawing operation is reported by itself (raw rectangles), so nothing
has to be rearmed and no change is missed: drawings from before an event was read are in the framebuffer, and
later ones cause another event.
"""

import struct
import time
from dataclasses import dataclass

from openegress.source.web.x11 import QUERY_EXTENSION, XConnection, XError

QUERY_VERSION, CREATE = 0, 1
RAW_RECTANGLES = 0
TIMESTAMP_OFFSET = 12
"""Offset in a DamageNotify event of the server's time in milliseconds, by the monotonic clock (Xvfb on
Linux)."""
AREA_TOP_OFFSET = 18
"""Offset of y in a DamageNotify event: the rectangle (x, y, width, height) begins at 16."""
OLDEST_MS = 1000
"""Limit for the age of a time stamp; an older one is from another clock."""


@dataclass(frozen=True, slots=True)
class Drawn:
    rows: list[tuple[int, int]]
    """(top, number) of the rows that were drawn on, for each drawing operation."""
    at_ns: int
    """Time of the last operation on the monotonic clock; this process may learn of it much later."""


def drawn_ns(timestamp_ms: int, now_ns: int) -> int:
    """Converts the server's time, which wraps at 32 bits and has no fractions of a millisecond."""
    age_ms = (now_ns // 1_000_000 - timestamp_ms) % 2**32
    if age_ms > OLDEST_MS:
        return now_ns
    return min(now_ns, (now_ns // 1_000_000 - age_ms) * 1_000_000 + 500_000)


class Damage:
    """The changes of one display. Poll it for reading (it has a fileno), then call drain(). Raises XError
    when the display is gone."""

    def __init__(self, number: int, cookie: bytes) -> None:
        self._connection = XConnection(number, cookie)
        try:
            name = b"DAMAGE"
            reply = self._connection.call(
                struct.pack("<BxHHxx", QUERY_EXTENSION, 2 + (len(name) + 3) // 4, len(name)) + name + b"\0\0"
            )
            present, opcode, self._event = reply[8], reply[9], reply[10]
            if not present:
                raise XError("the display has no DAMAGE extension")
            self._connection.call(struct.pack("<BBHII", opcode, QUERY_VERSION, 3, 1, 1))
            create = struct.pack(
                "<BBHIIBxxx",
                opcode,
                CREATE,
                4,
                self._connection.id_base,
                self._connection.root,
                RAW_RECTANGLES,
            )
            self._connection.send(create)
            self._connection.sync()
        except BaseException:
            self._connection.close()
            raise

    def fileno(self) -> int:
        return self._connection.fileno()

    def drain(self) -> Drawn | None:
        """Everything drawn since the last call; None: nothing was."""
        return self._drawn(self._connection.receive())

    def settled(self) -> Drawn | None:
        """Like drain(), including operations that had begun when it was called."""
        return self._drawn(self._connection.settled())

    def ask(self) -> None:
        """Asks the display to answer; drain() reads the answer."""
        self._connection.ask()

    @property
    def asked_s(self) -> float | None:
        """Monotonic time of the request that the display has not answered; None: all are answered."""
        return self._connection.asked_s

    def _drawn(self, messages: list[bytes]) -> Drawn | None:
        events = [event for event in messages if event[0] & 0x7F == self._event]
        if not events:
            return None
        (timestamp_ms,) = struct.unpack_from("<I", events[-1], TIMESTAMP_OFFSET)
        at_ns = drawn_ns(timestamp_ms, time.monotonic_ns())
        return Drawn([struct.unpack_from("<hxxH", event, AREA_TOP_OFFSET) for event in events], at_ns)

    def close(self) -> None:
        self._connection.close()
