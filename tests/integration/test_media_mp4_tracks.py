"""MP4 files of many tracks that come and go, read by FFmpeg, old and new, and by GPAC, whole and torn."""

import json
import logging
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import pytest

from openegress.core.codecs import AudioCodec, Container, VideoCodec
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.fragments import sample
from openegress.media.mp4 import Mp4Error
from openegress.media.mp4_head import BoxRoom, in_slots
from openegress.media.mp4_tracks import Mp4TracksWriter
from openegress.media.plain_mp4 import make_plain, plain_copy
from openegress.output.file.finalise import finalise
from testkit import mp4_reader
from testkit.matroska_reader import ReadTrack, read
from testkit.tracks_maker import FPS, Disk, by_time, pictures, sounds

CODECS = [VideoCodec.VP8, VideoCodec.VP9, VideoCodec.H264, VideoCodec.H265, VideoCodec.AV1]


def written(packets: Sequence[Packet]) -> Disk:
    disk = Disk()
    writer = Mp4TracksWriter(disk.put, disk.rewrite)
    writer.open()
    for packet in packets:
        writer.write(packet)
    writer.close()
    return disk


def check(found: ReadTrack, packets: Sequence[Packet]) -> None:
    """Each of `packets`, at its time, as its codec's mapping has it."""
    track = packets[0].track
    assert track is not None
    assert [each.data for each in found.packets] == [sample(track.form, packet.data) for packet in packets]
    times = [packet.pts_ns / S for packet in packets]
    assert [each.at_s for each in found.packets] == pytest.approx(times, abs=0.0001)
    assert [each.is_key for each in found.packets] == [packet.is_key for packet in packets]


def by_name(path: Path) -> dict[str, ReadTrack]:
    return {track.tags["handler_name"]: track for track in read(path)}


def test_every_codec_that_a_room_can_send(tmp_path: Path) -> None:
    """While it grows, finished in a copy, and finished in place: all the same."""
    given = [pictures(n, codec, begin_s=0.5 * n) for n, codec in enumerate(CODECS, 1)]
    given += [sounds(6, AudioCodec.OPUS, begin_s=3.0), sounds(7, AudioCodec.OPUS)]
    growing, whole, in_place = (tmp_path / f"{name}.mp4" for name in ("growing", "whole", "in_place"))
    for path in (growing, whole, in_place):
        path.write_bytes(written(by_time(*given)).content)
    assert finalise(whole, Container.MP4) == ""
    make_plain(in_place)
    for path in (growing, whole, in_place):
        found = by_name(path)
        assert len(found) == len(given)
        for number, packets in enumerate(given, 1):
            check(found[f"person-{number}/unknown"], packets)
        assert {track.title for track in found.values()} == {"Ada opus", *(f"Ada {c.value}" for c in CODECS)}
    media_bytes = sum(len(packet.data) for packets in given for packet in packets)
    assert whole.stat().st_size < media_bytes + 20_000, "the room for more tracks is gone"
    with av.open(str(whole)) as container:
        videos = len(container.streams.video)
    for number in range(videos):
        with av.open(str(whole)) as container:
            assert sum(1 for _ in container.decode(video=number)) == 2 * FPS
    for path in (growing, whole, in_place):
        # GPAC's reader finds the same samples where they are.
        parsed = mp4_reader.read(path)
        assert parsed.fragmented == (path is growing)
        kinds = {"vp08", "vp09", "avc1", "hvc1", "av01", "Opus"}
        assert {entry.type for track in parsed.tracks for entry in track.entries} == kinds
        assert {box.path for box in parsed.boxes if box.unread} <= {"moov/trak/udta/name"}
        content, stored = path.read_bytes(), {track.packets[0].at_s: track for track in read(path)}
        for one in parsed.tracks:
            first_s = one.presented_s(parsed.timescale)[0]
            data = [content[each.offset : each.offset + each.size] for each in one.samples]
            known = min(stored.values(), key=lambda track: abs(track.packets[0].at_s - first_s))
            assert data == [packet.data for packet in known.packets]
    assert mp4_reader.has_index_in_front(whole)
    # FFmpeg of the machine, years older than that of the wheel.
    asked = ["-show_entries", "stream=codec_name,start_time:stream_tags=handler_name", "-of", "json"]
    told = json.loads(subprocess.check_output(["ffprobe", "-v", "error", *asked, str(whole)]))["streams"]
    starts = {each["tags"]["handler_name"]: float(each["start_time"]) for each in told}
    assert starts == {f"person-{n}/unknown": packets[0].pts_ns / S for n, packets in enumerate(given, 1)}
    assert {each["codec_name"] for each in told} == {"vp8", "vp9", "h264", "hevc", "av1", "opus"}


