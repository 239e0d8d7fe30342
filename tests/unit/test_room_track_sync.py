"""A participant's tracks side by side, on a path that gets slower."""

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import MS
from openegress.room import EncodedFrame, TrackKey, TrackSource
from openegress.room.rtp.depacketise.unit import AccessUnit, UnitKind
from openegress.room.sync.participant import ParticipantSync
from openegress.room.sync.track import TrackSync

UNIT = AccessUnit(b"media", UnitKind.KEY)
SLOWER_MS = 160


def test_a_slide_that_is_held_as_the_path_gets_slower_is_shown_without_another_behind_it() -> None:
    shown: list[EncodedFrame] = []
    participant = ParticipantSync()
    voice_key = TrackKey("alice", MediaKind.AUDIO, TrackSource.MICROPHONE, "voice")
    slides_key = TrackKey("alice", MediaKind.VIDEO, TrackSource.SCREEN_SHARE, "slides")
    voice = TrackSync("TR_1", voice_key, participant, 0, lambda _: None)
    slides = TrackSync("TR_2", slides_key, participant, 0, shown.append)
    voice.start(48_000)
    slides.start(90_000)
    for ms in range(0, 3000, 20):
        late_ms = SLOWER_MS if ms >= 2000 else 0
        arrival_ns = (1000 + ms + late_ms) * MS
        if ms <= 2100 and ms % 100 == 0:
            slides.frame(ms * 90, UNIT, VideoCodec.VP8, False, arrival_ns)
        voice.frame(ms * 48, UNIT, AudioCodec.OPUS, False, arrival_ns)
        for each in (voice, slides):
            if each.due_ns is not None and each.due_ns <= arrival_ns:
                each.due(arrival_ns)
    assert len(shown) == 22
