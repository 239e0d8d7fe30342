"""What campaigns say of a recording, on files of which is known what they lack."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from campaigns.account import heard, out_of_step_ms, pictures
from openegress.core.units import S
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec, Sound

FPS = 15
SECONDS = 6
ZERO_NS = 1_700_000_000 * S
SENT_NS = {number: ZERO_NS + number * S // FPS for number in range(SECONDS * FPS)}


def make(
    path: Path,
    lost: range = range(0),
    key_at: int = -1,
    silent: range = range(0),
    late_ms: int = 0,
    blank_at: int = -1,
) -> None:
    """`lost`: pictures that are left out; `key_at`: one that is a key frame; `silent`: blocks of 10 ms
    without sound; `late_ms`: how much later sound is; `blank_at`: a picture without a counter."""
    picture = Picture(PictureSpec(320, 180, FPS, COLOURS[0]))
    encoder = LiveEncoder("vp8", 320, 180, FPS, 300)
    sound = Sound(300.0)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx", rate=FPS)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=48_000)
        assert isinstance(audio, AudioStream)
        audio.layout = "mono"
        for number in range(SECONDS * FPS):
            drawn = bytearray(len(picture.buffer)) if number == blank_at else picture.draw(number)
            unit = encoder.encode(drawn, number, force_key=number == key_at)
            if number not in lost:
                packet = av.Packet(unit.data)
                packet.stream, packet.time_base = video, Fraction(1, FPS)
                packet.pts = packet.dts = number
                packet.is_keyframe = unit.is_key
                container.mux(packet)
        for block in range(SECONDS * 100):
            if block not in silent:
                samples = np.frombuffer(sound.block(block - late_ms // 10), "<i2")
                frame = av.AudioFrame.from_ndarray(samples[np.newaxis].copy(), "s16", "mono")
                frame.sample_rate, frame.pts = 48_000, block * 480
                container.mux(audio.encode(frame))


def test_a_whole_recording_lacks_nothing(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv")
    seen = pictures(tmp_path / "a.mkv", ZERO_NS, SENT_NS, as_sent=True)
    listened = heard(tmp_path / "a.mkv", ZERO_NS)
    assert [each.counter for each in seen.shown] == list(SENT_NS)
    assert seen.undecodable == 0
    assert seen.frozen_s == pytest.approx(1 / FPS, abs=0.002)
    assert listened.silent_s == 0
    assert listened.begin_s == pytest.approx(ZERO_NS / S, abs=0.02)
    assert listened.end_s == pytest.approx(ZERO_NS / S + SECONDS, abs=0.02)
    # The first beep has no tone before it that would tell its begin.
    assert len(listened.beeps_s) == SECONDS - 1
    assert max(map(abs, listened.late_ms())) < 5
    assert max(abs(ms) for _, ms in out_of_step_ms(seen, listened, SENT_NS)) < 5


@pytest.mark.parametrize(("key_at", "broken"), [(-1, True), (40, False)])
def test_what_follows_a_loss_has_to_be_a_key_frame(tmp_path: Path, key_at: int, broken: bool) -> None:
    make(tmp_path / "a.mkv", lost=range(30, 40), key_at=key_at)
    seen = pictures(tmp_path / "a.mkv", ZERO_NS, SENT_NS, as_sent=True)
    assert (seen.undecodable > 0) is broken
    assert seen.frozen_s > 10.9 / FPS


def test_what_was_blurred_by_its_publisher_is_no_fault(tmp_path: Path) -> None:
    """A picture without a counter in the middle of a recording."""
    make(tmp_path / "a.mkv", blank_at=30)
    for blurred, faults in (((), 2), ((30,), 0)):
        seen = pictures(tmp_path / "a.mkv", ZERO_NS, SENT_NS, as_sent=True, blurred=blurred)
        assert seen.undecodable == faults, blurred


def test_silence_and_late_sound_are_found(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", silent=range(250, 290), late_ms=120)
    seen = pictures(tmp_path / "a.mkv", ZERO_NS, SENT_NS, as_sent=True)
    listened = heard(tmp_path / "a.mkv", ZERO_NS)
    assert listened.silent_s == pytest.approx(0.4, abs=0.021)
    assert all(ms == pytest.approx(120, abs=5) for ms in listened.late_ms())
    assert all(ms == pytest.approx(120, abs=5) for _, ms in out_of_step_ms(seen, listened, SENT_NS))


def test_a_beep_without_its_begin_tells_no_time(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", silent=range(295, 304))
    whole, cut = range(1, SECONDS), 3
    beeps = [round(at_s - ZERO_NS / S) for at_s in heard(tmp_path / "a.mkv", ZERO_NS).beeps_s]
    assert beeps == [second for second in whole if second != cut]


def test_a_recording_without_sound_says_so(tmp_path: Path) -> None:
    make(tmp_path / "a.mkv", silent=range(SECONDS * 100))
    with pytest.raises(ValueError, match="silent"):
        heard(tmp_path / "a.mkv", ZERO_NS)
