"""What a packet costs from the socket to the frame: CPU microseconds, without a room.

    python -m bench.packets
    python -m bench.packets --only video --once     one pass, for a profiler

SRTP packets lie in the socket's buffer, and a recorder's code then takes them: the socket read in batches,
SRTP, the track, its packets in order, frames on their time. Sending is not measured. A real room adds
wake-ups, a few hundred a second.
"""

import argparse
import asyncio
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pylibsrtp import Policy, Session

from openegress.core.codecs import MediaKind
from openegress.room import EncodedFrame, TrackKey, TrackSource
from openegress.room.demux import Demux
from openegress.room.receiver import TrackReceiver
from openegress.room.signalling.sdp import Encoding, MediaStream, PayloadType
from openegress.room.sync.participant import RoomSync
from openegress.room.transport.udp import BatchedUdp
from testkit.looped_publisher import Loop, opus_loop, video_loop
from testkit.rtp_sender import payloads

HEADER = struct.Struct("!BBHII")
BATCH = 24
"""As many as a track of 2.5 Mbit/s gathers in a pause of 0.1 s."""
SECONDS = 20
"""Seconds of media in a pass."""
PASSES = 5
TYPES = {
    108: PayloadType(108, Encoding.H264, 90_000, 1, 109, ()),
    111: PayloadType(111, Encoding.OPUS, 48_000, 2, None, ()),
}


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    loop: Loop
    number: int
    clock_rate: int


def rows() -> Iterator[Row]:
    yield Row("video, 2.5 Mbit/s", video_loop("h264", (1280, 720), 30, 2500), 108, 90_000)
    yield Row("sound, 50 packets a second", opus_loop(), 111, 48_000)


def packets(row: Row, session: Session, ssrc: int) -> list[bytes]:
    made: list[bytes] = []
    for index in range(SECONDS * row.loop.per_s):
        timestamp = index * row.clock_rate // row.loop.per_s
        parts = payloads(row.loop.codec, row.loop.units[index % len(row.loop.units)], picture_id=index)
        for number, part in enumerate(parts):
            marker = 0x80 if number == len(parts) - 1 else 0
            head = HEADER.pack(0x80, marker | row.number, len(made) & 0xFFFF, timestamp, ssrc)
            made.append(session.protect(head + part))
    return made


class Reader:
    """Implements udp.DatagramReader, as the ICE and media transports do together."""

    def __init__(self, session: Session, demux: Demux) -> None:
        self._session, self._demux = session, demux

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        pass

    def error_received(self, exc: Exception) -> None:
        raise exc

    def datagram_arrived(self, data: bytes, address: object, arrival_ns: int) -> None:
        self._demux.rtp(self._session.unprotect(data), arrival_ns)


async def measured(row: Row) -> tuple[float, int, int]:
    """Microseconds a packet, packets, frames."""
    key, ssrc = os.urandom(28), random.getrandbits(32)
    profile = Policy.SRTP_PROFILE_AEAD_AES_128_GCM
    ours = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND, srtp_profile=profile))
    theirs = Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile))
    frames: list[EncodedFrame] = []
    demux = Demux(lambda *_: None, lambda *_: None, lambda *_: None)
    kind = MediaKind.AUDIO if row.number == 111 else MediaKind.VIDEO
    source = TrackSource.MICROPHONE if kind is MediaKind.AUDIO else TrackSource.CAMERA
    key_of = TrackKey("ann", kind, source, "")
    receiver = TrackReceiver("TR_1", key_of, frames.append, demux, RoomSync(), 0)
    demux.map([MediaStream(ssrc, None, "TR_1")], TYPES, {"TR_1": receiver})
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
        each.setblocking(False)
    transport = BatchedUdp(sockets[0], Reader(ours, demux))
    await asyncio.sleep(0)
    sent = packets(row, theirs, ssrc)
    spent_ns = 0
    for start in range(0, len(sent), BATCH):
        for packet in sent[start : start + BATCH]:
            sockets[1].sendto(packet, sockets[0].getsockname())
        began_ns = time.thread_time_ns()
        transport.drain()
        spent_ns += time.thread_time_ns() - began_ns
    receiver.flush()
    transport.close()
    demux.disconnect()
    await asyncio.sleep(0)
    sockets[1].close()
    if receiver.packets != len(sent) or len(frames) != SECONDS * row.loop.per_s:
        raise SystemExit(f"{row.name}: {receiver.packets} of {len(sent)} packets, {len(frames)} frames")
    return spent_ns / len(sent) / 1000, len(sent), len(frames)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.packets")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--once", action="store_true", help="one pass")
    arguments = parser.parse_args()
    for row in rows():
        if arguments.only in row.name:
            passes = [asyncio.run(measured(row)) for _ in range(1 if arguments.once else PASSES)]
            us, count, frames = min(passes)
            sys.stdout.write(
                f"{row.name}: {us:.1f} microseconds a packet ({count} packets, {frames} frames)\n"
            )


if __name__ == "__main__":
    main()
