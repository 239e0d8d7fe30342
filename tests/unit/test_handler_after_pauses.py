"""The pauses of a deferred recording, as outputs hear of them when it is composed."""

from typing import Any

import pytest

from openegress.core.events import EndReason
from openegress.core.units import S
from openegress.handler.after_pauses import AfterPauses
from openegress.handler.recorded_span import RecordedSpan
from openegress.output.manifest import Pause

ZERO_NS = 1_800_000_000 * S


class _Sink:
    def __init__(self) -> None:
        self.told: list[tuple[str, float]] = []

    def video(self, frame: Any, pts_ns: int) -> None:
        self.told.append(("picture", pts_ns / S))

    def audio(self, samples: bytes, pts_ns: int, sample_rate: int) -> None:
        self.told.append(("sound", pts_ns / S))

    def resumed(self, pts_ns: int, paused_ns: int) -> None:
        self.told.append((f"resumed at {pts_ns / S:g}", paused_ns / S))


def test_each_is_told_once_before_what_follows_it() -> None:
    sink = _Sink()
    pauses = [Pause(ZERO_NS + 2 * S, ZERO_NS + 5 * S), Pause(ZERO_NS + 6 * S, ZERO_NS + 16 * S)]
    given = AfterPauses(sink, pauses, ZERO_NS)
    frame: Any = None
    for second in range(4):
        given.audio(b"", second * S, 48_000)
        given.video(frame, second * S)
    assert sink.told == [
        ("sound", 0),
        ("picture", 0),
        ("sound", 1),
        ("picture", 1),
        ("resumed at 2", 3),
        ("sound", 2),
        ("picture", 2),
        ("resumed at 3", 13),
        ("sound", 3),
        ("picture", 3),
    ]


@pytest.mark.parametrize(("pauses", "length_s"), [((), 20), ((Pause(ZERO_NS + S, ZERO_NS + 5 * S),), 16)])
def test_the_media_is_shorter_than_the_meeting(pauses: tuple[Pause, ...], length_s: int) -> None:
    span = RecordedSpan(ZERO_NS, ZERO_NS + 20 * S, EndReason.API, pauses=pauses)
    assert span.length_ns == length_s * S
