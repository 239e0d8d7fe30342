"""A FrameSink that keeps what can be read from a recorded pattern page, instead of encoding it."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import av
import numpy as np

from testkit.pattern import Plane, read_counter, read_flash
from testkit.probe import Sound, beep_onsets, luma_of


@dataclass(frozen=True, slots=True)
class Picture:
    pts_ns: int
    counter: int | None
    flash: bool


class Filmed:
    """Counters, flashes and sound as they came. Times are the egress' own."""

    def __init__(self, read: bool = True) -> None:
        self.pictures: list[Picture] = []
        self.blocks: list[tuple[bytes, int, int]] = []
        """(samples, pts_ns, sample_rate)."""
        self.last: av.VideoFrame | None = None
        self.last_at_ns = 0
        """Monotonic time of the last call of either kind."""
        self.filmed_s = 0.0
        """From the start of the recording to the call that stopped it; set by the caller that does both."""
        self._read = read
        self._seen: av.VideoFrame | None = None
        self._reading: tuple[int | None, bool] = (None, False)

    def video(self, frame: av.VideoFrame, pts_ns: int) -> None:
        if self._read and frame is not self._seen:
            luma = luma_of(frame)
            self._reading = read_counter(luma), read_flash(luma)
            self._seen = frame
        self.pictures.append(Picture(pts_ns, *self._reading))
        self.last, self.last_at_ns = frame, time.monotonic_ns()

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self.blocks.append((samples, pts_ns, sample_rate))
        self.last_at_ns = time.monotonic_ns()

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        """What is filmed is not paused."""

    @property
    def counters(self) -> list[int]:
        return [p.counter for p in self.pictures if p.counter is not None]

    def sound(self) -> Sound:
        """The whole sound. Raises AssertionError if a block does not begin where the previous one ended."""
        position, rate = 0, 48_000
        for samples, pts_ns, rate in self.blocks:
            assert pts_ns == position * 1_000_000_000 // rate, (
                f"block at {pts_ns} ns after {position} samples"
            )
            position += len(samples) // 4
        data = np.frombuffer(b"".join(samples for samples, _, _ in self.blocks), "<i2").reshape(-1, 2).T
        return Sound((data / 32768).astype(np.float32), rate, 0.0, ())

    def offset_ms(self, heard: list[tuple[int, float]]) -> float:
        """How much later sound comes than its picture. `heard`: (counter, the sound at that time by the
        page's own account, in s), which removes the page's frame raster from the measurement."""
        seen = {p.counter: p.pts_ns / 1e9 for p in reversed(self.pictures)}
        picture_s = median(seen[counter] - at_s for counter, at_s in heard if counter in seen and at_s > 0)
        beeps = beep_onsets(self.sound())
        return median(beep - picture_s - round(beep - picture_s) for beep in beeps) * 1000


def luma(frame: av.VideoFrame) -> Plane:
    return luma_of(frame)


def alive(pid: int) -> bool:
    """Whether the process runs: one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
