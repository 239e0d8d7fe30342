"""Clips from the spool and from a storage, to the storage: what is read, what is refused, and what stays."""

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as replace_spec
from pathlib import Path

import pytest
from msgspec.structs import replace

from openegress.core import plan, storages
from openegress.core.clip_plan import ClipMade, ClipPlan, StoredPart
from openegress.core.codecs import Container, MediaKind
from openegress.core.errors import Code, EgressError
from openegress.core.events import FileUpdate
from openegress.core.units import S
from openegress.media import Packet
from openegress.output import Opening
from openegress.output.clip import maker
from openegress.output.clip.maker import ClipMaker
from openegress.output.file.finalise import finalise
from openegress.output.file.recorder import FileRecorder
from openegress.output.file.split_recorder import SplitRecorder
from openegress.output.hls.recorder import HlsRecorder
from openegress.storage.uploader import Uploader
from testkit.encoded import Encoded, PassedThrough, Spec
from testkit.probe import av_offset, counters, probe

FPS = 30
SPEC = Spec(seconds=12, sample_rate=44_100)


@dataclass
class Rig:
    spool: Path
    out: Path

    @property
    def storage(self) -> storages.StoragePlan:
        return storages.StoragePlan(storages.LocalStorage(str(self.out)), prefix="kept", retry_for_s=0)

    def file(self) -> plan.FileOutput:
        return plan.FileOutput("film.mp4", Container.MP4, self.storage)

    def segments(self, container: Container) -> plan.SegmentOutput:
        return plan.SegmentOutput("live/", "seg", "all.m3u8", "", 2, container, False, self.storage)

    def opening(self, encoded: Encoded) -> Opening:
        return Opening(encoded.formats, 1_700_000_000 * S, str(self.spool / "EG_1"), {})

    async def recorded(
        self,
        output: plan.FileOutput | plan.SegmentOutput,
        encoded: Encoded | None = None,
        *,
        ends: bool = True,
    ) -> None:
        encoded, uploader = encoded or Encoded(SPEC), Uploader(self.storage)
        recorder: FileRecorder | HlsRecorder
        if isinstance(output, plan.FileOutput):
            recorder = FileRecorder(output, 0, emit=lambda event: None, uploader=uploader)
        else:
            recorder = HlsRecorder(output, 0, emit=lambda event: None, uploader=uploader)
        recorder.open(self.opening(encoded))
        for packet in encoded.packets():
            recorder.write(packet)
        await recorder.written()
        if isinstance(recorder, HlsRecorder):
            await recorder.stored()
        if ends:
            await recorder.finish(0)

    def clip(self, output: plan.FileOutput | plan.SegmentOutput, **more: object) -> ClipPlan:
        (self.spool / "CL_1").mkdir(exist_ok=True)
        fields = {
            "clip_id": "CL_1",
            "recorded": output,
            "target": plan.FileOutput("clip-{from}-{to}", None, self.storage),
            "begin_ns": 3_100_000_000,
            "end_ns": 7_700_000_000,
        }
        return ClipPlan(**(fields | more))  # type: ignore[arg-type]

    async def claim(self, path: str) -> None:
        """Nothing else is being written."""

    async def made(self, clip: ClipPlan) -> ClipMade:
        try:
            return await ClipMaker(clip, self.spool, Uploader(clip.target.storage), self.claim).make()
        finally:
            assert list((self.spool / "CL_1").iterdir()) == []


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    found = Rig(tmp_path / "spool", tmp_path / "out")
    (found.spool / "EG_1").mkdir(parents=True)
    return found


def check(made: ClipMade, begin_s: float = 3.1, end_s: float = 7.7) -> None:
    path = Path(made.location)
    assert counters(path).values == list(range(round(begin_s * FPS), round(end_s * FPS)))
    assert made.encoded + made.copied == round((end_s - begin_s) * FPS)
    assert made.size_bytes == path.stat().st_size
    facts, offset = probe(path), av_offset(path)
    assert facts.audio is not None and facts.audio.contiguous and facts.audio.start_s == 0
    assert max(abs(offset.min_ms), abs(offset.max_ms)) < 3


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("container", [Container.TS, Container.FMP4])
async def test_of_segments(rig: Rig, container: Container, ends: bool) -> None:
    """Those that are stored and gone from the spool are read where they are."""
    output = rig.segments(container)
    await rig.recorded(output, ends=ends)
    left_in = "" if ends else str(rig.spool / "EG_1" / "segments-0")
    made = await rig.made(rig.clip(output, playlist="live/all.m3u8", left_in=left_in))
    check(made)
    assert made.filename == "clip-00-00-03.100-00-00-07.700.mp4"
    assert made.encoded == 27


async def test_of_segments_that_begin_without_a_key_frame(rig: Rig) -> None:
    """Of a publisher who sends one every eight seconds: the clip needs the first segment."""
    output = rig.segments(Container.FMP4)
    spec = Spec(seconds=12, sample_rate=44_100, key_frame_interval_s=8.0, steady=True)
    await rig.recorded(output, PassedThrough(spec))
    made = await rig.made(rig.clip(output, playlist="live/all.m3u8", begin_ns=6_500_000_000))
    check(made, 6.5)
    assert (made.copied, made.encoded) == (0, 36)


async def test_of_a_file_that_is_stored(rig: Rig) -> None:
    await rig.recorded(rig.file())
    size = (rig.out / "kept" / "film.mp4").stat().st_size
    clip = rig.clip(rig.file(), stored=(StoredPart("film.mp4", 12 * S, size),))
    check(await rig.made(clip))
    with pytest.raises(EgressError) as refused:
        await rig.made(clip)
    assert refused.value.code is Code.ALREADY_EXISTS
    with pytest.raises(EgressError) as refused:
        await rig.made(rig.clip(rig.file(), stored=(StoredPart("film.mp4", 12 * S, size - 1),)))
    assert "it has been replaced" in refused.value.message


