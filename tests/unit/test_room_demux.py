"""What goes back to the server of what comes in."""

import struct
import time

from openegress.core.codecs import MediaKind
from openegress.core.units import MS, S
from openegress.room import TrackKey, TrackSource
from openegress.room.demux import Demux
from openegress.room.receiver import TrackReceiver
from openegress.room.rtp.packets import HEADER
from openegress.room.rtp.rtcp import RECEIVER_REPORT, SENDER_REPORT
from openegress.room.signalling.sdp import Encoding, MediaStream, PayloadType
from openegress.room.sync.participant import RoomSync

SSRC = 7
TYPES = {111: PayloadType(111, Encoding.OPUS, 48_000, 2, None, ())}
DELAY_OFFSET = 28
"""Of DLSR in a receiver report of one block (RFC 3550 section 6.4.2)."""


def nothing(*_: object) -> None:
    pass


async def test_the_time_that_a_report_waited_in_the_socket_does_not_count_as_the_paths() -> None:
    """The server takes DLSR off the time from its report to ours, and does not hear requests that come within
    two round trips."""
    demux = Demux(nothing, nothing, nothing)
    sent: list[bytes] = []
    demux.connect(sent.append, nothing)
    key = TrackKey("alice", MediaKind.AUDIO, TrackSource.MICROPHONE, "voice")
    receiver = TrackReceiver("TR_1", key, nothing, demux, RoomSync(), 0)
    demux.map([MediaStream(SSRC, None, "TR_1")], TYPES, {"TR_1": receiver})
    arrived_ns = time.monotonic_ns() - 90 * MS
    demux.rtp(HEADER.pack(0x80, 111, 1, 960, SSRC) + b"voice", arrived_ns)
    demux.rtcp(struct.pack("!BBH6I", 0x80, SENDER_REPORT, 6, SSRC, 1, 2, 3, 4, 5), arrived_ns)
    demux.tick()
    demux.disconnect()
    (report,) = [each for each in sent if each[1] == RECEIVER_REPORT]
    (delay,) = struct.unpack_from("!I", report, DELAY_OFFSET)
    assert 90 * MS <= delay * S // 65536 + MS < S
