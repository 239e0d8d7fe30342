"""H.264 whose encoder gets quicker and slower: one stream to whoever reads it, with every picture once."""

import gc
import itertools
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from openegress.core.codecs import LIVE_SPEEDS, Container, EncoderSpeed, H264Profile, VideoCodec
from openegress.core.plan import VideoEncoding
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.adapting_encoder import AdaptingEncoder, Choice
from openegress.media.encoder import VideoEncoder
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.overload import Pressure
from openegress.media.speed_choice import CALM_S
from openegress.output.file.finalise import finalise
from testkit.pattern import COLOURS, Picture, PictureSpec
from testkit.probe import counters, probe

FPS, SIZE = 30, (320, 192)
ULTRAFAST, SUPERFAST, VERYFAST = LIVE_SPEEDS


def asked(
    profile: H264Profile = H264Profile.MAIN, speed: EncoderSpeed = VERYFAST, *, varies: bool = False
) -> VideoEncoding:
    return VideoEncoding(
        *SIZE, FPS, 600, 4.0, VideoCodec.H264, profile, speed=speed, adapts=True, has_variable_rate=varies
    )


class Recorded:
    """What an encoder gave while the machine was short of time, or was not."""

    def __init__(
        self, encoding: VideoEncoding, *, steady: bool = False, choice: Choice | None = None
    ) -> None:
        self.now_s, self.frames = 1000.0, 0
        self.pressure = Pressure()
        self.encoder = AdaptingEncoder(
            encoding, self.pressure, steady=steady, choice=choice, clock=lambda: self.now_s
        )
        self.packets: list[Packet] = []
        self.speeds: list[EncoderSpeed] = []
        self._picture = Picture(PictureSpec(*SIZE, FPS, COLOURS[0]))
        self._frame: av.VideoFrame | None = None

    def run(self, seconds: float, *, pressed: bool, moves: bool = True) -> None:
        for _ in range(round(seconds * FPS)):
            self.now_s += 1 / FPS
            self.pressure.offered += 1
            self.pressure.pressed += pressed
            self.pressure.worked_s += (1.0 if pressed else 0.1) / FPS
            if moves or self._frame is None:
                planes = np.frombuffer(self._picture.draw(self.frames), np.uint8)
                self._frame = av.VideoFrame.from_ndarray(planes.reshape(SIZE[1] * 3 // 2, SIZE[0]), "yuv420p")
            self.packets += self.encoder.encode(self._frame, self.frames * S // FPS)
            self.speeds.append(self.encoder.speed)
            self.frames += 1

    def written(self, path: Path) -> Path:
        self.packets += self.encoder.flush(float("inf"))
        form = self.encoder.format
        with path.open("wb", buffering=0) as file:
            writer = FragmentWriter(file.write, [form], header=file_header([form]))
            writer.open()
            for packet in self.packets:
                writer.write(packet)
            writer.close()
        assert finalise(path, Container.MP4) == ""
        return path


def changes(speeds: Sequence[EncoderSpeed]) -> list[tuple[int, EncoderSpeed]]:
    return [(n, b) for n, (a, b) in enumerate(itertools.pairwise(speeds), 1) if a is not b]


@pytest.mark.parametrize("profile", list(H264Profile))
def test_all_speeds_have_the_same_parameter_sets(profile: H264Profile) -> None:
    found = {VideoEncoder(asked(profile, speed), steady=False).parameter_sets for speed in EncoderSpeed}
    assert len(found) == 1 and found != {b""}


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.parametrize("profile", list(H264Profile))
def test_every_picture_is_there_whatever_the_speed(
    tmp_path: Path, profile: H264Profile, steady: bool
) -> None:
    recorded = Recorded(asked(profile), steady=steady)
    recorded.run(9.0, pressed=True)
    recorded.run(2 * CALM_S + 10, pressed=False)
    (first, *_), (second, *_), (third, *_), (fourth, *_) = changes(recorded.speeds)
    assert [speed for _, speed in changes(recorded.speeds)] == [SUPERFAST, ULTRAFAST, SUPERFAST, VERYFAST]
    path = recorded.written(tmp_path / "a.mp4")
    assert counters(path).values == list(range(recorded.frames)) and not counters(path).unreadable
    facts = probe(path)
    assert facts.video is not None and facts.video.rising
    keys = [round(at * FPS) for at in facts.video.key_frames_s]
    # A quicker one does not wait for a key frame; a slower one does.
    assert {first, second} <= set(keys)
    assert set(keys) - {first, second} == set(range(0, recorded.frames, 4 * FPS))
    assert third % (4 * FPS) == fourth % (4 * FPS) == 0
    assert not recorded.pressure.is_quickest, "every other picture is left out at the quickest alone"
    quicker = {each.speed: each.ms for each in recorded.encoder.quicker}
    assert quicker["ultrafast"] == pytest.approx((third - second) * 1000 / FPS, abs=70)
    assert quicker["superfast"] == pytest.approx((second - first + fourth - third) * 1000 / FPS, abs=140)


def test_an_encoder_that_is_replaced_is_freed_at_once() -> None:
    """Without a collection, which a handler hardly ever makes: each has 40 MiB at 720p."""

    def open_codecs() -> int:
        return sum(isinstance(each, av.VideoCodecContext) for each in gc.get_objects())

    before, recorded = open_codecs(), Recorded(asked())
    gc.disable()
    try:
        for _ in range(2):
            recorded.run(9.0, pressed=True)
            recorded.run(2 * CALM_S + 10, pressed=False)
        assert len(changes(recorded.speeds)) >= 6
        # The one that encodes, and the first, of whose stream the format is.
        assert open_codecs() - before <= 2
    finally:
        gc.enable()


@pytest.mark.parametrize("varies", [False, True])
def test_a_still_picture_goes_on_over_a_change(tmp_path: Path, varies: bool) -> None:
    recorded = Recorded(asked(varies=varies))
    recorded.run(1.5, pressed=False)
    recorded.run(7.0, pressed=True, moves=False)
    recorded.run(1.5, pressed=True)
    assert len(changes(recorded.speeds)) == 2 and recorded.pressure.is_quickest
    path = recorded.written(tmp_path / "a.mp4")
    facts, found = probe(path), counters(path)
    assert facts.video is not None and facts.video.rising and found.in_order and not found.unreadable
    assert facts.video.duration_s == pytest.approx(10.0, abs=0.01)
    assert found.values[-45:] == list(range(255, 300))
    if not varies:
        assert len(found.values) == 300 and set(found.values[44:255]) == {44}


class Backlog:
    """Of recordings that are composed later: it alone says which speed is wanted."""

    speed = EncoderSpeed.FAST

    def seen(self, now_s: float, *, offered: int, pressed: int, took_s: float) -> bool:
        return False


def test_what_is_composed_later_follows_its_backlog(tmp_path: Path) -> None:
    """However its encoder keeps up, as nobody waits for it."""
    backlog = Backlog()
    recorded = Recorded(asked(speed=EncoderSpeed.FAST), choice=backlog)
    recorded.run(6.0, pressed=True)
    backlog.speed = ULTRAFAST
    recorded.run(1.0, pressed=False)
    backlog.speed = EncoderSpeed.FAST
    recorded.run(6.0, pressed=True)
    assert [speed for _, speed in changes(recorded.speeds)] == [ULTRAFAST, EncoderSpeed.FAST]
    path = recorded.written(tmp_path / "a.mp4")
    assert counters(path).values == list(range(recorded.frames)) and not counters(path).unreadable
