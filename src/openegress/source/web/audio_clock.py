"""Finds the place of a block of sound on the recording's timeline. Pure: arrival times in, corrections out.

The sound server reports nothing useful about latency, but it delivers by its own steady clock: however much
blocks are delayed on their way, the least delayed ones show when sample 0 was heard. That origin is followed
slowly, because the server's clock is not exactly ours (a null sink loses up to a microsecond a block).
"""

from collections import deque
from dataclasses import dataclass

SETTLE_BLOCKS = 4
"""Number of blocks that are ignored: they hold a backlog from before the stream ran steadily."""
READY_BLOCKS = 12
PATIENCE_BLOCKS = 100
STEADY_NS = 5_000_000
"""The origin is good enough after READY_BLOCKS if half of them came within STEADY_NS of the earliest. On a
busy machine any origin is accepted after two seconds."""
WINDOW_BLOCKS = 200
"""Number of blocks from which the origin is estimated later: four seconds of blocks of 20 ms."""
PERCENTILE = 1 / 8
"""Rank of the arrival that counts: an early one, but not the very earliest, which may have come in a
burst."""
SLEW_START_NS = 2_000_000
SLEW_END_NS = 500_000
"""Drift beyond SLEW_START_NS is corrected until it is below SLEW_END_NS, by one sample in each block (0.1 %
of pitch)."""
SLEW_FAST_NS = 10_000_000
FAST_SAMPLES = 4
"""Beyond this drift, the origin was wrong at the start, or the page plays later than before: correct four
times as fast."""
SLEW_FASTEST_NS = 30_000_000
FASTEST_SAMPLES = 10
"""Correction in a block for a page that is short of CPU time, whose own sound is stretched by more than
this."""
PERIOD_NS = 15_000_000
PERIOD_BLOCKS = 2
"""Beyond that drift, one period of the sound is inserted or removed in one of PERIOD_BLOCKS blocks, which
keeps its pitch: 60 to 300 ms a second. A browser resizes its own sound buffer in the same way and as fast, in
a page's first seconds and when it was short of CPU time."""
JUMP_NS = 120_000_000
"""A larger difference is not drift: sound was lost, or the machine was suspended."""


@dataclass(frozen=True, slots=True)
class BlockPlacement:
    """The correction with which a block is placed so that the timeline stays true."""

    silence: int = 0
    """Samples of silence to insert before it."""
    skip: int = 0
    """Samples to drop from its beginning."""
    stretch: int = 0
    """Samples by which to make the block longer; negative: shorter."""
    by_periods: int = 0
    """Instead, insert or remove at most this many samples where nobody hears it."""


class AudioClock:
    """The clock of one stream. Samples are per channel."""

    def __init__(self, sample_rate: int) -> None:
        self._rate = sample_rate
        self._samples = 0
        self._blocks = 0
        self._origins: deque[int] = deque(maxlen=WINDOW_BLOCKS)
        self._slewing = 0
        self._kept_whole = 0
        """The number of blocks since the last one that was changed by a period."""
        self._ready = False
        self.off_ns = 0
        """How much later the last block should have been placed."""

    @property
    def ready(self) -> bool:
        """Whether the origin is reliable. Once it is, it stays so."""
        if self._ready:
            return True
        if self._blocks < READY_BLOCKS:
            return False
        ordered = sorted(self._origins)
        steady = ordered[len(ordered) // 2] - ordered[0] <= STEADY_NS
        self._ready = self._ready or steady or self._blocks >= PATIENCE_BLOCKS
        return self._ready

    def arrived(self, samples: int, at_ns: int) -> None:
        """Notes that a whole block was read at `at_ns`."""
        self._samples += samples
        self._blocks += 1
        if self._blocks == SETTLE_BLOCKS:
            self._origins.clear()
        self._origins.append(at_ns - self._samples * 1_000_000_000 // self._rate)

    def origin_ns(self) -> int:
        """The best estimate of when sample 0 was heard."""
        ordered = sorted(self._origins)
        return ordered[int(len(ordered) * PERCENTILE)]

    def place(
        self, position: int, first: int, samples: int, zero_ns: int, is_silent: bool = False
    ) -> BlockPlacement:
        """Places the stream's samples from `first` on, when `position` samples of the timeline are filled.

        `zero_ns`: media time zero on the clock of the arrivals, less the delay of the sound. Silence is
        corrected at once, because nobody hears that.
        """
        error = (self.origin_ns() - zero_ns) * self._rate // 1_000_000_000 + first - position
        """Samples by which the block should be placed later."""
        error_ns = self.off_ns = error * 1_000_000_000 // self._rate
        if position == 0 or abs(error_ns) > JUMP_NS or (is_silent and abs(error_ns) > SLEW_START_NS):
            self._slewing = 0
            return BlockPlacement(silence=max(0, error), skip=min(samples, max(0, -error)))
        if abs(error_ns) > SLEW_START_NS:
            samples = 1
            if abs(error_ns) > SLEW_FAST_NS:
                samples = FASTEST_SAMPLES if abs(error_ns) > SLEW_FASTEST_NS else FAST_SAMPLES
            self._slewing = samples if error > 0 else -samples
        elif error_ns * self._slewing < SLEW_END_NS:
            self._slewing = 0
        self._kept_whole += 1
        if abs(error_ns) > PERIOD_NS and self._kept_whole >= PERIOD_BLOCKS:
            self._kept_whole = 0
            return BlockPlacement(stretch=self._slewing, by_periods=error)
        return BlockPlacement(stretch=self._slewing)
