"""MCAP files of many tracks that come and go, read by MCAP's own library, whole and torn."""

import errno
import logging
import os
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from livekit.protocol.models import DataPacket, DataStream, RpcAck, UserPacket
from mcap.reader import make_reader

from openegress.core.codecs import AudioCodec, MediaKind, VideoCodec
from openegress.core.errors import EgressError
from openegress.core.routes import DataRoute
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.duration import duration_ns, has_video, holds_media
from openegress.media.mcap import McapWriter
from openegress.media.mcap_index import McapError, add_summary, span
from openegress.media.mcap_records import MAX_CHANNEL, Opcode, record
from openegress.media.meeting_file import MeetingFile
from openegress.media.passthrough import audio_format
from openegress.output.size_guard import IN_MCAP, SizeGuard, SizeLimit
from openegress.room.events import DataArrived
from openegress.source.room.file_tracks import MAX_TOPICS, FileTracks
from openegress.source.room.recorded_data import RecordedData
from testkit.markdown import ROOT, blocks
from testkit.matroska_reader import ReadTrack
from testkit.mcap_reader import read, read_by_summary, read_data
from testkit.tracks_maker import SOUND, STARTED_NS, Disk, PacketList, by_time, pictures, sounds, track_of


def written(packets: Sequence[Packet], disk: Disk | None = None) -> bytes:
    disk = disk or Disk()
    writer = McapWriter(disk.put, STARTED_NS)
    writer.open()
    for packet in packets:
        writer.write(packet)
    writer.close()
    return disk.content


def written_in(content: bytes, path: Path) -> list[bytes]:
    path.write_bytes(content)
    return [packet.data for track in read(path) for packet in track.packets]


def check(found: ReadTrack, packets: Sequence[Packet]) -> None:
    """Each of `packets` bit for bit, at its time to the nanosecond."""
    assert [each.data for each in found.packets] == [packet.data for packet in packets]
    assert [round(each.at_s * S) for each in found.packets] == [packet.pts_ns for packet in packets]


