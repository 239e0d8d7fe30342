"""What counts as heard, of raw sound and of tracks as they come."""

from fractions import Fraction

import av
import numpy as np
import pytest

from openegress.core.codecs import AudioCodec, MediaKind
from openegress.media import Packet, StreamFormat
from openegress.media.hearing import Hearing, SoundProbe, SoundTap

RATE = 48_000
FORM = StreamFormat(
    MediaKind.AUDIO, AudioCodec.OPUS, Fraction(1, RATE), None, 0, sample_rate=RATE, channels=2
)


def tone(level_db: float) -> bytes:
    """20 ms of it, whose root mean square is so far below full scale."""
    wave = np.sin(np.arange(960) * 2 * np.pi * 440 / RATE) * 2**0.5 * 32768 * 10 ** (level_db / 20)
    return np.repeat(wave, 2).astype(np.int16).tobytes()


@pytest.fixture
def hearing() -> Hearing:
    hearing = Hearing()
    hearing.is_on, hearing.last_s = True, 0.0
    return hearing


@pytest.mark.parametrize(("level_db", "is_heard"), [(-20, True), (-45, True), (-55, False), (-200, False)])
def test_raw_sound(hearing: Hearing, level_db: float, is_heard: bool) -> None:
    SoundTap(hearing).audio(tone(level_db), 0, RATE)
    assert (hearing.last_s > 0) is is_heard


@pytest.mark.parametrize(("level_db", "is_heard"), [(-20, True), (-60, False)])
def test_a_track_as_it_comes(hearing: Hearing, level_db: float, is_heard: bool) -> None:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = RATE, "stereo", "s16"
    probe = SoundProbe(hearing, [FORM])
    for number in range(10):
        block = np.frombuffer(tone(level_db), np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(block, "s16", "stereo")
        frame.sample_rate, frame.pts = RATE, number * 960
        for packet in encoder.encode(frame):
            probe.write(Packet(MediaKind.AUDIO, bytes(packet), number * 960, 0, 960, FORM.time_base, True))
    assert (hearing.last_s > 0) is is_heard


def test_nothing_is_looked_at_until_it_is_asked_for() -> None:
    hearing = Hearing()
    before = hearing.last_s
    SoundTap(hearing).audio(tone(-10), 0, RATE)
    assert hearing.last_s == before
