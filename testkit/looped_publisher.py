"""Participants that cost little: many tracks whose media was encoded once and is sent in a loop.

So the cost of a room of fifty for its recorder can be measured on the machine that sends it. Packets are
spread over time, each track at its own phase; sequence numbers, RTP times and picture IDs continue over the
loop.
"""

import asyncio
import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from livekit.protocol import models
from livekit.protocol.rtc import AddTrackRequest, SimulcastCodec

from openegress.core.units import S
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Matrix, Picture, PictureSpec, Sound
from testkit.raw_connection import RawCodec, RawConnection, Section, is_video
from testkit.rtp_sender import payloads

LOOP_S = 2
"""Also the time between key frames: requests for one are not answered sooner."""
TICK_S = 0.002
"""Time between two looks at due packets: far less than between two packets of a track."""
OPUS_KBPS = 32
LATE_NS = 40_000_000
"""Two packets of sound: beyond that they come in bunches."""


@dataclass(frozen=True, slots=True)
class Loop:
    """Encoded frames, beginning with a key frame, which any number of tracks may share."""

    codec: RawCodec
    units: tuple[bytes, ...]
    per_s: int
    size: tuple[int, int] = (0, 0)

    @property
    def kbps(self) -> float:
        return sum(map(len, self.units)) * 8 * self.per_s / len(self.units) / 1000


def video_loop(codec: RawCodec, size: tuple[int, int], fps: int, kbps: int, *, busy: bool = True) -> Loop:
    picture = Picture(PictureSpec(*size, fps, COLOURS[0], busy=busy, matrix=Matrix.BT601))
    encoder = LiveEncoder(codec, *size, fps, kbps)
    units = tuple(encoder.encode(picture.draw(index), index).data for index in range(LOOP_S * fps))
    return Loop(codec, units, fps, size)


def opus_loop() -> Loop:
    """Packets of 20 ms at a constant rate."""
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = 48_000, "mono", "s16"
    context.bit_rate = OPUS_KBPS * 1000
    context.options = {"vbr": "off", "frame_duration": "20", "application": "voip"}
    sound, units = Sound(440.0), []
    for block in range(0, LOOP_S * 100, 2):
        samples = np.frombuffer(sound.block(block) + sound.block(block + 1), "<i2")
        frame = av.AudioFrame.from_ndarray(samples[np.newaxis].copy(), "s16", "mono")
        frame.sample_rate = 48_000
        units += [bytes(packet) for packet in context.encode(frame)]
    return Loop("opus", tuple(units), 50)


@dataclass(slots=True)
class Counts:
    """Counts of what was sent so far."""

    audio_frames: int = 0
    video_frames: int = 0
    packets: int = 0
    late_frames: int = 0
    """Frames sent more than LATE_NS after they were due: this process did not get its time."""


@dataclass(slots=True)
class _Track:
    connection: RawConnection
    section: Section
    loop: Loop
    index: int
    """The number of frames so far; it starts anywhere within the loop."""
    start_ns: int = 0
    """Unix time at which frame 0 would have been sent."""

    def due_ns(self) -> int:
        return self.start_ns + self.index * S // self.loop.per_s

    def send(self) -> int:
        """Returns the number of packets."""
        loop, index = self.loop, self.index
        parts = payloads(loop.codec, loop.units[index % len(loop.units)], picture_id=index)
        packets = self.connection.send(self.section, parts, self.due_ns())
        self.index += 1
        return packets


class LoopedPublisher:
    """One participant: any number of tracks over one connection. `play` sends for several of them."""

    def __init__(self, url: str, identity: str) -> None:
        self._connection = RawConnection(url, identity)
        self.tracks: list[_Track] = []

    async def join(self, token: str, loops: Sequence[Loop]) -> None:
        """Publishes a track for each of `loops`; `token` has the grants of `send_only`."""
        await self._connection.open(token)
        for number, loop in enumerate(loops):
            section = self._connection.add_section(loop.codec)
            self.tracks.append(_Track(self._connection, section, loop, 0))
            await self._connection.announce(_request(section, loop, f"track {number}"))
        await self._connection.negotiate()

    async def leave(self) -> None:
        """Idempotent. Raises the error that ended the connection early."""
        await self._connection.close()


def _request(section: Section, loop: Loop, name: str) -> AddTrackRequest:
    video, (width, height) = is_video(loop.codec), loop.size
    layer = models.VideoLayer(quality=models.VideoQuality.HIGH, width=width, height=height)
    return AddTrackRequest(
        cid=section.cid,
        name=name,
        type=models.TrackType.VIDEO if video else models.TrackType.AUDIO,
        source=models.TrackSource.CAMERA if video else models.TrackSource.MICROPHONE,
        width=width,
        height=height,
        layers=[layer] if video else [],
        simulcast_codecs=[SimulcastCodec(codec=loop.codec, cid=section.cid)],
        disable_red=True,
    )


async def play(publishers: Sequence[LoopedPublisher], counts: Counts) -> None:
    """Sends the tracks of all, until cancelled."""
    tracks = [track for publisher in publishers for track in publisher.tracks]
    now_ns = time.time_ns()
    for kind in (True, False):
        alike = [track for track in tracks if is_video(track.loop.codec) is kind]
        for number, track in enumerate(alike):
            # Key frames are spread over the loop, and the packets of a frame over a frame's time.
            track.index = number * len(track.loop.units) // len(alike)
            phase_ns = number * S // (track.loop.per_s * len(alike))
            track.start_ns = now_ns + phase_ns - track.index * S // track.loop.per_s
    queue = [(track.due_ns(), number, track) for number, track in enumerate(tracks)]
    heapq.heapify(queue)
    while True:
        now_ns = time.time_ns()
        while queue[0][0] <= now_ns:
            due_ns, number, track = queue[0]
            counts.late_frames += now_ns - due_ns > LATE_NS
            counts.packets += track.send()
            if is_video(track.loop.codec):
                counts.video_frames += 1
            else:
                counts.audio_frames += 1
            heapq.heapreplace(queue, (track.due_ns(), number, track))
        await asyncio.sleep(TICK_S)
