"""Voices that say nothing, but sound like speech: syllables with formants, consonants, melody, pauses."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 48_000
Samples = NDArray[np.float64]

VOWELS = np.array(
    [(730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240)], float
)
"""Formants of a, e, i, o, u in Hz (Peterson and Barney, 1952)."""
BANDWIDTHS = np.array([90.0, 110.0, 170.0])
LOUDNESS = np.array([1.0, 0.6, 0.3])
LEVEL = 0.16


@dataclass(frozen=True, slots=True)
class Turn:
    """One person's part of a conversation that begins again and again."""

    begins_s: float
    lasts_s: float


class Voice:
    """The sound of one person, of `period_s`, to be played over and over."""

    def __init__(self, pitch_hz: float, turn: Turn, period_s: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        total = round(period_s * RATE)
        sound = np.zeros(total)
        at_s = turn.begins_s
        while at_s < turn.begins_s + turn.lasts_s - 0.3:
            length_s = rng.uniform(0.13, 0.24)
            syllable = _syllable(pitch_hz * _melody((at_s - turn.begins_s) / turn.lasts_s), length_s, rng)
            first = round(at_s * RATE)
            kept = syllable[: total - first]
            sound[first : first + len(kept)] += kept
            # Words end every few syllables, and with them the breath.
            at_s += length_s * 0.92 + (rng.uniform(0.12, 0.25) if rng.random() < 0.25 else 0.0)
        self._samples = (sound / max(1e-9, np.abs(sound).max()) * LEVEL * 32767).astype(np.int16)
        self._loudness = _envelope(sound)

    def block(self, index: int, length: int) -> bytes:
        """Block `index` of so many samples: 16 bit, mono."""
        places = (index * length + np.arange(length)) % len(self._samples)
        block: bytes = self._samples[places].tobytes()
        return block

    def openness(self, at_s: float) -> float:
        """Of the mouth, 0 to 1."""
        return float(self._loudness[int(at_s * 100) % len(self._loudness)])


def _melody(part: float) -> float:
    """Speech falls to the end of what is said, and moves on the way there."""
    return 1.12 - 0.22 * part + 0.06 * math.sin(part * 17)


def _syllable(pitch_hz: float, length_s: float, rng: np.random.Generator) -> Samples:
    """A consonant's noise and a vowel that slides into another."""
    count = round(length_s * RATE)
    t = np.arange(count) / RATE
    phase = 2 * np.pi * np.cumsum(pitch_hz * (1 + 0.015 * np.sin(2 * np.pi * 5.5 * t))) / RATE
    start, end = VOWELS[rng.integers(len(VOWELS))], VOWELS[rng.integers(len(VOWELS))]
    formants = start + np.linspace(0, 1, count)[:, None] * 0.4 * (end - start)
    vowel = np.zeros(count)
    for harmonic in range(1, int(3600 / pitch_hz)):
        hz = harmonic * pitch_hz
        gain = (LOUDNESS / (1 + ((hz - formants) / BANDWIDTHS) ** 2)).sum(axis=1) / harmonic**0.4
        vowel += gain * np.sin(harmonic * phase)
    vowel *= np.sin(np.pi * np.clip(t / length_s, 0, 1)) ** 0.6
    noise = np.diff(rng.standard_normal(count + 1)) * np.exp(-t * 60) * rng.uniform(0.02, 0.14)
    sound: Samples = vowel + noise
    return sound


def _envelope(sound: Samples) -> Samples:
    """A hundred values a second, 0 to 1."""
    frames = sound[: len(sound) // 480 * 480].reshape(-1, 480)
    loud = np.sqrt((frames**2).mean(axis=1))
    smooth = np.convolve(loud, np.ones(4) / 4, "same")
    opened: Samples = np.clip(smooth / max(1e-9, np.percentile(smooth[smooth > 0.01], 90)), 0, 1)
    return opened