class _LateCamera(PassedThrough):
    """It begins at 4 s, with a key frame; sound begins at 0."""

    def packets(self) -> Iterator[Packet]:
        return (each for each in super().packets() if each.kind is MediaKind.AUDIO or each.pts_ns >= 4 * S)


async def test_of_a_file_that_begins_with_sound(rig: Rig) -> None:
    await rig.recorded(rig.file(), _LateCamera(replace_spec(SPEC, steady=True)))
    stored = (StoredPart("film.mp4", 12 * S, (rig.out / "kept" / "film.mp4").stat().st_size),)
    made = await rig.made(rig.clip(rig.file(), stored=stored, begin_ns=S, end_ns=7 * S))
    facts = probe(Path(made.location))
    assert facts.audio is not None and facts.audio.contiguous and facts.video is not None
    assert (facts.audio.start_s, facts.audio.duration_s) == pytest.approx((0, 6), abs=0.03)
    assert facts.video.start_s == pytest.approx(3, abs=0.01)


async def test_of_a_file_that_grows(rig: Rig) -> None:
    await rig.recorded(rig.file(), ends=False)
    left_in = str(rig.spool / "EG_1" / "file-0")
    check(await rig.made(rig.clip(rig.file(), left_in=left_in)))
    last = await rig.made(rig.clip(rig.file(), left_in=left_in, begin_ns=None, end_ns=None, last_ns=2 * S))
    assert last.end_ns - last.begin_ns == 2 * S


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize(
    ("begin_s", "end_s"),
    [(4.3, 7.7), (3.1, 5.0), (4.0, 8.0), (1.0, 11.0)],
    ids=["within one", "over two", "one exactly", "over three"],
)
async def test_of_parts(rig: Rig, begin_s: float, end_s: float, ends: bool) -> None:
    """Of a recording that is split: some are stored, and while it runs one is in the spool."""
    output = replace(rig.file(), split=plan.Split(every_s=4.0))
    told: dict[int, FileUpdate] = {}
    stored = asyncio.Event()

    def emit(event: object) -> None:
        if isinstance(event, FileUpdate):
            told[event.part] = event
            if sum(bool(each.location) for each in told.values()) == 2:
                stored.set()

    encoded = Encoded(SPEC)
    recorder = SplitRecorder(output, 0, emit=emit, uploader=Uploader(rig.storage), ask_key=lambda at_ns: None)
    recorder.open(rig.opening(encoded))
    for packet in encoded.packets():
        recorder.write(packet)
    await recorder.written()
    await asyncio.wait_for(stored.wait(), 10)
    if ends:
        await recorder.finish(0)
    parts = tuple(
        StoredPart(each.filename, each.duration_ns, each.size_bytes if each.location else 0)
        for _, each in sorted(told.items())
    )
    left_in = "" if ends else str(rig.spool / "EG_1" / "file-0")
    assert ends or [each.name for each in Path(left_in).iterdir()] == ["recording-00003.mp4"]
    span = {"begin_ns": round(begin_s * S), "end_ns": round(end_s * S)}
    made = await rig.made(rig.clip(output, stored=parts, left_in=left_in, **span))
    check(made, begin_s, end_s)
    assert (made.begin_ns, made.end_ns) == tuple(span.values())


async def test_of_a_file_that_is_being_stored(rig: Rig) -> None:
    """It has its index by then."""
    await rig.recorded(rig.file(), ends=False)
    folder = rig.spool / "EG_1" / "file-0"
    assert finalise(folder / "recording.mp4", Container.MP4) == ""
    check(await rig.made(rig.clip(rig.file(), left_in=str(folder))))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (lambda path: path.unlink(), Code.FAILED_PRECONDITION, "nothing is recorded yet"),
        (lambda path: path.write_bytes(b""), Code.INVALID_ARGUMENT, "cannot be read"),
        (lambda path: path.write_bytes(os.urandom(50_000)), Code.INVALID_ARGUMENT, "cannot be read"),
        (lambda path: os.truncate(path, 900), Code.FAILED_PRECONDITION, "nothing is recorded yet"),
        (lambda path: os.truncate(path, 2000), Code.FAILED_PRECONDITION, "nothing is recorded yet"),
        (lambda path: path.rename(path.with_suffix(".mkv")), Code.INVALID_ARGUMENT, "cannot be read"),
        (lambda path: path.rename(path.with_suffix(".mcap")), Code.INVALID_ARGUMENT, "cannot be read"),
        (lambda path: path.rename(path.with_suffix(".flv")), Code.UNIMPLEMENTED, "ends in .flv"),
    ],
)
async def test_what_cannot_be_cut(rig: Rig, change: Callable[[Path], object], code: Code, words: str) -> None:
    await rig.recorded(rig.file(), ends=False)
    folder = rig.spool / "EG_1" / "file-0"
    change(folder / "recording.mp4")
    with pytest.raises(EgressError) as refused:
        await rig.made(rig.clip(rig.file(), left_in=str(folder)))
    assert refused.value.code is code
    assert words in refused.value.message


async def test_the_disk_belongs_to_recordings(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.recorded(rig.file(), ends=False)
    monkeypatch.setattr(maker, "_SPARE_BYTES", 1 << 60)
    with pytest.raises(EgressError) as refused:
        await rig.made(rig.clip(rig.file(), left_in=str(rig.spool / "EG_1" / "file-0")))
    assert refused.value.code is Code.RESOURCE_EXHAUSTED
    assert not rig.out.exists()
