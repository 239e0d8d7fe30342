"""Files of many tracks that come and go, read by FFmpeg and by MKVToolNix, whole and torn."""

import json
import logging
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import pytest

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.cluster_index import make_seekable
from openegress.media.fragments import sample
from openegress.media.matroska import MatroskaWriter
from openegress.media.passthrough import audio_format
from openegress.output.size_guard import IN_MATROSKA, SizeGuard, SizeLimit
from testkit.matroska_reader import ReadTrack, read
from testkit.tracks_maker import (
    FPS,
    SOUND,
    STARTED_NS,
    Disk,
    PacketList,
    by_time,
    pictures,
    sounds,
    track_of,
)


def written(packets: Sequence[Packet]) -> Disk:
    disk = Disk()
    writer = MatroskaWriter(disk.put, disk.rewrite, STARTED_NS)
    writer.open()
    for packet in packets:
        writer.write(packet)
    writer.close()
    return disk


def identified(path: Path) -> list[dict[str, object]]:
    """The tracks as MKVToolNix sees them, which has nothing to say against the file."""
    made = subprocess.run(["mkvmerge", "-J", str(path)], capture_output=True, check=True)
    told = json.loads(made.stdout)
    assert told["errors"] == told["warnings"] == []
    assert told["container"]["supported"] and told["container"]["properties"]["duration"] > 0
    properties: list[dict[str, object]] = [track["properties"] for track in told["tracks"]]
    return properties


def check(found: ReadTrack, packets: Sequence[Packet]) -> None:
    """Each of `packets`, at its time, as its codec's mapping has it."""
    track = packets[0].track
    assert track is not None
    assert [each.data for each in found.packets] == [sample(track.form, packet.data) for packet in packets]
    assert [each.at_s for each in found.packets] == pytest.approx(
        [packet.pts_ns / S for packet in packets], abs=0.001
    )
    assert [each.is_key for each in found.packets] == [packet.is_key for packet in packets]


def test_every_codec_that_a_room_can_send(tmp_path: Path) -> None:
    codecs = [VideoCodec.VP8, VideoCodec.VP9, VideoCodec.H264, VideoCodec.H265, VideoCodec.AV1]
    given = [pictures(n, codec) for n, codec in enumerate(codecs, 1)]
    given += [sounds(n, codec) for n, codec in enumerate(SOUND, len(codecs) + 1)]
    path = tmp_path / "a.mkv"
    path.write_bytes(written(by_time(*given)).content)
    for _ in range(2):
        found = {track.tags["TRACK_ID"]: track for track in read(path)}
        assert len(found) == len(given)
        for number, packets in enumerate(given, 1):
            check(found[f"TR_{number}"], packets)
        make_seekable(path)
    told = {str(each["track_name"]): each for each in identified(path)}
    assert {each["language"] for each in told.values()} == {"und"}
    assert told["Ada h264"]["pixel_dimensions"] == "160x96"
    assert told["Ada opus"]["tag_participant_identity"] == "person-6"
    with av.open(str(path)) as container:
        for stream in container.streams.video:
            assert sum(1 for _ in av.open(str(path)).decode(video=stream.index - 3)) == 2 * FPS
        assert container.duration == pytest.approx(2_000_000, abs=40_000)


def test_a_track_that_comes_later_is_in_the_file_from_then_on(tmp_path: Path) -> None:
    first, late = sounds(1, AudioCodec.OPUS, seconds=10), pictures(2, VideoCodec.H264, begin_s=5)
    disk, path = Disk(), tmp_path / "a.mkv"
    writer = MatroskaWriter(disk.put, disk.rewrite, STARTED_NS)
    seen: list[tuple[float, int, int]] = []
    """(s, tracks, packets)."""
    for packet in by_time(first, late):
        before = disk.end
        writer.write(packet)
        if disk.end != before:
            path.write_bytes(disk.content)
            tracks = read(path)
            seen.append((packet.pts_ns / S, len(tracks), sum(len(each.packets) for each in tracks)))
    writer.close()
    assert len(seen) > 10
    assert {tracks for at_s, tracks, _ in seen if at_s < 5} == {1}
    assert {tracks for at_s, tracks, _ in seen if at_s > 5} == {2}
    for at_s, _, packets in seen:
        due = [packet for packet in (*first, *late) if packet.pts_ns / S < at_s - 1]
        assert packets >= len(due), "all but the last second plays"
    path.write_bytes(disk.content)
    assert make_seekable(path)
    check(read(path)[1], late)


