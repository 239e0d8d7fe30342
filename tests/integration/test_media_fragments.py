"""Fragments and the plain MP4 they become, read by FFmpeg and by a parser that knows nothing of either."""

import dataclasses
import io
import os
from collections.abc import Sequence
from pathlib import Path

import av
import pytest

from openegress.core.codecs import VIDEO_TIME_BASE, AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S
from openegress.media import Packet, StreamFormat, fragments
from openegress.media.fragment_index import is_fragmented, read
from openegress.media.fragments import FRAGMENT_NS, PRIMING_SAMPLES, FragmentWriter, file_header, sample
from openegress.media.mp4 import Mp4Error
from openegress.media.passthrough import audio_format, video_format
from openegress.media.plain_mp4 import make_plain, plain_copy
from testkit import mp4_reader, probe
from testkit.encoded import Encoded, Spec
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec

OPUS_SILENCE = b"\xf8\xff\xfe"
SOUND = audio_format(AudioCodec.OPUS)


def written(path: Path, formats: Sequence[StreamFormat], packets: Sequence[Packet]) -> Path:
    with path.open("wb", buffering=0) as file:
        writer = FragmentWriter(file.write, formats, header=file_header(formats))
        writer.open()
        for packet in packets:
            writer.write(packet)
        writer.close()
    return path


def plain(path: Path) -> Path:
    target = path.with_suffix(".plain.mp4")
    plain_copy(path, target)
    return target


def camera(seconds: int) -> tuple[StreamFormat, list[Packet]]:
    """A second between key frames."""
    encoder, picture = LiveEncoder("h264", 320, 180, 30, 400), Picture(PictureSpec(320, 180, 30, COLOURS[0]))
    units = [encoder.encode(picture.draw(n), n, force_key=n % 30 == 0) for n in range(30 * seconds)]
    packets = [
        Packet(MediaKind.VIDEO, u.data, n * 3000, n * 3000, 0, VIDEO_TIME_BASE, u.is_key)
        for n, u in enumerate(units)
    ]
    return video_format(VideoCodec.H264, units[0].data, 320, 180), packets


def test_a_key_frame_of_the_format_that_was_asked_for_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form, packets = camera(1)

    def refuse(*_: object) -> None:
        raise AssertionError("FFmpeg is asked what is known")

    monkeypatch.setattr(fragments, "renewed", refuse)
    assert probe.probe(written(tmp_path / "camera.mp4", [form], packets)).video is not None


def moved(packet: Packet, seconds: int) -> Packet:
    by = seconds * packet.time_base.denominator
    return dataclasses.replace(packet, pts=packet.pts + by, dts=packet.dts + by)


def test_a_track_that_never_sends_holds_nothing_up() -> None:
    form, packets = camera(4)
    out = io.BytesIO()
    formats = [form, SOUND]
    writer = FragmentWriter(out.write, formats, header=file_header(formats))
    writer.open()
    for packet in packets:
        writer.write(packet)
        written_ns = (out.getvalue().count(b"moof")) * FRAGMENT_NS
        assert packet.pts_ns - written_ns <= FRAGMENT_NS
    writer.close()
    out.seek(0)
    with av.open(out, "r") as container:
        assert len([p for p in container.demux(video=0) if p.size]) == len(packets)


