"""Measures how far sound is from the pictures that were sent with it, by their counters. This is right
whichever pictures a busy machine drops, even if they include a flash."""

from pathlib import Path
from statistics import median

from testkit.probe import Rect, beep_onsets, counters, sound

FEWEST = 5
"""Pictures that tell when those around a beep are seen."""


def beside_pictures(path: Path | str, fps: int, tile: Rect | None = None) -> list[tuple[float, float]]:
    """(when a beep is heard in s, how much later in ms than the picture sent with it is seen), for each beep
    with enough pictures half a second before and after it. Publishers beep with each whole second of
    pictures."""
    first_shown: dict[int, float] = {}
    for at_s, counter in counters(path, tile).read:
        if counter is not None:
            first_shown.setdefault(counter, at_s)
    found = []
    for beep_s in beep_onsets(sound(path)):
        behind_s = [at_s - n / fps for n, at_s in first_shown.items() if abs(at_s - beep_s) < 0.5]
        if len(behind_s) >= FEWEST:
            sent_s = beep_s - median(behind_s)
            found.append((beep_s, (sent_s - round(sent_s)) * 1000))
    return found
