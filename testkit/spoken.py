"""Sound like speech: syllables of different strength, phrases, pauses with the noise of a room. No words."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 48_000


@dataclass(frozen=True, slots=True)
class Spoken:
    samples: NDArray[np.int16]
    """(n, 2) at RATE."""
    pauses_s: tuple[tuple[float, float], ...]
    """Pauses of at least a second: (from, to)."""


def spoken(length_s: float, level: float, seed: int = 1, noise: float = 0.003) -> Spoken:
    """`level`: the level of the strongest syllables, relative to full scale; `noise`: the level of the room,
    relative to that."""
    rng = np.random.default_rng(seed)
    count = round(length_s * RATE)
    envelope, pauses, at_s = np.zeros(count), [], 0.3
    while at_s < length_s:
        until_s = at_s + rng.uniform(2.0, 4.0)
        while at_s < until_s:
            syllable_s = rng.uniform(0.12, 0.28)
            begin, end = round(at_s * RATE), min(count, round((at_s + syllable_s) * RATE))
            if end > begin:
                shape = np.sin(np.linspace(0, np.pi, end - begin)) ** 0.7
                envelope[begin:end] = shape * 10 ** (rng.uniform(-12, 0) / 20)
            at_s += syllable_s + rng.uniform(0.0, 0.06)
        pause_s = rng.uniform(0.4, 2.0)
        if pause_s >= 1.0 and at_s + pause_s < length_s:
            pauses.append((at_s, at_s + pause_s))
        at_s += pause_s
    at = np.arange(count) / RATE
    pitch = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.4 * at)) / RATE
    phases = rng.uniform(0, 2 * np.pi, 30)
    voice = sum(np.cos(n * pitch + phases[n]) / n**0.8 for n in range(1, 30))
    breath = np.convolve(rng.standard_normal(count), np.ones(8) / 8, "same")
    wave = envelope * (voice / 5 + 0.05 * breath)
    wave = level * (wave / np.abs(wave).max() + noise * rng.standard_normal(count))
    mono = np.clip(np.rint(wave * 32767), -32768, 32767).astype(np.int16)
    return Spoken(np.stack([mono, mono], axis=1), tuple(pauses))