def test_every_codec_that_a_room_can_send(tmp_path: Path) -> None:
    codecs = [VideoCodec.VP8, VideoCodec.VP9, VideoCodec.H264, VideoCodec.H265, VideoCodec.AV1]
    given = [pictures(n, codec) for n, codec in enumerate(codecs, 1)]
    given += [sounds(n, codec) for n, codec in enumerate(SOUND, len(codecs) + 1)]
    path = tmp_path / "a.mcap"
    path.write_bytes(written(by_time(*given)))
    growing = {track.tags["TRACK_ID"]: track for track in read(path)}
    assert add_summary(path)
    whole, size = path.read_bytes(), path.stat().st_size
    assert not add_summary(path), "once is enough"
    assert path.read_bytes() == whole
    for tracks in (growing, *({t.tags["TRACK_ID"]: t for t in of(path)} for of in (read, read_by_summary))):
        assert len(tracks) == len(given)
        for number, packets in enumerate(given, 1):
            check(tracks[f"TR_{number}"], packets)
    media_bytes = sum(len(packet.data) for packets in given for packet in packets)
    packets_count = sum(len(packets) for packets in given)
    assert size < media_bytes + 112 * packets_count + 16_384
    assert duration_ns(path) == pytest.approx(2 * S, abs=S // 20)
    assert has_video(path) and holds_media(path)


def test_what_channels_tell(tmp_path: Path) -> None:
    """Whose they are; each topic is there once, though a track's codec changes."""
    path = tmp_path / "a.mcap"
    changed = [
        replace(packet, track=replace(packet.track, tags=(("PARTICIPANT_IDENTITY", "person-1"),)))
        for packet in pictures(3, VideoCodec.H264, begin_s=2)
        if packet.track is not None
    ]
    path.write_bytes(written([*pictures(1, VideoCodec.VP8), *sounds(2, AudioCodec.OPUS), *changed]))
    add_summary(path)
    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    video, sound, other = summary.channels.values()
    assert [each.topic for each in (video, sound, other)] == [
        "/person-1/unknown",
        "/person-2/unknown",
        "/person-1/unknown/3",
    ]
    assert video.metadata == {
        "name": "Ada vp8",
        "kind": "video",
        "codec": "vp8",
        "participant_identity": "person-1",
        "track_id": "TR_1",
        "width": "160",
        "height": "96",
    }
    assert {"sample_rate": "48000", "channels": "2"}.items() <= sound.metadata.items()
    assert {each.name: each.encoding for each in summary.schemas.values()} == {
        "foxglove.CompressedVideo": "protobuf",
        "foxglove.CompressedAudio": "protobuf",
    }


def test_data_lies_among_the_media_as_it_came(tmp_path: Path) -> None:
    """A channel for each topic of each sender; streams come in pieces of one topic, and what is not chosen is
    not there."""
    header = DataPacket(stream_header=DataStream.Header(stream_id="s1", topic="lk.chat"))
    sent = [
        ("ada", DataPacket(user=UserPacket(topic="slides", payload=b"\x00\xff"))),
        ("ada", header),
        ("bob", DataPacket(user=UserPacket(topic="slides", payload=b"2"))),
        ("ada", DataPacket(stream_chunk=DataStream.Chunk(stream_id="s1", content=b"hello"))),
        ("bob", DataPacket(user=UserPacket(topic="noise", payload=b"3"))),
        ("ada", DataPacket(stream_trailer=DataStream.Trailer(stream_id="s1"))),
        ("ada", DataPacket(stream_chunk=DataStream.Chunk(stream_id="unknown", content=b"4"))),
        ("ada", DataPacket(rpc_ack=RpcAck(request_id="5"))),
        ("", DataPacket(user=UserPacket(payload=b"6"))),
    ]
    data = RecordedData((DataRoute(topic="noise", exclude=True), DataRoute()), FileTracks())
    arrived = [DataArrived(who, packet, STARTED_NS + n * S // 10) for n, (who, packet) in enumerate(sent)]
    assert not data.take(arrived[0]), "it has not begun"
    packets = [*data.begin(STARTED_NS), *(packet for each in arrived[1:] for packet in data.take(each))]
    media = sounds(100, AudioCodec.OPUS)
    path = tmp_path / "a.mcap"
    path.write_bytes(written(by_time(media, packets)))
    add_summary(path)
    found = read_data(path)
    assert [(each.topic, each.at_ns) for each in found] == [
        ("/ada/data/slides", STARTED_NS),
        ("/ada/data/lk.chat", STARTED_NS + S // 10),
        ("/bob/data/slides", STARTED_NS + 2 * S // 10),
        ("/ada/data/lk.chat", STARTED_NS + 3 * S // 10),
        ("/ada/data/lk.chat", STARTED_NS + 5 * S // 10),
        ("/server/data", STARTED_NS + 8 * S // 10),
    ]
    kept = [sent[n][1].SerializeToString() for n in (0, 1, 2, 3, 5, 8)]
    assert [each.packet.SerializeToString() for each in found] == kept
    assert found[0].metadata == {"kind": "data", "participant_identity": "ada", "topic": "slides"}
    (track,) = read_by_summary(path)
    check(track, media)


def test_who_sends_ever_other_topics_takes_a_bounded_number_of_channels() -> None:
    data = RecordedData((DataRoute(),), FileTracks())
    data.begin(STARTED_NS)
    topics = set()
    for n in range(MAX_TOPICS + 20):
        sent = DataPacket(user=UserPacket(topic=str(n)))
        (packet,) = data.take(DataArrived("ada", sent, STARTED_NS))
        assert packet.topic is not None
        topics.add(packet.topic.topic)
    assert len(topics) == MAX_TOPICS + 1 and "" in topics


def test_all_but_the_last_half_second_is_there_while_it_grows(tmp_path: Path) -> None:
    disk, path = Disk(), tmp_path / "a.mcap"
    packets = by_time(sounds(1, AudioCodec.OPUS, seconds=6), pictures(2, VideoCodec.VP8, begin_s=3))
    writer = McapWriter(disk.put, STARTED_NS)
    looked = 0
    for packet in packets:
        end = disk.end
        writer.write(packet)
        if disk.end != end:
            looked += 1
            path.write_bytes(disk.content)
            due = [each for each in packets if each.pts_ns < packet.pts_ns - S // 2]
            assert sum(len(track.packets) for track in read(path)) >= len(due)
    assert looked > 8


def test_a_kill_at_any_byte_leaves_all_whole_chunks(tmp_path: Path) -> None:
    """Also one whose indexes are torn; and one in the midst of the recovery costs nothing more."""
    packets = by_time(
        sounds(1, AudioCodec.OPUS, seconds=2),
        pictures(2, VideoCodec.VP8, begin_s=0.7),
        sounds(3, AudioCodec.OPUS, begin_s=1.2, seconds=1),
    )
    disk, path = Disk(), tmp_path / "a.mcap"
    content = written(packets, disk)
    ends = [0]
    for _, data in disk.writes:
        ends.append(ends[-1] + len(data))
    counts = [len(written_in(content[:end], path)) for end in ends[1:]]

    def whole_at(cut: int) -> int:
        """Packets in all chunks that were written up to there."""
        return max((count for end, count in zip(ends[1:], counts, strict=True) if end <= cut), default=0)

    near = {at + by for at in ends for by in range(-40, 40)}
    for cut in sorted(at for at in {*near, *range(0, len(content), 997)} if 0 < at <= len(content)):
        path.write_bytes(content[:cut])
        try:
            add_summary(path)
        except McapError:
            assert cut < ends[1]
            assert path.stat().st_size == cut
            assert not holds_media(path)
            continue
        mended = {track.tags["TRACK_ID"]: track.packets for track in read_by_summary(path)}
        path.write_bytes(content[:cut])
        torn = {track.tags["TRACK_ID"]: track.packets for track in read(path) if track.packets}
        assert mended == torn, cut
        assert sum(len(each) for each in mended.values()) >= whole_at(cut)
    path.write_bytes(content)
    add_summary(path)
    whole = path.read_bytes()
    for cut in range(len(content), len(whole), 101):
        path.write_bytes(whole[:cut])
        assert add_summary(path)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("garbage", [b"", b"\0" * 64, b"no mcap", bytes(range(256)) * 40])
def test_what_is_no_mcap_stays_as_it_is(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(garbage)
    with pytest.raises(McapError):
        add_summary(path)
    assert path.read_bytes() == garbage
    assert (duration_ns(path), holds_media(path), has_video(path)) == (0, False, False)


@pytest.mark.parametrize("garbage", [b"\0" * 4096, b"\xff" * 4096, b"\x06" + bytes(999), b"\x04" + bytes(90)])
def test_garbage_behind_the_media_is_taken_off(tmp_path: Path, garbage: bytes) -> None:
    """As a lost power leaves it."""
    packets = sounds(1, AudioCodec.OPUS)
    path = tmp_path / "a.mcap"
    path.write_bytes(written(packets) + garbage)
    assert add_summary(path)
    (track,) = read_by_summary(path)
    check(track, packets)


def test_a_chunk_that_reached_the_disk_as_zeros_is_taken_off(tmp_path: Path) -> None:
    packets, disk = sounds(1, AudioCodec.OPUS), Disk()
    content = bytearray(written(packets, disk))
    last = len(disk.writes[-1][1])
    content[-last + 200 :] = bytes(last - 200)
    path = tmp_path / "a.mcap"
    path.write_bytes(content)
    assert add_summary(path)
    (track,) = read_by_summary(path)
    assert 0 < len(track.packets) < len(packets)
    check(track, packets[: len(track.packets)])


def test_a_full_disk_leaves_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(written(sounds(1, AudioCodec.OPUS)))
    recorded, pwrite = path.read_bytes(), os.pwrite

    def little(file: int, data: bytes, at: int) -> int:
        if at >= len(recorded) + 100:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(file, data[: len(recorded) + 100 - at], at)

    monkeypatch.setattr(os, "pwrite", little)
    with pytest.raises(OSError, match="full"):
        add_summary(path)
    assert path.read_bytes() == recorded


@pytest.mark.timeout(10)
def test_a_chunk_with_an_index_for_every_channel(tmp_path: Path) -> None:
    """Of whoever took over the process that wrote it: it is read in a time that grows as its size does."""
    path = tmp_path / "crafted.mcap"
    content = written(pictures(1, VideoCodec.VP8))
    indexes = b"".join(
        record(Opcode.MESSAGE_INDEX, struct.pack("<HI", number, 0)) for number in range(MAX_CHANNEL)
    )
    path.write_bytes(content + 4 * indexes)
    assert span(path).has_video
    assert add_summary(path)
    assert written_in(path.read_bytes(), path) == written_in(content, path)


@pytest.mark.parametrize("gap_s", [100, 7 * 3600])
def test_silence_of_any_length(tmp_path: Path, gap_s: int) -> None:
    packets = [*sounds(1, AudioCodec.OPUS), *sounds(1, AudioCodec.OPUS, begin_s=gap_s)]
    path = tmp_path / "a.mcap"
    path.write_bytes(written(packets))
    assert add_summary(path)
    (track,) = read_by_summary(path)
    check(track, packets)
    assert not has_video(path)


def test_tracks_that_are_apart_share_chunks(tmp_path: Path) -> None:
    """One of two is always 0.6 s behind: a chunk for each packet would cost more than their sound."""
    early, late = (sounds(number, AudioCodec.OPUS, begin_s, 10.0) for number, begin_s in ((1, 1.0), (2, 0.4)))
    disk = Disk()
    path = tmp_path / "a.mcap"
    path.write_bytes(written([packet for pair in zip(early, late, strict=True) for packet in pair], disk))
    assert 19 <= len(disk.writes) <= 25
    add_summary(path)
    for track, packets in zip(read_by_summary(path), (early, late), strict=True):
        check(track, packets)


@pytest.mark.parametrize("name", ["ä" * 500, "a\0b", "", "../../x", "/"])
def test_names_that_others_chose(tmp_path: Path, name: str) -> None:
    track = replace(track_of(1, audio_format(AudioCodec.OPUS)), name=name, tags=(("TRACK_NAME", name),))
    packets = [replace(packet, track=track) for packet in sounds(1, AudioCodec.OPUS)]
    path = tmp_path / "a.mcap"
    path.write_bytes(written(packets))
    add_summary(path)
    (found,) = read_by_summary(path)
    assert found.title == name.replace("\0", "")[:32]
    check(found, packets)


def test_more_tracks_than_there_are_channels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    form = audio_format(AudioCodec.OPUS)
    tracks = [track_of(number, form) for number in (1, 65_535, 65_536, 65_537)]
    packets = [
        Packet(MediaKind.AUDIO, SOUND[AudioCodec.OPUS], n, n, 960, form.time_base, True, track)
        for n, track in enumerate(tracks)
    ]
    path = tmp_path / "a.mcap"
    with caplog.at_level(logging.WARNING):
        path.write_bytes(written(packets))
    assert [each.message.split(":")[0] for each in caplog.records] == ["the file has no room for more tracks"]
    add_summary(path)
    assert [track.tags["TRACK_ID"] for track in read_by_summary(path)] == ["TR_1", "TR_65535"]


def test_the_example_of_the_docs_reads_it(tmp_path: Path) -> None:
    (example,) = (each for each in blocks([ROOT / "docs" / "tracks.md"]) if "make_reader" in each.text)
    packets = by_time(sounds(1, AudioCodec.OPUS), pictures(2, VideoCodec.H264))
    path = tmp_path / "meeting.mcap"
    path.write_bytes(written(packets))
    add_summary(path)
    command = [sys.executable, "-c", example.text]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    said = [line.split() for line in ran.stdout.splitlines()]
    assert sorted(said) == sorted(
        [str(STARTED_NS + packet.pts_ns), f"person-{track.number}", track.form.codec, str(len(packet.data))]
        for packet in packets
        if (track := packet.track) is not None
    )


def test_films_and_stems_are_made_of_matroska(tmp_path: Path) -> None:
    with pytest.raises(EgressError, match=r'"a.mcap" is an MCAP file, .* record to a .mkv'):
        MeetingFile(tmp_path / "a.mcap")


def test_nothing_is_written_before_the_first_packet() -> None:
    assert written([]) == b""


@pytest.mark.parametrize("limit_bytes", [150_000, 300_000])
def test_a_file_stays_below_its_size(tmp_path: Path, limit_bytes: int) -> None:
    """Summary and all."""
    reached: list[int] = []
    sink, path = PacketList(), tmp_path / "a.mcap"
    guard = SizeGuard(sink, SizeLimit(limit_bytes, lambda: reached.append(1)), IN_MCAP)
    tracks = [
        sounds(1, AudioCodec.OPUS, seconds=600),
        *(pictures(n, VideoCodec.VP8, 2 * n) for n in range(2, 9)),
    ]
    packets = by_time(*tracks)
    for packet in packets:
        guard.write(packet)
    path.write_bytes(written(sink.packets))
    assert add_summary(path)
    assert reached == [1] and len(sink.packets) < len(packets)
    assert 0.3 * limit_bytes < path.stat().st_size <= limit_bytes


def test_seventy_tracks_cost_little() -> None:
    """50 voices and 20 cameras for ten seconds, less than 0.1 of a core."""
    voices = [sounds(n, AudioCodec.OPUS, seconds=10) for n in range(1, 51)]
    cameras = [pictures(n, VideoCodec.VP8, begin_s) for n in range(51, 71) for begin_s in range(0, 10, 2)]
    packets = by_time(*voices, *cameras)
    before = time.process_time()
    written(packets)
    assert time.process_time() - before < 1.0
