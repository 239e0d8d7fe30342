"""A file that is split: its parts, put together, are the file that it would have been."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import pytest

from openegress.core import plan, storages
from openegress.core.codecs import AudioCodec, Container
from openegress.core.errors import EgressError
from openegress.core.events import AnyEvent, FileUpdate
from openegress.core.marker import Marker
from openegress.core.restart import Restart
from openegress.core.units import S
from openegress.media import Packet
from openegress.media.timeline_shift import ShiftedPackets, TimelineShift
from openegress.output import Opening
from openegress.output.file.split_recorder import SplitRecorder
from openegress.storage.uploader import Uploader
from testkit import mp4_reader, probe
from testkit.encoded import Encoded, PassedThrough, Spec

STARTED_NS = 1_700_000_000 * S


class SplitRig:
    def __init__(
        self, folder: Path, rule: plan.Split, path: str = "call.mp4", left: Sequence[FileUpdate] = ()
    ) -> None:
        self.spool, self.stored = folder / "spool", folder / "stored"
        for each in (self.spool, self.stored):
            each.mkdir(exist_ok=True)
        self.events: list[AnyEvent] = []
        storage = storages.StoragePlan(storages.LocalStorage(str(self.stored)), retry_for_s=0)
        self.output = SplitRecorder(
            plan.FileOutput(path, Container.MP4, storage, split=rule),
            0,
            emit=self.events.append,
            uploader=Uploader(storage),
            ask_key=lambda at_ns: None,
            left=left,
        )

    async def record(self, encoded: Encoded) -> list[Packet]:
        packets = list(encoded.packets())
        self.output.open(Opening(encoded.formats, STARTED_NS, str(self.spool), {}))
        for packet in packets:
            self.output.write(packet)
        await self.output.finish(STARTED_NS + round(encoded.spec.seconds * S))
        return packets

    def told(self) -> list[FileUpdate]:
        """The last word of each part."""
        last = {event.part: event for event in self.events if isinstance(event, FileUpdate)}
        return [last[part] for part in sorted(last)]

    def parts(self) -> list[Path]:
        return sorted(self.stored.glob("*.mp4"))


def read(path: Path, kind: str) -> list[bytes]:
    """The samples of one kind, as they lie in the file."""
    with av.open(str(path)) as file:
        stream = file.streams.best(kind)  # type: ignore[arg-type]
        return [bytes(packet) for packet in file.demux(stream) if packet.size]


async def whole(folder: Path, encoded: Encoded) -> Path:
    folder.mkdir()
    rig = SplitRig(folder, plan.Split(every_s=1e6))
    await rig.record(encoded)
    (path,) = rig.parts()
    return path


@pytest.mark.parametrize("rule", [plan.Split(every_s=2.0), plan.Split(every_bytes=60_000)], ids=str)
@pytest.mark.parametrize("passed", [False, True])
async def test_the_parts_are_the_whole_sample_for_sample(
    tmp_path: Path, rule: plan.Split, passed: bool
) -> None:
    make = PassedThrough if passed else Encoded
    spec = Spec(seconds=7.0, key_frame_interval_s=1.0, audio=AudioCodec.OPUS if passed else AudioCodec.AAC)
    rig = SplitRig(tmp_path, rule)
    await rig.record(make(spec))
    reference = await whole(tmp_path / "whole", make(spec))
    parts = rig.parts()
    assert [path.name for path in parts] == [f"call-{n:05d}.mp4" for n in range(1, len(parts) + 1)]
    assert len(parts) == 4 if rule.every_s else len(parts) > 1
    for kind in ("video", "audio"):
        assert [each for path in parts for each in read(path, kind)] == read(reference, kind)
    found = [[counter for _, counter in probe.counters(path).read] for path in parts]
    assert [each for part in found for each in part] == list(range(210))
    for path in parts:
        assert mp4_reader.has_index_in_front(path)
        facts = probe.probe(path)
        assert facts.video is not None and facts.audio is not None
        assert facts.audio.contiguous and facts.video.rising
        assert facts.video.start_s == 0 and facts.audio.start_s < 0.025
        if facts.video.duration_s > 1.5:  # a flash and its beep are in it, once a second
            assert abs(probe.av_offset(path).median_ms) < 12
        if rule.every_bytes:
            assert path.stat().st_size <= rule.every_bytes
    assert not list(rig.spool.rglob("*.mp4"))


async def test_each_part_says_when_it_was_and_where_it_is(tmp_path: Path) -> None:
    rig = SplitRig(tmp_path, plan.Split(every_s=2.0))
    await rig.record(Encoded(Spec(seconds=5.0)))
    last = {event.part: event for event in rig.events if isinstance(event, FileUpdate)}
    assert sorted(last) == [0, 1, 2]
    for part, event in last.items():
        assert event.filename == f"call-{part + 1:05d}.mp4"
        assert event.started_at_ns == STARTED_NS + part * 2 * S
        assert event.ended_at_ns == pytest.approx(STARTED_NS + min(5, part * 2 + 2) * S, abs=S // 20)
        assert Path(event.location).stat().st_size == event.size_bytes
    assert [file.filename for file in rig.output.records().files] == [last[n].filename for n in range(3)]
    assert rig.output.is_settled()


async def test_a_part_is_stored_while_the_next_is_recorded(tmp_path: Path) -> None:
    rig = SplitRig(tmp_path, plan.Split(every_s=2.0))
    encoded = Encoded(Spec(seconds=5.0))
    rig.output.open(Opening(encoded.formats, STARTED_NS, str(rig.spool), {}))
    packets = encoded.packets()
    for packet in packets:
        rig.output.write(packet)
        if packet.pts_ns > 2.2 * S:
            break
    async with asyncio.timeout(10):
        while not any(isinstance(each, FileUpdate) and each.location for each in rig.events):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert [path.name for path in rig.parts()] == ["call-00001.mp4"]
    for packet in packets:
        rig.output.write(packet)
    await rig.output.finish(STARTED_NS + 5 * S)
    assert len(rig.parts()) == 3


async def test_whoever_goes_on_stores_what_was_left_and_begins_the_next_part(tmp_path: Path) -> None:
    """Three seconds until its process dies, and three that follow. Each part has the chapter in it."""
    rule, encoded = plan.Split(every_s=2.0), Encoded(Spec(seconds=3.0))
    first = SplitRig(tmp_path, rule)
    first.output.open(Opening(encoded.formats, STARTED_NS, str(first.spool), {}))
    for packet in encoded.packets():
        first.output.write(packet)
    await first.output.written()
    async with asyncio.timeout(10):
        while not first.told()[0].location:  # noqa: ASYNC110 - a storage tells nobody
            await asyncio.sleep(0.01)
    left = first.told()
    assert [bool(each.location) for each in left] == [True, False]
    rig = SplitRig(tmp_path, rule, left=left)
    gap = Restart(STARTED_NS + 3 * S, STARTED_NS + 10 * S, 3 * S)
    markers = [Marker(name, at_ns, STARTED_NS) for name, at_ns in (("Before", 5 * S // 2), ("Behind", 4 * S))]
    opening = Opening(encoded.formats, STARTED_NS, str(rig.spool), {}, restart=gap, markers=markers)
    rig.output.open(opening)
    later = ShiftedPackets(rig.output, TimelineShift(3 * S, gap.gap_ns))
    for packet in Encoded(Spec(seconds=3.0)).packets():
        later.write(packet)
    await rig.output.finish(STARTED_NS + 13 * S)
    assert rig.output.is_settled()
    names = [f"call-{number:05d}.mp4" for number in range(1, 5)]
    assert [path.name for path in rig.parts()] == names
    stored = [each.filename for each in rig.output.records().files if each.filename.endswith(".mp4")]
    assert stored == names
    told = rig.told()[-2:]
    assert [(each.part, each.begin_ns) for each in told] == [(2, 3 * S), (3, 5 * S)]
    assert [each.started_at_ns for each in told] == [STARTED_NS + 10 * S, STARTED_NS + 12 * S]
    found = []
    for path in rig.parts():
        assert probe.counters(path).in_order
        with av.open(str(path)) as file:
            found.append([chapter_of(each) for each in file.chapters()])
    assert found == [[], [(0.5, "Before")], [(1.0, "Behind")], []]
    assert sum(len(probe.counters(path).read) for path in rig.parts()[2:]) == 90


async def test_the_number_may_be_anywhere_in_the_path(tmp_path: Path) -> None:
    rig = SplitRig(tmp_path, plan.Split(every_s=2.0), "{part}/call.mp4")
    await rig.record(Encoded(Spec(seconds=3.0)))
    assert sorted(path.relative_to(rig.stored).as_posix() for path in rig.stored.rglob("*.mp4")) == [
        "00001/call.mp4",
        "00002/call.mp4",
    ]


def chapter_of(chapter: Any) -> tuple[float, str]:
    return float(chapter["start"] * chapter["time_base"]), chapter["metadata"]["title"]


async def test_each_part_has_the_chapters_that_lie_in_it(tmp_path: Path) -> None:
    """FFmpeg reads them back, and a file beside each part says them too."""
    rig = SplitRig(tmp_path, plan.Split(every_s=2.0))
    encoded = Encoded(Spec(seconds=5.0))
    rig.output.open(Opening(encoded.formats, STARTED_NS, str(rig.spool), {}))
    for at_s, name in ((0.5, "Hello"), (1.0, "Schön 👋"), (4.5, "Bye")):
        rig.output.mark(Marker(name, round(at_s * S), STARTED_NS))
    for packet in encoded.packets():
        rig.output.write(packet)
    await rig.output.finish(STARTED_NS + 5 * S)
    found = []
    for path in rig.parts():
        with av.open(str(path)) as file:
            found.append([chapter_of(each) for each in file.chapters()])
    assert found == [[(0.5, "Hello"), (1.0, "Schön 👋")], [], [(0.5, "Bye")]]
    stored = [file.filename for file in rig.output.records().files]
    assert stored[1] == "call-00001.chapters.vtt" and stored[-1] == "call-00003.chapters.vtt"
    text = (rig.stored / "call-00001.chapters.vtt").read_text()
    assert "00:00:01.000 --> 00:00:02.0" in text and "Schön 👋" in text


async def test_chapters_that_no_storage_took_wait_in_the_spool(tmp_path: Path) -> None:
    rig = SplitRig(tmp_path, plan.Split(every_s=2.0))
    (rig.stored / "call-00001.chapters.vtt").mkdir()
    rig.output.mark(Marker("Begin", 1 * S, STARTED_NS + 1 * S))
    with pytest.raises(EgressError):
        await rig.record(Encoded(Spec(seconds=3.0, key_frame_interval_s=1.0)))
    assert len(rig.parts()) == 2
    assert not rig.output.is_settled()
    assert (rig.spool / "file-0/recording-00001.vtt").exists()


async def test_sound_alone(tmp_path: Path) -> None:
    spec = Spec(seconds=5.0, video=False)
    rig = SplitRig(tmp_path, plan.Split(every_s=2.0))
    await rig.record(Encoded(spec))
    reference = await whole(tmp_path / "whole", Encoded(spec))
    assert len(rig.parts()) == 3
    assert [each for path in rig.parts() for each in read(path, "audio")] == read(reference, "audio")