def test_a_track_that_comes_later_is_in_the_file_from_then_on(tmp_path: Path) -> None:
    first, late = sounds(1, AudioCodec.OPUS, seconds=10), pictures(2, VideoCodec.H264, begin_s=5)
    disk, path = Disk(), tmp_path / "a.mp4"
    writer = Mp4TracksWriter(disk.put, disk.rewrite)
    seen: list[tuple[float, int, int]] = []
    """(s, tracks, packets)."""
    for packet in by_time(first, late):
        before = disk.end
        writer.write(packet)
        if disk.end != before:
            path.write_bytes(disk.content)
            tracks = read(path)
            seen.append((packet.pts_ns / S, len(tracks), sum(len(each.packets) for each in tracks)))
    assert {tracks for at_s, tracks, _ in seen if at_s < 5} == {1}
    assert {tracks for at_s, tracks, _ in seen if at_s > 5} == {2}
    for at_s, _, packets in seen:
        due = [packet for packet in (*first, *late) if packet.pts_ns / S < at_s - 1]
        assert packets >= len(due), "all but the last second plays"


def test_a_kill_at_any_byte_leaves_all_whole_fragments(tmp_path: Path) -> None:
    packets = by_time(
        sounds(1, AudioCodec.OPUS, seconds=3),
        pictures(2, VideoCodec.VP8, begin_s=0.7),
        sounds(3, AudioCodec.OPUS, begin_s=1.2, seconds=1),
    )
    disk, path, plain = written(packets), tmp_path / "a.mp4", tmp_path / "plain.mp4"
    ends, cannot_be = [0], set[int]()
    for _, data in disk.writes:
        ends.append(ends[-1] + len(data))
        if len(data) == 8:  # the head of a box, which lies within a page
            cannot_be |= {*range(ends[-2] + 1, ends[-1])}
    near = {end + by for end in ends for by in range(-12, 13)} - cannot_be
    counts: list[int] = []
    for cut in sorted(at for at in {*near, *range(ends[1], ends[-1], 499)} if ends[1] <= at <= ends[-1]):
        path.write_bytes(disk.after(cut))
        plain_copy(path, plain)
        found = by_name(plain)
        counts.append(sum(len(track.packets) for track in found.values()))
        for number in (1, 2, 3):
            given = [each for each in packets if each.track is not None and each.track.number == number]
            track = found.get(f"person-{number}/unknown")
            if track is not None:
                check(track, given[: len(track.packets)])
    assert counts == sorted(counts) and counts[-1] == len(packets)
    path.write_bytes(disk.after(ends[1] - 1))
    with pytest.raises(Mp4Error):
        plain_copy(path, plain)


def test_what_no_mp4_takes_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    voice = sounds(1, AudioCodec.OPUS)
    path = tmp_path / "a.mp4"
    path.write_bytes(written(by_time(sounds(2, AudioCodec.PCMU), voice)).content)
    (track,) = read(path)
    check(track, voice)
    assert "MP4 cannot hold pcmu; name the file .mkv" in caplog.text


def test_more_tracks_than_there_is_room_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    name = "ä" * 64
    packets = []
    for number in range(1, 400):
        for packet in sounds(number, AudioCodec.OPUS, seconds=0.04):
            assert packet.track is not None
            track = replace(packet.track, name=name, tags=(("PARTICIPANT_IDENTITY", f"{number}" + name),))
            packets.append(replace(packet, track=track))
    path = tmp_path / "a.mp4"
    path.write_bytes(written(packets).content)
    assert 250 <= len(read(path)) < 399
    assert "the file has no room for more tracks" in caplog.text
    assert finalise(path, Container.MP4) == ""
    assert all(len(track.packets) == 2 for track in read(path))


@pytest.mark.parametrize("gap_s", [100, 7 * 3600, 50 * 3600])
def test_silence_of_any_length(tmp_path: Path, gap_s: int) -> None:
    packets = [*sounds(1, AudioCodec.OPUS), *sounds(1, AudioCodec.OPUS, begin_s=gap_s)]
    path = tmp_path / "a.mp4"
    path.write_bytes(written(packets).content)
    assert finalise(path, Container.MP4) == ""
    (track,) = read(path)
    times = [packet.pts_ns / S for packet in packets]
    assert [each.at_s for each in track.packets] == pytest.approx(times, abs=0.002)


def test_the_head_of_a_box_lies_within_a_page() -> None:
    room, made = BoxRoom(64, 64 * 100), []
    for size in (8, 63, 64, 65, 71, 72, 120):
        room.reveal(
            in_slots((size).to_bytes(4, "big") + b"trak" + bytes(size - 8)), lambda at, _: made.append(at)
        )
    assert all(at % 64 in (0, 8) for at in made)
    with pytest.raises(ValueError, match="no room"):
        room.reveal(bytes(64 * 100), lambda at, data: None)