def test_a_kill_at_any_byte_leaves_all_whole_clusters(tmp_path: Path) -> None:
    packets = by_time(
        sounds(1, AudioCodec.OPUS, seconds=3),
        pictures(2, VideoCodec.VP8, begin_s=0.7),
        sounds(3, AudioCodec.OPUS, begin_s=1.2, seconds=1),
    )
    disk, path = Disk(), tmp_path / "a.mkv"
    writer = MatroskaWriter(disk.put, disk.rewrite, STARTED_NS)
    whole = {0: 0}
    """Packets in whole clusters by bytes that were written."""
    for number, packet in enumerate(packets):
        before = disk.end
        writer.write(packet)
        if disk.end != before:
            whole[disk.appended_bytes] = number
    writer.close()
    whole[disk.written_bytes] = len(packets)
    first = len(disk.writes[0][1])
    small = [sum(len(data) for _, data in disk.writes[:n]) for n in range(1, len(disk.writes) + 1)]
    cuts = {at + by for at in small for by in range(-12, 12)} | {*range(first, disk.written_bytes, 499)}
    for cut in sorted(cut for cut in cuts if first <= cut <= disk.written_bytes):
        path.write_bytes(disk.after(cut))
        torn = read(path)
        assert make_seekable(path)
        tracks = read(path)
        for was, after in zip(torn, tracks, strict=True):
            assert after.packets == was.packets[: len(after.packets)], "no more is taken off than is torn"
        kept = sum(len(each.packets) for each in tracks)
        assert kept == max(count for at, count in whole.items() if at <= cut)
        assert all(float(each.packets[-1].at_s) < 3 for each in tracks if each.packets)


@pytest.mark.parametrize("gap_s", [100, 7 * 3600])
def test_silence_of_any_length(tmp_path: Path, gap_s: int) -> None:
    """A microphone that is muted for hours sends nothing, and the file holds nothing."""
    packets = [*sounds(1, AudioCodec.OPUS), *sounds(1, AudioCodec.OPUS, begin_s=gap_s)]
    path = tmp_path / "a.mka"
    path.write_bytes(written(packets).content)
    assert make_seekable(path)
    (track,) = read(path)
    check(track, packets)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx((gap_s + 2) * 1_000_000, abs=40_000)


def test_a_last_packet_after_a_pause_does_not_make_the_file_longer(tmp_path: Path) -> None:
    path = tmp_path / "a.mka"
    path.write_bytes(written([*sounds(1, AudioCodec.OPUS), *sounds(1, AudioCodec.OPUS, 60, 0.02)]).content)
    assert make_seekable(path)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(60_000_000, abs=1_100_000)


def test_pictures_out_of_order_stay_in_decode_order(tmp_path: Path) -> None:
    """Presentation times alone are in a block; players need the order of sending."""
    sent = pictures(1, VideoCodec.H264)
    swapped = [
        replace(packet, pts=packet.pts + 3000 * (1 if n % 2 else -1)) for n, packet in enumerate(sent) if n
    ]
    packets = [sent[0], *swapped]
    path = tmp_path / "a.mkv"
    path.write_bytes(written(packets).content)
    (track,) = read(path)
    check(track, packets)


