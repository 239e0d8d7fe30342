"""Writes markers among the media of HLS, which players report while they play: ID3 (ID3v2.4) in an event
message of fMP4 (ISO/IEC 23009-1 5.10.3.3; AOM, "Carriage of ID3 Timed Metadata in CMAF"). Pure."""

import struct

from openegress.core.marker import Marker
from openegress.core.units import MS
from openegress.media.movie import full_box

OWNER = "openegress.marker"
"""The description of our user text frame."""
SCHEME = "https://aomedia.org/emsg/ID3"
_UTF8 = b"\x03"
_TIMESCALE = 90_000


def event_message(marker: Marker, at_ns: int) -> bytes:
    """Builds the box. `at_ns`: the marker's time on the timeline of the media that follows the box."""
    at = at_ns * _TIMESCALE // 1_000_000_000
    number = marker.at_ns // MS & 0xFFFFFFFF
    told = struct.pack(">IQII", _TIMESCALE, at, 0, number)
    return full_box(b"emsg", 1, 0, told, SCHEME.encode() + b"\0\0", _tag(marker))


def _tag(marker: Marker) -> bytes:
    """Builds a tag with one frame, TXXX: OWNER and the marker's name."""
    body = _UTF8 + OWNER.encode() + b"\0" + marker.name.encode()
    frame = b"TXXX" + _syncsafe(len(body)) + bytes(2) + body
    return b"ID3\x04\x00\x00" + _syncsafe(len(frame)) + frame


def _syncsafe(size: int) -> bytes:
    """Writes a size as seven bits in each of four bytes (ID3v2.4 section 6.2)."""
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
