"""Brings sound to a target loudness while it is recorded (EBU R 128).

A gain follows speech, too slowly to be heard, and stays constant in pauses. A limiter catches peaks.
"""

import numpy as np

from openegress.media.gain_follower import GainFollower
from openegress.media.limiter import TruePeakLimiter, frames_of, samples_of
from openegress.media.loudness_meter import LoudnessMeter

CEILING = 10 ** (-2 / 20)
"""Limit for peaks, as a share of full scale. True peaks stay below -1 dB, as EBU R 128 requires, if an
encoder adds up to 1 dB."""
_HOP_S = 0.1
"""The step of a GainFollower, and of FFmpeg's measurements."""


class Leveller:
    """Takes and returns interleaved s16 stereo. All input comes out, up to a tenth of a second later: rest()
    returns the last. Confined to one thread."""

    def __init__(self, target_lufs: float, sample_rate: int) -> None:
        self._follower = GainFollower(target_lufs)
        self._limiter = TruePeakLimiter(CEILING, sample_rate)
        self._before, self._after = LoudnessMeter(sample_rate), LoudnessMeter(sample_rate)
        self._hop_bytes = 4 * round(_HOP_S * sample_rate)
        self._waiting = bytearray()
        """Input that is too short for a step."""

    def levelled(self, samples: bytes) -> bytes:
        self._waiting += samples
        whole = len(self._waiting) // self._hop_bytes * self._hop_bytes
        hops, self._waiting = bytes(self._waiting[:whole]), self._waiting[whole:]
        starts = range(0, whole, self._hop_bytes)
        return b"".join(self._hop(hops[start : start + self._hop_bytes]) for start in starts)

    def rest(self) -> bytes:
        """Returns the remaining sound. Call it after the last samples."""
        last, self._waiting = bytes(self._waiting), bytearray()
        return (self._hop(last) if last else b"") + samples_of(self._limiter.rest())

    def _hop(self, samples: bytes) -> bytes:
        self._before.write(samples)
        gain_before = factor_of(self._follower.gain_db)
        self._follower.step(self._before.momentary_lufs, self._after.lufs)
        frames = frames_of(samples)
        gains = np.linspace(gain_before, factor_of(self._follower.gain_db), len(frames), dtype=np.float32)
        given = samples_of(self._limiter.limited(frames * gains[:, None]))
        if given:
            self._after.write(given)
        return given


def factor_of(db: float) -> float:
    return float(10 ** (db / 20))