def test_hundreds_of_tracks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As many as the head has room for; media of the others goes on when it is full."""
    form, count = audio_format(AudioCodec.OPUS), 900
    tracks = [track_of(number, form, f"person {number}") for number in range(1, count + 1)]
    packets = [
        Packet(MediaKind.AUDIO, SOUND[AudioCodec.OPUS], at, at, 960, form.time_base, True, track)
        for n in range(2)
        for track in tracks
        for at in (n * 48_000 + track.number * 10,)
    ]
    path = tmp_path / "a.mka"
    with caplog.at_level(logging.WARNING):
        path.write_bytes(written(packets).content)
    assert make_seekable(path)
    names = [track.title for track in read(path)]
    assert names == [f"person {number}" for number in range(1, len(names) + 1)]
    assert 400 < len(names) < count
    assert [each.message.split(":")[0] for each in caplog.records] == ["the file has no room for more tracks"]
    assert all(len(track.packets) == 2 for track in read(path))
    assert len(identified(path)) == len(names)


def test_seeking_finds_a_key_frame_of_each_picture(tmp_path: Path) -> None:
    one, other = pictures(1, VideoCodec.VP8), pictures(2, VideoCodec.VP8, begin_s=10)
    path = tmp_path / "a.mkv"
    path.write_bytes(written(by_time(one, other, sounds(3, AudioCodec.OPUS, seconds=12))).content)
    assert make_seekable(path)
    with av.open(str(path)) as container:
        for stream, at_s in ((container.streams.video[0], 1.5), (container.streams.video[1], 11.5)):
            container.seek(int(at_s * 1000), stream=stream)
            first = next(packet for packet in container.demux(stream) if packet.size)
            assert first.is_keyframe and first.pts is not None and first.time_base is not None
            assert float(first.pts * first.time_base) == pytest.approx(at_s - 0.5, abs=0.01)


@pytest.mark.parametrize("name", ["ä" * 500, "a\0b", ""])
def test_names_that_others_chose(tmp_path: Path, name: str) -> None:
    track = replace(track_of(1, audio_format(AudioCodec.OPUS)), name=name, tags=(("TRACK_NAME", name),))
    packets = [replace(packet, track=track) for packet in sounds(1, AudioCodec.OPUS)]
    path = tmp_path / "a.mka"
    path.write_bytes(written(packets).content)
    (found,) = read(path)
    assert found.title == name.replace("\0", "")[:32]
    assert len(found.packets) == len(packets)


@pytest.mark.parametrize("limit_bytes", [300_000, 400_000])
def test_a_file_stays_below_its_size(tmp_path: Path, limit_bytes: int) -> None:
    """Index, head and all."""
    reached: list[int] = []
    sink, path = PacketList(), tmp_path / "a.mkv"
    guard = SizeGuard(sink, SizeLimit(limit_bytes, lambda: reached.append(1)), IN_MATROSKA)
    tracks = [
        sounds(1, AudioCodec.OPUS, seconds=600),
        *(pictures(n, VideoCodec.VP8, 2 * n) for n in range(2, 9)),
    ]
    packets = by_time(*tracks)
    for packet in packets:
        guard.write(packet)
    path.write_bytes(written(sink.packets).content)
    assert make_seekable(path)
    assert reached == [1] and len(sink.packets) < len(packets)
    assert 0.7 * limit_bytes < path.stat().st_size <= limit_bytes


def test_nothing_is_written_before_the_first_packet() -> None:
    assert written([]).writes == []


def test_tracks_that_are_apart_share_clusters(tmp_path: Path) -> None:
    """One of two is always 0.6 s behind: a cluster for each packet would cost more than their sound."""
    early, late = (sounds(number, AudioCodec.OPUS, begin_s, 10.0) for number, begin_s in ((1, 1.0), (2, 0.4)))
    content = written([packet for pair in zip(early, late, strict=True) for packet in pair]).content
    assert 19 <= content.count(b"\x1f\x43\xb6\x75") <= 25
    path = tmp_path / "a.mka"
    path.write_bytes(content)
    assert make_seekable(path)
    for track, packets in zip(read(path), (early, late), strict=True):
        check(track, packets)
