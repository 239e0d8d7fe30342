"""Sinks for a source under test: they keep what came in a form that tests can query."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from openegress.core.codecs import Container, MediaKind
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.muxer import Muxer
from testkit.pattern import read_counter
from testkit.probe import Rect, Tone, colour_of, crop, luma_of, tones_of


@dataclass(frozen=True, slots=True)
class Shown:
    pts_ns: int
    counter: int | None
    colour: tuple[float, float, float]
    """Mean of the picture's middle."""
    size: tuple[int, int]


@dataclass(slots=True)
class FrameCollector:
    """A media.FrameSink. `tile`: where to look for the pattern; None: the whole picture."""

    tile: Rect | None = None
    shown: list[Shown] = field(default_factory=list)
    audio_pts_ns: list[int] = field(default_factory=list)
    sample_rate: int = 0
    _blocks: list[bytes] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def video(self, frame: VideoFrame, pts_ns: int) -> None:
        luma = crop(luma_of(frame), self.tile)
        middle = Rect(frame.width * 3 // 8, frame.height * 3 // 8, frame.width // 4, frame.height // 8)
        shown = Shown(pts_ns, read_counter(luma), colour_of(frame, middle), (frame.width, frame.height))
        with self._changed:
            self.shown.append(shown)
            self._changed.notify_all()

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        with self._changed:
            self.sample_rate = sample_rate
            self.audio_pts_ns.append(pts_ns)
            self._blocks.append(samples)
            self._changed.notify_all()

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        """No test of frames pauses."""

    def wait_for(self, condition: Callable[["FrameCollector"], bool], timeout_s: float = 20.0) -> None:
        """Blocks until `condition` holds; call it in a thread. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), timeout_s):
                last = self.shown[-1] if self.shown else None
                raise TimeoutError(f"not within {timeout_s} s; {len(self.shown)} pictures, the last {last}")

    @property
    def counters(self) -> list[int]:
        return [shown.counter for shown in self.shown if shown.counter is not None]

    @property
    def samples(self) -> NDArray[np.float32]:
        """(2, n), -1 ... 1."""
        data = np.frombuffer(b"".join(self._blocks), "<i2").reshape(-1, 2)
        return (data.T / 32768).astype(np.float32)

    def is_moving(self) -> bool:
        """The last second of pictures shows at least half as many counters."""
        return len({shown.counter for shown in self.shown[-30:]}) > 15

    def contiguous(self) -> bool:
        """Whether each block of sound begins where the previous one ended, the first at 0."""
        at = 0
        for pts_ns, block in zip(self.audio_pts_ns, self._blocks, strict=True):
            if abs(pts_ns - at * S // self.sample_rate) > 1:
                return False
            at += len(block) // 4
        return True

    def tones(self, channel: int, start_s: float = 0.0, end_s: float | None = None) -> tuple[Tone, ...]:
        last = None if end_s is None else int(end_s * self.sample_rate)
        return tones_of(self.samples[channel, int(start_s * self.sample_rate) : last], self.sample_rate)


class FileSink:
    """A media.PacketSink that writes a file at once; close it."""

    def __init__(self, path: Path, container: Container, formats: list[StreamFormat]) -> None:
        self.packets: list[Packet] = []
        self._written = asyncio.Event()
        self._muxer = Muxer(str(path), container, formats)
        self._muxer.open()

    def write(self, packet: Packet) -> None:
        self.packets.append(packet)
        self._muxer.write(packet)
        self._written.set()

    async def written(self) -> None:
        """Waits for another packet; for sinks that are written to on the event loop."""
        self._written.clear()
        await self._written.wait()

    def count_after(self, at_s: float, kind: MediaKind) -> int:
        return sum(packet.kind is kind and packet.pts_ns > at_s * S for packet in self.packets)

    def close(self) -> None:
        self._muxer.close()
