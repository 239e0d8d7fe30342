"""What a passed-through track begins with, from frames as the room client hands them out."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError
from openegress.core.pause_mode import PauseMode
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
        if name in ("subscribe", "wait_for_media", "release", "close", "pause", "resume"):
            return self._nothing
        raise AttributeError(name)

    async def _nothing(self, *_: object) -> None:
        pass

    now_ms: int = 0

    def now_ns(self) -> int:
        return BEGAN_NS + self.now_ms * MS

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
    return sound(at_ms)._replace(data=SPOKEN)


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


# --- paused


@dataclass
class Paused:
    """A call of pictures and sound, recorded for a second, and paused for three."""

    source: RoomPacketSource
    session: FakeSession
    sink: Sink

    @classmethod
    async def begun(cls, *tracks: Track) -> "Paused":
        source, session = await opened(*tracks)
        call = cls(source, session, Sink())
        call.send(0, 80)
        await source.start(call.sink)
        call.send(80, 1000)
        session.now_ms = 1000
        assert await source.pause(PauseMode.CUT) == BEGAN_NS + 1000 * MS
        return call

    def send(self, from_ms: int, to_ms: int) -> None:
        """A key frame and what follows it each 40 ms, and sound each 20 ms."""
        for at_ms in range(from_ms, to_ms, 20):
            if MediaKind.VIDEO in self.source._tracks and (at_ms - from_ms) % 40 == 0:
                frame = picture(str(at_ms), at_ms, HIGH if at_ms == from_ms else (0, 0))
                self.source.on_frame(CAMERA, frame)
            if MediaKind.AUDIO in self.source._tracks:
                self.source.on_frame(MICROPHONE, spoken(at_ms))

    async def resumed(self, from_ms: int, to_ms: int) -> int:
        """In ms since the beginning."""
        resuming = asyncio.create_task(self.source.resume())
        await asyncio.sleep(0)
        self.send(from_ms, to_ms)
        return (await resuming - BEGAN_NS) // MS

    def sounds_ms(self) -> list[int]:
        return [p.pts_ns // MS for p in self.sink.packets if p.kind is MediaKind.AUDIO]


async def test_a_pause_is_left_out_of_tracks_as_they_come() -> None:
    call = await Paused.begun(CAMERA, MICROPHONE)
    call.source.on_frame(MICROPHONE, spoken(1020))  # it was on its way
    call.session.now_ms = 4000
    assert await call.resumed(4000, 5000) == 4000
    await call.source.stop()
    before, after = call.sink.pictures()[:25], call.sink.pictures()[25:]
    assert [name for name, _ in before] == [str(at_ms) for at_ms in range(0, 1000, 40)]
    assert [name for name, _ in after] == [str(at_ms) for at_ms in range(4000, 5000, 40)]
    assert after[0][1] == pytest.approx(1000, abs=1)
    assert call.sounds_ms() == [pytest.approx(at_ms, abs=1) for at_ms in range(0, 2000, 20)]
    late = [p.paused_ns for p in call.sink.packets if p.pts_ns > 1100 * MS]
    assert set(late) == {3 * S}


async def test_the_first_key_frame_says_where_it_goes_on() -> None:
    call = await Paused.begun(CAMERA, MICROPHONE)
    call.session.now_ms = 4000
    resuming = asyncio.create_task(call.source.resume())
    await asyncio.sleep(0)
    for at_ms in range(4000, 4200, 20):
        call.source.on_frame(MICROPHONE, spoken(at_ms))
    call.source.on_frame(CAMERA, picture("delta", 4100))
    call.send(4200, 5000)
    assert (await resuming - BEGAN_NS) // MS == 4200
    await call.source.stop()
    assert call.sink.pictures()[25][0] == "4200"
    assert call.sounds_ms() == [pytest.approx(at_ms, abs=1) for at_ms in range(0, 1800, 20)]


async def test_one_that_ends_while_paused_has_no_silence_for_the_pause() -> None:
    call = await Paused.begun(CAMERA, MICROPHONE)
    call.session.now_ms = 60_000
    await call.source.stop()
    assert max(call.sounds_ms()) <= 1000
    assert len(call.sink.pictures()) == 25


async def test_sound_alone_goes_on_with_sound() -> None:
    call = await Paused.begun(MICROPHONE)
    call.session.now_ms = 4000
    assert await call.resumed(4040, 5000) == 4040
    await call.source.stop()
    assert call.sounds_ms()[:98] == [pytest.approx(at_ms, abs=1) for at_ms in range(0, 1960, 20)]


async def test_a_pause_that_fails_leaves_nothing_out() -> None:
    source, session = await opened(MICROPHONE)
    sink = Sink()
    source.on_frame(MICROPHONE, spoken(0))
    await source.start(sink)

    async def broken() -> None:
        raise EgressError(Code.UNAVAILABLE, "the room is gone")

    session.pause = broken  # type: ignore[attr-defined]
    with pytest.raises(EgressError, match="gone"):
        await source.pause(PauseMode.CUT)
    source.on_frame(MICROPHONE, spoken(20))
    await source.stop()
    assert [p.pts_ns // MS for p in sink.packets] == [0, 20]


async def test_no_card_is_put_into_tracks_as_they_come() -> None:
    source, _ = await opened(MICROPHONE)
    with pytest.raises(EgressError) as refused:
        await source.pause(PauseMode.HOLD)
    assert refused.value.code is Code.UNIMPLEMENTED