@pytest.mark.parametrize("audio", [AudioCodec.AAC, AudioCodec.OPUS, AudioCodec.MP3, None])
def test_a_plain_copy_says_what_the_encoders_gave(tmp_path: Path, audio: AudioCodec | None) -> None:
    """Boxes as ISO/IEC 14496-12 has them, and QuickTime insists on: one index in front of one mdat, tables
    that agree, each sample's bytes where the tables say, sound from media time zero on."""
    encoded = Encoded(Spec(seconds=4.0, audio=audio))
    packets = list(encoded.packets())
    path = plain(written(tmp_path / "a.mp4", encoded.formats, packets))
    found, data = mp4_reader.read(path), path.read_bytes()
    assert found.top == ["ftyp", "moov", "mdat"] and not found.fragmented
    assert not [box.path for box in found.boxes if box.unread]
    assert found.boxes[-1].start + found.boxes[-1].size == len(data)
    media = next(box for box in found.boxes if box.path == "mdat")
    assert len(found.tracks) == len(encoded.formats)
    for track, form in zip(found.tracks, encoded.formats, strict=True):
        given = [packet for packet in packets if packet.kind is form.kind]
        assert [data[s.offset : s.offset + s.size] for s in track.samples] == [
            sample(form, packet.data) for packet in given
        ]
        assert all(media.start < s.offset and s.offset + s.size <= len(data) for s in track.samples)
        assert track.presented_s(found.timescale) == pytest.approx(
            [packet.pts_ns / S for packet in given], abs=1e-4
        )
        assert [s.key for s in track.samples] == [packet.is_key for packet in given]
        assert track.samples[0].dts == 0
    starts = {box.path.rsplit("/", 1)[-1] for box in found.boxes}
    assert {"mvhd", "tkhd", "elst", "mdhd", "hdlr", "dref", "stsd", "stts", "stsc", "stsz", "stco"} <= starts
    if audio is not None:
        assert found.tracks[-1].edits[0][1] == PRIMING_SAMPLES[audio], "as the encoder has it"
    assert ("sgpd" in starts) == (audio in (AudioCodec.AAC, AudioCodec.OPUS)), "where to begin to decode"


def test_at_a_variable_rate_each_picture_lasts_until_the_next(tmp_path: Path) -> None:
    """In every fragment as it comes, so that a player of fragments sees no gap, and in the plain file."""
    encoded = Encoded(Spec(seconds=9.5, shown_for=75, has_variable_rate=True))
    packets = list(encoded.packets())
    times = [packet.pts for packet in packets if packet.kind is MediaKind.VIDEO]
    ends = [*times[1:], round(9.5 * 90_000)]
    assert len(times) < 9.5 * 30 / 2
    path = written(tmp_path / "a.mp4", encoded.formats, packets)
    for each in (path, plain(path)):
        video, sound = mp4_reader.read(each).tracks
        assert [s.duration for s in video.samples] == [
            end - at for at, end in zip(times, ends, strict=True)
        ], each.name
        assert sum(s.duration for s in sound.samples) / sound.timescale == pytest.approx(9.5, abs=0.05)
        shown = probe.counters(each)
        assert sorted(set(shown.values)) == [0, 75, 150, 225] and not shown.unreadable
        first = {value: times[shown.values.index(value)] for value in shown.values}
        assert first == {value: value * 3000 for value in first}, "each in its slot"


def test_a_kill_costs_no_more_at_a_variable_rate(tmp_path: Path) -> None:
    """Pictures that may last longer do not hold up the sound beside them."""
    encoded = Encoded(Spec(seconds=5.0, shown_for=150, has_variable_rate=True))
    out = io.BytesIO()
    writer = FragmentWriter(out.write, encoded.formats, header=file_header(encoded.formats))
    writer.open()
    for packet in encoded.packets():
        writer.write(packet)
        if packet.kind is MediaKind.AUDIO and packet.pts_ns > S:
            path = tmp_path / "killed.mp4"
            path.write_bytes(out.getvalue())
            sound = mp4_reader.read(path).tracks[1].samples if packet.pts % (48 * 1024) == 0 else ()
            if sound:
                assert packet.pts_ns / S - (sound[-1].cts + sound[-1].duration) / 48_000 < 0.6


@pytest.mark.parametrize("hours", [0, 6, 7, 13.3, 25, 24 * 20])
@pytest.mark.parametrize("form", ["plain", "in place", "as it grows"])
def test_a_gap_of_hours_is_as_long_as_it_was(tmp_path: Path, hours: float, form: str) -> None:
    video, packets = camera(2)
    seconds = round(hours * 3600)
    later = [moved(packet, seconds + 2) for packet in packets]
    path = written(tmp_path / "a.mp4", [video], [*packets, *later])
    match form:
        case "plain":
            path = plain(path)
        case "in place":
            make_plain(path)
    with av.open(str(path)) as container:
        times = [float(p.pts * p.time_base) for p in container.demux() if p.pts is not None]
    assert times == pytest.approx([p.pts_ns / S for p in (*packets, *later)], abs=0.001)
    if form != "as it grows":
        found = mp4_reader.read(path)
        assert found.tracks[0].presented_s(found.timescale) == pytest.approx(times, abs=0.001)
        assert [s.duration < 2**31 for s in found.tracks[0].samples] == [True] * 120


