"""Which picture is shown in which slot, when tracks come and go between slots."""

import numpy as np
import pytest

from openegress.core.codecs import MediaKind, VideoCodec
from openegress.media import NS
from openegress.media.canvas import Canvas, planes
from openegress.room import EncodedFrame, Participant, Track, TrackSource
from openegress.source.room.scene import NO_PICTURE, whole
from openegress.source.room.selection import Selection
from openegress.source.room.stage import Stage
from testkit.live_encoder import LiveEncoder

FPS = 30
SLOT_NS = NS // FPS
SIZE = 64
MS = NS // 1000

CAMERA = Track(
    "TR_1",
    "camera",
    MediaKind.VIDEO,
    TrackSource.CAMERA,
    "video/vp8",
    Participant("PA_1", "ann", "Ann", "standard"),
    muted=False,
    width=SIZE,
    height=SIZE,
)


def luma(stage: Stage, slot: int) -> int:
    return int(planes(stage.picture(slot * SLOT_NS))[0].mean())


@pytest.mark.parametrize("late_ms", [0, 5, 15, 30])
def test_what_was_captured_before_a_track_went_is_shown(late_ms: int) -> None:
    """A picture captured just before, whatever lies between its capture and its slot."""
    stage = Stage(Canvas(SIZE, SIZE), FPS, with_audio=False)
    stage.select(Selection(whole(CAMERA)), 0, NS)
    encoder = LiveEncoder("vp8", SIZE, SIZE, FPS, 500)
    levels = [60 + 10 * index for index in range(10)]
    for index, level in enumerate(levels):
        i420 = bytearray(np.full(SIZE * SIZE, level, np.uint8).tobytes() + b"\x80" * (SIZE * SIZE // 2))
        data = encoder.encode(i420, index).data
        at_ns = index * SLOT_NS + late_ms * MS
        frame = EncodedFrame("TR_1", VideoCodec.VP8, data, at_ns, index * 3000, 90_000, index == 0)
        stage.put(CAMERA, at_ns, frame)
    gone_ns = (len(levels) - 1) * SLOT_NS + late_ms * MS + MS
    stage.select(Selection(NO_PICTURE), gone_ns, NS)

    shown = [luma(stage, slot) for slot in range(len(levels) + 2)]
    assert min(abs(each - levels[-1]) for each in shown) <= 4, shown
