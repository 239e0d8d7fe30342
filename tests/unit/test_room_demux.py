"""What goes back to the server of what comes in."""

import struct
import time

import pytest

from openegress.core.codecs import MediaKind
from openegress.core.units import MS, S
from openegress.room import TrackKey, TrackSource
from openegress.room.demux import Demux
from openegress.room.receiver import TrackReceiver
from openegress.room.rtp.packets import HEADER
from openegress.room.rtp.rtcp import PAYLOAD_FEEDBACK, RECEIVER_REPORT, SENDER_REPORT
from openegress.room.signalling.sdp import Encoding, MediaStream, PayloadType
from openegress.room.sync.participant import RoomSync

SSRC = 7
TYPES = {
    96: PayloadType(96, Encoding.VP8, 90_000, 1, None, ()),
    111: PayloadType(111, Encoding.OPUS, 48_000, 2, None, ()),
}
DELAY_OFFSET = 28
"""Of DLSR in a receiver report of one block (RFC 3550 section 6.4.2)."""


def nothing(*_: object) -> None:
    pass


class Outgoing:
    """Implements demux.DemuxTransport."""

    def __init__(self, *, notes_arrivals: bool = True) -> None:
        self.sent: list[bytes] = []
        self.notes_arrivals = notes_arrivals

    def send_rtcp(self, packet: bytes) -> None:
        self.sent.append(packet)

    def drain(self) -> None:
        pass


async def test_the_time_that_a_report_waited_in_the_socket_does_not_count_as_the_paths() -> None:
    """The server takes DLSR off the time from its report to ours, and does not hear requests that come within
    two round trips."""
    demux = Demux(nothing, nothing, nothing)
    outgoing = Outgoing()
    demux.connect(outgoing)
    key = TrackKey("alice", MediaKind.AUDIO, TrackSource.MICROPHONE, "voice")
    receiver = TrackReceiver("TR_1", key, nothing, demux, RoomSync(), 0)
    demux.map([MediaStream(SSRC, None, "TR_1")], TYPES, {"TR_1": receiver})
    arrived_ns = time.monotonic_ns() - 90 * MS
    demux.rtp(HEADER.pack(0x80, 111, 1, 960, SSRC) + b"voice", arrived_ns)
    demux.rtcp(struct.pack("!BBH6I", 0x80, SENDER_REPORT, 6, SSRC, 1, 2, 3, 4, 5), arrived_ns)
    demux.tick()
    demux.disconnect()
    (report,) = [each for each in outgoing.sent if each[1] == RECEIVER_REPORT]
    (delay,) = struct.unpack_from("!I", report, DELAY_OFFSET)
    assert 90 * MS <= delay * S // 65536 + MS < S


@pytest.mark.parametrize(
    ("notes_arrivals", "queue_ms", "reported"),
    [(True, 200, True), (True, 20, False), (False, 200, False)],
    ids=["a bottleneck", "losses without a queue", "arrivals that are those of reading"],
)
async def test_a_narrow_path_is_reported(notes_arrivals: bool, queue_ms: int, reported: bool) -> None:
    """Packets that are read all at once, of which every tenth is lost as soon as a queue stands."""
    demux = Demux(nothing, nothing, nothing)
    outgoing = Outgoing(notes_arrivals=notes_arrivals)
    demux.connect(outgoing)
    key = TrackKey("alice", MediaKind.VIDEO, TrackSource.CAMERA, "camera")
    receiver = TrackReceiver("TR_1", key, nothing, demux, RoomSync(), 0)
    demux.map([MediaStream(SSRC, None, "TR_1")], TYPES, {"TR_1": receiver})
    began_ns = time.monotonic_ns() - 10 * S
    for number in range(500):
        sent_ms = 20 * number
        if sent_ms > 500 and number % 10 == 5:
            continue
        sent = sent_ms * (1 << 18) // 1000
        head = HEADER.pack(0x90, 96, number, 90 * sent_ms, SSRC) + b"\xbe\xde\0\1\x32" + sent.to_bytes(3)
        waited_ms = min(queue_ms, sent_ms // 5)
        demux.rtp(head + bytes(1000), began_ns + (sent_ms + waited_ms) * MS)
    demux.disconnect()
    estimates = [each for each in outgoing.sent if each[1] == PAYLOAD_FEEDBACK and each[12:16] == b"REMB"]
    assert bool(estimates) is reported
    if reported:
        (rate, ssrc) = struct.unpack_from("!II", estimates[-1], len(estimates[-1]) - 8)
        kbps = ((rate & 0x3FFFF) << (rate >> 18 & 0x3F)) / 1000
        assert ssrc == SSRC
        assert 0.8 * 0.85 < kbps / (50 * 0.9 * 1020 * 8 / 1000) < 0.9
