"""The people of `make demo`: they speak when it is their turn, and their mouths with them."""

import numpy as np
import pytest

from examples.faces import HEIGHT, WIDTH, Face, Look
from examples.voices import RATE, Turn, Voice

LOOK = Look("Ada", (240, 200, 180), (70, 40, 30), (180, 60, 70), (200, 210, 220))


def loudness(voice: Voice, at_s: float) -> float:
    """Of the half second from there on, 1 is full scale."""
    samples = np.frombuffer(voice.block(round(at_s * 2), RATE // 2), np.int16)
    return float(np.sqrt(((samples / 32768.0) ** 2).mean()))


@pytest.mark.parametrize("pitch_hz", [110.0, 210.0])
def test_a_voice_speaks_in_its_turn_over_and_over(pitch_hz: float) -> None:
    voice = Voice(pitch_hz, Turn(2.0, 3.8), 6.0, seed=1)
    for at_s in (2.0, 3.5, 5.0, 8.0, 602.0):
        assert loudness(voice, at_s) > 0.01
    for at_s in (0.0, 1.5, 6.5, 601.0):
        assert loudness(voice, at_s) == 0
        assert voice.openness(at_s) == 0
    assert max(voice.openness(2.0 + n / 50) for n in range(150)) == 1


def test_a_face_opens_its_mouth_and_blinks() -> None:
    face = Face(LOOK)
    shut, opened = face.draw(1.0, 0.0), face.draw(1.0, 1.0)
    assert shut.shape == opened.shape == (WIDTH * HEIGHT * 3 // 2,)
    assert np.count_nonzero(np.abs(shut.astype(int) - opened) > 60) > 500
    moments = [face.draw(n / 10, 0.0) for n in range(40)]
    eyes = [picture[: WIDTH * HEIGHT].reshape(HEIGHT, WIDTH)[215:265, 380:580] for picture in moments]
    dark_pupils = [int((part < 50).sum()) for part in eyes]
    assert min(dark_pupils) < max(dark_pupils) / 2
