"""Tells when the picture of a display changed: one DAMAGE object on its root window.

DAMAGE extension 1.1 (damageproto). Each drawing operation is reported by itself (raw rectangles), so nothing
has to be rearmed and no change is missed: what was drawn before an event was read is in the framebuffer, and
what is drawn later makes another event.
"""

import struct

from openegress.source.web.x11 import QUERY_EXTENSION, XConnection, XError

QUERY_VERSION, CREATE = 0, 1
RAW_RECTANGLES = 0
AREA_TOP_OFFSET = 18
"""In a DamageNotify event: there is a rectangle of x, y, width, height from 16 on."""


class Damage:
    """Poll it for reading (it has a fileno), then drain(). Raises XError when the display is gone."""

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

    def drain(self) -> list[tuple[int, int]]:
        """Reads what is there: (top, number) of the rows that were drawn on, for each drawing operation since
        the last call."""
        return [
            struct.unpack_from("<hxxH", event, AREA_TOP_OFFSET)
            for event in self._connection.receive()
            if event[0] & 0x7F == self._event
        ]

    def close(self) -> None:
        self._connection.close()
