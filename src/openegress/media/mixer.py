"""Mixes tracks into one s16 stereo stream: lanes of samples on one timeline, cut into equal blocks. Pure.

Positions are sample numbers from media time zero, at decoder.SAMPLE_RATE.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from openegress.media import NS
from openegress.media.decoder import SAMPLE_RATE, Samples

BLOCK_SAMPLES = SAMPLE_RATE // 50
"""20 ms: an Opus packet, and small beside any delay a listener could notice."""

_KNEE = 0.8
"""Of full scale: below it the mix is exact, above it bends so that it never wraps or clips hard."""

SLACK_SAMPLES = SAMPLE_RATE // 500
"""2 ms: how far the sender's clock may wander from the count of its samples before it is followed."""

JUMP_SAMPLES = SAMPLE_RATE // 10
"""100 ms: further than this is no drift but a gap, or a clock that was set."""


class Channel(StrEnum):
    BOTH = "both"
    LEFT = "left"
    RIGHT = "right"


@dataclass(slots=True)
class Lane:
    """One track's decoded samples, waiting for their block."""

    channel: Channel = Channel.BOTH
    _chunks: deque[tuple[int, Samples]] = field(default_factory=deque)
    _next: int | None = None

    @property
    def end(self) -> int | None:
        """Up to where the track has been heard; None before its first sample."""
        return self._next

    def write(self, at_ns: int, samples: Samples, skipped: int | None = 0) -> None:
        """Places what was captured at `at_ns`, next to what came before unless a clock says otherwise.

        `skipped`: how many samples the sender left out before it, by its own count (RTP); None where that
        began anew. Drift is followed one sample a block, which nobody hears; a gap is left open.
        """
        if not len(samples):
            return
        start, samples = place(self._next, at_ns, samples, skipped)
        self._chunks.append((start, samples))
        self._next = start + len(samples)

    def add_to(self, mix: NDArray[np.int32], start: int) -> bool:
        """Adds what lies in the block at `start`; forgets what lies before its end. True when any did."""
        end = start + len(mix)
        any_heard = False
        while self._chunks and self._chunks[0][0] < end:
            at, samples = self._chunks[0]
            part = samples[max(0, start - at) : end - at]
            if len(part):
                self._add(mix[max(0, at - start) : max(0, at - start) + len(part)], part)
                any_heard = True
            if at + len(samples) > end:
                break
            self._chunks.popleft()
        return any_heard

    def _add(self, mix: NDArray[np.int32], part: Samples) -> None:
        match self.channel:
            case Channel.BOTH:
                mix += part
            case Channel.LEFT | Channel.RIGHT:
                # Half of the sum: a mono voice keeps its level on its side.
                mono = part.sum(axis=1, dtype=np.int32) // 2
                mix[:, 0 if self.channel is Channel.LEFT else 1] += mono


def place(expected: int | None, at_ns: int, samples: Samples, skipped: int | None = 0) -> tuple[int, Samples]:
    """(position, samples) of a block captured at `at_ns`, when `expected` is where the last one ended.
    `skipped`: see Lane.write."""
    wanted = at_ns * SAMPLE_RATE // NS
    if expected is None or abs(wanted - expected) > JUMP_SAMPLES:
        # An overlap with what has been placed would sound twice: the newer clock wins from there on.
        return wanted, samples
    if skipped is None or abs(skipped) > SLACK_SAMPLES:
        # A lost packet or a pause (even the shortest packet is longer than the slack), not drift. Where there
        # is a hole anyway, its length makes up for any drift at once.
        return max(expected, wanted), samples
    if wanted - expected > SLACK_SAMPLES:
        return expected, _stretched(samples, len(samples) + 1)
    if expected - wanted > SLACK_SAMPLES and len(samples) > 1:
        return expected, _stretched(samples, len(samples) - 1)
    return expected, samples


def mix(lanes: list[Lane], start: int, count: int = BLOCK_SAMPLES) -> bytes:
    """The block of `count` samples at `start` as interleaved s16; silence where no lane has any."""
    total = np.zeros((count, 2), np.int32)
    heard = False
    for lane in lanes:
        heard |= lane.add_to(total, start)
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


def _stretched(samples: Samples, count: int) -> Samples:
    at = np.linspace(0, len(samples) - 1, count)
    both = [np.interp(at, np.arange(len(samples)), samples[:, i]) for i in range(2)]
    return np.stack(both, axis=1).round().astype(np.int16)
