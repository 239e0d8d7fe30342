"""RTP as a publisher sends it: access units to payloads, packets with their history, reports. No I/O.

H265 after RFC 7798, H264 after RFC 6184 (single NAL units and fragments; H265 aggregates too), VP8 after
RFC 7741, G.711 after RFC 3551, Opus after RFC 7587.
"""

import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from openegress.core.units import S
from openegress.room.rtp.rtcp import (
    GENERIC_NACK,
    NTP_UNIX_OFFSET_S,
    PAYLOAD_FEEDBACK,
    PICTURE_LOSS,
    SENDER_REPORT,
    TRANSPORT_FEEDBACK,
)

MAX_PAYLOAD_BYTES = 1100
HISTORY_PACKETS = 1024
AUDIO_LEVEL = 1
"""The number of its header extension (RFC 8285)."""


def nal_units(unit: bytes) -> list[bytes]:
    """The NAL units of an Annex B access unit. A zero before a start code belongs to that."""
    return [each for each in (part.rstrip(b"\0") for part in unit.split(b"\0\0\1")) if each]


def payloads(codec: str, unit: bytes, *, aggregate: bool = True, picture_id: int = 0) -> list[bytes]:
    """The RTP payloads of an access unit or of a packet of sound.

    `aggregate`: small H265 units share a packet, as from a browser; else each has its own, as from GStreamer.
    `picture_id` of VP8 rises by one with each picture.
    """
    match codec:
        case "h265":
            nals = nal_units(unit)
            if aggregate:
                nals = list(_aggregated(nals))
            return [each for nal in nals for each in _fragments(nal, 2, _h265_header)]
        case "h264":
            return [each for nal in nal_units(unit) for each in _fragments(nal, 1, _h264_header)]
        case "vp8":
            # X; I: a picture ID of 15 bits (RFC 7741 section 4.2). S, in the first: a partition starts.
            rest = bytes((0x80, 0x80, 0x80 | picture_id >> 8 & 0x7F, picture_id & 0xFF))
            first = bytes((0x90,)) + rest[1:]
            starts = range(0, len(unit), MAX_PAYLOAD_BYTES)
            return [(rest if start else first) + unit[start : start + MAX_PAYLOAD_BYTES] for start in starts]
        case _:
            return [unit]


def _aggregated(nals: list[bytes]) -> Iterator[bytes]:
    """Runs of units that fit into one packet as an aggregation packet (RFC 7798 section 4.4.2)."""
    run: list[bytes] = []
    for nal in [*nals, b""]:
        size = 2 + sum(2 + len(each) for each in [*run, nal])
        if run and (not nal or size > MAX_PAYLOAD_BYTES):
            body = b"".join(len(each).to_bytes(2) + each for each in run)
            yield bytes((48 << 1, 1)) + body if len(run) > 1 else run[0]
            run = []
        run.append(nal)


def _fragments(
    nal: bytes, header_bytes: int, header: Callable[[bytes, bool, bool], bytes]
) -> Iterator[bytes]:
    if len(nal) <= MAX_PAYLOAD_BYTES:
        yield nal
        return
    body = nal[header_bytes:]
    for start in range(0, len(body), MAX_PAYLOAD_BYTES):
        end = start + MAX_PAYLOAD_BYTES
        yield header(nal, start == 0, end >= len(body)) + body[start:end]


def _h265_header(nal: bytes, first: bool, last: bool) -> bytes:
    """Payload header of type 49 and the FU header (RFC 7798 section 4.4.3)."""
    return bytes((nal[0] & 0x81 | 49 << 1, nal[1], first << 7 | last << 6 | nal[0] >> 1 & 0x3F))


def _h264_header(nal: bytes, first: bool, last: bool) -> bytes:
    """FU indicator of type 28 and the FU header (RFC 6184 section 5.8)."""
    return bytes((nal[0] & 0xE0 | 28, first << 7 | last << 6 | nal[0] & 0x1F))


@dataclass(slots=True)
class Wants:
    """What a receiver requested."""

    key_frame: bool = False
    sequences: tuple[int, ...] = ()


def feedback(data: bytes, ssrc: int) -> Wants:
    """What a compound RTCP packet requests from the sender of `ssrc` (RFC 4585)."""
    wants, position = Wants(), 0
    while position + 12 <= len(data):
        first, kind, words = struct.unpack_from("!BBH", data, position)
        end = position + 4 + 4 * words
        about = (kind, first & 0x1F) if struct.unpack_from("!I", data, position + 8)[0] == ssrc else None
        if about == (PAYLOAD_FEEDBACK, PICTURE_LOSS):
            wants.key_frame = True
        elif about == (TRANSPORT_FEEDBACK, GENERIC_NACK):
            for base, mask in struct.iter_unpack("!HH", data[position + 12 : end]):
                following = (base + 1 + bit for bit in range(16) if mask >> bit & 1)
                wants.sequences += (base, *(each & 0xFFFF for each in following))
        position = end
    return wants


class RtpSender:
    """One SSRC. `at_ns` is unix time: the RTP clock runs on it, and reports say so."""

    def __init__(self, payload_type: int, clock_rate: int) -> None:
        self.ssrc = random.getrandbits(31) + 1
        self.level: int | None = None
        """How far the sound is below the loudest, in dB, as its packets say (RFC 6464), whatever they
        contain."""
        self.reports_off_s = 0.0
        """The difference between the wall clock of its reports and the one that stamps its packets."""
        self._payload_type = payload_type
        self._clock_rate = clock_rate
        self._sequence = random.getrandbits(15)
        self._offset = random.getrandbits(32)
        self._packets = self._octets = 0
        self._history: dict[int, bytes] = {}

    def packets(self, payloads: list[bytes], at_ns: int) -> list[bytes]:
        """The packets of one frame, the last one marked."""
        made = []
        for index, payload in enumerate(payloads, 1):
            marker = 0x80 if index == len(payloads) else 0
            head = struct.pack(
                "!BBHII",
                0x80 if self.level is None else 0x90,
                marker | self._payload_type,
                self._sequence,
                self._timestamp(at_ns),
                self.ssrc,
            )
            if self.level is not None:
                head += struct.pack("!HHBBxx", 0xBEDE, 1, AUDIO_LEVEL << 4, self.level)
            self._history[self._sequence] = head + payload
            self._history.pop(self._sequence - HISTORY_PACKETS & 0xFFFF, None)
            self._sequence = self._sequence + 1 & 0xFFFF
            self._packets += 1
            self._octets += len(payload)
            made.append(head + payload)
        return made

    def skip(self, count: int) -> None:
        """Continues as if this many packets had been lost on the way to the server."""
        self._sequence = self._sequence + count & 0xFFFF

    def repeated(self, sequences: tuple[int, ...]) -> list[bytes]:
        return [self._history[each] for each in sequences if each in self._history]

    def report(self) -> bytes:
        """A sender report of now (RFC 3550 section 6.4.1)."""
        now_ns = time.time_ns()
        seconds, rest_ns = divmod(now_ns + round(self.reports_off_s * S), S)
        return struct.pack(
            "!BBHIIIIII",
            0x80,
            SENDER_REPORT,
            6,
            self.ssrc,
            seconds + NTP_UNIX_OFFSET_S,
            (rest_ns << 32) // S,
            self._timestamp(now_ns),
            self._packets & 0xFFFFFFFF,
            self._octets & 0xFFFFFFFF,
        )

    def _timestamp(self, at_ns: int) -> int:
        return self._offset + at_ns * self._clock_rate // S & 0xFFFFFFFF
