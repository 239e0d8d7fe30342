"""What a passed-through track begins with, from frames as the room client hands them out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import MS, S
from openegress.media import Packet
from openegress.room import EncodedFrame, Participant, Track, TrackSource
from openegress.source.room import passthrough_video
from openegress.source.room.passthrough_source import RoomPacketSource
from openegress.source.room.pts import AudioPts

BEGAN_NS = 1_700_000_000 * S
ADA = Participant("PA_1", "ada", "Ada", "standard")
CAMERA = Track(
    "TR_V", "camera", MediaKind.VIDEO, TrackSource.CAMERA, "video/VP8", ADA, False, width=1280, height=720
)
MICROPHONE = Track("TR_A", "microphone", MediaKind.AUDIO, TrackSource.MICROPHONE, "audio/opus", ADA, False)
HIGH, LOW = (1280, 720), (640, 360)


@dataclass
class Selected:
    tracks: Sequence[Track]


@dataclass
class FakeSession:
    """The part of a TrackFollower that a packet source asks."""

    selection: Selected
    arrived: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        if name in ("subscribe", "wait_for_media", "release", "close"):
            return self._nothing
        raise AttributeError(name)

    async def _nothing(self, *_: object) -> None:
        pass

    def now_ns(self) -> int:
        return BEGAN_NS

    def batch_reads(self) -> None:
        pass

    def request_key_frame(self, sid: str) -> None:
        self.asked.append(sid)


class Sink:
    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self.came = asyncio.Event()

    def write(self, packet: Packet) -> None:
        self.packets.append(packet)
        self.came.set()

    def pictures(self) -> list[tuple[str, int]]:
        """(payload, ms)."""
        return [(p.data.decode(), p.pts_ns // MS) for p in self.packets if p.kind is MediaKind.VIDEO]


def picture(name: str, at_ms: int, size: tuple[int, int] = (0, 0)) -> EncodedFrame:
    at_ns = BEGAN_NS + at_ms * MS
    return EncodedFrame(
        "TR_V", VideoCodec.VP8, name.encode(), at_ns, at_ms * 90, 90_000, any(size), False, *size
    )


def sound(at_ms: int) -> EncodedFrame:
    at_ns = BEGAN_NS + at_ms * MS
    return EncodedFrame("TR_A", AudioCodec.OPUS, b"\xf8\xff\xfe", at_ns, at_ms * 48, 48_000, True)


SPOKEN = b"\xf8" + b"x" * 40


def spoken(at_ms: int) -> EncodedFrame:
    return replace(sound(at_ms), data=SPOKEN)


async def opened(*tracks: Track) -> tuple[RoomPacketSource, FakeSession]:
    session = FakeSession(Selected(tracks))
    source = RoomPacketSource(cast("Any", session))
    await source.prepare()
    return source, session


@pytest.mark.parametrize("held", [0, 1, 2, 4], ids=lambda n: f"{n} came before the start")
async def test_the_smaller_layer_before_the_one_asked_for_is_left_out(held: int) -> None:
    source, _ = await opened(CAMERA)
    frames = [picture("a", 0, LOW), picture("b", 33), picture("c", 40, HIGH), picture("d", 73)]
    for frame in frames[:held]:
        source.on_frame(CAMERA, frame)
    sink = Sink()
    await source.start(sink)
    for frame in frames[held:]:
        source.on_frame(CAMERA, frame)
    await source.stop()
    names = [name for name, _ in sink.pictures()]
    assert names == ["c", "d"]
    first, second = (at for _, at in sink.pictures())
    assert second - first == pytest.approx(33, abs=1)


async def test_sound_does_not_wait_for_a_layer() -> None:
    source, _ = await opened(CAMERA, MICROPHONE)
    sink = Sink()
    source.on_frame(CAMERA, picture("a", 0, LOW))
    source.on_frame(MICROPHONE, sound(0))
    await source.start(sink)
    assert [packet.kind for packet in sink.packets] == [MediaKind.AUDIO]
    await source.stop()


async def test_a_layer_that_never_comes_is_waited_for_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen that stands still sends one picture."""
    monkeypatch.setattr(passthrough_video, "WAIT_NS", 10 * MS)
    source, _ = await opened(CAMERA)
    sink = Sink()
    await source.start(sink)
    source.on_frame(CAMERA, picture("a", 0, LOW))
    assert sink.packets == []
    await asyncio.wait_for(sink.came.wait(), 5)
    assert [name for name, _ in sink.pictures()] == ["a"]
    await source.stop()


async def test_a_stop_while_a_layer_is_waited_for_keeps_what_there_is() -> None:
    source, session = await opened(CAMERA)
    sink = Sink()
    await source.start(sink)
    source.on_frame(CAMERA, picture("before", 0))
    source.on_frame(CAMERA, picture("a", 33, LOW))
    source.on_frame(CAMERA, picture("b", 66))
    await source.stop()
    assert [name for name, _ in sink.pictures()] == ["a", "b"]
    assert session.asked == ["TR_V"]


@pytest.mark.parametrize(("speaker", "held_ms"), [("ada", 2000), ("bob", 0)])
async def test_pictures_keep_to_the_sound_of_their_publisher_where_that_is_late(
    speaker: str, held_ms: int
) -> None:
    """It came at once after a cut, and nobody pauses."""
    microphone = replace(MICROPHONE, participant=replace(ADA, identity=speaker))
    source, _ = await opened(CAMERA, microphone)
    assert source._audio is not None
    source._audio._pts = AudioPts(AudioCodec.OPUS, lambda data: False)
    sink = Sink()
    await source.start(sink)
    source.on_frame(CAMERA, picture("0", 0, HIGH))
    source.on_frame(microphone, sound(0))
    source._audio._give(source._audio._pts.silence_until(4000 * MS))
    for at_ms in range(2000, 6000, 20):
        source.on_frame(microphone, spoken(at_ms))
        source.on_frame(CAMERA, picture(str(at_ms), at_ms))
    lies = {int(name): at_ms for name, at_ms in sink.pictures()}
    heard = [(p.data, p.pts_ns // MS) for p in sink.packets if p.kind is MediaKind.AUDIO]
    spoke = dict(zip(range(2000, 6000, 20), [at for data, at in heard if data == SPOKEN], strict=True))
    for at_ms in range(2000, 6000, 20):
        assert lies[at_ms] - at_ms == pytest.approx(held_ms, abs=10)
        assert spoke[at_ms] - at_ms == pytest.approx(2000, abs=10)
    await source.stop()
