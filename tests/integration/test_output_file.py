"""Files as they are recorded: real encoders, a real disk, and what the disk can do to them."""

import resource
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

import av
import pytest

from openegress.core import plan, storages
from openegress.core.codecs import VIDEO_TIME_BASE, AudioCodec, Container, MediaKind, VideoCodec
from openegress.core.errors import Code, EgressError
from openegress.core.events import AnyEvent, FileUpdate, Noticed, OutputFailed
from openegress.core.units import S
from openegress.media import Packet, StreamFormat
from openegress.media.duration import span_ns
from openegress.media.fragments import FragmentWriter, file_header
from openegress.media.passthrough import audio_format, video_format
from openegress.output import Opening, disk_thread
from openegress.output.file.finalise import finalise
from openegress.output.file.recorder import FileRecorder
from openegress.output.file.spare_space import RESERVED_BYTES
from openegress.output.size_guard import SizeGuard, SizeLimit
from openegress.storage.uploader import Uploader
from testkit import mp4_reader, probe
from testkit.encoded import Encoded, Spec
from testkit.live_encoder import LiveEncoder
from testkit.pattern import COLOURS, Picture, PictureSpec

STARTED_NS = 1_700_000_000 * S


@dataclass
class Rig:
    """A file output with the folders around it."""

    spool: Path
    stored: Path
    events: list[AnyEvent] = field(default_factory=list)

    def output(self, path: str, container: Container | None) -> FileRecorder:
        storage = storages.StoragePlan(storages.LocalStorage(str(self.stored)), retry_for_s=0)
        return FileRecorder(
            plan.FileOutput(path, container, storage),
            0,
            emit=self.events.append,
            uploader=Uploader(storage),
        )

    def opening(self, encoded: Encoded) -> Opening:
        return Opening(encoded.formats, STARTED_NS, str(self.spool), {"track_id": "TR_1"})

    def updates(self) -> list[FileUpdate]:
        return [e for e in self.events if isinstance(e, FileUpdate)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    (tmp_path / "spool").mkdir()
    (tmp_path / "stored").mkdir()
    return Rig(tmp_path / "spool", tmp_path / "stored")


def counters(path: Path) -> list[int | None]:
    return [counter for _, counter in probe.counters(path).read]


async def record(rig: Rig, output: FileRecorder, encoded: Encoded) -> None:
    output.open(rig.opening(encoded))
    for packet in encoded.packets():
        output.write(packet)
    await output.finish(STARTED_NS + round(encoded.spec.seconds * S))


async def test_an_mp4_holds_every_frame_once_with_its_index_in_front(rig: Rig) -> None:
    encoded = Encoded(Spec(seconds=5.0))
    await record(rig, rig.output("a/{track_id}.mp4", Container.MP4), encoded)
    path = rig.stored / "a/TR_1.mp4"
    assert mp4_reader.has_index_in_front(path)
    assert counters(path) == list(range(150))
    facts = probe.probe(path)
    assert facts.video is not None and facts.audio is not None
    assert facts.video.duration_s == pytest.approx(5.0, abs=0.001)
    assert facts.audio.contiguous
    assert (facts.video.start_s, facts.audio.start_s) == (0, 0)
    assert abs(probe.av_offset(path).median_ms) < 12
    last = rig.updates()[-1]
    assert last.filename == "a/TR_1.mp4"
    assert last.location.endswith("a/TR_1.mp4")
    assert last.size_bytes == path.stat().st_size
    assert last.duration_ns == pytest.approx(5 * S, abs=0.05 * S)
    assert (last.started_at_ns, last.ended_at_ns) == (STARTED_NS, STARTED_NS + 5 * S)
    assert not list(rig.spool.rglob("*.mp4"))


async def test_a_room_in_which_nobody_publishes_has_no_file_of_tracks_and_does_not_fail(rig: Rig) -> None:
    storage = storages.StoragePlan(storages.LocalStorage(str(rig.stored)), retry_for_s=0)
    file = plan.TracksFile("tracks.mkv", Container.MKV, storage)
    output = FileRecorder(file, 1, emit=rig.events.append, uploader=Uploader(storage))
    output.open(Opening((), STARTED_NS, str(rig.spool), {}))
    await output.finish(STARTED_NS + S)
    assert output.is_settled() and not output.records().files
    assert not list(rig.stored.iterdir())


@pytest.mark.parametrize(
    ("container", "audio", "codec"),
    [
        (Container.OGG, AudioCodec.OPUS, "opus"),
        (Container.MP3, AudioCodec.MP3, "mp3"),
        (Container.MP4, AudioCodec.AAC, "aac"),
        (Container.MP4, AudioCodec.OPUS, "opus"),
        (Container.WEBM, AudioCodec.OPUS, "opus"),
        (None, AudioCodec.OPUS, "opus"),
    ],
)
async def test_sound_alone(rig: Rig, container: Container | None, audio: AudioCodec, codec: str) -> None:
    await record(rig, rig.output("sound", container), Encoded(Spec(seconds=3.0, video=False, audio=audio)))
    facts = probe.probe(rig.stored / f"sound.{(container or Container.OGG).value}")
    assert facts.video is None and facts.audio is not None
    assert facts.audio.codec.startswith(codec)
    assert facts.audio.duration_s == pytest.approx(3.0, abs=0.06)
    assert facts.audio.contiguous


@pytest.mark.parametrize(("asked", "told"), [("x.mp4", [".mp4"]), ("x", []), ("x.ogg", []), ("x.1", [])])
async def test_a_track_of_another_kind_than_its_path_says(rig: Rig, asked: str, told: list[str]) -> None:
    encoded = Encoded(Spec(seconds=0.5, video=False, audio=AudioCodec.OPUS))
    await record(rig, rig.output(asked, None), encoded)
    assert [each.text for each in rig.events if isinstance(each, Noticed)] == [
        f"filepath ends in {ending}, and the file is OGG: its name ends in .ogg" for ending in told
    ]
    assert [path.suffix for path in rig.stored.iterdir()] == [".ogg"]


@pytest.mark.parametrize(
    ("container", "spec"),
    [
        (Container.MP4, Spec(seconds=8.0)),
        (Container.MP4, Spec(seconds=8.0, video=False)),
        (Container.OGG, Spec(seconds=8.0, video=False, audio=AudioCodec.OPUS)),
        (Container.MP3, Spec(seconds=8.0, video=False, audio=AudioCodec.MP3, sample_rate=44_100)),
        (Container.WEBM, Spec(seconds=8.0, video=False, audio=AudioCodec.OPUS)),
    ],
)
async def test_a_copy_taken_at_any_instant_plays_up_to_that_instant(
    rig: Rig, tmp_path: Path, container: Container, spec: Spec
) -> None:
    encoded = Encoded(spec)
    output = rig.output("live", container)
    output.open(rig.opening(encoded))
    copies: dict[float, Path] = {}
    next_s = 4.0
    for packet in encoded.packets():
        output.write(packet)
        if packet.pts_ns / S >= next_s:
            await output.written()
            copies[next_s] = tmp_path / f"copy-{next_s}.{container.value}"
            shutil.copy(next(rig.spool.rglob(f"recording.{container.value}")), copies[next_s])
            next_s += 0.7
    await output.finish(STARTED_NS)
    assert len(copies) == 6
    for at_s, copy in copies.items():
        facts = probe.probe(copy)
        stream = facts.video if spec.video else facts.audio
        assert stream is not None
        # A fragment of half a second, and the encoders' own delay.
        assert at_s - 0.9 < stream.duration_s <= at_s + 0.1
        if spec.video:
            assert_whole_but_for_the_end(counters(copy))


@pytest.mark.parametrize("silent", [MediaKind.AUDIO, MediaKind.VIDEO])
@pytest.mark.parametrize(
    ("container", "codec"), [(Container.MP4, VideoCodec.H264), (Container.WEBM, VideoCodec.VP8)]
)
async def test_a_track_that_never_sends_holds_the_other_up_by_less_than_a_second(
    rig: Rig, tmp_path: Path, container: Container, codec: VideoCodec, silent: MediaKind
) -> None:
    """A microphone that is muted from the start, a camera that never comes on."""
    encoder = LiveEncoder(codec.value, 320, 180, 30, 400)
    picture = Picture(PictureSpec(320, 180, 30, COLOURS[0]))
    units = [encoder.encode(picture.draw(n), n, force_key=n % 60 == 0) for n in range(120)]
    formats = (video_format(codec, units[0].data, 320, 180), audio_format(AudioCodec.OPUS))
    seen = [
        Packet(MediaKind.VIDEO, unit.data, n * 3000, n * 3000, 0, VIDEO_TIME_BASE, unit.is_key)
        for n, unit in enumerate(units)
    ]
    heard = [
        Packet(MediaKind.AUDIO, b"\xf8\xff\xfe", n * 960, n * 960, 960, formats[1].time_base, True)
        for n in range(200)
    ]
    output = rig.output("a", container)
    output.open(Opening(formats, STARTED_NS, str(rig.spool), {}))
    copy = tmp_path / f"copy.{container.value}"
    for packet in seen if silent is MediaKind.AUDIO else heard:
        output.write(packet)
        await output.written()
        shutil.copy(next(rig.spool.rglob(f"recording.{container.value}")), copy)
        if packet.pts_ns >= S and packet.pts_ns % (S // 2) < packet.duration * S // 48_000 + S // 60:
            assert span_ns(copy)[1] > packet.pts_ns - S
    await output.finish(STARTED_NS + 4 * S)
    assert span_ns(rig.stored / f"a.{container.value}")[1] == pytest.approx(4 * S, abs=S // 20)


def assert_whole_but_for_the_end(seen: list[int | None]) -> None:
    """Every frame once; only the B-frames before the last one may be in the part that was not written yet."""
    assert seen[:-1] == list(range(len(seen) - 1))
    last = seen[-1]
    assert last is not None and len(seen) - 1 <= last <= len(seen) + 3


SIZES = ((320, 192), (192, 320), (320, 192))


def turned(codec: VideoCodec) -> tuple[StreamFormat, list[Packet]]:
    """A phone that is turned and turned back, 30 pictures each time."""
    packets: list[Packet] = []
    for size in SIZES:
        encoder, picture = (
            LiveEncoder(codec.value, *size, 30, 400),
            Picture(PictureSpec(*size, 30, COLOURS[0])),
        )
        for n in range(30):
            unit = encoder.encode(picture.draw(len(packets)), n, force_key=n == 0)
            pts = len(packets) * 3000
            packets.append(Packet(MediaKind.VIDEO, unit.data, pts, pts, 0, VIDEO_TIME_BASE, unit.is_key))
    return video_format(codec, packets[0].data, *SIZES[0]), packets


@pytest.mark.parametrize("space", ["ample", "none"])
@pytest.mark.parametrize("ending", ["closed", "left behind"])
@pytest.mark.parametrize(
    ("codec", "tag"), [(VideoCodec.H264, "avc1"), (VideoCodec.H265, "hvc1"), (VideoCodec.AV1, "av01")]
)
def test_a_change_of_size_is_in_the_sample_descriptions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: VideoCodec, tag: str, ending: str, space: str
) -> None:
    """One for each parameter set, whoever reads it; players that know the first one only find the others in
    the media. H265 as hvc1, which Apple's players insist on."""
    path = tmp_path / "spool/egress/file-0/recording.mp4"
    path.parent.mkdir(parents=True)
    form, packets = turned(codec)
    with path.open("wb", buffering=0) as file:
        writer = FragmentWriter(file.write, [form], header=file_header([form]))
        writer.open()
        for packet in packets:
            writer.write(packet)
        if ending == "closed":
            writer.close()
    if space == "none":
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    whole = 90 if ending == "closed" else 75
    assert counters(path) == list(range(whole)), "while it grows"
    assert finalise(path, Container.MP4).startswith("" if space == "ample" else "no space")
    assert mp4_reader.has_index_in_front(path) is (space == "ample")
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio in (None, 1), "nothing is stretched"
    (track,) = mp4_reader.read(path).tracks
    assert {entry.type for entry in track.entries} == {tag}
    described = [track.entries[sample.entry].size for sample in track.samples]
    assert described == [size for size in SIZES for _ in range(30)][:whole]
    facts = probe.probe(path)
    assert facts.video is not None and facts.video.sizes == SIZES[:2]
    assert counters(path) == list(range(whole))


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("codec", [VideoCodec.VP8, VideoCodec.VP9])
async def test_a_webm_that_was_left_behind_gets_its_duration_and_its_index(
    rig: Rig, tmp_path: Path, codec: VideoCodec, torn: bool
) -> None:
    path = tmp_path / "left.webm"
    encoder = LiveEncoder(codec.value, 320, 180, 30, 400)
    picture = Picture(PictureSpec(320, 180, 30, COLOURS[0]))
    units = [encoder.encode(picture.draw(n), n, force_key=n % 60 == 0) for n in range(210)]
    form = video_format(codec, units[0].data, 320, 180)
    output = rig.output("a.webm", Container.WEBM)
    output.open(Opening((form,), STARTED_NS, str(rig.spool), {}))
    for number, unit in enumerate(units):
        pts = number * 3000
        output.write(Packet(MediaKind.VIDEO, unit.data, pts, pts, 0, VIDEO_TIME_BASE, unit.is_key))
    await output.written()
    shutil.copy(rig.spool / "file-0/recording.webm", path)
    await output.finish(STARTED_NS + 7 * S)
    if torn:
        path.write_bytes(path.read_bytes()[: -path.stat().st_size // 10])
    recorded = counters(path)
    assert finalise(path, Container.WEBM) == ""
    assert counters(path) == recorded == list(range(len(recorded)))
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(len(recorded) / 30 * 1_000_000, abs=50_000)
        container.seek(4_000_000)
        first = next(container.demux())
        assert first.is_keyframe and first.pts is not None and first.time_base is not None
        assert first.pts * first.time_base == pytest.approx(4.0, abs=0.01)
    made = path.stat()
    assert finalise(path, Container.WEBM) == ""
    assert path.stat().st_ino == made.st_ino, "a later recovery has nothing left to do"


@pytest.mark.parametrize("missing_bytes", [0, 1])
async def test_a_recording_is_rewritten_only_where_others_keep_their_space(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, missing_bytes: int
) -> None:
    usage = shutil.disk_usage(rig.spool)

    def nearly_full(folder: Path) -> object:
        size_bytes = (folder / "recording.mp4").stat().st_size
        return usage._replace(free=size_bytes + RESERVED_BYTES - missing_bytes)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    await record(rig, rig.output("a.mp4", Container.MP4), Encoded(Spec(seconds=3.0)))
    path = rig.stored / "a.mp4"
    assert mp4_reader.has_index_in_front(path) is not bool(missing_bytes)
    assert ("no space to rewrite its" in caplog.text) is bool(missing_bytes)
    assert counters(path) == list(range(90))
    assert list((rig.spool / "file-0").iterdir()) == []


async def test_a_disk_that_dies_while_the_file_is_finalised_holds_nothing_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = threading.Event()

    def hang(*_: object, **__: object) -> str:
        dead.wait()
        return ""

    monkeypatch.setattr("openegress.output.file.recorder.finalise", hang)
    monkeypatch.setattr(disk_thread, "patience_s", lambda _: 0.2)
    output = rig.output("a.mp4", Container.MP4)
    try:
        with pytest.raises(EgressError, match=r"finalising a\.mp4: the disk of the recordings") as caught:
            await record(rig, output, Encoded(Spec(seconds=1.0)))
    finally:
        dead.set()
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    assert [e.code for e in rig.events if isinstance(e, OutputFailed)] == ["deadline_exceeded"]
    assert not output.is_settled(), "it waits in the spool"
    assert len(counters(rig.spool / "file-0/recording.mp4")) == 30
    assert not list(rig.stored.iterdir())
    assert not any(update.ended_at_ns for update in rig.updates()), "the journal is on that disk"


async def test_a_full_disk_keeps_what_was_recorded_and_says_so(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = Encoded(Spec(seconds=6.0, kbps=2000))
    output = rig.output("full.mp4", Container.MP4)
    output.open(rig.opening(encoded))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        for packet in encoded.packets():
            output.write(packet)
        await output.written()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(EgressError) as caught:
        await output.finish(STARTED_NS)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert "largest size" in caught.value.message
    assert [e.code for e in rig.events if isinstance(e, OutputFailed)] == ["resource_exhausted"]
    path = rig.stored / "full.mp4"
    assert mp4_reader.has_index_in_front(path)
    seen = counters(path)
    assert len(seen) >= 30
    assert_whole_but_for_the_end(seen)
    assert rig.updates()[-1].location.endswith("full.mp4")


@pytest.mark.parametrize(
    ("container", "spec"),
    [
        (Container.MP4, Spec(seconds=10.0)),
        (Container.MP4, Spec(seconds=10.0, audio=AudioCodec.OPUS)),
        (Container.WEBM, Spec(seconds=20.0, video=False, audio=AudioCodec.OPUS)),
        (Container.OGG, Spec(seconds=20.0, video=False, audio=AudioCodec.OPUS)),
        (Container.MP3, Spec(seconds=20.0, video=False, audio=AudioCodec.MP3)),
    ],
    ids=lambda value: value.value if isinstance(value, Container) else f"{value.audio}",
)
async def test_a_file_stays_below_its_limit(rig: Rig, container: Container, spec: Spec) -> None:
    """Though all comes at once, and nobody stops when it is told."""
    limit_bytes, reached = 100_000, []
    encoded, output = Encoded(spec), rig.output("limited", container)
    output.open(rig.opening(encoded))
    guard = SizeGuard(output, SizeLimit(limit_bytes, lambda: reached.append(1)))
    for packet in encoded.packets():
        guard.write(packet)
    await output.finish(STARTED_NS + round(spec.seconds * S))
    path = rig.stored / f"limited.{container.value}"
    assert reached == [1]
    assert 0.7 * limit_bytes < path.stat().st_size <= limit_bytes
    facts = probe.probe(path)
    assert facts.audio is not None and facts.audio.contiguous
    if spec.video:
        assert facts.video is not None
        assert abs(facts.video.duration_s - facts.audio.duration_s) < 0.1
        assert counters(path) == list(range(len(counters(path))))


async def test_a_folder_that_cannot_be_written_is_refused_at_the_start(rig: Rig) -> None:
    (rig.spool / "file-0").write_text("in the way")
    encoded = Encoded(Spec(seconds=1.0))
    with pytest.raises(EgressError, match="file-0"):
        rig.output("x.mp4", Container.MP4).open(rig.opening(encoded))


async def test_a_storage_that_refuses_leaves_the_file_in_the_spool(rig: Rig) -> None:
    rig.stored.rmdir()
    rig.stored.write_text("no folder")
    with pytest.raises(EgressError):
        await record(rig, rig.output("x.mp4", Container.MP4), Encoded(Spec(seconds=1.0)))
    assert len(counters(next(rig.spool.rglob("recording.mp4")))) == 30


async def test_every_packet_of_a_file_survives_the_move_of_its_index(rig: Rig) -> None:
    encoded = Encoded(Spec(seconds=2.0))
    payloads = []
    output = rig.output("x.mp4", Container.MP4)
    output.open(rig.opening(encoded))
    for packet in encoded.packets():
        payloads.append(len(packet.data))
        output.write(packet)
    await output.finish(STARTED_NS)
    with av.open(str(rig.stored / "x.mp4")) as container:
        assert len([p for p in container.demux() if p.size]) == len(payloads)
