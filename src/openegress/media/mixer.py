"""Mixes tracks into one s16 stereo stream: inputs on one timeline, cut into equal blocks. Pure.

Positions are sample numbers from media time zero, at decoder.SAMPLE_RATE.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from openegress.core.units import S
from openegress.media.loudness import Loudness
from openegress.media.samples import SAMPLE_RATE, Samples
from openegress.media.time_stretch import resampled, without_a_period

BLOCK_SAMPLES = SAMPLE_RATE // 50
"""20 ms: an Opus packet, and far below any delay that a listener could notice."""

_KNEE = 0.8
"""Of full scale: below it the mix is exact, above it bends so that it never wraps or clips hard."""

SLACK_SAMPLES = SAMPLE_RATE // 500
"""2 ms: how far the timeline may wander from the count of samples before it is followed."""

JUMP_SAMPLES = SAMPLE_RATE * 60 // 1000
"""60 ms: sound that comes later than this by the timeline leaves a gap, as its sender did."""

SLEW = 200
"""One sample in so many is put in or left out: half a per cent, which nobody hears."""

HURRY_SAMPLES = SAMPLE_RATE * 40 // 1000
"""Later than this, whole periods of the voice are left out, in every third block: it is a tenth faster."""
HURRY_EVERY = 3
RUSH_SAMPLES = SAMPLE_RATE // 5
"""Later than this, in every block."""


class Channel(StrEnum):
    BOTH = "both"
    LEFT = "left"
    RIGHT = "right"


@dataclass(slots=True)
class MixerInput:
    """One track's decoded samples, waiting for their block.

    Whatever its times say, all that is written is heard once. Sound that comes after its block was given out
    is heard late, and the delay is made up for in pauses, or by playing faster."""

    channel: Channel = Channel.BOTH
    _chunks: deque[tuple[int, int, Samples]] = field(default_factory=deque)
    """(position, how much later than its time that is, samples)"""
    _next: int | None = None
    _given_out: int = 0
    """Blocks have been given out up to here."""
    _late: int = 0
    """How many samples what was given out last lies behind its time. In silence it is made up for."""
    _loudness: Loudness = field(default_factory=Loudness)
    _blocks: int = 0

    @property
    def end(self) -> int | None:
        """Up to where the track has been heard; None before its first sample."""
        return self._next

    def late_at(self, position: int) -> int:
        """How many samples the sound around `position`, which comes next, lies behind its time: a picture
        that is shown then is not to be ahead of what is heard."""
        if not self._chunks:
            return self._late
        at, late, _ = self._chunks[0]
        return late if at <= position else max(self._late, late - (at - position))

    def write(self, at_ns: int, samples: Samples, skipped: int | None = 0) -> None:
        """Places what belongs to `at_ns`, next to what came before unless the timeline says otherwise.

        `skipped`: how many samples the sender left out before it, by its own count (RTP); None where that
        began anew. Sound from before media time zero is not heard.
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
        """(position, samples), where the last block ended at `expected`."""
        early = wanted - expected
        if early > JUMP_SAMPLES:
            return wanted, samples
        if skipped is None or abs(skipped) > SLACK_SAMPLES:
            # After a lost packet or a pause: any difference is made up for at once.
            return max(expected, wanted), samples
        if abs(early) <= SLACK_SAMPLES:
            return expected, samples
        late = -early
        if self._loudness.is_pause(samples):
            return (wanted, samples) if early > 0 else (expected, samples[min(late, len(samples)) :])
        if late > RUSH_SAMPLES or (late > HURRY_SAMPLES and self._blocks % HURRY_EVERY == 0):
            return expected, without_a_period(samples, late)
        step = max(1, len(samples) // SLEW)
        count = len(samples) + (step if early > 0 else -step)
        return expected, resampled(samples, max(1, count))

    def add_to(self, mix: NDArray[np.int32], start: int) -> bool:
        """Adds what lies in the block at `start`; forgets what lies before its end. True when any did."""
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
                # Half of the sum: a mono voice keeps its level on its side.
                mono = part.sum(axis=1, dtype=np.int32) // 2
                mix[:, 0 if self.channel is Channel.LEFT else 1] += mono


def mix(inputs: list[MixerInput], start: int, count: int = BLOCK_SAMPLES) -> bytes:
    """The block of `count` samples at `start` as interleaved s16; silence where no input has any."""
    total = np.zeros((count, 2), np.int32)
    heard = False
    for each in inputs:
        heard |= each.add_to(total, start)
    return soft_clip(total).tobytes() if heard else bytes(4 * count)


def soft_clip(total: NDArray[np.int32]) -> Samples:
    """Sums of s16 back to s16: exact up to the knee, then bending towards full scale."""
    knee = round(_KNEE * 32767)
    if int(np.abs(total).max(initial=0)) <= knee:
        return total.astype(np.int16)
    size = np.abs(total).astype(np.float32)
    room = 32767 - knee
    bent = knee + room * np.tanh(np.maximum(size - knee, 0) / room)
    return (np.sign(total) * np.where(size > knee, bent, size)).astype(np.int16)
