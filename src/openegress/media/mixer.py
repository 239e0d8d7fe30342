"""Mixes tracks into one s16 stereo stream: inputs on one timeline, cut into equal blocks. Pure.

Positions are sample numbers from media time zero, at decoder.SAMPLE_RATE.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from openegress.core.units import S
from openegress.media.pause_detector import PauseDetector
from openegress.media.samples import SAMPLE_RATE, Samples
from openegress.media.time_stretch import resampled, without_a_period

BLOCK_SAMPLES = SAMPLE_RATE // 50
"""Length of a block: 20 ms, the length of an Opus packet, and far below any delay that a listener notices."""

_KNEE = 0.8
"""Level as a share of full scale, up to which the mix is exact. Above it, the mix bends so that it never
wraps or clips hard."""

SLACK_SAMPLES = SAMPLE_RATE // 500
"""How far the timeline may drift from the sample count before the mixer follows it: 2 ms."""

JUMP_SAMPLES = SAMPLE_RATE * 60 // 1000
"""Lateness by the timeline beyond which sound leaves a gap, as its sender did: 60 ms."""

SLEW = 200
"""One sample in this many is inserted or dropped: half a per cent, which is inaudible."""

HURRY_SAMPLES = SAMPLE_RATE * 40 // 1000
"""Lateness beyond which every third block drops a whole period of the voice: sound plays a tenth faster."""
HURRY_EVERY = 3
RUSH_SAMPLES = SAMPLE_RATE // 5
"""Lateness beyond which every block does."""


class Channel(StrEnum):
    BOTH = "both"
    LEFT = "left"
    RIGHT = "right"


@dataclass(slots=True)
class MixerInput:
    """One track's decoded samples, waiting for their block.

    Plays everything written exactly once, whatever its times. Sound that misses its block is heard late; the
    mixer catches up in pauses, or by playing faster."""

    channel: Channel = Channel.BOTH
    _chunks: deque[tuple[int, int, Samples]] = field(default_factory=deque)
    """(position, how much later than its time that position is, samples)."""
    _next: int | None = None
    _given_out: int = 0
    """The position up to which blocks have been returned."""
    _late: int = 0
    """Lateness of the last returned sound, in samples. Silence makes up for it."""
    _detector: PauseDetector = field(default_factory=PauseDetector)
    _blocks: int = 0

    @property
    def end(self) -> int | None:
        """The position where the track's sound so far ends; None before its first sample."""
        return self._next

    def late_at(self, position: int) -> int:
        """Lateness in samples of the sound around `position`, which is played next. A picture shown then must
        not be ahead of the sound."""
        if not self._chunks:
            return self._late
        at, late, _ = self._chunks[0]
        return late if at <= position else max(self._late, late - (at - position))

    def write(self, at_ns: int, samples: Samples, skipped: int | None = 0) -> None:
        """Places the sound for `at_ns`, next to the sound before it unless the timeline says otherwise.

        `skipped`: how many samples the sender skipped before it, by its own count (RTP); None if that count
        restarted. Sound from before media time zero is dropped.
        """
        if not len(samples):
            return
        wanted = at_ns * SAMPLE_RATE // S
        start = wanted
        if self._next is not None:
            start, samples = self._placed(self._next, wanted, samples, skipped)
        if wanted >= 0:
            start = max(start, self._given_out)
        if len(samples):
            self._chunks.append((start, max(0, start - wanted), samples))
        self._next = start + len(samples)
        self._blocks += 1

    def _placed(
        self, expected: int, wanted: int, samples: Samples, skipped: int | None
    ) -> tuple[int, Samples]:
        """Returns (position, samples) for a block, if the last one ended at `expected`."""
        early = wanted - expected
        if early > JUMP_SAMPLES:
            return wanted, samples
        if skipped is None or abs(skipped) > SLACK_SAMPLES:
            # After a lost packet or a pause, any difference is made up at once.
            return max(expected, wanted), samples
        if abs(early) <= SLACK_SAMPLES:
            return expected, samples
        late = -early
        if self._detector.is_pause(samples):
            return (wanted, samples) if early > 0 else (expected, samples[min(late, len(samples)) :])
        if late > RUSH_SAMPLES or (late > HURRY_SAMPLES and self._blocks % HURRY_EVERY == 0):
            return expected, without_a_period(samples, late)
        step = max(1, len(samples) // SLEW)
        count = len(samples) + (step if early > 0 else -step)
        return expected, resampled(samples, max(1, count))

    def add_to(self, mix: NDArray[np.int32], start: int) -> bool:
        """Adds the samples in the block at `start` to the mix, and forgets those before its end. Returns True
        if there were any."""
        end = self._given_out = start + len(mix)
        any_heard = False
        while self._chunks and self._chunks[0][0] < end:
            at, late, samples = self._chunks[0]
            part = samples[max(0, start - at) : end - at]
            if len(part):
                self._late = late
                self._add(mix[max(0, at - start) : max(0, at - start) + len(part)], part)
                any_heard = True
            if at + len(samples) > end:
                break
            self._chunks.popleft()
        if not any_heard:
            self._late = max(0, self._late - len(mix))
        return any_heard

    def _add(self, mix: NDArray[np.int32], part: Samples) -> None:
        match self.channel:
            case Channel.BOTH:
                mix += part
            case Channel.LEFT | Channel.RIGHT:
                # Half of the sum, so that a mono voice keeps its level on its side.
                mono = part.sum(axis=1, dtype=np.int32) // 2
                mix[:, 0 if self.channel is Channel.LEFT else 1] += mono


def mix(inputs: list[MixerInput], start: int, count: int = BLOCK_SAMPLES) -> bytes:
    """Mixes the block of `count` samples at `start` as interleaved s16; silent if no input has any."""
    total = np.zeros((count, 2), np.int32)
    heard = False
    for each in inputs:
        heard |= each.add_to(total, start)
    return soft_clip(total).tobytes() if heard else bytes(4 * count)


def soft_clip(total: NDArray[np.int32]) -> Samples:
    """Converts sums of s16 back to s16: exact up to the knee, then bending towards full scale."""
    knee = round(_KNEE * 32767)
    if int(np.abs(total).max(initial=0)) <= knee:
        return total.astype(np.int16)
    size = np.abs(total).astype(np.float32)
    room = 32767 - knee
    bent = knee + room * np.tanh(np.maximum(size - knee, 0) / room)
    return (np.sign(total) * np.where(size > knee, bent, size)).astype(np.int16)
