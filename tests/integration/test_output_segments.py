"""HLS as it is made: real encoders, a real disk, an independent playlist parser, and FFmpeg as the player."""

import asyncio
import itertools
import json
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import av
import m3u8
import pytest

from openegress.core import plan, storages
from openegress.core.codecs import VIDEO_TIME_BASE, Container, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError, Fault
from openegress.core.events import AnyEvent, OutputFailed, SegmentsUpdate
from openegress.core.marker import Marker
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.fragments import OFFSET_NS
from openegress.media.passthrough import video_format
from openegress.output import Opening
from openegress.output.hls import playlist_publisher, recorder
from openegress.output.hls.playlist import Listing, PlaylistKind
from openegress.output.hls.recorder import HlsRecorder
from openegress.output.hls.recover import store_left_segments
from openegress.output.hls.segment_file import SegmentFile
from openegress.output.size_guard import IN_FILE, IN_TS, Packing, SizeGuard, SizeLimit
from openegress.storage import Storage, open_storage
from openegress.storage.uploader import Uploader
from testkit import hls_rules, mp4_reader, probe
from testkit.encoded import Encoded, PassedThrough, Spec, later, turning
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec

STARTED_NS = 1_700_000_000 * S


@dataclass
class Rig:
    spool: Path
    stored: Path
    events: list[AnyEvent] = field(default_factory=list)

    def output(
        self,
        container: Container,
        segment_s: int = 2,
        watched: "Watched | None" = None,
        storage: storages.StoragePlan | None = None,
        **fields: object,
    ) -> HlsRecorder:
        storage = storage or storages.StoragePlan(storages.LocalStorage(str(self.stored)), retry_for_s=0)
        values = {
            "directory": "live/",
            "prefix": "seg",
            "playlist": "all.m3u8",
            "live_playlist": "now.m3u8",
            "segment_s": segment_s,
            "container": container,
            "timestamp_suffix": False,
            "storage": storage,
        } | fields
        output = plan.SegmentOutput(**values)  # type: ignore[arg-type]
        uploader = Uploader(storage, connect=watched.connect) if watched else Uploader(storage)
        return HlsRecorder(output, 0, emit=self.events.append, uploader=uploader)

    def opening(self, encoded: Encoded) -> Opening:
        return Opening(encoded.formats, STARTED_NS, str(self.spool), {})

    def updates(self) -> list[SegmentsUpdate]:
        return [e for e in self.events if isinstance(e, SegmentsUpdate)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    (tmp_path / "spool").mkdir()
    (tmp_path / "stored").mkdir()
    return Rig(tmp_path / "spool", tmp_path / "stored")


def check_rules(rig: Rig) -> None:
    for name in ("all", "now"):
        hls_rules.check(rig.stored / f"live/{name}.m3u8")


async def record(rig: Rig, output: HlsRecorder, encoded: Encoded) -> None:
    output.open(rig.opening(encoded))
    for packet in encoded.packets():
        output.write(packet)
    await output.finish(STARTED_NS + round(encoded.spec.seconds * S))


@pytest.mark.parametrize(("container", "packing"), [(Container.TS, IN_TS), (Container.FMP4, IN_FILE)])
async def test_all_segments_together_stay_below_their_limit(
    rig: Rig, container: Container, packing: Packing
) -> None:
    limit_bytes, reached = 100_000, []
    encoded, output = Encoded(Spec(seconds=10.0)), rig.output(container)
    output.open(rig.opening(encoded))
    guard = SizeGuard(output, SizeLimit(limit_bytes, lambda: reached.append(1)), packing)
    for packet in encoded.packets():
        guard.write(packet)
    await output.finish(STARTED_NS + 10 * S)
    assert played(rig.stored / "live/all.m3u8")
    segments = [each for each in (rig.stored / "live").iterdir() if each.suffix != ".m3u8"]
    assert reached == [1]
    assert 0.7 * limit_bytes < sum(each.stat().st_size for each in segments) <= limit_bytes
    assert rig.updates()[-1].size_bytes <= limit_bytes


_SECOND_INIT = "Found duplicated MOOV Atom. Skipped it"
"""FFmpeg's HLS player has one demuxer for a playlist, which takes the first initialisation segment only; the
pictures still decode by the parameters they carry."""


def played(playlist: Path) -> list[tuple[str, float, float]]:
    """(kind, pts, duration) of every packet FFmpeg's HLS player reads, and no complaint on the way."""
    done = subprocess.run(
        ["ffprobe", "-v", "warning", "-show_entries", "packet=codec_type,pts_time,duration_time,flags",
         "-of", "json", str(playlist)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    complaints = [line for line in done.stderr.splitlines() if not line.endswith(_SECOND_INIT)]
    assert complaints == []
    return [
        (p["codec_type"], float(p["pts_time"]), float(p.get("duration_time", 0)))
        for p in json.loads(done.stdout)["packets"]
    ]


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
@pytest.mark.parametrize("sound", [True, False])
async def test_ffmpeg_plays_every_frame_once(rig: Rig, container: Container, sound: bool) -> None:
    spec = Spec(seconds=9.0, key_frame_interval_s=2.0)
    encoded = Encoded(spec if sound else Spec(seconds=9.0, key_frame_interval_s=2.0, audio=None))
    await record(rig, rig.output(container), encoded)
    path = rig.stored / "live/all.m3u8"
    parsed = m3u8.load(str(path))
    assert [s.duration for s in parsed.segments] == [2.0, 2.0, 2.0, 2.0, 1.0]
    assert parsed.target_duration == 2
    assert parsed.is_endlist and parsed.playlist_type == "vod"
    assert [s.program_date_time for s in parsed.segments] == [
        datetime.fromtimestamp(1_700_000_000 + 2 * n, UTC) for n in range(5)
    ]
    assert probe.counters(path).values == list(range(270))
    assert probe.counters(path).unreadable == 0
    facts = probe.probe(path)
    assert facts.video is not None and facts.video.rising
    assert facts.video.longest_gap_s == pytest.approx(1 / 30, abs=0.0001)
    if sound:
        assert facts.audio is not None and facts.audio.contiguous
        assert abs(probe.av_offset(path).median_ms) < 12
    assert len([p for p in played(path) if p[0] == "video"]) == 270
    last = rig.updates()[-1]
    assert (last.segment_count, last.playlist_name) == (5, "live/all.m3u8")
    assert last.playlist_location.endswith("live/all.m3u8")
    assert last.duration_ns == pytest.approx(9 * S, abs=0.05 * S)
    assert last.size_bytes > 0 and last.ended_at_ns == STARTED_NS + 9 * S
    names = {p.name for p in (rig.stored / "live").iterdir()}
    suffix = container.value
    init = {"seg_init.mp4"} if container is Container.FMP4 else set()
    assert names == {"all.m3u8", "now.m3u8", *(f"seg_{n:05d}.{suffix}" for n in range(5)), *init}


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_a_variable_rate_leaves_segments_as_they_are(rig: Rig, container: Container) -> None:
    """Cut where they would be, without a gap between two pictures, each picture in its slot."""
    spec = Spec(seconds=9.0, key_frame_interval_s=2.0, shown_for=50, has_variable_rate=True)
    await record(rig, rig.output(container), Encoded(spec))
    path = rig.stored / "live/all.m3u8"
    check_rules(rig)
    assert [s.duration for s in m3u8.load(str(path)).segments] == [2.0, 2.0, 2.0, 2.0, 1.0]
    facts = probe.probe(path)
    assert facts.audio is not None and facts.audio.contiguous
    pictures = [packet for packet in played(path) if packet[0] == "video"]
    assert len(pictures) < 9 * 30 / 2
    if container is Container.FMP4:
        parts = [rig.stored / "live/seg_init.mp4", *sorted((rig.stored / "live").glob("*.m4s"))]
        whole = rig.spool / "whole.mp4"
        whole.write_bytes(b"".join(each.read_bytes() for each in parts))
        samples = mp4_reader.read(whole).tracks[0].samples
        assert len(samples) == len(pictures)
        assert all(each.dts + each.duration == after.dts for each, after in itertools.pairwise(samples))
    counters = probe.counters(path)
    assert sorted(set(counters.values)) == [0, 50, 100, 150, 200, 250] and not counters.unreadable
    start_s = pictures[0][1]
    for value in sorted(set(counters.values)):
        at_s = pictures[counters.values.index(value)][1] - start_s
        assert at_s == pytest.approx(value / 30, abs=0.001)


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_sound_alone(rig: Rig, container: Container) -> None:
    await record(rig, rig.output(container), Encoded(Spec(seconds=7.0, video=False)))
    path = rig.stored / "live/all.m3u8"
    durations = [s.duration for s in m3u8.load(str(path)).segments]
    assert durations[:-1] == pytest.approx([2.0] * 3, abs=1024 / 48000)
    facts = probe.probe(path)
    assert facts.audio is not None and facts.audio.contiguous
    assert facts.audio.duration_s == pytest.approx(7.0, abs=0.06)


async def test_a_track_with_its_own_key_frames_is_cut_at_the_next_one(rig: Rig) -> None:
    encoded = PassedThrough(Spec(seconds=12.0, key_frame_interval_s=3.0, audio=None))
    await record(rig, rig.output(Container.TS), encoded)
    path = rig.stored / "live/all.m3u8"
    parsed = m3u8.load(str(path))
    assert [s.duration for s in parsed.segments] == [3.0] * 4
    assert parsed.target_duration == 4
    assert probe.counters(path).values == list(range(360))


def test_h265_is_named_as_apples_players_want_it(tmp_path: Path) -> None:
    encoder, picture = LiveEncoder("h265", 320, 180, 30, 400), Picture(PictureSpec(320, 180, 30, COLOURS[0]))
    data = encoder.encode(picture.draw(7), 0).data
    packet = Packet(MediaKind.VIDEO, data, 0, 0, 3000, VIDEO_TIME_BASE, True)
    formats = [video_format(VideoCodec.H265, data, 320, 180)]
    segment = SegmentFile(tmp_path / "0.m4s", Container.FMP4, formats, 0, packet)
    segment.write(packet)
    segment.close()
    played = tmp_path / "whole.mp4"
    played.write_bytes(segment.init + segment.path.read_bytes())
    with av.open(str(played)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
    assert probe.counters(played).values == [7]


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_a_track_with_rare_key_frames_is_cut_without_and_the_target_stays(
    rig: Rig, container: Container
) -> None:
    watched = Watched(rig.stored)
    encoded = PassedThrough(Spec(seconds=17.0, key_frame_interval_s=7.0, steady=True))
    output = rig.output(container, watched=watched)
    output.open(rig.opening(encoded))
    for n, packet in enumerate(encoded.packets()):
        output.write(packet)
        if n % 150 == 0:
            await output.written()
            await output.stored()
    await output.finish(STARTED_NS)
    path = rig.stored / "live/all.m3u8"
    assert len(watched.playlists) > 2
    assert {p.target_duration for p in watched.playlists} == {4}
    assert not any(p.is_independent_segments for p in watched.playlists)
    durations = [s.duration for s in m3u8.load(str(path)).segments]
    assert all(duration < 4.5 for duration in durations)
    assert sum(durations) == pytest.approx(17.0, abs=0.05)
    check_rules(rig)
    assert probe.counters(path).values == list(range(510))
    assert len([p for p in played(path) if p[0] == "video"]) == 510


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_a_track_that_changes_its_format_or_pauses_is_discontinuous_there(
    rig: Rig, container: Container
) -> None:
    small = PassedThrough(Spec(seconds=3.0, width=160, height=90, audio=None, steady=True))
    large = PassedThrough(Spec(seconds=6.0, audio=None, steady=True))
    output = rig.output(container)
    output.open(rig.opening(small))
    for packet in small.packets():
        output.write(packet)
    for packet in large.packets():
        output.write(later(packet, 23 if packet.pts_ns >= 4 * S else 3))
    await output.finish(STARTED_NS)
    parsed = m3u8.load(str(rig.stored / "live/all.m3u8"))
    assert parsed.target_duration == 4
    assert [(s.duration, s.discontinuity) for s in parsed.segments] == [
        (2.0, False),
        (1.0, False),
        (2.0, True),
        (4.0, False),
        (2.0, True),
    ]
    assert parsed.segments[-1].program_date_time == datetime.fromtimestamp(1_700_000_027, UTC)
    inits = [s.init_section.uri for s in parsed.segments if s.init_section is not None]
    changed = ["seg_init.mp4"] * 2 + ["seg_init_1.mp4"] * 3
    assert inits == (changed if container is Container.FMP4 else [])
    check_rules(rig)


async def test_the_first_format_is_that_of_the_first_picture(rig: Rig) -> None:
    """An SFU may have sent a smaller layer when the outputs were opened."""
    output = rig.output(Container.FMP4)
    output.open(rig.opening(PassedThrough(Spec(width=160, height=90, audio=None, steady=True))))
    for packet in PassedThrough(Spec(seconds=4.0, audio=None, steady=True)).packets():
        output.write(packet)
    await output.finish(STARTED_NS)
    parsed = m3u8.load(str(rig.stored / "live/all.m3u8"))
    assert [s.discontinuity for s in parsed.segments] == [False, False]
    assert {s.init_section.uri for s in parsed.segments} == {"seg_init.mp4"}
    (track,) = mp4_reader.read(rig.stored / "live/seg_init.mp4").tracks
    assert [entry.size for entry in track.entries] == [(320, 180)]
    check_rules(rig)


TURNED_S = [2.0] * 6
TURNED_INITS = [uri for uri in ("seg_init.mp4", "seg_init_1.mp4", "seg_init_2.mp4") for _ in range(2)]
TURNED_SIZES = [size for size in ((160, 90), (90, 160), (160, 90)) for _ in range(2)]


def check_turned(stored: Path, spool: Path, count: int = 6) -> None:
    """Whole, every picture once; and each segment plays with the initialisation segment its MAP names."""
    path = stored / "live/all.m3u8"
    parsed = m3u8.load(str(path))
    assert parsed.version == 7 and parsed.is_endlist
    assert [s.init_section.uri for s in parsed.segments] == TURNED_INITS[:count]
    assert [s.duration for s in parsed.segments[:-1]] == pytest.approx(TURNED_S[: count - 1], abs=0.001)
    assert [s.discontinuity for s in parsed.segments] == [n in (2, 4) for n in range(count)]
    live = m3u8.load(str(stored / "live/now.m3u8"))
    assert [s.init_section.uri for s in live.segments] == TURNED_INITS[:count][-5:]
    assert len([p for p in played(path) if p[0] == "video"]) == len(probe.counters(path).values)
    for n, segment in enumerate(parsed.segments):
        alone = spool / f"alone-{n}.mp4"
        init, media = (stored / "live" / str(name) for name in (segment.init_section.uri, segment.uri))
        alone.write_bytes(init.read_bytes() + media.read_bytes())
        with av.open(str(alone)) as opened:
            video = opened.streams.video[0].codec_context
            assert (video.width, video.height) == TURNED_SIZES[n]
        read = probe.counters(alone)
        assert (read.values[0], read.unreadable) == (60 * n % 120, 0)
        if n < count - 1:
            assert len(read.values) == 60


async def test_fmp4_of_a_new_format_has_an_initialisation_segment_of_its_own(rig: Rig) -> None:
    watched = Watched(rig.stored)
    packets = turning()
    output = rig.output(Container.FMP4, watched=watched)
    first = PassedThrough(Spec(width=160, height=90, steady=True))
    output.open(rig.opening(first))
    for packet in packets:
        output.write(packet)
    await output.finish(STARTED_NS + 12 * S)
    check_turned(rig.stored, rig.spool)
    check_rules(rig)
    assert probe.counters(rig.stored / "live/all.m3u8").values == list(range(120)) * 3
    made = [Path(path).name for path in watched.order if not path.endswith(".m3u8")]
    assert made == [
        "seg_init.mp4", "seg_00000.m4s", "seg_00001.m4s",
        "seg_init_1.mp4", "seg_00002.m4s", "seg_00003.m4s",
        "seg_init_2.mp4", "seg_00004.m4s", "seg_00005.m4s",
    ]  # fmt: skip


@pytest.mark.parametrize("died_s", [3.5, 5.5, 7.5, 11.5])
async def test_what_a_dead_process_left_is_stored_with_each_initialisation_segment(
    rig: Rig, died_s: float
) -> None:
    watched = Watched(rig.stored)
    output = rig.output(Container.FMP4, watched=watched)
    output.open(rig.opening(PassedThrough(Spec(width=160, height=90, steady=True))))
    for packet in turning():
        if packet.pts_ns < died_s * S:
            output.write(packet)
    await output.written()
    await output.stored()
    left = rig.spool / "left"
    shutil.copytree(rig.spool / "segments-0", left)
    segments, told = output._plan, rig.updates()[0]
    again = Watched(rig.stored)
    again.refuse = [2]  # an upload fails: what follows is left to a second recovery
    for storage in (again, Watched(rig.stored)):
        uploader = Uploader(segments.storage, connect=storage.connect)
        try:
            kept = await store_left_segments(left, segments, told, {}, uploader)
        except EgressError:
            assert storage is again
        finally:
            await uploader.close()
    count = int(died_s / 2) + 1
    assert kept is not None
    assert kept.update.segment_count == count
    sizes = [path.stat().st_size for path in (rig.stored / "live").glob("*.m4s")]
    assert kept.update.size_bytes == sum(sizes) > 0
    check_turned(rig.stored, rig.spool, count)
    await output.finish(STARTED_NS)


PAUSE_AT_S, PAUSED_S = 3, 20


def with_pause(encoded: Encoded) -> Iterator[Packet]:
    """Its packets as they come of a recording that was paused: not a moment of its media is missing."""
    for packet in encoded.packets():
        paused_ns = PAUSED_S * S if packet.pts_ns >= PAUSE_AT_S * S else 0
        yield replace(packet, paused_ns=paused_ns)


def check_pause(rig: Rig, durations_s: list[float]) -> None:
    parsed = m3u8.load(str(rig.stored / "live/all.m3u8"))
    assert [each.duration for each in parsed.segments] == pytest.approx(durations_s, abs=0.04)
    assert [each.discontinuity for each in parsed.segments] == [n == 2 for n in range(len(durations_s))]
    at_s = 0.0
    for number, each in enumerate(parsed.segments):
        told = each.program_date_time
        assert told is not None and each.duration is not None
        begun_s = told.timestamp() - STARTED_NS / S
        assert begun_s == pytest.approx(at_s + (PAUSED_S if number >= 2 else 0), abs=0.04)
        at_s += each.duration
    check_rules(rig)


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_what_follows_a_pause_is_a_segment_with_the_time_of_its_own(
    rig: Rig, container: Container
) -> None:
    encoded, output = Encoded(Spec(seconds=7.0, key_frame_interval_s=1.0)), rig.output(container)
    output.open(rig.opening(encoded))
    for packet in with_pause(encoded):
        output.write(packet)
    await output.finish(STARTED_NS + (7 + PAUSED_S) * S)
    check_pause(rig, [2, 1, 1, 2, 1])
    read = probe.counters(rig.stored / "live/all.m3u8")
    assert read.values == list(range(encoded.frames))


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_a_process_that_dies_after_a_pause_leaves_its_time(rig: Rig, container: Container) -> None:
    output = rig.output(container)
    encoded = Encoded(Spec(seconds=3.9, key_frame_interval_s=1.0))
    output.open(rig.opening(encoded))
    for packet in with_pause(encoded):
        output.write(packet)
    await output.written()
    await output.stored()
    left = rig.spool / "left"
    shutil.copytree(rig.spool / "segments-0", left)
    told = rig.updates()[0]
    await output.finish(STARTED_NS)
    uploader = Uploader(output._plan.storage)
    kept = await store_left_segments(left, output._plan, told, {}, uploader)
    await uploader.close()
    assert kept is not None and kept.update.segment_count == 3
    last_s = m3u8.load(str(rig.stored / "live/all.m3u8")).segments[-1].duration
    assert last_s is not None and last_s > 0.4
    check_pause(rig, [2, 1, last_s])


async def test_what_went_to_the_backup_is_found_there_though_the_storage_is_back(rig: Rig) -> None:
    rig.stored.rmdir()
    rig.stored.write_text("no folder")
    backup = rig.spool / "backup"
    storage = storages.StoragePlan(
        storages.LocalStorage(str(rig.stored)), backup=storages.LocalStorage(str(backup)), retry_for_s=0
    )
    output = rig.output(Container.TS, storage=storage)
    output.open(rig.opening(Encoded(Spec())))
    for packet in Encoded(Spec(seconds=7.0)).packets():
        output.write(packet)
    await output.written()
    await output.stored()
    left = rig.spool / "left"
    shutil.copytree(rig.spool / "segments-0", left)
    await output.finish(STARTED_NS)
    rig.stored.unlink()
    uploader = Uploader(storage)
    kept = await store_left_segments(left, output._plan, rig.updates()[0], {}, uploader)
    assert kept is not None and kept.backup_used
    [record] = kept.records.playlists
    assert record.location == str(rig.stored / "live/all.m3u8")
    places = [Path(segment.location) for segment in record.segments]
    assert places == [backup / f"live/seg_{n:05d}.ts" for n in range(3)] + [rig.stored / "live/seg_00003.ts"]
    assert kept.update.size_bytes == sum(place.stat().st_size for place in places)


async def test_a_dead_disk_does_not_hold_up_the_end_and_its_segments_wait_there(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, dead = Watched(rig.stored), threading.Event()
    output = rig.output(Container.TS, watched=watched)
    close = SegmentFile.close

    def hang(segment: SegmentFile) -> None:
        if segment.index == 2:
            dead.wait()
        close(segment)

    async def read_for_ever(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SegmentFile, "close", hang)
    monkeypatch.setattr(recorder, "CLOSE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(watched, "put", read_for_ever)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(EgressError, match="was not finished within"):
                await record(rig, output, Encoded(Spec(seconds=7.0)))
        assert not any(update.ended_at_ns for update in rig.updates()), "the journal is on that disk"
    finally:
        dead.set()
    assert not output.is_settled()
    assert len(list(rig.spool.rglob("0000[0-9].ts"))) >= 3


async def test_playlists_are_written_by_another_thread_than_the_one_that_receives(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    text = Listing.text

    def watch(listing: Listing, kind: PlaylistKind, *, ended: bool = False) -> str:
        threads.add(threading.get_ident())
        return text(listing, kind, ended=ended)

    monkeypatch.setattr(Listing, "text", watch)
    await record(rig, rig.output(Container.TS), Encoded(Spec(seconds=5.0, audio=None)))
    assert threads and threading.get_ident() not in threads
    assert len(m3u8.load(str(rig.stored / "live/all.m3u8")).segments) == 3


async def test_a_playlist_that_a_dead_disk_does_not_take_is_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, write = threading.Event(), playlist_publisher.replace  # type: ignore[attr-defined]

    def hang(path: Path, content: str | bytes) -> None:
        if path.name.startswith("stored"):
            dead.wait()
        write(path, content)

    monkeypatch.setattr(playlist_publisher, "replace", hang)
    monkeypatch.setattr(playlist_publisher, "ANSWER_TIMEOUT_S", 0.2)
    output = rig.output(Container.TS)
    try:
        async with asyncio.timeout(20):
            with pytest.raises(EgressError, match=r"playlists of .* the disk of the recordings") as caught:
                await record(rig, output, Encoded(Spec(seconds=3.0, audio=None)))
    finally:
        dead.set()
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert not output.is_settled()


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_a_minute_has_every_frame_once_in_segments_of_the_asked_duration(
    rig: Rig, container: Container
) -> None:
    spec = Spec(seconds=60.0, width=160, height=90, key_frame_interval_s=4.0)
    began_s = time.monotonic()
    await record(rig, rig.output(container, segment_s=4), Encoded(spec))
    assert time.monotonic() - began_s < spec.seconds
    path = rig.stored / "live/all.m3u8"
    parsed = m3u8.load(str(path))
    frame_s = 1 / spec.fps
    assert [s.duration for s in parsed.segments] == pytest.approx([4.0] * 15, abs=frame_s)
    whole = probe.counters(path)
    assert (whole.values, whole.unreadable) == (list(range(1800)), 0)
    # What the playlist says is what is in the files: no frame is in two, and none in the wrong one.
    init = rig.stored / "live/seg_init.mp4"
    for n, segment in enumerate(parsed.segments):
        alone = rig.stored / "live" / str(segment.uri)
        if container is Container.FMP4:
            joined = rig.spool / f"{n}.mp4"
            joined.write_bytes(init.read_bytes() + alone.read_bytes())
            alone = joined
        assert probe.counters(alone).values == list(range(120 * n, 120 * (n + 1)))
    facts = probe.probe(path)
    assert facts.video is not None and facts.video.longest_gap_s == pytest.approx(frame_s, abs=0.0001)
    assert facts.audio is not None and facts.audio.contiguous
    assert abs(probe.av_offset(path).median_ms) < 12


async def test_the_timestamp_of_a_segment_is_in_its_name(rig: Rig) -> None:
    encoded = Encoded(Spec(seconds=4.0, audio=None))
    await record(rig, rig.output(Container.TS, timestamp_suffix=True), encoded)
    assert [s.uri for s in m3u8.load(str(rig.stored / "live/all.m3u8")).segments] == [
        "seg_20231114221320000.ts",
        "seg_20231114221322000.ts",
    ]


class Watched:
    """Local storage that looks at every playlist it is given, and fails when told to."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.order: list[str] = []
        self.playlists: list[m3u8.M3U8] = []
        self.refuse: Sequence[int] = ()
        self.calls = 0

    async def connect(self, backend: storages.Backend) -> Storage:
        self._inner = await open_storage(backend)
        return self

    async def check(self, path: str) -> None:
        await self._inner.check(path)

    async def put(self, local: Path, path: str, content_type: str) -> None:
        self.calls += 1
        if self.calls in self.refuse:
            raise EgressError(Code.UNAVAILABLE, "out of order", fault=Fault.DESTINATION)
        await self._inner.put(local, path, content_type)
        self.order.append(path)
        if path.endswith("all.m3u8"):
            parsed = m3u8.load(str(self._root / path))
            assert all((self._root / "live" / str(s.uri)).exists() for s in parsed.segments)
            self.playlists.append(parsed)

    async def size(self, path: str) -> int | None:
        return await self._inner.size(path)

    async def read(self, path: str, offset: int, size: int) -> bytes:
        return await self._inner.read(path, offset, size)

    async def changed_s(self, path: str) -> float | None:
        return await self._inner.changed_s(path)

    async def presign(self, path: str, expires_s: int) -> str:
        return await self._inner.presign(path, expires_s)

    def location(self, path: str) -> str:
        return self._inner.location(path)

    async def close(self) -> None:
        await self._inner.close()


@pytest.mark.parametrize("refuse", [(), (1,), (2, 3, 4), (5, 6)])
@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_a_playlist_never_names_what_is_not_there_and_no_segment_is_lost(
    rig: Rig, container: Container, refuse: tuple[int, ...]
) -> None:
    watched = Watched(rig.stored)
    watched.refuse = refuse
    encoded = Encoded(Spec(seconds=10.0, width=160, height=90))
    output = rig.output(container, watched=watched)
    output.open(rig.opening(encoded))
    for packet in encoded.packets():
        output.write(packet)
        if packet.is_key and packet.kind is MediaKind.VIDEO:
            await output.written()
            await output.stored()
    await output.finish(STARTED_NS)
    segments = [path for path in watched.order if path.endswith(f".{container.value}")]
    assert segments == [f"live/seg_{n:05d}.{container.value}" for n in range(5)]
    lengths = [len(p.segments) for p in watched.playlists]
    assert lengths == sorted(lengths)
    assert lengths[-1] == 5 and lengths[0] < 5
    assert [p.is_endlist for p in watched.playlists] == [False] * (len(lengths) - 1) + [True]
    assert all(p.target_duration == 2 for p in watched.playlists)
    assert len(probe.counters(rig.stored / "live/all.m3u8").values) == 300


async def test_the_live_playlist_slides_over_five_segments(rig: Rig) -> None:
    encoded = Encoded(Spec(seconds=8.0, width=160, height=90, key_frame_interval_s=1.0, audio=None))
    await record(rig, rig.output(Container.TS, segment_s=1), encoded)
    live = m3u8.load(str(rig.stored / "live/now.m3u8"))
    assert (live.media_sequence, len(live.segments), live.playlist_type) == (3, 5, None)
    assert live.segments[0].uri == "seg_00003.ts"
    assert live.is_endlist


async def test_a_storage_that_never_comes_back_leaves_every_segment_on_the_disk(rig: Rig) -> None:
    watched = Watched(rig.stored)
    watched.refuse = range(100)
    with pytest.raises(EgressError, match="out of order"):
        await record(rig, rig.output(Container.TS, watched=watched), Encoded(Spec(seconds=6.0)))
    kept = sorted(rig.spool.rglob("*.ts"))
    assert [p.name for p in kept] == ["00000.ts", "00001.ts", "00002.ts"]
    assert sum(len(probe.counters(p).values) for p in kept) == 180
    assert [e.error for e in rig.events if isinstance(e, OutputFailed)] == ["storage write: out of order"]


@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_a_disk_that_takes_no_more_keeps_what_was_recorded_and_says_so(
    rig: Rig, container: Container
) -> None:
    encoded = Encoded(Spec(seconds=8.0, kbps=2000))
    output = rig.output(container)
    output.open(rig.opening(encoded))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for packet in encoded.packets():
            if packet.pts_ns >= 6 * S and resource.getrlimit(resource.RLIMIT_FSIZE)[0] == soft:
                await output.written()
                await output.stored()
                resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))
            output.write(packet)
        await output.written()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(EgressError) as caught:
        await output.finish(STARTED_NS)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert [e.code for e in rig.events if isinstance(e, OutputFailed)] == ["resource_exhausted"]
    path = rig.stored / "live/all.m3u8"
    parsed = m3u8.load(str(path))
    assert parsed.is_endlist and len(parsed.segments) == rig.updates()[-1].segment_count >= 2
    read = probe.counters(path).values
    assert read == list(range(len(read))) and len(read) >= 120
    assert output.is_settled()


@pytest.mark.parametrize(("codec", "entry"), [(VideoCodec.H265, b"hvc1"), (VideoCodec.AV1, b"av01")])
async def test_fmp4_of_other_codecs(rig: Rig, codec: VideoCodec, entry: bytes) -> None:
    encoded = Encoded(Spec(seconds=5.0, codec=codec))
    await record(rig, rig.output(Container.FMP4), encoded)
    path = rig.stored / "live/all.m3u8"
    check_rules(rig)
    assert [s.duration for s in m3u8.load(str(path)).segments] == [2.0, 2.0, 1.0]
    assert entry in (rig.stored / "live/seg_init.mp4").read_bytes()
    assert probe.counters(path).values == list(range(150)) and not probe.counters(path).unreadable
    facts = probe.probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.rising and facts.audio.contiguous
    assert len([p for p in played(path) if p[0] == "video"]) == 150


async def test_markers_are_among_the_media_of_fmp4(rig: Rig) -> None:
    """As ID3 in event messages, each at its moment."""
    encoded, output = Encoded(Spec(seconds=6.0)), rig.output(Container.FMP4)
    output.open(rig.opening(encoded))
    output.mark(Marker("One", S, 0))
    output.mark(Marker("Zwei: 二", 3 * S, 0))
    late = [Marker("ago", S, 0)]
    for packet in encoded.packets():
        if packet.pts_ns >= 5 * S and late:
            await output.written()
            output.mark(late.pop())
        output.write(packet)
    await output.finish(STARTED_NS + 6 * S)
    folder = rig.stored / "live"
    (one_s, one), (two_s, two), (late_s, ago) = id3_in(folder)
    assert (one, two, ago) == ("One", "Zwei: 二", "ago")
    assert (one_s, two_s) == (pytest.approx(1.0, abs=0.001), pytest.approx(3.0, abs=0.001))
    assert late_s == pytest.approx(4.0, abs=0.001), (
        "its own segment is stored: the current one begins with it"
    )
    check_rules(rig)
    facts = probe.probe(folder / "all.m3u8")
    assert facts.video is not None and facts.audio is not None
    assert facts.video.rising and facts.audio.contiguous and facts.video.frames == 180


def id3_in(folder: Path) -> list[tuple[float, str]]:
    """(s since the first segment, text of the frame) of all segments."""
    found = []
    for path in sorted(folder.glob("seg_*.m4s")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
            if kind == b"emsg":
                scale = int.from_bytes(data[at + 12 : at + 16], "big")
                begin = int.from_bytes(data[at + 16 : at + 24], "big")
                assert b"https://aomedia.org/emsg/ID3\0\0ID3\x04" in data[at : at + size]
                found.append((begin / scale, text_of(data[at : at + size])))
            at += size
    return [(at_s - OFFSET_NS / S, text) for at_s, text in found]


def text_of(data: bytes) -> str:
    return data.partition(b"openegress.marker\0")[2].decode()