def test_tracks_that_begin_later_are_late_in_the_file(tmp_path: Path) -> None:
    video, packets = camera(2)
    base = SOUND.time_base
    sound = [
        Packet(MediaKind.AUDIO, OPUS_SILENCE, at, at, 960, base, True) for at in range(48_000, 96_000, 960)
    ]
    order = sorted([*(moved(p, 1) for p in packets), *sound], key=lambda p: p.pts_ns)
    late = [moved(p, 1) if p.kind is MediaKind.AUDIO else p for p in order]
    path = plain(written(tmp_path / "a.mp4", [video, SOUND], late))
    facts = probe.probe(path)
    assert facts.video is not None and facts.audio is not None
    assert (facts.video.start_s, facts.audio.start_s) == pytest.approx((1.0, 2.0), abs=0.01)
    found = mp4_reader.read(path)
    assert [t.presented_s(found.timescale)[0] for t in found.tracks] == pytest.approx([1.0, 2.0], abs=0.001)


def test_a_header_alone_holds_no_media(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", [SOUND], [])
    with pytest.raises(Mp4Error, match="no media"):
        make_plain(path)


def test_a_single_picture_is_shown(tmp_path: Path) -> None:
    video, packets = camera(1)
    path = plain(written(tmp_path / "a.mp4", [video], packets[:1]))
    facts = probe.probe(path)
    assert facts.video is not None and (facts.video.frames, len(mp4_reader.read(path).tracks)) == (1, 1)


@pytest.mark.parametrize("tail", ["cut", "zeros", "noise"])
def test_what_a_dead_process_leaves_is_whole_up_to_its_last_fragment(tmp_path: Path, tail: str) -> None:
    video, packets = camera(3)
    path = written(tmp_path / "a.mp4", [video], packets)
    with path.open("rb") as file:
        index = read(file)
    (before, _), (last, _) = index.media[-2:]
    whole = path.read_bytes()
    for at in range(index.media[-2][0] + index.media[-2][1], len(whole), 997):
        rest = len(whole) - at
        path.write_bytes(whole[:at] + {"cut": b"", "zeros": bytes(rest), "noise": os.urandom(rest)}[tail])
        found = mp4_reader.read(plain(path))
        assert len(found.tracks[0].samples) == 75, at
        make_plain(path)
        assert len(mp4_reader.read(path).tracks[0].samples) == 75, at
    assert before < last


def test_an_index_that_does_not_fit_leaves_the_fragments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, packets = camera(2)
    path = written(tmp_path / "a.mp4", [video], packets)
    whole = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(os, "fsync", full)
        make_plain(path)
    assert path.read_bytes() == whole and is_fragmented(path)
    # Of one who died between the index and the switch, the index is left; it is made anew.
    path.write_bytes(whole + b"\0\0\0\x0cmoov\0\0\0\0")
    make_plain(path)
    assert mp4_reader.read(path).top == ["ftyp", "mdat", "moov"]
    assert not is_fragmented(path)


def test_offsets_beyond_four_gigabytes(tmp_path: Path) -> None:
    """In place, as nothing is copied there: a hole in the file stands for the media between."""
    video, packets = camera(2)
    path = written(tmp_path / "a.mp4", [video], packets[:30])
    more = written(tmp_path / "b.mp4", [video], packets[30:])
    with more.open("rb") as file:
        first = read(file).media[0][0]
        file.seek(0)
        moof = file.read().rindex(b"moof", 0, first) - 4
    hole = (5 << 30) - path.stat().st_size
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write((1).to_bytes(4, "big") + b"free" + hole.to_bytes(8, "big"))
        file.truncate(5 << 30)
        file.seek(0, os.SEEK_END)
        file.write(more.read_bytes()[moof:])
    make_plain(path)
    with av.open(str(path)) as container:
        kept = [bytes(p) for p in container.demux(video=0) if p.size]
    assert kept == [sample(video, packet.data) for packet in packets]
