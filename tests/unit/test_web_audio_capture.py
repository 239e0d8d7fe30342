"""Until when a page's sound is listened to."""

import numpy as np
import pytest

from openegress.core.units import MS, S
from openegress.source.web import audio_capture
from openegress.source.web.audio_capture import AudioCapture

RATE = 48_000


class Clock:
    now_ns = 0


class Monitor:
    """A page that plays a tone, in blocks of 20 ms, as time passes."""

    samples = RATE // 50

    def __init__(self, pulse: object, sample_rate: int) -> None: ...

    def read(self) -> bytes:
        Clock.now_ns += 20 * MS
        return np.full(2 * self.samples, 5000, np.int16).tobytes()

    def close(self) -> None: ...


class Sink:
    def __init__(self) -> None:
        self.blocks: list[bytes] = []

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self.blocks.append(samples)


@pytest.mark.parametrize("delay_ms", [0, -150, -300, -900])
def test_the_sound_of_the_end_is_waited_for_however_late_it_is_heard(
    monkeypatch: pytest.MonkeyPatch, delay_ms: int
) -> None:
    monkeypatch.setattr(audio_capture, "Monitor", Monitor)
    monkeypatch.setattr("time.monotonic_ns", lambda: Clock.now_ns)
    Clock.now_ns = 0
    capture, sink = AudioCapture(None, RATE, delay_ms * MS), Sink()  # type: ignore[arg-type]
    capture.start(sink, S)  # type: ignore[arg-type]
    capture._end_ns = 3 * S
    capture._run()
    heard = np.frombuffer(b"".join(sink.blocks), np.int16)[::2]
    assert (heard != 0).sum() >= 2 * RATE - RATE // 50
